//! What holds whatever happens meanwhile: one moment for a statement or a transaction, rights, limits.

use std::sync::Arc;
use std::time::Duration;

use ashlar_objects::requests::{DeleteObject, ObjectName};
use ashlar_objects::testing::request_of;
use ashlar_objects::types::Conditions;
use datafusion::arrow::array::{Int64Array, StringArray};
use datafusion::common::ScalarValue;
use futures::{StreamExt, TryStreamExt};

use super::Bench;
use super::bench::{batch, bucket, key, parquet, rows};
use crate::session::TransactionState;
use crate::{EngineConfig, Outcome, Session, SqlState};

/// Row groups of 1,000 rows that are not small, so that a scan has much left to read.
fn wide(first: i64, count: i64) -> Vec<u8> {
    let n = Int64Array::from_iter_values(first..first + count);
    let s = StringArray::from_iter_values((first..first + count).map(|n| format!("{n:0>200}")));
    parquet(&batch(vec![("n", Arc::new(n)), ("s", Arc::new(s))]), 1000)
}

async fn delete(bench: &Bench, name: &str) {
    let name = ObjectName::current(&bucket("data"), &key(name));
    let request = DeleteObject { name, conditions: Conditions::default(), bypass_governance: false };
    bench.store.delete_object(&bench.cx, request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn overwrites_deletes_and_collection_change_nothing_in_a_scan() {
    let bench = Bench::new().await;
    for file in 0..4 {
        bench.put(&format!("t/{file}.parquet"), wide(file * 20_000, 20_000)).await;
    }
    let sql = "SELECT n, s FROM 's3://data/t/'";
    let Outcome::Rows(mut answer) = bench.session().query(sql, Vec::new()).await.unwrap() else { panic!() };
    let first = answer.next().await.unwrap().unwrap();
    bench.put("t/0.parquet", wide(1_000_000, 5)).await;
    bench.put("t/1.parquet", wide(2_000_000, 5)).await;
    delete(&bench, "t/2.parquet").await;
    delete(&bench, "t/3.parquet").await;
    bench.store.collect_garbage_now().await;
    let mut sum = 0;
    let mut count = 0;
    let mut add = |batch: datafusion::arrow::record_batch::RecordBatch| {
        let n = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        sum += n.values().iter().sum::<i64>();
        count += n.len();
    };
    add(first);
    answer.try_collect::<Vec<_>>().await.unwrap().into_iter().for_each(add);
    assert_eq!((count, sum), (80_000, (0..80_000).sum::<i64>()));
    assert_eq!(bench.rows("SELECT count(*) FROM 's3://data/t/'").await, "10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_reads_one_moment() {
    let bench = Bench::new().await;
    bench.put("t/0.parquet", wide(0, 10)).await;
    let mut session = bench.session();
    let count = "SELECT count(*) FROM 's3://data/t/'";
    assert_eq!(rows(&mut session, "BEGIN").await.unwrap(), "BEGIN");
    bench.put("t/1.parquet", wide(10, 10)).await;
    assert_eq!(rows(&mut session, count).await.unwrap(), "10");
    assert_eq!(bench.rows(count).await, "20");
    delete(&bench, "t/0.parquet").await;
    bench.store.collect_garbage_now().await;
    assert_eq!(rows(&mut session, count).await.unwrap(), "10");
    assert_eq!(rows(&mut session, "SELECT sum(n) FROM 's3://data/t/'").await.unwrap(), "45");
    assert_eq!(rows(&mut session, "COMMIT").await.unwrap(), "COMMIT");
    assert_eq!(rows(&mut session, count).await.unwrap(), "10");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_spoils_a_transaction_until_it_ends() {
    let bench = Bench::new().await;
    let mut session = bench.session();
    rows(&mut session, "BEGIN").await.unwrap();
    assert_eq!(rows(&mut session, "BEGIN").await.unwrap_err().state.code(), "25001");
    assert_eq!(session.transaction_state(), TransactionState::Failed);
    assert_eq!(rows(&mut session, "SELECT 1").await.unwrap_err().state.code(), "25P02");
    assert_eq!(rows(&mut session, "COMMIT").await.unwrap(), "ROLLBACK");
    assert_eq!(session.transaction_state(), TransactionState::Idle);
    assert_eq!(rows(&mut session, "ROLLBACK").await.unwrap_err().state.code(), "25P01");
    assert_eq!(rows(&mut session, "SELECT 1").await.unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_permission_nothing_is_told() {
    let bench = Bench::new().await;
    bench.put("t/0.parquet", wide(0, 10)).await;
    let mut stranger = Session::new(&bench.engine, request_of("eve", false)).unwrap();
    for sql in [
        "SELECT * FROM 's3://data/t/'",
        "SELECT * FROM 's3://data/t/0.parquet'",
        "SELECT * FROM 's3://data/none.parquet'",
        "SELECT count(*) FROM 's3://data/t/*.parquet'",
        "EXPLAIN SELECT * FROM 's3://data/t/'",
        "EXPLAIN ANALYZE SELECT * FROM 's3://data/t/'",
        "SELECT * FROM read_parquet('s3://data/t/')",
        "DESCRIBE 's3://data/t/'",
    ] {
        let error = rows(&mut stranger, sql).await.expect_err(sql);
        assert_eq!(error.state.code(), "42501", "{sql}: {error}");
    }
    // A plan that somebody else prepared is authorised for whoever runs it.
    let prepared = bench.session().prepare("SELECT * FROM 's3://data/t/'").await.unwrap();
    let refused = stranger.execute(&prepared, Vec::new()).await.err().unwrap();
    assert_eq!(refused.state, SqlState::InsufficientPrivilege);
    assert!(Session::new(&bench.engine, ashlar_objects::testing::anonymous_request()).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_of_the_store_can_be_named() {
    let bench = Bench::new().await;
    for sql in [
        "SELECT * FROM 'file:///etc/passwd'",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'http://127.0.0.1/x.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_csv('http://127.0.0.1/')",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "SET datafusion.runtime.temp_directory = '/tmp'",
        "SET datafusion.execution.batch_size = 1",
    ] {
        let error = bench.error(sql).await;
        assert_ne!(error.state, SqlState::InternalError, "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_or_too_much_ends_alone() {
    let few = EngineConfig {
        query_memory_bytes_max: 4 << 20,
        memory_bytes_max: 8 << 20,
        running_max: 1,
        waiting_max: 1,
        ..EngineConfig::default()
    };
    let bench = Bench::with(few).await;
    let cross = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b WHERE a.value * b.value = 7";
    let mut session = bench.session();
    rows(&mut session, "SET statement_timeout = '100ms'").await.unwrap();
    let timed_out = tokio::time::timeout(Duration::from_secs(5), rows(&mut session, cross)).await.unwrap();
    assert_eq!(timed_out.unwrap_err().state.code(), "57014");
    // It gave its place back.
    let next = tokio::time::timeout(Duration::from_secs(5), bench.rows("SELECT 1")).await;
    assert_eq!(next.unwrap(), "1");
    let large = "SELECT md5(CAST(value AS VARCHAR)) k, count(*) FROM generate_series(1, 500000) GROUP BY k";
    assert_eq!(bench.error(large).await.state.code(), "53200");
    let Outcome::Rows(running) = bench.session().query(cross, Vec::new()).await.unwrap() else { panic!() };
    let mut waiting = bench.session();
    rows(&mut waiting, "SET statement_timeout = '50ms'").await.unwrap();
    assert_eq!(rows(&mut waiting, "SELECT 1").await.unwrap_err().state.code(), "57014");
    drop(running);
    let freed = tokio::time::timeout(Duration::from_secs(5), bench.rows("SELECT 2")).await;
    assert_eq!(freed.unwrap(), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_and_files_are_errors() {
    let bench = Bench::new().await;
    let deep = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    assert_eq!(bench.error(&deep).await.state.code(), "54001");
    let long = format!("SELECT {}", "1+".repeat(20_000) + "1");
    assert_eq!(bench.error(&long).await.state.code(), "54001");
    // As long as may be: the stack holds it.
    assert_eq!(bench.rows(&format!("SELECT {}", "1+".repeat(1_900) + "1")).await, "1901");
    let either = format!("SELECT count(*) FROM 's3://data/x.csv' WHERE n=0{}", " OR n=1".repeat(900));
    bench.put("x.csv", "n\n1\n2\n").await;
    assert_eq!(bench.rows(&either).await, "1");
    let good = wide(0, 2_000);
    bench.put("bad/short.parquet", "PAR1").await;
    bench.put("bad/magic.parquet", vec![7_u8; 4096]).await;
    let mut lying = good.clone();
    let length = lying.len();
    lying[length - 8..length - 4].copy_from_slice(&u32::MAX.to_le_bytes());
    bench.put("bad/long.parquet", lying).await;
    for name in ["short", "magic", "long"] {
        let error = bench.error(&format!("SELECT * FROM 's3://data/bad/{name}.parquet'")).await;
        assert_eq!(error.state.code(), "22000", "{name}: {error}");
    }
    for at in (0..good.len()).step_by(good.len() / 97) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x55;
        bench.put("bad/flipped.parquet", flipped).await;
        // Whatever it answers, it answers, and the engine stands.
        let _ = rows(
            &mut bench.session(),
            "SELECT count(*), max(s), sum(n) FROM 's3://data/bad/flipped.parquet'",
        )
        .await;
    }
    assert_eq!(bench.rows("SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_analyze_counts_what_was_read_and_what_was_not() {
    let bench = Bench::new().await;
    bench.put("t/0.parquet", wide(0, 10_000)).await;
    let read = "SELECT sum(n) FROM 's3://data/t/0.parquet' WHERE n >= 9500";
    assert_eq!(bench.rows(read).await, (9_500..10_000).sum::<i64>().to_string());
    let plan = bench.rows(&format!("EXPLAIN ANALYZE {read}")).await;
    assert!(plan.contains("row_groups_pruned_statistics=10 total → 1 matched"), "{plan}");
    assert!(plan.contains("bytes_scanned="), "{plan}");
    bench.put("p/y=1/a.csv", "n\n1\n").await;
    bench.put("p/y=2/a.csv", "n\n2\n").await;
    let plan = bench.rows("EXPLAIN ANALYZE SELECT n FROM 's3://data/p/' WHERE y = 2").await;
    assert!(plan.contains("objects_matched=2") && plan.contains("objects_pruned=1"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_checked_and_used() {
    let bench = Bench::new().await;
    bench.put("t/0.parquet", wide(0, 10)).await;
    let mut session = bench.session();
    let prepared = session.prepare("SELECT count(*) FROM 's3://data/t/' WHERE n < $1").await.unwrap();
    for (below, expected) in [(3_i64, 3_i64), (100, 10)] {
        let Outcome::Rows(answer) =
            session.execute(&prepared, vec![ScalarValue::Int64(Some(below))]).await.unwrap()
        else {
            panic!()
        };
        let batches: Vec<_> = answer.try_collect().await.unwrap();
        let count = batches[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0);
        assert_eq!(count, expected);
    }
    assert_eq!(session.execute(&prepared, Vec::new()).await.err().unwrap().state.code(), "22023");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_datafusion_alone_gets_wrong() {
    let bench = Bench::new().await;
    assert_eq!(
        bench.rows("SELECT now() > TIMESTAMP '2026-01-01', current_date > DATE '2026-01-01'").await,
        "true|true"
    );
    let decimals = "(VALUES (CAST(1 AS DECIMAL(15, 2))), (2), (2)) t(d)";
    assert_eq!(
        bench.rows(&format!("SELECT round(avg(d), 12), round(sum(d) / 3, 12) FROM {decimals}")).await,
        "1.666666666667|1.666666666667"
    );
    assert_eq!(bench.rows("SELECT 1, 1, 1").await, "1|1|1");
    let few = "(VALUES (1), (2)) v(x)";
    let none = format!("SELECT * FROM (SELECT count(*) AS n, 1 AS one FROM {few}) t WHERE one = 2");
    assert_eq!(bench.rows(&none).await, "");
    let none =
        format!("SELECT * FROM (SELECT count(*) AS n FROM {few}) t WHERE (SELECT max(x) FROM {few}) = 7");
    assert_eq!(bench.rows(&none).await, "");
    assert_eq!(bench.rows(&format!("SELECT DISTINCT x IS NULL AS c FROM {few}")).await, "false");
    assert_eq!(bench.error("SELECT 1 EXCEPT ALL SELECT 2").await.state.code(), "0A000");
    let n = Int64Array::from_iter_values(0..1_000);
    let s = StringArray::from_iter_values((0..1_000).map(|n| if n % 3 == 0 { "x" } else { "y" }));
    let facts = batch(vec![("n", Arc::new(n)), ("s", Arc::new(s))]);
    bench.put("f.parquet", parquet(&facts, 100)).await;
    let sql = "SELECT count(*) FROM 's3://data/f.parquet' a RIGHT JOIN 's3://data/f.parquet' b ON a.n = b.n + 1 \
               WHERE (b.s <> 'x' AND a.s = 'x') OR (b.s IS NULL AND b.n > 0)";
    // b.n + 1 is a's n: b is not a multiple of three, a is.
    assert_eq!(bench.rows(sql).await, "333");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_ordered_by_what_an_outer_join_makes_null() {
    let bench = Bench::new().await;
    let few = |column: &str, n: usize| {
        let values: Vec<_> = (0..n).rev().map(|value| format!("({value})")).collect();
        format!("(VALUES {}) AS v({column})", values.join(", "))
    };
    let side = format!("(SELECT x, 1 AS one FROM {}) AS q", few("x", 2));
    let joined = format!("FROM {} LEFT JOIN {side} ON k = x", few("k", 4));
    let sql = format!("SELECT one, k {joined} ORDER BY one NULLS LAST, k");
    assert_eq!(bench.rows(&sql).await, "1|0\n1|1\n|2\n|3");
    let sql = format!("SELECT one, k {joined} ORDER BY one NULLS FIRST, k LIMIT 3");
    assert_eq!(bench.rows(&sql).await, "|2\n|3\n1|0");
    let rolled = "SELECT a, b, count(*) FROM (SELECT 7 AS a, x AS b FROM (VALUES (1), (2)) AS v(x)) AS t \
                  GROUP BY ROLLUP (a, b) ORDER BY a NULLS FIRST, b NULLS FIRST";
    assert_eq!(bench.rows(rolled).await, "||2\n7||2\n7|1|1\n7|2|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_an_integer_is_rounded() {
    let bench = Bench::new().await;
    let halves = "(VALUES (0.5), (1.5), (2.5), (-0.5), (-1.5)) AS t(x)";
    let sql = format!("SELECT CAST(x AS int), CAST(CAST(x AS decimal(4, 2)) AS smallint) FROM {halves}");
    assert_eq!(bench.rows(&sql).await, "0|1\n2|2\n2|3\n0|-1\n-2|-2");
    assert_eq!(bench.rows("SELECT CAST(2.51 AS int) + 1, CAST(NULL AS int), CAST('7' AS int)").await, "4||7");
    assert_eq!(bench.error("SELECT CAST(3e9 AS int)").await.state.code(), "22003");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scalar_subquery_needs_no_aggregate() {
    let bench = Bench::new().await;
    let (outer, inner) = ("(VALUES (1), (2), (3)) AS o(k)", "(VALUES (1, 'a'), (2, 'b')) AS i(k, name)");
    let sql =
        format!("SELECT k, (SELECT i.name FROM {inner} WHERE i.k = o.k) AS name FROM {outer} ORDER BY k");
    assert_eq!(bench.rows(&sql).await, "1|a\n2|b\n3|");
    assert_eq!(bench.error(&format!("SELECT (SELECT name FROM {inner})")).await.state.code(), "21000");
    assert_eq!(bench.rows(&format!("SELECT (SELECT name FROM {inner} WHERE i.k = 2)")).await, "b");
}
