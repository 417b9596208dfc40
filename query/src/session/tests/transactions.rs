//! What COMMIT checks again, what others find out, and that nothing is left of what did not come to be.

use std::sync::Arc;
use std::time::Duration;

use ashlar_objects::log::{Durability, DurableWhen, LogHalted, Publishing};
use ashlar_objects::requests::{CreateBucket, DeleteObject, ListObjects, ObjectName};
use ashlar_objects::testing::{TestStore, request_of};
use ashlar_objects::types::Conditions;
use futures::StreamExt;

use super::Bench;
use super::bench::{bucket, key, put_request, rows};
use crate::session::TransactionState;
use crate::{EngineConfig, Session};

async fn keys_in(bench: &Bench, name: &str, prefix: &str) -> Vec<String> {
    let request = ListObjects {
        bucket: bucket(name),
        prefix: prefix.to_owned(),
        delimiter: None,
        after: None,
        max: 1000,
    };
    let root = request_of("root", true);
    let page = bench.store.list_objects(&root, request).await.unwrap();
    page.objects.into_iter().map(|object| object.key).collect()
}

async fn with_table() -> (Bench, Session) {
    let bench = Bench::new().await;
    let mut session = bench.session();
    run(&mut session, "CREATE SCHEMA sales LOCATION 's3://data/sales/'").await;
    run(&mut session, "CREATE TABLE sales.t AS SELECT 0 AS n").await;
    (bench, session)
}

async fn run(session: &mut Session, sql: &str) -> String {
    rows(session, sql).await.unwrap_or_else(|e| panic!("{sql}: {} {e}", e.state.code()))
}

async fn fails(session: &mut Session, sql: &str) -> &'static str {
    rows(session, sql).await.expect_err(sql).state.code()
}

