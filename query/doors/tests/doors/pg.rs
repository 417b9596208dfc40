//! The PostgreSQL protocol as a client of it sees the door.

use std::time::Duration;

use super::stand::{ACCESS_KEY, SECRET_KEY, Stand};
use ashlar_query_doors::pg::PgConfig;
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

async fn connect_as(stand: &Stand, user: &str, password: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(stand.address.port()).user(user).password(password).dbname("ashlar");
    let (client, connection) = config.connect(NoTls).await?;
    stand.tasks.spawn(async move { drop(connection.await) });
    Ok(client)
}

async fn connect(stand: &Stand) -> Client {
    connect_as(stand, ACCESS_KEY, SECRET_KEY).await.expect("connected")
}

fn code(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("none", |code| code.code())
}

/// Rows of a simple query, cells joined by `|`.
async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let cells = (0..row.len()).map(|at| row.get(at).unwrap_or("∅"));
                Some(cells.collect::<Vec<_>>().join("|"))
            }
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_the_secret_comes_in() {
    let stand = Stand::pg(PgConfig::default()).await;
    connect(&stand).await;
    let wrong = connect_as(&stand, ACCESS_KEY, "another-secret").await.expect_err("wrong");
    let nobody = connect_as(&stand, "AKNOBODY", SECRET_KEY).await.expect_err("nobody");
    assert_eq!((code(&wrong), code(&nobody)), ("28P01", "28P01"));
    assert_eq!(wrong.to_string(), nobody.to_string());
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_each_type_in_text() {
    let stand = Stand::pg(PgConfig::default()).await;
    let client = connect(&stand).await;
    for (sql, expected) in [
        ("SELECT true, false, NULL", "t|f|∅"),
        ("SELECT 1::smallint, 2::int, 3::bigint", "1|2|3"),
        ("SELECT 1.5::real, 0.1::double precision, 1e20::double precision", "1.5|0.1|1e+20"),
        ("SELECT 12.50::numeric(10,2)", "12.50"),
        ("SELECT 'a ''b'''", "a 'b'"),
        ("SELECT X'00ff'", "\\x00ff"),
        ("SELECT DATE '2024-02-29'", "2024-02-29"),
        ("SELECT TIME '01:02:03.5'", "01:02:03.5"),
        ("SELECT TIMESTAMP '2024-01-01 10:00:00.25'", "2024-01-01 10:00:00.25"),
        ("SELECT TIMESTAMPTZ '2024-01-01 10:00:00Z'", "2024-01-01 10:00:00+00"),
        ("SELECT INTERVAL '1 year 2 months 3 days 4 hours'", "1 year 2 mons 3 days 04:00:00"),
        ("SELECT [1, NULL, 3]", "{1,NULL,3}"),
        ("SELECT ['a b', 'c', '', 'null']", "{\"a b\",c,\"\",\"null\"}"),
        ("SELECT named_struct('a', 1, 'b', 'x')", "{\"a\":1,\"b\":\"x\"}"),
    ] {
        assert_eq!(rows(&client, sql).await, [expected], "{sql}");
    }
    assert_eq!(
        rows(&client, "SET TIME ZONE '+05:30'; SELECT TIMESTAMPTZ '2024-01-01 00:00:00Z'").await,
        ["2024-01-01 05:30:00+05:30"]
    );
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_and_results_in_binary() {
    let stand = Stand::pg(PgConfig::default()).await;
    stand.put("t.csv", "n,s\n1,one\n2,two\n3,three\n").await;
    let client = connect(&stand).await;
    let statement = client
        .prepare("SELECT n, s FROM 's3://data/t.csv' WHERE n >= $1 AND s <> $2 ORDER BY n")
        .await
        .expect("prepared");
    assert_eq!(statement.params(), [Type::INT8, Type::TEXT]);
    let types: Vec<Type> = statement.columns().iter().map(|column| column.type_().clone()).collect();
    assert_eq!(types, [Type::INT8, Type::TEXT]);
    for _ in 0..2 {
        let found = client.query(&statement, &[&2_i64, &"two"]).await.expect("rows");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].get::<_, i64>(0), found[0].get::<_, &str>(1)), (3, "three"));
    }
    let typed = [Type::INT4, Type::BOOL, Type::FLOAT8, Type::TEXT_ARRAY, Type::BYTEA, Type::INT2];
    let statement = client.prepare_typed("SELECT $1, $2, $3, $4, $5, $6", &typed).await.expect("prepared");
    let words = vec![Some("a"), None];
    let row = client
        .query_one(&statement, &[&7_i32, &true, &0.5_f64, &words, &&b"\x00\x01"[..], &None::<i16>])
        .await
        .expect("a row");
    assert_eq!((row.get::<_, i32>(0), row.get::<_, bool>(1), row.get::<_, f64>(2)), (7, true, 0.5));
    assert_eq!(row.get::<_, Vec<Option<&str>>>(3), words);
    assert_eq!((row.get::<_, &[u8]>(4), row.get::<_, Option<i16>>(5)), (&b"\x00\x01"[..], None));
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_give_rows_in_parts() {
    let stand = Stand::pg(PgConfig::default()).await;
    let mut client = connect(&stand).await;
    let transaction = client.transaction().await.expect("begun");
    let statement = "SELECT value FROM generate_series(1, 10) ORDER BY 1";
    let portal = transaction.bind(statement, &[]).await.expect("bound");
    let mut seen = Vec::new();
    loop {
        let part = transaction.query_portal(&portal, 4).await.expect("rows");
        if part.is_empty() {
            break;
        }
        assert!(part.len() <= 4);
        seen.extend(part.iter().map(|row| row.get::<_, i64>(0)));
    }
    assert_eq!(seen, (1..=10).collect::<Vec<i64>>());
    stand.stop.cancel();
    drop(transaction);
    drop(client);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_those_of_the_session() {
    let stand = Stand::pg(PgConfig::default()).await;
    stand.put("t.csv", "n\n1\n").await;
    let client = connect(&stand).await;
    let count = "SELECT count(*) FROM 's3://data/*.csv'";
    client.batch_execute("BEGIN").await.expect("begun");
    assert_eq!(rows(&client, count).await, ["1"]);
    stand.put("u.csv", "n\n2\n").await;
    assert_eq!(rows(&client, count).await, ["1"], "one moment for all");
    let error = client.simple_query("SELECT nope").await.expect_err("no column");
    assert_eq!(code(&error), "42703");
    let error = client.simple_query(count).await.expect_err("failed");
    assert_eq!(code(&error), "25P02");
    let error = client.simple_query("SELECT version()").await.expect_err("failed");
    assert_eq!(code(&error), "25P02");
    client.batch_execute("ROLLBACK").await.expect("ended");
    assert_eq!(rows(&client, count).await, ["2"]);
    // Only warned of, as PostgreSQL does.
    client.batch_execute("COMMIT").await.expect("warned");
    client.batch_execute("BEGIN; BEGIN; COMMIT").await.expect("warned");
    // Back to a savepoint, where nothing was written.
    client.batch_execute("BEGIN; SAVEPOINT a").await.expect("begun");
    client.simple_query("SELECT nope").await.expect_err("no column");
    client.batch_execute("ROLLBACK TO a").await.expect("back");
    assert_eq!(rows(&client, count).await, ["2"]);
    client.batch_execute("RELEASE a; COMMIT").await.expect("ended");
    // What fails while its rows stream fails the transaction too.
    client.batch_execute("BEGIN").await.expect("begun");
    client.simple_query("SELECT 1 / (value - 5) FROM generate_series(1, 9)").await.expect_err("division");
    let error = client.simple_query("SELECT 1").await.expect_err("failed");
    assert_eq!(code(&error), "25P02");
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_and_where_and_the_connection_goes_on() {
    let stand = Stand::pg(PgConfig::default()).await;
    let client = connect(&stand).await;
    for (sql, expected) in [
        ("SELEC 1", "42601"),
        ("SELECT * FROM nowhere", "42P01"),
        ("SELECT nope", "42703"),
        ("SELECT 1 / 0", "22012"),
        ("SAVEPOINT a", "25P01"),
        ("COPY t FROM STDIN", "0A000"),
        ("SELECT * FROM 's3://data/none/'", "42P01"),
        ("DEALLOCATE nobody", "26000"),
        ("SELECT $1", "42P02"),
    ] {
        let error = client.simple_query(sql).await.expect_err(sql);
        assert_eq!(code(&error), expected, "{sql}: {error:?}");
    }
    let error = client.simple_query("SELECT 1,\n FROM").await.expect_err("syntax");
    let found = error.as_db_error().expect("told by the server");
    assert_eq!(found.position(), Some(&ErrorPosition::Original(16)), "{found:?}");
    // Of a text with several statements nothing after the first error is done.
    let error =
        client.simple_query("SELECT 1; SELEC 2; SET application_name = 'x'").await.expect_err("syntax");
    assert_eq!(code(&error), "42601");
    assert_eq!(rows(&client, "SHOW application_name").await, [""]);
    assert_eq!(rows(&client, "SELECT 1; SELECT 2").await, ["1", "2"]);
    assert!(rows(&client, "-- nothing").await.is_empty());
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_copied_out() {
    let stand = Stand::pg(PgConfig::default()).await;
    let client = connect(&stand).await;
    for (options, expected) in [
        ("", &b"1\ta b\n2\t\\N\n"[..]),
        (" (FORMAT csv, HEADER)", b"n,s\n1,a b\n2,\n"),
        (" (FORMAT binary)", b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x03a b\0\x02\0\0\0\x08\0\0\0\0\0\0\0\x02\xff\xff\xff\xff\xff\xff"),
    ] {
        let sql = format!("COPY (SELECT * FROM (VALUES (1, 'a b'), (2, NULL)) AS t (n, s)) TO STDOUT{options}");
        let stream = client.copy_out(&sql).await.expect("begun");
        let pieces: Vec<bytes::Bytes> = futures::TryStreamExt::try_collect(stream).await.expect("copied");
        assert_eq!(pieces.concat(), expected, "{options}");
    }
    assert_eq!(rows(&client, "SELECT 1").await, ["1"]);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_cancelled_by_its_key() {
    let stand = Stand::pg(PgConfig::default()).await;
    let client = connect(&stand).await;
    let token = client.cancel_token();
    let long = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await.expect("sent");
    };
    let (ended, ()) = tokio::join!(client.simple_query(long), cancel);
    assert_eq!(code(&ended.expect_err("cancelled")), "57014");
    assert_eq!(rows(&client, "SELECT 1").await, ["1"]);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_a_removed_key_counts_no_longer() {
    let stand = Stand::pg(PgConfig { connections_max: 2, ..PgConfig::default() }).await;
    let users = stand.store.users();
    users.add_user(&stand.cx, "ann").await.expect("a user");
    let key = users.add_key(&stand.cx, "ann").await.expect("a key");
    let first = connect_as(&stand, &key.access_key, key.secret.expose()).await.expect("in");
    let _second = connect(&stand).await;
    let error = connect_as(&stand, ACCESS_KEY, SECRET_KEY).await.expect_err("too many");
    assert_eq!(code(&error), "53300");
    assert_eq!(rows(&first, "SELECT 1").await, ["1"]);
    users.remove_key(&stand.cx, "ann", &key.access_key).await.expect("removed");
    let error = first.simple_query("SELECT 1").await.expect_err("removed");
    assert_eq!(code(&error), "42501");
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_ask_of_the_catalog() {
    let stand = Stand::pg(PgConfig::default()).await;
    let client = connect(&stand).await;
    let version = rows(&client, "SELECT version()").await;
    assert!(version[0].starts_with("PostgreSQL 16.4 (Ashlar "), "{version:?}");
    assert_eq!(
        rows(&client, "SELECT current_database(), current_schema(), current_user").await,
        ["ashlar|public|root"]
    );
    let schemas = "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = 'public'";
    assert_eq!(rows(&client, schemas).await, ["public"]);
    assert_eq!(rows(&client, "SELECT oid, typname FROM pg_type WHERE oid = 23").await, ["23|int4"]);
    assert_eq!(rows(&client, "SELECT format_type(1700, 655366)").await, ["numeric(10,2)"]);
    assert_eq!(rows(&client, "SELECT pg_catalog.current_setting('timezone')").await, ["UTC"]);
    let found = client
        .query("SELECT typname FROM pg_catalog.pg_type WHERE oid = $1", &[&16_i32])
        .await
        .expect("prepared");
    assert_eq!(found[0].get::<_, &str>(0), "bool");
    stand.end().await;
}
