//! Answers as text, and parameters from JSON.

use futures::{StreamExt, TryStreamExt};
use serde_json::json;

use super::Bench;
use crate::Outcome;
use crate::answer::{Form, encode, parameters};

async fn text(bench: &Bench, sql: &str, form: Form) -> String {
    let Outcome::Rows(rows) = bench.session().query(sql, Vec::new()).await.unwrap() else { panic!() };
    let pieces: Vec<_> = encode(&bench.engine, rows, form).await.unwrap().try_collect().await.unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_form_shows_the_same_rows() {
    let bench = Bench::new().await;
    let sql = "SELECT 1 AS n, NULL AS nothing, [1, 2] AS list";
    assert_eq!(text(&bench, sql, Form::JsonLines).await, "{\"n\":1,\"nothing\":null,\"list\":[1,2]}\n");
    assert_eq!(text(&bench, sql, Form::Csv).await, "n,nothing,list\n1,,\"[1, 2]\"\n");
    assert!(text(&bench, sql, Form::Table).await.ends_with("1 row\n"));
    assert_eq!(text(&bench, "SELECT 1 AS n WHERE false", Form::Csv).await, "n\n");
    assert_eq!(text(&bench, "SELECT 1 AS n WHERE false", Form::JsonLines).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_the_middle_is_the_end_and_is_seen() {
    let bench = Bench::new().await;
    let sql = "SELECT 10 / (500000 - value) AS n FROM generate_series(1, 1000000)";
    let Outcome::Rows(rows) = bench.session().query(sql, Vec::new()).await.unwrap() else { panic!() };
    let pieces: Vec<_> = encode(&bench.engine, rows, Form::JsonLines).await.unwrap().collect().await;
    let [.., Ok(words), Err(error)] = &pieces[..] else { panic!("it ended well") };
    assert!(std::str::from_utf8(words).unwrap().contains("\"sqlstate\":\"22012\""));
    assert_eq!(error.state.code(), "22012");
    for form in [Form::Csv, Form::Arrow] {
        let Outcome::Rows(rows) = bench.session().query(sql, Vec::new()).await.unwrap() else { panic!() };
        let pieces: Vec<_> = encode(&bench.engine, rows, form).await.unwrap().collect().await;
        assert!(pieces.last().unwrap().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_come_from_json() {
    let bench = Bench::new().await;
    let mut session = bench.session();
    let prepared = session.prepare("SELECT $1 + CAST(1 AS BIGINT) AS n, $2 AS s").await.unwrap();
    let values = parameters(&prepared, &[json!(41), json!("x")]).unwrap();
    let Outcome::Rows(rows) = session.execute(&prepared, values).await.unwrap() else { panic!() };
    let pieces: Vec<_> =
        encode(&bench.engine, rows, Form::JsonLines).await.unwrap().try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"{\"n\":42,\"s\":\"x\"}\n");
    assert!(parameters(&prepared, &[json!("no number"), json!("x")]).is_err());
    assert!(parameters(&prepared, &[json!(1)]).is_err());
}
