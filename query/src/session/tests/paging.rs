//! Locations of more objects than are pinned at once.

use std::sync::Arc;

use ashlar_objects::testing::request_of;
use datafusion::arrow::array::{ArrayRef, Int64Array};

use super::Bench;
use super::bench::{batch, parquet, rows};
use crate::Session;

const OBJECTS: i64 = 2_500;

fn file(n: i64, column: &str) -> Vec<u8> {
    parquet(&batch(vec![(column, Arc::new(Int64Array::from(vec![n])) as ArrayRef)]), 10)
}

async fn with_many() -> Bench {
    let bench = Bench::new().await;
    for n in 0..OBJECTS {
        bench.put(&format!("many/p={}/{n:05}.parquet", n % 3), file(n, "n")).await;
        bench.put(&format!("text/{n:05}.csv"), format!("n\n{n}\n")).await;
    }
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn all_objects_are_read_page_by_page() {
    let bench = with_many().await;
    let sum = OBJECTS * (OBJECTS - 1) / 2;
    for from in ["'s3://data/many/'", "'s3://data/text/'", "'s3://data/text/*.csv'"] {
        let sql = format!("SELECT count(*), sum(n), min(n), max(n) FROM {from}");
        assert_eq!(bench.rows(&sql).await, format!("{OBJECTS}|{sum}|0|{}", OBJECTS - 1), "{from}");
        let sql = format!("SELECT n FROM {from} WHERE n = 2222");
        assert_eq!(bench.rows(&sql).await, "2222", "{from}");
    }
    let of_one = "SELECT count(*), min(p), max(p) FROM 's3://data/many/' WHERE p = 1";
    assert_eq!(bench.rows(of_one).await, "833|1|1");
    let told = bench.rows("EXPLAIN ANALYZE SELECT n FROM 's3://data/many/' WHERE n = 2222").await;
    assert!(told.contains("row_groups_pruned_statistics=2.50 K total → 1 matched"), "{told}");
    // Twice in one statement, each with pages of its own.
    let join = "SELECT count(*) FROM 's3://data/text/' a JOIN 's3://data/text/' b ON a.n = b.n";
    assert_eq!(bench.rows(join).await, OBJECTS.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_reads_no_more_than_it_needs() {
    let bench = with_many().await;
    for from in ["many", "text"] {
        let sql = format!("SELECT n FROM 's3://data/{from}/' LIMIT 10");
        assert_eq!(bench.rows(&sql).await.lines().count(), 10);
        let told = bench.rows(&format!("EXPLAIN ANALYZE {sql}")).await;
        assert!(told.contains("PagedScan"), "{told}");
        let matched = told.split("objects_matched=").nth(1).and_then(|rest| rest.split([',', ']']).next());
        assert_eq!(matched, Some("32"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_sees_its_own_changes_on_every_page() {
    let bench = with_many().await;
    bench.rows("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 's3://data/text/'").await;
    let mut session = bench.session();
    rows(&mut session, "BEGIN").await.unwrap();
    rows(&mut session, "INSERT INTO t SELECT 1000000").await.unwrap();
    bench.put("text/zzz.csv", "n\n5\n").await;
    let sql = "SELECT count(*), max(n) FROM t";
    assert_eq!(rows(&mut session, sql).await.unwrap(), format!("{}|1000000", OBJECTS + 1));
    rows(&mut session, "INSERT OVERWRITE t SELECT 7").await.unwrap();
    assert_eq!(rows(&mut session, sql).await.unwrap(), "1|7");
    rows(&mut session, "ROLLBACK").await.unwrap();
    assert_eq!(bench.rows(sql).await, format!("{}|{}", OBJECTS + 1, OBJECTS - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn late_columns_are_an_error_and_late_denials_too() {
    let bench = with_many().await;
    bench.put("many/p=2/zzz.parquet", file(1, "unheard_of")).await;
    let error = bench.error("SELECT count(n) FROM 's3://data/many/'").await;
    assert!(error.state.code() == "22000" && error.message.contains("unheard_of"), "{error}");
    // Declared, they are what the table has.
    bench
        .rows("CREATE EXTERNAL TABLE t (n BIGINT, p BIGINT) STORED AS PARQUET PARTITIONED BY (p) LOCATION 's3://data/many/'")
        .await;
    assert_eq!(bench.rows("SELECT count(*), count(n) FROM t").await, format!("{}|{OBJECTS}", OBJECTS + 1));
    let mut eve = Session::new(&bench.engine, request_of("eve", false)).unwrap();
    let error = rows(&mut eve, "SELECT count(*) FROM 's3://data/text/'").await.unwrap_err();
    assert_eq!(error.state.code(), "42501");
}
