//! Values that become folders come back as they were, wherever they are written.

use ashlar_objects::requests::ListObjects;

use super::Bench;
use super::bench::{bucket, rows};

/// What a folder's name cannot hold as it is, or means something in a path.
const VALUES: &str =
    "(VALUES (1, NULL), (2, ''), (3, 'a/b'), (4, '..'), (5, '.'), (6, '#'), (7, '%2F'), (8, 'a b'),
    (9, 'é漢'), (10, '__HIVE_DEFAULT_PARTITION__'), (11, '?'), (12, '*'), (13, '\\'), (14, 'a=b'), (15, '~'),
    (16, '%'), (17, '{x}[y]'), (18, 'a
b'), (19, '\"'))";

async fn run(bench: &Bench, sql: &str) -> String {
    rows(&mut bench.session(), sql).await.unwrap_or_else(|e| panic!("{sql}: {} {e}", e.state.code()))
}

async fn keys(bench: &Bench, prefix: &str) -> Vec<String> {
    let prefix = prefix.to_owned();
    let request = ListObjects { bucket: bucket("data"), prefix, delimiter: None, after: None, max: 1000 };
    let page = bench.store.list_objects(&bench.cx, request).await.unwrap();
    page.objects.into_iter().map(|object| object.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_folders_come_back() {
    let bench = Bench::new().await;
    let written = format!("SELECT column1 AS n, column2 AS p, column2 AS \"ü /=\" FROM {VALUES}");
    for (format, place) in
        [("PARQUET", "t/"), ("CSV", "o#ut/../%2F x/é/"), ("PARQUET", "a//b/./"), ("CSV", "/")]
    {
        let copy = format!(
            "COPY ({written}) TO 's3://data/{place}' STORED AS {format} PARTITIONED BY (p, \"ü /=\")"
        );
        assert_eq!(run(&bench, &copy).await, "COPY 19", "{place}");
        let below = keys(&bench, place).await;
        assert_eq!(below.len(), 19, "{place}");
        let reader = format!("read_{}('s3://data/{place}')", format.to_lowercase());
        let lost = format!(
            "SELECT count(*) FROM ({written}) w JOIN {reader} r ON w.n = r.n \
             WHERE (w.p IS NOT DISTINCT FROM r.p) AND (w.\"ü /=\" IS NOT DISTINCT FROM r.\"ü /=\")"
        );
        assert_eq!(run(&bench, &lost).await, "19", "{place}");
        assert_eq!(run(&bench, &format!("SELECT n FROM {reader} WHERE p IS NULL")).await, "1", "{place}");
        assert_eq!(run(&bench, &format!("SELECT n FROM {reader} WHERE p = 'a/b'")).await, "3", "{place}");
    }
    let hive = keys(&bench, "t/p=__HIVE_DEFAULT_PARTITION__/").await;
    assert_eq!(hive.len(), 1, "what other readers take for NULL, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_where_it_was_said() {
    let bench = Bench::new().await;
    for name in ["a#b.csv", "x/../y.csv", "%2F.csv", "a b/é.csv", "..", "q?.csv"] {
        let copy = format!("COPY (SELECT 1 AS n) TO 's3://data/one/{name}' STORED AS CSV");
        // A question mark is a pattern, which is no place.
        if name.contains('?') {
            assert!(rows(&mut bench.session(), &copy).await.is_err());
            continue;
        }
        assert_eq!(run(&bench, &copy).await, "COPY 1", "{name}");
        assert_eq!(run(&bench, &format!("SELECT n FROM read_csv('s3://data/one/{name}')")).await, "1");
        assert!(keys(&bench, "one/").await.contains(&format!("one/{name}")), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_every_type_come_back() {
    let bench = Bench::new().await;
    let types = "CAST(n AS INT) AS i, CAST(n AS DECIMAL(10, 2)) / 4 AS d, DATE '2024-02-29' + CAST(n AS INT) AS day, \
                 CAST(n / 3.0 AS DOUBLE) AS f, n > 1 AS b, to_timestamp(n * 1000003) AS at";
    let written = format!(
        "SELECT n, CASE WHEN n <> 2 THEN i END i, d, day, f, b, at FROM (SELECT n, {types} FROM (SELECT value AS n FROM generate_series(1, 3)))"
    );
    run(&bench, "CREATE SCHEMA s LOCATION 's3://data/s/'").await;
    run(
        &bench,
        "CREATE EXTERNAL TABLE s.t (n BIGINT, i INT, d DECIMAL(14, 6), day DATE, f DOUBLE, b BOOLEAN, at TIMESTAMP) \
         STORED AS PARQUET PARTITIONED BY (i, d, day, f, b, at) LOCATION 's3://data/t/'",
    )
    .await;
    run(&bench, &format!("INSERT INTO s.t {written}")).await;
    let same = format!(
        "SELECT count(*) FROM s.t JOIN ({written}) w ON t.n = w.n WHERE (t.i IS NOT DISTINCT FROM w.i) \
         AND t.d = w.d AND t.day = w.day AND t.f = w.f AND t.b = w.b AND t.at = w.at"
    );
    assert_eq!(run(&bench, &same).await, "3", "{}", run(&bench, "SELECT * FROM s.t").await);
    assert_eq!(run(&bench, "SELECT n FROM s.t WHERE i IS NULL").await, "2");
}
