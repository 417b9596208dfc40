//! What is shown to whom: names, columns and places of what others own.

use ashlar_objects::testing::request_of;

use super::Bench;
use super::bench::rows;
use crate::Session;

async fn with_tables() -> (Bench, Session) {
    let bench = Bench::new().await;
    bench.put("t/a.csv", "secret_column\n1\n").await;
    bench.put("one.csv", "secret_column\n1\n").await;
    for sql in [
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 's3://data/t/'",
        "CREATE EXTERNAL TABLE one STORED AS CSV LOCATION 's3://data/one.csv'",
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE VIEW vv AS SELECT * FROM v",
        "CREATE VIEW by_path AS SELECT * FROM 's3://data/t/'",
        "CREATE VIEW nothing_of_note AS SELECT 1 AS open_column",
    ] {
        bench.rows(sql).await;
    }
    let eve = Session::new(&bench.engine, request_of("eve", false)).unwrap();
    (bench, eve)
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_and_places_of_tables_are_for_who_may_read_them() {
    let (bench, mut eve) = with_tables().await;
    for table in ["t", "one", "v", "vv", "by_path"] {
        for sql in [
            format!("SELECT * FROM {table}"),
            format!("SELECT * FROM {table} WHERE false"),
            format!("EXPLAIN SELECT * FROM {table}"),
            format!("DESCRIBE {table}"),
            format!("SHOW COLUMNS FROM {table}"),
        ] {
            let told = rows(&mut eve, &sql).await;
            let told = told.unwrap_or_else(|error| error.to_string());
            assert!(!told.contains("secret_column") && !told.contains("s3://data"), "{sql}: {told}");
        }
    }
    let columns = "SELECT table_name, column_name FROM information_schema.columns \
                   WHERE table_schema = 'public' ORDER BY 1";
    assert_eq!(rows(&mut eve, columns).await.unwrap(), "nothing_of_note|open_column");
    let mine = bench.rows(columns).await;
    assert_eq!(mine.lines().count(), 6, "{mine}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_does_not_say_where_it_lies() {
    let bench = Bench::new().await;
    bench.rows("CREATE SCHEMA hidden LOCATION 's3://data/deep/inside/'").await;
    let mut eve = Session::new(&bench.engine, request_of("eve", false)).unwrap();
    let error = rows(&mut eve, "SELECT * FROM hidden.t").await.unwrap_err();
    assert_eq!(error.state.code(), "42501");
    assert!(!error.to_string().contains("deep"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_can_be_dropped_and_replaced_by_its_owner() {
    let bench = Bench::new().await;
    bench.rows("CREATE EXTERNAL TABLE t (a BIGINT) STORED AS CSV LOCATION 's3://data/t/'").await;
    let mut root = Session::new(&bench.engine, request_of("root", true)).unwrap();
    assert_eq!(rows(&mut root, "DROP TABLE t").await.unwrap(), "DROP TABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_in_two_schemas_is_two_tables() {
    let bench = Bench::new().await;
    bench.put("a.csv", "x\n1\n").await;
    bench.put("b.csv", "y\n2\n").await;
    bench.rows("CREATE SCHEMA sales LOCATION 's3://data/sales/'").await;
    bench.rows("CREATE EXTERNAL TABLE sales.t STORED AS CSV LOCATION 's3://data/a.csv'").await;
    bench.rows("CREATE EXTERNAL TABLE public.t STORED AS CSV LOCATION 's3://data/b.csv'").await;
    let mut session = bench.session();
    rows(&mut session, "SET search_path = sales, public").await.unwrap();
    for sql in
        ["SELECT a.x, b.y FROM t a, public.t b", "SELECT a.x, b.y FROM public.t b, t a, 's3://data/a.csv' c"]
    {
        assert_eq!(rows(&mut session, sql).await.unwrap(), "1|2", "{sql}");
    }
    assert_eq!(rows(&mut session, "SELECT y FROM public.t").await.unwrap(), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_doubles_is_refused_before_it_is_planned() {
    let bench = Bench::new().await;
    let chain: Vec<String> =
        (1..50).map(|n| format!("a{n} AS (SELECT p.x FROM a{0} p, a{0} q)", n - 1)).collect();
    let sql = format!("WITH a0 AS (SELECT 1 AS x), {} SELECT (SELECT count(*) FROM a49)", chain.join(", "));
    assert_eq!(bench.error(&sql).await.state.code(), "54001");
    bench.rows("CREATE VIEW v0 AS SELECT 1 AS x").await;
    for n in 1..9 {
        bench.rows(&format!("CREATE VIEW v{n} AS SELECT p.x FROM v{0} p, v{0} q", n - 1)).await;
    }
    assert_eq!(bench.error("CREATE VIEW v9 AS SELECT p.x FROM v8 p, v8 q").await.state.code(), "54001");
    assert_eq!(bench.rows("SELECT x FROM v3 LIMIT 1").await, "1");
    // As much as is allowed is planned and run.
    let many: Vec<String> = (0..250).map(|n| format!("(SELECT 1) AS t{n} (x{n})")).collect();
    let many = many.join(", ");
    assert_eq!(bench.rows(&format!("SELECT count(*) FROM {many}")).await, "1");
}