/// Lets eve do everything below `hers/`, but what is denied.
async fn let_eve_in(bench: &Bench, denied: &str) {
    let allowed = r#"{"Effect":"Allow","Principal":{"AWS":"eve"},"Action":"s3:*",
        "Resource":["arn:aws:s3:::data","arn:aws:s3:::data/hers/*"]}"#;
    let policy = format!(r#"{{"Statement":[{allowed}{denied}]}}"#);
    bench.store.put_bucket_policy(&bench.cx, &bucket("data"), policy).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_looked_at_again_at_commit() {
    let bench = Bench::new().await;
    let mut eve = Session::new(&bench.engine, request_of("eve", false)).unwrap();
    let_eve_in(&bench, "").await;
    // A schema is a change of Ashlar's own bucket, too.
    run(&mut eve, "BEGIN").await;
    run(&mut eve, "CREATE SCHEMA hers LOCATION 's3://data/hers/'").await;
    run(&mut eve, "CREATE TABLE hers.t AS SELECT 1 AS n").await;
    bench.store.delete_bucket_policy(&bench.cx, &bucket("data")).await.unwrap();
    assert_eq!(fails(&mut eve, "COMMIT").await, "42501");
    assert_eq!(keys_in(&bench, "data", "").await, Vec::<String>::new());
    assert_eq!(keys_in(&bench, "ashlar-catalog", "").await, Vec::<String>::new());

    let_eve_in(&bench, "").await;
    run(&mut eve, "CREATE SCHEMA hers LOCATION 's3://data/hers/'").await;
    run(&mut eve, "CREATE TABLE hers.t AS SELECT 1 AS n").await;
    run(&mut eve, "BEGIN").await;
    run(&mut eve, "DROP SCHEMA hers CASCADE").await;
    let no_deleting =
        r#",{"Effect":"Deny","Principal":"*","Action":"s3:DeleteObject","Resource":"arn:aws:s3:::data/*"}"#;
    let_eve_in(&bench, no_deleting).await;
    assert_eq!(fails(&mut eve, "COMMIT").await, "42501");
    let_eve_in(&bench, "").await;
    assert_eq!(run(&mut eve, "SELECT n FROM hers.t").await, "1");
    bench.until_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_became_somebody_elses_gets_nothing() {
    let bench = Bench::new().await;
    bench.make_bucket("soon-hers").await;
    let mut session = bench.session();
    run(&mut session, "BEGIN").await;
    run(&mut session, "CREATE SCHEMA s LOCATION 's3://soon-hers/s/'").await;
    run(&mut session, "CREATE TABLE s.t AS SELECT 1 AS n").await;
    bench.store.delete_bucket(&bench.cx, &bucket("soon-hers")).await.unwrap();
    let request = CreateBucket {
        bucket: bucket("soon-hers"),
        acl: None,
        object_lock: false,
        ownership: None,
        location: None,
    };
    bench.store.create_bucket(&request_of("eve", false), request).await.unwrap();
    assert_eq!(fails(&mut session, "COMMIT").await, "42501");
    assert_eq!(keys_in(&bench, "soon-hers", "").await, Vec::<String>::new());
    assert_eq!(fails(&mut session, "SELECT * FROM s.t").await, "42P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn own_inserts_hide_nobody_elses() {
    for replaces in [
        "INSERT OVERWRITE sales.t SELECT 100",
        "DROP TABLE sales.t",
        "CREATE OR REPLACE TABLE sales.t AS SELECT 1 AS n",
    ] {
        for order in [["own", "other", "replace"], ["own", "replace", "other"], ["other", "own", "replace"]] {
            let (bench, mut session) = with_table().await;
            run(&mut session, "BEGIN").await;
            for step in order {
                match step {
                    "own" => run(&mut session, "INSERT INTO sales.t SELECT 1").await,
                    "other" => bench.rows("INSERT INTO sales.t SELECT 2").await,
                    _ => run(&mut session, replaces).await,
                };
            }
            assert_eq!(fails(&mut session, "COMMIT").await, "40001", "{replaces} {order:?}");
            assert_eq!(bench.rows("SELECT n FROM sales.t ORDER BY n").await, "0\n2");
            bench.until_nothing_is_left().await;
        }
    }
    let (bench, mut session) = with_table().await;
    for sql in [
        "BEGIN",
        "CREATE TABLE sales.u AS SELECT 1 AS n",
        "INSERT INTO sales.u SELECT 2",
        "INSERT OVERWRITE sales.u SELECT n + 10 FROM sales.u",
        "INSERT INTO sales.t SELECT 5",
        "ALTER TABLE sales.t RENAME TO v",
        "INSERT OVERWRITE sales.v SELECT 6",
        "DROP TABLE sales.v",
        "CREATE TABLE sales.t AS SELECT 7 AS n",
        "COMMIT",
    ] {
        run(&mut session, sql).await;
    }
    assert_eq!(bench.rows("SELECT n FROM sales.u ORDER BY n").await, "11\n12");
    assert_eq!(bench.rows("SELECT n FROM sales.t").await, "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_one_table_under_whatever_name() {
    for columns in ["(n BIGINT)", "AS SELECT 1 AS n"] {
        let (bench, mut session) = with_table().await;
        run(&mut session, "BEGIN").await;
        run(&mut session, "CREATE TABLE sales.u AS SELECT 2 AS n").await;
        bench.rows(&format!("CREATE TABLE sales.u {columns}")).await;
        bench.rows("ALTER TABLE sales.u RENAME TO v").await;
        assert_eq!(fails(&mut session, "COMMIT").await, "40001", "{columns}");
        // Run again, it takes a folder of its own.
        run(&mut session, "CREATE TABLE sales.u AS SELECT 3 AS n").await;
        assert_eq!(bench.rows("SELECT n FROM sales.u").await, "3", "{columns}");
        let of_other = if columns.starts_with('(') { "" } else { "1" };
        assert_eq!(bench.rows("SELECT n FROM sales.v").await, of_other, "{columns}");
    }
}

/// Runs a statement and goes away after a while. Whether it was done by then.
async fn runs_for(session: &mut Session, sql: &str, while_: Duration) -> bool {
    let prepared = session.prepare(sql).await.unwrap();
    tokio::time::timeout(while_, session.execute(&prepared, Vec::new())).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_was_dropped_spoils_its_transaction() {
    let (bench, mut session) = with_table().await;
    bench.put("many/p=1/x.csv", "n\n1\n").await;
    run(&mut session, "CREATE EXTERNAL TABLE sales.many STORED AS CSV LOCATION 's3://data/many/'").await;
    let insert = "INSERT INTO sales.many SELECT value AS n, value AS p FROM generate_series(1, 60)";
    let count = "SELECT count(*) FROM sales.many";
    let mut done_once = false;
    for microseconds in [0, 50, 200, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 1_000_000] {
        let before: i64 = bench.rows(count).await.parse().unwrap();
        run(&mut session, "BEGIN").await;
        run(&mut session, "INSERT INTO sales.t SELECT 1").await;
        let done = runs_for(&mut session, insert, Duration::from_micros(microseconds)).await;
        let expected = if done { TransactionState::Open } else { TransactionState::Failed };
        assert_eq!(session.transaction_state(), expected, "after {microseconds} µs");
        assert_eq!(run(&mut session, "COMMIT").await, if done { "COMMIT" } else { "ROLLBACK" });
        let after: i64 = bench.rows(count).await.parse().unwrap();
        assert_eq!(after - before, if done { 60 } else { 0 }, "after {microseconds} µs");
        done_once |= done;
        bench.until_nothing_is_left().await;
    }
    assert!(done_once, "a second is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_early_leaves_neither_groups_nor_leases() {
    let (bench, _) = with_table().await;
    for sql in
        ["BEGIN", "INSERT INTO sales.t SELECT 1", "DROP TABLE IF EXISTS sales.none", "SELECT * FROM sales.t"]
    {
        for polls in 1..12 {
            let mut session = bench.session();
            let mut statement = Box::pin(session.query(sql, Vec::new()));
            for _ in 0..polls {
                if futures::poll!(&mut statement).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(statement);
            drop(session);
            bench.until_nothing_is_left().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_client_went_away_is_whole() {
    let (bench, mut session) = with_table().await;
    // More than is given up in one step.
    let insert = "COPY (SELECT value AS n, value AS p FROM generate_series(1, 1500)) TO 's3://data/out/' STORED AS CSV PARTITIONED BY (p)";
    for microseconds in [0, 1_000, 20_000] {
        run(&mut session, "BEGIN").await;
        run(&mut session, insert).await;
        runs_for(&mut session, "COMMIT", Duration::from_micros(microseconds)).await;
        assert_eq!(session.transaction_state(), TransactionState::Idle);
        bench.until_nothing_is_left().await;
        assert_eq!(bench.rows("SELECT count(*) % 1500 FROM 's3://data/out/'").await, "0");
    }
}

/// A log that does not go on.
struct Stands;

#[async_trait::async_trait]
impl Durability for Stands {
    async fn reached(&self, _: u64, _: DurableWhen) -> Result<(), LogHalted> {
        std::future::pending().await
    }

    fn covered(&self) -> u64 {
        0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_visible_does_not_ask_to_be_run_again() {
    let publishing = Publishing {
        durability: Some(Arc::new(Stands)),
        durable_wait: Duration::from_millis(20),
        ..Publishing::default()
    };
    let bench = Bench::on(TestStore::publishing(publishing).await.store, EngineConfig::default()).await;
    let mut session = bench.session();
    run(&mut session, "CREATE SCHEMA sales LOCATION 's3://data/sales/'").await;
    run(&mut session, "CREATE TABLE sales.t AS SELECT 0 AS n").await;
    // That, too, is visible and takes too long.
    let _ = bench.store.set_durable_when(&bench.cx, &bucket("data"), DurableWhen::Anchored).await;
    assert_eq!(run(&mut session, "INSERT INTO sales.t SELECT 1").await, "INSERT 1");
    assert_eq!(run(&mut session, "SELECT count(*) FROM sales.t").await, "2");
    bench.until_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_and_their_tables_notice_each_other() {
    let bench = Bench::new().await;
    let (mut session, mut other) = (bench.session(), bench.session());
    let schema = "CREATE SCHEMA sales LOCATION 's3://data/sales/'";
    run(&mut session, schema).await;
    for made in [
        "CREATE TABLE sales.t AS SELECT 1 AS n",
        "CREATE VIEW sales.t AS SELECT 1 AS n",
        "ALTER VIEW public.w RENAME TO sales.t",
    ] {
        if made.contains("public.w") {
            run(&mut session, "CREATE VIEW public.w AS SELECT 1 AS n").await;
        }
        let made = made.replace("ALTER VIEW", "ALTER TABLE");
        // A table in a schema that goes.
        run(&mut session, "BEGIN").await;
        run(&mut session, &made).await;
        run(&mut other, "DROP SCHEMA sales").await;
        assert_eq!(fails(&mut session, "COMMIT").await, "40001", "{made}");
        assert_eq!(keys_in(&bench, "data", "").await, Vec::<String>::new(), "{made}");
        run(&mut session, schema).await;
        // A schema into which a table comes.
        run(&mut session, "BEGIN").await;
        run(&mut session, "DROP SCHEMA sales CASCADE").await;
        run(&mut other, &made).await;
        assert_eq!(fails(&mut session, "COMMIT").await, "40001", "{made}");
        assert_eq!(bench.rows("SELECT n FROM sales.t").await, "1", "{made}");
        run(&mut session, "DROP SCHEMA sales CASCADE").await;
        assert_eq!(keys_in(&bench, "data", "").await, Vec::<String>::new(), "{made}");
        run(&mut session, schema).await;
    }
    // Tables of other names do not disturb each other.
    run(&mut session, "BEGIN").await;
    run(&mut other, "BEGIN").await;
    run(&mut session, "CREATE TABLE sales.a AS SELECT 1 AS n").await;
    run(&mut other, "CREATE TABLE sales.b AS SELECT 2 AS n").await;
    run(&mut session, "COMMIT").await;
    run(&mut other, "COMMIT").await;
    assert_eq!(bench.rows("SELECT a.n + b.n FROM sales.a CROSS JOIN sales.b").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_has_one_schema() {
    let bench = Bench::new().await;
    let mut session = bench.session();
    run(&mut session, "CREATE SCHEMA a LOCATION 's3://data/a/'").await;
    assert_eq!(fails(&mut session, "CREATE SCHEMA b LOCATION 's3://data/a/'").await, "42P06");
    run(&mut session, "BEGIN").await;
    run(&mut session, "DROP SCHEMA a").await;
    run(&mut session, "CREATE SCHEMA a LOCATION 's3://data/new/'").await;
    bench.rows("CREATE SCHEMA b LOCATION 's3://data/new/'").await;
    assert_eq!(fails(&mut session, "COMMIT").await, "40001");
    for sql in [
        "BEGIN",
        "DROP SCHEMA a",
        "CREATE SCHEMA a LOCATION 's3://data/a/'",
        "CREATE TABLE a.t AS SELECT 1 AS n",
        "COMMIT",
        "BEGIN",
        "CREATE SCHEMA c LOCATION 's3://data/c/'",
        "DROP SCHEMA c",
        "CREATE SCHEMA d LOCATION 's3://data/c/'",
        "COMMIT",
    ] {
        run(&mut session, sql).await;
    }
    assert_eq!(bench.rows("SELECT n FROM a.t").await, "1");
    assert_eq!(fails(&mut session, "CREATE SCHEMA e LOCATION 's3://data/c/'").await, "42P06");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_outlives_its_bucket_and_can_be_dropped() {
    let bench = Bench::new().await;
    bench.make_bucket("short-lived").await;
    let mut session = bench.session();
    run(&mut session, "CREATE SCHEMA s LOCATION 's3://short-lived/'").await;
    let name = ObjectName::current(&bucket("short-lived"), &key("_ashlar/schema.json"));
    let request = DeleteObject { name, conditions: Conditions::default(), bypass_governance: false };
    bench.store.delete_object(&bench.cx, request).await.unwrap();
    bench.store.delete_bucket(&bench.cx, &bucket("short-lived")).await.unwrap();
    run(&mut session, "DROP SCHEMA s").await;
    assert_eq!(fails(&mut session, "DROP SCHEMA s").await, "3F000");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_listed_is_not_dropped_for_empty() {
    let bench = Bench::new().await;
    let mut eve = Session::new(&bench.engine, request_of("eve", false)).unwrap();
    let_eve_in(&bench, "").await;
    run(&mut eve, "CREATE SCHEMA hers LOCATION 's3://data/hers/'").await;
    run(&mut eve, "CREATE TABLE hers.t AS SELECT 1 AS n").await;
    let unread = r#",{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/hers/_ashlar/tables/*"}"#;
    let_eve_in(&bench, unread).await;
    assert_eq!(fails(&mut eve, "DROP SCHEMA hers").await, "42501");
    assert_eq!(fails(&mut eve, "DROP SCHEMA hers CASCADE").await, "42501");
    let_eve_in(&bench, "").await;
    assert_eq!(run(&mut eve, "SELECT n FROM hers.t").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_left_open_ends_by_itself() {
    let (bench, mut session) = with_table().await;
    session.transaction_max = Duration::from_millis(100);
    for last in ["SELECT 1", "INSERT INTO sales.t SELECT 2", "COMMIT"] {
        run(&mut session, "BEGIN").await;
        run(&mut session, "INSERT INTO sales.t SELECT 1").await;
        bench.until_nothing_is_left().await;
        assert_eq!(session.transaction_state(), TransactionState::Failed);
        assert_eq!(fails(&mut session, last).await, "25P03", "{last}");
        if last != "COMMIT" {
            assert_eq!(fails(&mut session, "SELECT 1").await, "25P02");
            assert_eq!(run(&mut session, "ROLLBACK").await, "ROLLBACK");
        }
        assert_eq!(session.transaction_state(), TransactionState::Idle);
        assert_eq!(run(&mut session, "SELECT count(*) FROM sales.t").await, "1");
    }
    run(&mut session, "BEGIN").await;
    bench.until_nothing_is_left().await;
    assert_eq!(run(&mut session, "ROLLBACK").await, "ROLLBACK");
}

/// So many objects in the table's folder, beyond what one publish changes.
async fn many_objects(bench: &Bench, count: usize) {
    let puts = futures::stream::iter(0..count).map(|n| {
        let request = put_request("data", &format!("sales/t/{n:05}.parquet"), "x");
        async { bench.store.put_object(&bench.cx, request).await.unwrap() }
    });
    puts.buffer_unordered(16).collect::<Vec<_>>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_very_many_objects_can_be_dropped() {
    let (bench, mut session) = with_table().await;
    many_objects(&bench, 10_050).await;
    assert_eq!(fails(&mut session, "INSERT OVERWRITE sales.t SELECT 1").await, "54000");
    run(&mut session, "BEGIN").await;
    run(&mut session, "DROP TABLE sales.t").await;
    assert_eq!(fails(&mut session, "CREATE TABLE sales.t AS SELECT 1 AS n").await, "54000");
    run(&mut session, "ROLLBACK").await;
    assert_eq!(keys_in(&bench, "data", "sales/t/").await.len(), 1000, "nothing happened");
    run(&mut session, "DROP TABLE sales.t").await;
    assert_eq!(keys_in(&bench, "data", "sales/t/").await, Vec::<String>::new());
    run(&mut session, "CREATE TABLE sales.t AS SELECT 1 AS n").await;
    assert_eq!(run(&mut session, "SELECT n FROM sales.t").await, "1");
    bench.until_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_very_many_objects_can_be_replaced_by_another() {
    let (bench, mut session) = with_table().await;
    many_objects(&bench, 10_050).await;
    run(&mut session, "CREATE OR REPLACE TABLE sales.t AS SELECT 1 AS n").await;
    assert_eq!(run(&mut session, "SELECT n FROM sales.t").await, "1");
    assert_eq!(keys_in(&bench, "data", "sales/t/").await, Vec::<String>::new());
    bench.until_nothing_is_left().await;
}
