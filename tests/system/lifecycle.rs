//! Starting, stopping, being killed, and starting again.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::server::{Stand, ashlar, pattern, refusal};

const SIZES: [usize; 5] = [0, 1, 70_000, 5 << 20, (9 << 20) + 17];

#[test]
fn data_outlives_an_orderly_stop_and_a_kill() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    server.put("/bucket", b"");
    for (seed, size) in (0..).zip(SIZES) {
        server.put(&format!("/bucket/first-{size}"), &pattern(seed, size));
    }
    assert!(server.stop().success());

    let server = stand.start(&[]);
    for (seed, size) in (0..).zip(SIZES) {
        assert_eq!(server.get_object(&format!("/bucket/first-{size}")), pattern(seed, size));
        server.put(&format!("/bucket/second-{size}"), &pattern(seed + 100, size));
    }
    assert_eq!(server.s3("DELETE", "/bucket/first-1", b"").status, 204);
    server.kill();

    let server = stand.start(&[]);
    for (seed, size) in (0..).zip(SIZES) {
        assert_eq!(server.get_object(&format!("/bucket/second-{size}")), pattern(seed + 100, size));
    }
    assert_eq!(server.s3("GET", "/bucket/first-1", b"").status, 404);
    let list = server.s3("GET", "/bucket?list-type=2", b"").text();
    assert_eq!(list.matches("<Key>").count(), 9, "{list}");
    assert!(server.stop().success());
}

#[test]
fn a_kill_under_load_loses_nothing_acknowledged() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    server.put("/bucket", b"");
    let (s3, root) = (server.s3.clone(), server.root.clone());
    let writers: Vec<_> = (0..4_u64)
        .map(|writer| {
            let (s3, root) = (s3.clone(), root.clone());
            thread::spawn(move || {
                let mut acknowledged = Vec::new();
                for number in 0..10_000_u64 {
                    let (seed, path) = (writer << 32 | number, format!("/bucket/{writer}-{number}"));
                    let size = usize::try_from(number % 7 * 20_000 + 1).unwrap();
                    let answer = crate::sigv4::call(&s3, Some(&root), "PUT", &path, &pattern(seed, size));
                    match answer {
                        Ok(answer) if answer.status == 200 => acknowledged.push((path, seed, size)),
                        _ => break,
                    }
                }
                acknowledged
            })
        })
        .collect();
    let of_bucket = |server: &crate::server::Server| {
        let list = server.s3("GET", "/bucket?list-type=2", b"").text();
        list.matches("<Key>").count()
    };
    server.wait_for("forty objects", || of_bucket(&server) >= 40);
    server.kill();
    let acknowledged: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    assert!(acknowledged.len() >= 40);
    let server = stand.start(&[]);
    for (path, seed, size) in acknowledged {
        assert_eq!(server.get_object(&path), pattern(seed, size), "{path}");
    }
}

#[test]
fn a_second_instance_is_refused_by_name() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    let said = refusal(&stand.up(&[]).output().unwrap());
    assert!(said.contains(&format!("in use by the process with pid {}", server.pid())), "{said}");
    assert!(said.contains("choose another --data-dir"), "{said}");
    // The first one does not mind.
    assert_eq!(server.get("/readyz").status, 200);
    assert!(server.stop().success());
}

#[test]
fn requests_under_way_end_before_the_server_does() {
    let stand = Stand::new();
    let mut server = stand.start(&[]);
    server.put("/bucket", b"");
    let body = pattern(1, 24 << 20);
    let upload = {
        let (s3, root, body) = (server.s3.clone(), server.root.clone(), body.clone());
        thread::spawn(move || {
            crate::sigv4::call(&s3, Some(&root), "PUT", "/bucket/large", &body).unwrap().status
        })
    };
    server.wait_for("the upload to begin", || server.figure("ashlar_s3_in_flight") >= 1.0);
    server.signal(Signal::TERM);
    assert_eq!(upload.join().unwrap(), 200);
    // One signal: a second would end it at once.
    assert!(server.wait().success());
    assert_eq!(stand.start(&[]).get_object("/bucket/large"), body);
}

#[test]
fn a_second_signal_ends_at_once_and_an_idle_client_delays_nothing() {
    let stand = Stand::new();
    let mut server = stand.start(&[]);
    server.put("/bucket", b"");
    // An upload that never ends holds an orderly stop up; a second signal does not wait for it.
    let mut stuck = std::net::TcpStream::connect(&server.s3).unwrap();
    let head = "PUT /bucket/never HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n";
    std::io::Write::write_all(&mut stuck, head.as_bytes()).unwrap();
    server.signal(Signal::INT);
    server.wait_for("the stop", || server.log().contains("stopping") || server.log().contains("stopped"));
    let begun = Instant::now();
    server.signal(Signal::INT);
    let status = server.wait();
    assert!(matches!(status.code(), Some(0 | 130)), "{status:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    // And what was there still is.
    let server = stand.start(&[]);
    assert_eq!(server.s3("HEAD", "/bucket", b"").status, 200);
    let _idle = std::net::TcpStream::connect(&server.s3).unwrap();
    let begun = Instant::now();
    assert!(server.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn given_credentials_are_kept_for_the_next_start_and_never_printed() {
    let stand = Stand::new();
    let mut command = stand.up(&[]);
    command
        .env("ASHLAR_ROOT_ACCESS_KEY", "operator")
        .env("ASHLAR_ROOT_SECRET_KEY", "a-secret-of-the-operator");
    let server = stand.start_command(command);
    assert_eq!(server.root.access, "operator");
    server.put("/bucket", b"");
    server.stop();
    let server = stand.start(&[]);
    assert_eq!((server.root.access.as_str(), server.s3("HEAD", "/bucket", b"").status), ("operator", 200));
    server.stop();
    for entry in std::fs::read_dir(stand.path("")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            assert!(
                !std::fs::read_to_string(&path).unwrap().contains("a-secret-of-the-operator"),
                "{path:?}"
            );
        }
    }
}

#[test]
fn without_its_master_key_a_used_data_directory_is_refused() {
    let stand = Stand::new();
    stand.start(&[]).stop();
    let path = stand.data().join("master-key");
    let key = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let said = refusal(&stand.up(&[]).output().unwrap());
    assert!(said.contains("put it back") && said.contains("ASHLAR_MASTER_KEY"), "{said}");
    let mut command = stand.up(&[]);
    command.env("ASHLAR_MASTER_KEY", key.trim());
    assert!(stand.start_command(command).stop().success());
}

#[test]
fn a_taken_port_is_named() {
    let stand = Stand::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--s3-listen", "--pg-listen", "--flight-listen", "--chain-listen"] {
        let said = refusal(&stand.up(&[flag, &address]).output().unwrap());
        assert!(said.contains(&address) && said.contains(flag), "{said}");
    }
}

#[test]
fn roles_of_later_builds_are_named_as_such() {
    let said = refusal(&ashlar().args(["run", "--role", "gateway,da"]).output().unwrap());
    assert!(said.contains("'da' is not in this build"), "{said}");
    let said = refusal(&ashlar().args(["run", "--role", "gateway"]).output().unwrap());
    assert!(said.contains("only together"), "{said}");
}
