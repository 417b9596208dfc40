//! What one statement can take, whatever it reads and however its client behaves.

use std::io::Write;
use std::time::Duration;

use super::Bench;
use super::bench::rows;
use crate::{EngineConfig, Outcome};

fn gzip(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    pieces.into_iter().for_each(|piece| gzip.write_all(&piece).unwrap());
    gzip.finish().unwrap()
}

async fn small() -> Bench {
    let memory = 64 << 20;
    let config =
        EngineConfig { query_memory_bytes_max: memory, memory_bytes_max: memory, ..EngineConfig::default() };
    Bench::with(config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_record_ends_its_statement_and_nothing_else() {
    let bench = small().await;
    let endless = |head: &str| {
        let head = head.as_bytes().to_vec();
        gzip(std::iter::once(head).chain(std::iter::repeat_n(vec![b'a'; 1 << 20], 256)))
    };
    bench.put("line.csv.gz", endless("n\n1\n")).await;
    bench.put("quoted.csv.gz", endless("n\n1\n\"")).await;
    bench.put("line.json.gz", endless("{\"n\": \"1\"}\n{\"n\": \"")).await;
    let arrays = std::iter::repeat_n(b"[1,\n".repeat(1 << 18), 128);
    bench.put("nested.json.gz", gzip(std::iter::once(b"{\"n\": 1}\n{\"n\": ".to_vec()).chain(arrays))).await;
    for name in ["line.csv.gz", "quoted.csv.gz", "line.json.gz", "nested.json.gz"] {
        let error = bench.error(&format!("SELECT count(n) FROM 's3://data/{name}'")).await;
        assert!(["53200", "22000"].contains(&error.state.code()), "{name}: {} {error}", error.state.code());
    }
    assert_eq!(bench.rows("SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_records_are_read_in_small_batches() {
    let bench = small().await;
    let text = "x".repeat(1 << 20);
    let lines: String = (0..100).map(|n| format!("{{\"n\": {n}, \"text\": \"{text}\"}}\n")).collect();
    bench.put("books.json", lines.clone()).await;
    bench.put("books.json.gz", gzip([lines.into_bytes()])).await;
    for name in ["books.json", "books.json.gz"] {
        let sql = format!("SELECT count(*), sum(n), sum(length(text)) FROM 's3://data/{name}'");
        assert_eq!(bench.rows(&sql).await, "100|4950|104857600", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_does_not_keep_others_out() {
    let one = EngineConfig { running_max: 1, ..EngineConfig::default() };
    let bench = Bench::with(one).await;
    let mut idle = bench.session();
    rows(&mut idle, "SET statement_timeout = '200ms'").await.unwrap();
    let many = "SELECT value FROM generate_series(1, 10000000)";
    let Outcome::Rows(mut answer) = idle.query(many, Vec::new()).await.unwrap() else { panic!() };
    let next = tokio::time::timeout(Duration::from_secs(5), bench.rows("SELECT 1")).await;
    assert_eq!(next.unwrap(), "1");
    // And it is told, after what it had been given.
    let ended = loop {
        match futures::StreamExt::next(&mut answer).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break crate::SqlError::from(error),
            None => panic!("it ended as if it were whole"),
        }
    };
    assert_eq!(ended.state.code(), "57014");
}

#[tokio::test(flavor = "multi_thread")]
async fn much_is_not_made_of_little() {
    let bench = small().await;
    for sql in [
        "SELECT length(repeat('x', 2000000000))",
        "SELECT length(lpad('x', 2000000000))",
        "SELECT length(rpad('x', 2000000000, 'y'))",
        "SELECT cardinality(range(0, 300000000))",
        "SELECT cardinality(generate_series(0, 300000000, 2))",
        "SELECT cardinality(range(DATE '2000-01-01', DATE '9000-01-01', INTERVAL '1 millisecond'))",
        "SELECT cardinality(array_repeat(1, 300000000))",
        "SELECT cardinality(array_resize([1], 300000000))",
        "SELECT length(replace(repeat('x', 1000000), 'x', repeat('y', 1000000)))",
        "SELECT length(replace(repeat('x', 1000000), '', repeat('y', 1000000)))",
        "SELECT sum(length(repeat('x', value * 1000))) FROM generate_series(1, 8192)",
    ] {
        assert_eq!(bench.error(sql).await.state.code(), "54000", "{sql}");
    }
    let sql = "SELECT repeat('ab', 2), lpad('x', 3, '-'), rpad('é', 3), range(1, 4), generate_series(3, 1, -1), \
               array_repeat(1, 2), array_resize([1], 2, 0), replace('aXb', 'X', 'YY'), repeat(NULL, 3), \
               cardinality(range(DATE '2024-01-01', DATE '2025-01-01', INTERVAL '1 month'))";
    assert_eq!(bench.rows(sql).await, "abab|--x|é|[1, 2, 3]|[3, 2, 1]|[1, 1]|[1, 0]|aYYb||12");
}
