//! `system`: what it shows to whom.

use ashlar_objects::testing::request_of;

use super::Bench;
use super::bench::{bucket, rows};
use crate::Session;

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_listed_page_by_page_and_only_to_who_may() {
    let bench = Bench::new().await;
    bench.make_bucket("other").await;
    for n in 0..2_100 {
        bench.put(&format!("many/{n:05}"), "x").await;
    }
    bench.put("few/a", "four").await;
    assert_eq!(bench.rows("SELECT count(*), sum(size) FROM system.objects").await, "2101|2104");
    let few = "SELECT bucket, key, size FROM system.objects WHERE bucket = 'data' AND key LIKE 'few/%'";
    assert_eq!(bench.rows(few).await, "data|few/a|4");
    assert_eq!(
        bench.rows("SELECT count(*) FROM system.objects WHERE bucket IN ('other', 'none')").await,
        "0"
    );
    assert_eq!(bench.rows("SELECT count(*) FROM system.object_versions WHERE is_latest").await, "2101");
    assert_eq!(bench.rows("SELECT key FROM system.objects LIMIT 1").await, "few/a");
    assert_eq!(bench.rows("SELECT name FROM system.buckets ORDER BY name").await, "data\nother");
    let mut eve = Session::new(&bench.engine, request_of("eve", false)).unwrap();
    assert_eq!(rows(&mut eve, few).await.unwrap(), "");
    assert_eq!(rows(&mut eve, "SELECT count(*) FROM system.objects").await.unwrap(), "0");
    // Prepared by one, run by another: the other's eyes.
    let prepared = bench.session().prepare("SELECT count(*) FROM system.objects").await.unwrap();
    let crate::Outcome::Rows(answer) = eve.execute(&prepared, Vec::new()).await.unwrap() else { panic!() };
    let batches: Vec<_> = futures::TryStreamExt::try_collect(answer).await.unwrap();
    let text = datafusion::arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
    assert!(text.contains("| 0 "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_under_way_are_shown_to_their_owner_and_root() {
    let bench = Bench::new().await;
    let shown = bench.rows("SELECT user, statement FROM system.queries").await;
    assert_eq!(shown, "ann|SELECT user, statement FROM system.queries");
    let mut session = bench.session();
    let crate::Outcome::Rows(open) =
        session.query("SELECT * FROM generate_series(1, 10000000)", Vec::new()).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(bench.rows("SELECT count(*) FROM system.queries").await, "2");
    let mut eve = Session::new(&bench.engine, request_of("eve", false)).unwrap();
    assert_eq!(rows(&mut eve, "SELECT count(*) FROM system.queries").await.unwrap(), "1");
    let mut root = Session::new(&bench.engine, request_of("root", true)).unwrap();
    assert_eq!(rows(&mut root, "SELECT count(*) FROM system.queries").await.unwrap(), "2");
    drop(open);
    for _ in 0..100 {
        if bench.rows("SELECT count(*) FROM system.queries").await == "1" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("a dropped answer stays");
}

const SHARED: &str = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
    "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::data"}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_others_share_is_there_with_a_filter_and_without() {
    let bench = Bench::new().await;
    bench.make_bucket("hidden").await;
    bench.put("a", "x").await;
    bench.store.put_bucket_policy(&bench.cx, &bucket("data"), SHARED.into()).await.unwrap();
    let mut eve = Session::new(&bench.engine, request_of("eve", false)).unwrap();
    for filter in [
        "",
        "WHERE bucket = 'data'",
        "WHERE bucket IN ('data', 'data', 'hidden')",
        "WHERE bucket LIKE 'd%'",
        "WHERE bucket = 'data' OR key = 'nothing'",
    ] {
        let sql = format!("SELECT bucket, key FROM system.objects {filter}");
        assert_eq!(rows(&mut eve, &sql).await.unwrap(), "data|a", "{sql}");
    }
    assert_eq!(rows(&mut eve, "SELECT name FROM system.buckets").await.unwrap(), "data");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_sees_one_moment_here_too() {
    let bench = Bench::new().await;
    bench.put("a", "x").await;
    let mut session = bench.session();
    rows(&mut session, "BEGIN").await.unwrap();
    bench.put("b", "x").await;
    bench.make_bucket("later").await;
    for (table, inside, outside) in
        [("objects", "1", "2"), ("object_versions", "1", "2"), ("buckets", "1", "2")]
    {
        let sql = format!("SELECT count(*) FROM system.{table}");
        assert_eq!(rows(&mut session, &sql).await.unwrap(), inside, "{sql}");
        assert_eq!(bench.rows(&sql).await, outside, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commitments_are_those_of_versions() {
    let bench = Bench::new().await;
    bench.put("a", "x").await;
    bench.put("b", "x").await;
    let sql = "SELECT count(*), count(DISTINCT content_root), min(length(object_root)), min(size), bool_and(is_latest) \
               FROM system.commitments";
    assert_eq!(bench.rows(sql).await, "2|1|64|1|true");
    // Nothing is published here, and nobody told of nodes.
    assert_eq!(bench.rows("SELECT count(*) FROM system.anchors").await, "0");
    assert_eq!(bench.rows("SELECT count(*) FROM system.nodes").await, "0");
}
