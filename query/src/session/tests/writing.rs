//! What statements change: schemas, tables, views, rows; together, or not at all.

use ashlar_objects::requests::ListObjects;
use ashlar_objects::testing::request_of;

use super::Bench;
use super::bench::{bucket, rows};
use crate::Session;

async fn keys(bench: &Bench) -> Vec<String> {
    let request = ListObjects {
        bucket: bucket("data"),
        prefix: String::new(),
        delimiter: None,
        after: None,
        max: 1000,
    };
    let page = bench.store.list_objects(&bench.cx, request).await.unwrap();
    page.objects.into_iter().map(|object| object.key).collect()
}

async fn with_schema() -> (Bench, Session) {
    let bench = Bench::new().await;
    let mut session = bench.session();
    run(&mut session, "CREATE SCHEMA sales LOCATION 's3://data/sales/'").await;
    (bench, session)
}

async fn run(session: &mut Session, sql: &str) -> String {
    rows(session, sql).await.unwrap_or_else(|e| panic!("{sql}: {} {e}", e.state.code()))
}

async fn fails(session: &mut Session, sql: &str) -> &'static str {
    rows(session, sql).await.expect_err(sql).state.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_filled_replaced_renamed_and_dropped() {
    let (bench, mut session) = with_schema().await;
    assert_eq!(run(&mut session, "CREATE TABLE sales.t AS SELECT 1 AS n, 'one' AS s").await, "SELECT 1");
    assert_eq!(fails(&mut session, "CREATE TABLE sales.t AS SELECT 1 AS n").await, "42P07");
    assert_eq!(run(&mut session, "INSERT INTO sales.t VALUES (2, 'two'), (3, 'three')").await, "INSERT 2");
    assert_eq!(run(&mut session, "INSERT INTO sales.t (s, n) SELECT 'four', 4").await, "INSERT 1");
    let all = "SELECT n, s FROM sales.t ORDER BY n";
    assert_eq!(run(&mut session, all).await, "1|one\n2|two\n3|three\n4|four");
    assert_eq!(bench.rows(all).await, "1|one\n2|two\n3|three\n4|four");
    run(&mut session, "CREATE OR REPLACE TABLE sales.t AS SELECT 7 AS n, 'seven' AS s").await;
    assert_eq!(bench.rows(all).await, "7|seven");
    run(&mut session, "INSERT OVERWRITE sales.t SELECT 8, 'eight'").await;
    assert_eq!(bench.rows(all).await, "8|eight");
    run(&mut session, "INSERT OVERWRITE sales.t SELECT n + 1, s FROM sales.t").await;
    run(&mut session, "CREATE OR REPLACE TABLE sales.t AS SELECT n - 1 AS n, s FROM sales.t").await;
    assert_eq!(bench.rows(all).await, "8|eight", "what is replaced can be read");
    run(&mut session, "SET search_path = sales, public").await;
    run(&mut session, "ALTER TABLE t RENAME TO u").await;
    assert_eq!(fails(&mut session, all).await, "42P01");
    assert_eq!(run(&mut session, "SELECT n FROM u").await, "8");
    run(&mut session, "CREATE TABLE empty (a INT, b TEXT)").await;
    assert_eq!(run(&mut session, "SELECT count(a) FROM empty").await, "0");
    run(&mut session, "DROP TABLE u").await;
    run(&mut session, "DROP TABLE empty").await;
    run(&mut session, "DROP TABLE IF EXISTS u").await;
    assert_eq!(fails(&mut session, "DROP TABLE u").await, "42P01");
    assert_eq!(keys(&bench).await, ["sales/_ashlar/schema.json"]);
    run(&mut session, "DROP SCHEMA sales").await;
    assert!(keys(&bench).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn external_tables_and_views_say_what_names_mean() {
    let (bench, mut session) = with_schema().await;
    bench.put("in/y=1/a.csv", "n,s\n1,a\n").await;
    bench.put("in/y=2/a.csv", "n,s\n2,b\n").await;
    run(&mut session, "CREATE EXTERNAL TABLE sales.x STORED AS CSV LOCATION 's3://data/in/'").await;
    assert_eq!(bench.rows("SELECT n, s, y FROM sales.x ORDER BY n").await, "1|a|1\n2|b|2");
    bench.put("in/y=3/a.csv", "n,s\n3,c\n").await;
    assert_eq!(bench.rows("SELECT count(*) FROM sales.x WHERE y > 1").await, "2");
    run(&mut session, "CREATE EXTERNAL TABLE typed (n BIGINT, s TEXT, y INT) STORED AS CSV PARTITIONED BY (y) LOCATION 's3://data/in/'").await;
    assert_eq!(bench.rows("SELECT sum(y) FROM typed").await, "6");
    run(&mut session, "INSERT INTO sales.x SELECT 9, 'nine', 4").await;
    assert_eq!(bench.rows("SELECT s FROM sales.x WHERE y = 4").await, "nine");
    assert!(keys(&bench).await.iter().any(|key| key.starts_with("in/y=4/")));
    run(&mut session, "SET search_path = sales").await;
    run(&mut session, "CREATE VIEW v AS SELECT s, y FROM x WHERE y > 1").await;
    run(&mut session, "CREATE VIEW vv (name) AS SELECT s FROM v WHERE y > 2").await;
    assert_eq!(bench.rows("SELECT name FROM sales.vv ORDER BY name").await, "c\nnine");
    run(&mut session, "CREATE OR REPLACE VIEW v AS SELECT s, y FROM read_csv('s3://data/in/*/a.csv')").await;
    assert_eq!(bench.rows("SELECT * FROM sales.vv").await, "c");
    assert_eq!(fails(&mut session, "DROP TABLE v").await, "42809");
    assert_eq!(fails(&mut session, "INSERT INTO v SELECT 'x', 1").await, "42809");
    let listed = bench
        .rows("SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema IN ('sales', 'public') ORDER BY 1, 2")
        .await;
    assert_eq!(listed, "public|typed|BASE TABLE\nsales|v|VIEW\nsales|vv|VIEW\nsales|x|BASE TABLE");
    let columns = bench
        .rows("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'x'")
        .await;
    assert_eq!(columns, "n|Int64\ns|Utf8View\ny|Int64");
    assert_eq!(fails(&mut session, "DROP SCHEMA sales").await, "2BP01");
    run(&mut session, "DROP SCHEMA sales CASCADE").await;
    run(&mut session, "DROP TABLE public.typed").await;
    assert!(keys(&bench).await.iter().all(|key| key.starts_with("in/")), "external rows stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_read_back() {
    let (bench, mut session) = with_schema().await;
    let rows_of = "(SELECT value AS n, 'x' || value AS s, value % 2 AS p FROM generate_series(1, 1000))";
    for (target, options) in [
        ("out/a.parquet", ""),
        ("out/a.csv", ""),
        ("out/a.json", ""),
        ("out/a.arrow", ""),
        ("out/b.csv.gz", "STORED AS CSV OPTIONS (compression gzip)"),
    ] {
        let sql = format!("COPY {rows_of} TO 's3://data/{target}' {options}");
        assert_eq!(run(&mut session, &sql).await, "COPY 1000", "{target}");
        assert_eq!(
            bench.rows(&format!("SELECT count(*), sum(n) FROM 's3://data/{target}'")).await,
            "1000|500500"
        );
    }
    let sql = format!("COPY {rows_of} TO 's3://data/parts/' STORED AS PARQUET PARTITIONED BY (p)");
    run(&mut session, &sql).await;
    assert_eq!(bench.rows("SELECT count(*) FROM 's3://data/parts/' WHERE p = 1").await, "500");
    assert_eq!(bench.rows("SELECT count(*) FROM 's3://data/parts/p=0/'").await, "500");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_all_or_nothing() {
    let (bench, mut session) = with_schema().await;
    run(&mut session, "CREATE TABLE sales.t AS SELECT 1 AS n").await;
    let before = keys(&bench).await;
    for end in ["ROLLBACK", "COMMIT"] {
        run(&mut session, "BEGIN").await;
        run(&mut session, "INSERT INTO sales.t SELECT 2").await;
        run(&mut session, "CREATE TABLE sales.u AS SELECT n + 10 AS n FROM sales.t").await;
        run(&mut session, "CREATE VIEW sales.v AS SELECT max(n) AS m FROM sales.u").await;
        run(&mut session, "COPY sales.u TO 's3://data/u.csv'").await;
        assert_eq!(run(&mut session, "SELECT sum(n) FROM sales.t").await, "3", "seen inside");
        assert_eq!(run(&mut session, "SELECT m FROM sales.v").await, "12", "seen inside");
        assert_eq!(run(&mut session, "SELECT sum(n) FROM 's3://data/u.csv'").await, "23", "seen inside");
        assert_eq!(bench.rows("SELECT sum(n) FROM sales.t").await, "1", "and not outside");
        assert_eq!(keys(&bench).await, before, "nor as objects");
        assert_eq!(run(&mut session, end).await, end);
        if end == "ROLLBACK" {
            assert_eq!(keys(&bench).await, before, "nothing is left behind");
            assert_eq!(bench.error("SELECT * FROM sales.u").await.state.code(), "42P01");
        }
    }
    assert_eq!(bench.rows("SELECT m FROM sales.v").await, "12");
    assert_eq!(bench.rows("SELECT sum(n) FROM sales.t").await, "3");
    run(&mut session, "BEGIN").await;
    run(&mut session, "DROP TABLE sales.u").await;
    assert_eq!(fails(&mut session, "SELECT * FROM sales.u").await, "42P01");
    assert_eq!(fails(&mut session, "SELECT 1").await, "25P02");
    run(&mut session, "ROLLBACK").await;
    assert_eq!(bench.rows("SELECT count(*) FROM sales.u").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_commute_and_overwrites_find_out() {
    let (bench, mut session) = with_schema().await;
    run(&mut session, "CREATE TABLE sales.t AS SELECT 0 AS n").await;
    let mut other = bench.session();
    run(&mut session, "BEGIN").await;
    run(&mut other, "BEGIN").await;
    run(&mut session, "INSERT INTO sales.t SELECT 1").await;
    run(&mut other, "INSERT INTO sales.t SELECT 2").await;
    run(&mut session, "COMMIT").await;
    run(&mut other, "COMMIT").await;
    assert_eq!(bench.rows("SELECT n FROM sales.t ORDER BY n").await, "0\n1\n2");

    run(&mut session, "BEGIN").await;
    run(&mut session, "INSERT OVERWRITE sales.t SELECT 100").await;
    assert_eq!(run(&mut session, "SELECT n FROM sales.t").await, "100");
    run(&mut other, "INSERT INTO sales.t SELECT 3").await;
    assert_eq!(fails(&mut session, "COMMIT").await, "40001");
    assert_eq!(bench.rows("SELECT count(*) FROM sales.t").await, "4", "the INSERT is not lost");

    run(&mut session, "BEGIN").await;
    run(&mut session, "INSERT INTO sales.t SELECT 5").await;
    run(&mut other, "DROP TABLE sales.t").await;
    assert_eq!(fails(&mut session, "COMMIT").await, "40001");
    assert_eq!(keys(&bench).await, ["sales/_ashlar/schema.json"], "a table that is gone gets no rows");

    run(&mut session, "BEGIN").await;
    run(&mut session, "CREATE TABLE sales.t AS SELECT 1 AS n").await;
    run(&mut other, "CREATE TABLE sales.t AS SELECT 2 AS n").await;
    assert_eq!(fails(&mut session, "COMMIT").await, "40001");
    assert_eq!(bench.rows("SELECT n FROM sales.t").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_fails_leaves_nothing() {
    let (bench, mut session) = with_schema().await;
    let before = keys(&bench).await;
    let fails_late = "SELECT 10 / (500000 - value) AS n FROM generate_series(1, 1000000)";
    assert_eq!(fails(&mut session, &format!("CREATE TABLE sales.t AS {fails_late}")).await, "22012");
    assert_eq!(fails(&mut session, &format!("COPY ({fails_late}) TO 's3://data/x.parquet'")).await, "22012");
    assert_eq!(keys(&bench).await, before);
    assert_eq!(fails(&mut session, "SELECT * FROM sales.t").await, "42P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_may_not_change_or_see_what_is_not_theirs() {
    let (bench, mut session) = with_schema().await;
    run(&mut session, "CREATE TABLE sales.t AS SELECT 1 AS n").await;
    run(&mut session, "CREATE EXTERNAL TABLE mine STORED AS PARQUET LOCATION 's3://data/sales/t/'").await;
    let mut eve = Session::new(&bench.engine, request_of("eve", false)).unwrap();
    for sql in [
        "SELECT * FROM sales.t",
        "SELECT * FROM mine",
        "INSERT INTO sales.t SELECT 1",
        "INSERT INTO mine SELECT 1",
        "DROP TABLE sales.t",
        "DROP TABLE mine",
        "ALTER TABLE mine RENAME TO hers",
        "CREATE OR REPLACE EXTERNAL TABLE mine STORED AS PARQUET LOCATION 's3://data/sales/t/'",
        "CREATE TABLE sales.u AS SELECT 1 AS n",
        "CREATE SCHEMA hers LOCATION 's3://data/hers/'",
        "CREATE EXTERNAL TABLE hers STORED AS PARQUET LOCATION 's3://data/sales/t/'",
        "COPY (SELECT 1) TO 's3://data/x.csv'",
        "DROP SCHEMA sales CASCADE",
        "SELECT * FROM 's3://ashlar-catalog/'",
    ] {
        assert_eq!(fails(&mut eve, sql).await, "42501", "{sql}");
    }
    let listed =
        run(&mut eve, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'sales'").await;
    assert_eq!(listed, "");
    assert_eq!(bench.rows("SELECT * FROM sales.t").await, "1");
    assert_eq!(bench.rows("SELECT * FROM mine").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_does_what_it_says() {
    let bench = Bench::new().await;
    bench.put("in/a.csv", "id;amount;country\n1;5000;de\n2;-1;fr\n3;10;fr\n").await;
    bench.put("late.csv", "id,amount,country\n4,2000,fr\n").await;
    let mut session = bench.session();
    let guide = include_str!("../../../../docs/guide/sql.md");
    let block = guide.split("```sql").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let statements = crate::session::split(block).unwrap();
    let (last, before) = statements.split_last().unwrap();
    for statement in before {
        run(&mut session, statement).await;
    }
    assert_eq!(bench.rows("SELECT count(*) FROM sales.orders_2026").await, "3");
    assert_eq!(bench.rows("SELECT id FROM 's3://data/out/' WHERE country = 'fr'").await, "4");
    run(&mut session, last).await;
    assert!(keys(&bench).await.iter().all(|key| !key.starts_with("sales/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_free_again_after_a_rename() {
    let (bench, mut session) = with_schema().await;
    for round in 0..3 {
        run(&mut session, &format!("CREATE TABLE sales.next AS SELECT {round} AS n")).await;
        run(&mut session, "DROP TABLE IF EXISTS sales.old").await;
        if round > 0 {
            run(&mut session, "ALTER TABLE sales.now RENAME TO old").await;
        }
        run(&mut session, "ALTER TABLE sales.next RENAME TO now").await;
        assert_eq!(bench.rows("SELECT n FROM sales.now").await, round.to_string());
    }
    assert_eq!(bench.rows("SELECT n FROM sales.old").await, "1");
    run(&mut session, "CREATE OR REPLACE TABLE sales.now AS SELECT 7 AS n").await;
    assert_eq!(bench.rows("SELECT n FROM sales.now").await, "7");
    run(&mut session, "DROP SCHEMA sales CASCADE").await;
    assert_eq!(keys(&bench).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_takes_all_rows_or_none() {
    let (bench, mut session) = with_schema().await;
    run(&mut session, "CREATE TABLE sales.a AS SELECT 1 AS n").await;
    run(&mut session, "CREATE TABLE sales.b AS SELECT 1 AS n").await;
    assert_eq!(fails(&mut session, "TRUNCATE sales.a, sales.none").await, "42P01");
    assert_eq!(bench.rows("SELECT count(*) FROM sales.a").await, "1");
    run(&mut session, "TRUNCATE TABLE sales.a, sales.b").await;
    assert_eq!(bench.rows("SELECT count(*) FROM sales.a, sales.b").await, "0");
    run(&mut session, "INSERT INTO sales.a SELECT 2").await;
    assert_eq!(bench.rows("SELECT n FROM sales.a").await, "2");
    let mut eve = Session::new(&bench.engine, request_of("eve", false)).unwrap();
    assert_eq!(fails(&mut eve, "TRUNCATE sales.a").await, "42501");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_promised_is_kept_or_refused() {
    let (_bench, mut session) = with_schema().await;
    for sql in [
        "CREATE TABLE sales.t (n BIGINT NOT NULL)",
        "CREATE TABLE sales.t (n BIGINT PRIMARY KEY)",
        "CREATE TABLE sales.t (n BIGINT, UNIQUE (n))",
        "CREATE EXTERNAL TABLE t (n BIGINT NOT NULL) STORED AS CSV LOCATION 's3://data/t/'",
    ] {
        assert_eq!(fails(&mut session, sql).await, "0A000", "{sql}");
    }
    run(&mut session, "CREATE TABLE sales.t (n BIGINT NULL)").await;
    run(&mut session, "BEGIN READ ONLY").await;
    assert_eq!(fails(&mut session, "INSERT INTO sales.t SELECT 1").await, "25006");
    run(&mut session, "ROLLBACK").await;
    run(&mut session, "BEGIN READ WRITE").await;
    run(&mut session, "INSERT INTO sales.t SELECT 1").await;
    run(&mut session, "COMMIT").await;
}
