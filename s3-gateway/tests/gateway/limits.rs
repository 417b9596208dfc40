//! Limits: slow clients, too many of them, and the end of the server.

use std::time::Duration;

use ashlar_s3_gateway::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::wire;
use crate::gateway::world::{Request, UNSIGNED, Who, World};

#[tokio::test]
async fn a_body_that_trickles_is_cut_with_an_answer() {
    let limits = Limits {
        pace_bytes_per_second: 1 << 20,
        pace_window: Duration::from_millis(200),
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}/k");
    let request = Request::new("PUT", &path).payload(UNSIGNED).body(&[b'x'; 1000]).signed(Who::Main);
    let mut stream = TcpStream::connect(world.address).await.expect("connected");
    stream.write_all(&request[..request.len() - 999]).await.expect("sent");
    wire::read(&mut stream).await.fails(400, "RequestTimeout");
    world.get(Who::Main, &path).await.fails(404, "NoSuchKey");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let limits = Limits {
        pace_bytes_per_second: 1 << 20,
        pace_window: Duration::from_millis(300),
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}/k");
    // More than the sockets' buffers hold.
    let put = Request::new("PUT", &path).payload(UNSIGNED).body(&vec![b'x'; 24 << 20]);
    assert_eq!(world.send(Who::Main, put).await.status, 200);
    let mut stream = TcpStream::connect(world.address).await.expect("connected");
    stream.write_all(&Request::new("GET", &path).signed(Who::Main)).await.expect("sent");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut got = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut got))
        .await
        .expect("cut in time");
    assert!(ended.is_err() || got.len() < 24 << 20, "the whole object came: {}", got.len());
}

#[tokio::test]
async fn requests_beyond_the_limit_are_told_to_slow_down() {
    let world = World::with(Limits { in_flight_max: 0, ..Limits::default() }).await;
    let answer = world.get(Who::Main, "/").await;
    answer.fails(503, "SlowDown");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let world = World::with(Limits { connections_max: 0, ..Limits::default() }).await;
    let mut stream = TcpStream::connect(world.address).await.expect("connected");
    assert_eq!(wire::read(&mut stream).await.status, 503);
}

#[tokio::test]
async fn strangers_documents_and_forms_have_little_room() {
    let limits = Limits {
        stranger_document_bytes_max: 4096,
        stranger_documents_bytes_max: 16 << 10,
        document_wait: Duration::from_millis(100),
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}?delete");
    let document = |length: usize| Request::new("POST", &path).body(&vec![b'x'; length]);
    world.send(Who::Nobody, document(4097)).await.fails(400, "MaxMessageLengthExceeded");
    world.send(Who::Nobody, document(4096)).await.fails(400, "MalformedXML");
    // A form whose fields do not end keeps the room that it took.
    let head = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n";
    let form = format!(
        "POST /{bucket} HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=XX\r\n\
         content-length: 100000\r\n\r\n{head}{}",
        "x".repeat(16 << 10)
    );
    let held = form.len() - 2048;
    let mut stream = TcpStream::connect(world.address).await.expect("connected");
    stream.write_all(&form.as_bytes()[..held]).await.expect("sent");
    let refused = async || {
        for _ in 0..100 {
            let answer = world.send(Who::Nobody, document(4096)).await;
            if answer.status == 503 {
                return answer;
            }
        }
        panic!("a stranger's document finds room");
    };
    refused().await.fails(503, "SlowDown");
    world.send(Who::Main, document(4097)).await.fails(400, "MalformedXML");
    drop(stream);
}

#[tokio::test]
async fn heads_must_come_in_time() {
    let world = World::with(Limits { header_timeout: Duration::from_millis(200), ..Limits::default() }).await;
    let mut stream = TcpStream::connect(world.address).await.expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.expect("sent");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection stays open");
}

#[tokio::test]
async fn open_requests_end_before_the_server_does() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let request =
        Request::new("PUT", &format!("/{bucket}/k")).payload(UNSIGNED).body(&[b'x'; 1000]).signed(Who::Main);
    let mut stream = TcpStream::connect(world.address).await.expect("connected");
    let (first, last) = request.split_at(request.len() - 500);
    stream.write_all(first).await.expect("sent");
    // The request is being served once another one, sent after it, was answered.
    world.get(Who::Main, "/").await;
    world.shutdown.cancel();
    stream.write_all(last).await.expect("sent");
    assert_eq!(wire::read(&mut stream).await.status, 200);
    tokio::time::timeout(Duration::from_secs(20), world.served)
        .await
        .expect("ends in time")
        .expect("ends well");
    assert!(TcpStream::connect(world.address).await.is_err());
}

#[tokio::test]
async fn open_requests_are_cut_when_time_is_up() {
    let world = World::with(Limits { drain_timeout: Duration::from_millis(100), ..Limits::default() }).await;
    let bucket = world.bucket().await;
    let request =
        Request::new("PUT", &format!("/{bucket}/k")).payload(UNSIGNED).body(&[b'x'; 1000]).signed(Who::Main);
    let mut stream = TcpStream::connect(world.address).await.expect("connected");
    stream.write_all(&request[..request.len() - 1]).await.expect("sent");
    world.get(Who::Main, "/").await;
    world.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(20), world.served)
        .await
        .expect("ends in time")
        .expect("ends well");
}
