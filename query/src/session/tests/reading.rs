//! What SELECT reads: formats, patterns, partitions, columns that differ, and what stays while it reads.

use std::sync::Arc;

use datafusion::arrow::array::{Int32Array, Int64Array, StringArray};

use super::Bench;
use super::bench::{batch, parquet, rows};
use crate::SqlState;

fn numbers(from: i64, to: i64) -> Vec<u8> {
    let n = Int64Array::from_iter_values(from..to);
    let s = StringArray::from_iter_values((from..to).map(|n| format!("row {n}")));
    parquet(&batch(vec![("n", Arc::new(n)), ("s", Arc::new(s))]), 1000)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_format_is_read_by_its_name() {
    let bench = Bench::new().await;
    bench.put("a.parquet", numbers(0, 3)).await;
    bench.put("a.csv", "n,s\n1,one\n2,\"t,wo\"\n").await;
    bench.put("a.json", "{\"n\":1,\"s\":\"one\"}\n{\"n\":2}\n").await;
    assert_eq!(
        bench.rows("SELECT * FROM 's3://data/a.parquet' ORDER BY n").await,
        "0|row 0\n1|row 1\n2|row 2"
    );
    assert_eq!(bench.rows("SELECT n, s FROM 's3://data/a.csv' ORDER BY n").await, "1|one\n2|t,wo");
    assert_eq!(bench.rows("SELECT n, s FROM 's3://data/a.json' ORDER BY n").await, "1|one\n2|");
    let sql = "SELECT count(*), sum(a.n) FROM read_csv('s3://data/a.csv', header => false) a";
    assert_eq!(bench.error(sql).await.state.code(), "42703");
    let sql = "SELECT count(*) FROM read_csv('s3://data/a.csv', header => false, delimiter => ';') a";
    assert_eq!(bench.rows(sql).await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_text_and_arrow_are_read() {
    use std::io::Write;
    let bench = Bench::new().await;
    let text = "n,s\n1,one\n2,two\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    bench.put("z/a.csv.gz", gzip.finish().unwrap()).await;
    assert_eq!(bench.rows("SELECT sum(n) FROM 's3://data/z/a.csv.gz'").await, "3");
    let rows = batch(vec![("n", Arc::new(Int64Array::from(vec![4, 5])))]);
    let mut file = datafusion::arrow::ipc::writer::FileWriter::try_new(Vec::new(), &rows.schema()).unwrap();
    file.write(&rows).unwrap();
    bench.put("z/f.arrow", file.into_inner().unwrap()).await;
    let mut stream =
        datafusion::arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &rows.schema()).unwrap();
    stream.write(&rows).unwrap();
    bench.put("z/s.arrow", stream.into_inner().unwrap()).await;
    assert_eq!(bench.rows("SELECT sum(n) FROM 's3://data/z/f.arrow'").await, "9");
    assert_eq!(bench.rows("SELECT sum(n) FROM 's3://data/z/s.arrow'").await, "9");
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_partitions_and_folders_choose_objects() {
    let bench = Bench::new().await;
    for (year, month) in [(2023, "a"), (2024, "a"), (2024, "b")] {
        let first = i64::from(year) * 10;
        bench.put(&format!("t/y={year}/m={month}/x.parquet"), numbers(first, first + 2)).await;
    }
    bench.put("t/_SUCCESS", "").await;
    let all = "'s3://data/t/'";
    assert_eq!(bench.rows(&format!("SELECT count(*) FROM {all}")).await, "6");
    assert_eq!(bench.rows(&format!("SELECT count(*), min(y) FROM {all} WHERE y = 2024")).await, "4|2024");
    assert_eq!(
        bench.rows(&format!("SELECT DISTINCT m FROM {all} WHERE y > 2023 AND n > 0 ORDER BY m")).await,
        "a\nb"
    );
    assert_eq!(bench.rows("SELECT count(*) FROM 's3://data/t/*/m=a/*.parquet'").await, "4");
    assert_eq!(bench.rows("SELECT count(*) FROM 's3://data/t/**/{m=a,m=b}/x.parquet'").await, "6");
    let error = bench.error("SELECT * FROM 's3://data/t/*.parquet'").await;
    assert_eq!((error.state, error.state.code()), (SqlState::UndefinedTable, "42P01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_other_columns_are_read_by_name() {
    let bench = Bench::new().await;
    let old = batch(vec![("n", Arc::new(Int32Array::from(vec![1, 2])))]);
    let new = batch(vec![
        ("s", Arc::new(StringArray::from(vec!["x"]))),
        ("n", Arc::new(Int64Array::from(vec![1_i64 << 40]))),
    ]);
    bench.put("e/1.parquet", parquet(&old, 10)).await;
    bench.put("e/2.parquet", parquet(&new, 10)).await;
    let read = "SELECT n, s FROM 's3://data/e/' ORDER BY n";
    assert_eq!(bench.rows(read).await, "1|\n2|\n1099511627776|x");
    assert_eq!(bench.rows("SELECT max(n), min(n) FROM 's3://data/e/' WHERE n > 1").await, "1099511627776|2");
    let clash = batch(vec![("n", Arc::new(StringArray::from(vec!["x"])))]);
    bench.put("e/3.parquet", parquet(&clash, 10)).await;
    assert_eq!(bench.error(read).await.state.code(), "42804");
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_and_settings() {
    let bench = Bench::new().await;
    bench.put("a.parquet", numbers(0, 10)).await;
    let mut session = bench.session();
    let prepared = session.prepare("SELECT count(*) FROM 's3://data/a.parquet' WHERE n < $1").await.unwrap();
    assert_eq!(prepared.parameter_types(), [datafusion::arrow::datatypes::DataType::Int64]);
    assert_eq!(rows(&mut session, "SET statement_timeout = '5s'").await.unwrap(), "SET");
    assert_eq!(rows(&mut session, "SHOW statement_timeout").await.unwrap(), "5000ms");
    assert_eq!(rows(&mut session, "SELECT 1").await.unwrap(), "1");
    assert_eq!(bench.error("SELECT 1; SELECT 2").await.state.code(), "42601");
    assert_eq!(bench.error("SELEC 1").await.state.code(), "42601");
    assert_eq!(bench.error("SELECT * FROM nowhere").await.state.code(), "42P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_for_null_is_null() {
    let bench = Bench::new().await;
    bench.put("n.csv", "n,s\n1,NA\nNA,x\n3,\"NA\"\n").await;
    let sql = "SELECT n, s FROM read_csv('s3://data/n.csv', null => 'NA')";
    assert_eq!(bench.rows(sql).await, "1|\n|x\n3|NA");
}
