//! Commands that ask a server: one request, and its answer for people or, with `--json`, for programs.
//!
//! Invariant: with `--json` the answer is what the API gave and nothing else stands on standard output.

pub(crate) mod proofs;

use anyhow::Context;
use ashlar_objects::log::DurableWhen;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::BucketsPage;
use crate::api::answers::{
    ApiKey, ApiKeysPage, Bucket, BucketDurability, ImportedModel, ModelFile, NewApiKey, NewApiKeyAnswer,
    NewKey, NewUser, Node, Status, User,
};
use crate::client::Client;
use crate::command_line::{
    ApiKeysCommand, BucketsCommand, KeysCommand, ModelsCommand, NodesCommand, ServerAddress, SqlFormat,
    UsersCommand,
};
use crate::output::{bytes, facts, print, print_bytes, table};

/// `ashlar status`
pub(crate) async fn status(server: &ServerAddress) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    show(server, &client.get::<Status>("/api/status").await?, |status| {
        let mut lines = vec![
            ("version", status.version.clone()),
            ("takes writes", yes_or_no(status.ready)),
            ("up", span(status.uptime_seconds)),
            ("S3", status.s3_endpoint.clone()),
            ("coding", status.coding.clone()),
            ("storage nodes", format!("{} of {} take writes", status.nodes_writable, status.nodes)),
            (
                "redundancy",
                if status.redundancy_full { "full".to_owned() } else { "not known to be full".to_owned() },
            ),
            ("waiting for repair", format!("{} shards", status.repair_queue)),
            ("waiting for collection", format!("{} rows", status.gc_waiting)),
            ("stored", format!("{} in {} shards, parity included", bytes(status.shard_bytes), status.shards)),
            ("room", bytes(status.writable_bytes)),
            ("memory", bytes(status.resident_bytes)),
        ];
        if let Some(log) = &status.log {
            lines.push(("log", format!("{} batches sealed, {} anchored", log.sealed, log.anchored)));
            lines.push(("chain", log.chain.clone()));
        }
        for journal in &status.journals {
            lines.push(("journal", format!("{} ({})", journal.dir, bytes(journal.bytes))));
        }
        for note in &status.notes {
            lines.push(("note", note.clone()));
        }
        facts(&lines)
    })
}

/// `ashlar sql "…"`
pub(crate) async fn sql(server: &ServerAddress, statements: String, format: SqlFormat) -> anyhow::Result<()> {
    let accept = match format {
        SqlFormat::Table => "text/plain",
        SqlFormat::Json => "application/x-ndjson",
        SqlFormat::Csv => "text/csv",
        SqlFormat::Arrow => "application/vnd.apache.arrow.stream",
    };
    Client::new(server)?.sql(statements, accept, print_bytes).await
}

/// `ashlar nodes …`
pub(crate) async fn nodes(server: &ServerAddress, command: Option<NodesCommand>) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    match command.unwrap_or(NodesCommand::List) {
        NodesCommand::List => show(server, &client.get::<Vec<Node>>("/api/nodes").await?, |nodes| {
            let row = |node: &Node| {
                vec![
                    node.node.to_string(),
                    node.health.clone(),
                    node.shards.to_string(),
                    bytes(node.shard_bytes),
                    bytes(node.writable_bytes),
                    node.dir.clone(),
                ]
            };
            let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
            table(&["node", "health", "shards", "stored", "room", "folder"], &rows)
        }),
        NodesCommand::Show { node } => {
            show(server, &client.get::<Node>(&format!("/api/nodes/{node}")).await?, |node| {
                let mut lines = vec![
                    ("node", node.node.to_string()),
                    ("health", node.health.clone()),
                    ("folder", node.dir.clone()),
                    ("fails with", node.domain.clone()),
                    ("shards", node.shards.to_string()),
                    ("their bytes", bytes(node.shard_bytes)),
                    ("files take", bytes(node.file_bytes)),
                    ("room", bytes(node.writable_bytes)),
                    ("file system", bytes(node.total_bytes)),
                ];
                lines.extend(node.reason.clone().map(|reason| ("reason", reason)));
                facts(&lines)
            })
        }
    }
}

/// `ashlar users …`
pub(crate) async fn users(server: &ServerAddress, command: Option<UsersCommand>) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    match command.unwrap_or(UsersCommand::List) {
        UsersCommand::List => show(server, &client.get::<Vec<User>>("/api/users").await?, |users| {
            let row = |user: &User| vec![user.name.clone(), user.access_keys.join(" "), user.id.clone()];
            table(&["user", "access keys", "id"], &users.iter().map(row).collect::<Vec<_>>())
        }),
        UsersCommand::Show { name } => {
            show(server, &client.get::<User>(&format!("/api/users/{}", segment(&name))).await?, |user| {
                let mut lines = vec![("user", user.name.clone()), ("id", user.id.clone())];
                lines.push(("root", yes_or_no(user.root)));
                lines.extend(user.access_keys.iter().map(|key| ("access key", key.clone())));
                facts(&lines)
            })
        }
        UsersCommand::Add { name } => {
            show(server, &client.post::<NewKey>("/api/users", &NewUser { name }).await?, new_key)
        }
        UsersCommand::Remove { name } => {
            client.delete(&format!("/api/users/{}", segment(&name))).await?;
            done(server, format!("user {name} is removed\n"))
        }
        UsersCommand::Keys { command } => keys(server, &client, command).await,
    }
}

async fn keys(server: &ServerAddress, client: &Client, command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::List { user } => {
            let path = format!("/api/users/{}/keys", segment(&user));
            show(server, &client.get::<Vec<String>>(&path).await?, |keys| {
                keys.iter().map(|key| format!("{key}\n")).collect()
            })
        }
        KeysCommand::Add { user } => {
            let path = format!("/api/users/{}/keys", segment(&user));
            show(server, &client.post::<NewKey>(&path, &()).await?, new_key)
        }
        KeysCommand::Remove { user, access_key } => {
            client.delete(&format!("/api/users/{}/keys/{}", segment(&user), segment(&access_key))).await?;
            done(server, format!("access key {access_key} of {user} is removed\n"))
        }
    }
}

/// `ashlar keys …`
pub(crate) async fn api_keys(server: &ServerAddress, command: Option<ApiKeysCommand>) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    match command.unwrap_or(ApiKeysCommand::List { user: None }) {
        ApiKeysCommand::List { user } => {
            let of_user = user.map(|user| format!("user={}", segment(&user)));
            let mut keys: Vec<ApiKey> = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let after_key = after.map(|after| format!("after={}", segment(&after)));
                let query: Vec<String> = of_user.iter().cloned().chain(after_key).collect();
                let page: ApiKeysPage = client.get(&format!("/api/keys?{}", query.join("&"))).await?;
                keys.extend(page.keys);
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            show(server, &keys, |keys| {
                let row = |key: &ApiKey| {
                    let cap = key.spend_cap.as_ref().map(|cap| format!(" of {cap}")).unwrap_or_default();
                    vec![
                        key.id.clone(),
                        key.name.clone(),
                        key.user.clone(),
                        key.expires.clone().unwrap_or_else(|| "never".to_owned()),
                        format!("{}{cap}", key.spent),
                        scope(key),
                    ]
                };
                let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
                table(&["id", "name", "user", "expires", "spent, wei", "for"], &rows)
            })
        }
        ApiKeysCommand::Create { name, user, expires, routes, models, spend_cap } => {
            let some = |items: Vec<String>| Some(items).filter(|items| !items.is_empty());
            let (routes, models) = (some(routes), some(models));
            let new = NewApiKey { name, user, expires, routes, models, spend_cap };
            let made: NewApiKeyAnswer = client.post("/api/keys", &new).await?;
            show(server, &made, |made| {
                let lines = [("id", made.key.id.clone()), ("API key", made.secret.clone())];
                format!("{}\nThe API key is not shown again.\n", facts(&lines))
            })
        }
        ApiKeysCommand::Delete { id } => {
            client.delete(&format!("/api/keys/{}", segment(&id))).await?;
            done(server, format!("API key {id} is removed\n"))
        }
    }
}

fn scope(key: &ApiKey) -> String {
    let list = |items: &Option<Vec<String>>| items.as_ref().map(|items| items.join(" "));
    match (list(&key.routes), list(&key.models)) {
        (None, None) => "everything".to_owned(),
        (routes, models) => [routes, models].into_iter().flatten().collect::<Vec<_>>().join("; "),
    }
}

/// `ashlar models …`
pub(crate) async fn models(server: &ServerAddress, command: Option<ModelsCommand>) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let served = |model: &ImportedModel| if model.is_served { "yes" } else { "no" }.to_owned();
    match command.unwrap_or(ModelsCommand::List) {
        ModelsCommand::List => {
            show(server, &client.get::<Vec<ImportedModel>>("/api/models").await?, |models| {
                let row = |model: &ImportedModel| {
                    let length = model.length.to_string();
                    vec![
                        model.name.clone(),
                        model.content_root.clone(),
                        length,
                        model.imported.clone(),
                        served(model),
                    ]
                };
                table(
                    &["model", "content root", "bytes", "imported", "served"],
                    &models.iter().map(row).collect::<Vec<_>>(),
                )
            })
        }
        ModelsCommand::Show { name } => {
            let path = format!("/api/models/{}", segment(&name));
            show(server, &client.get::<ImportedModel>(&path).await?, |model| {
                let mut lines = vec![
                    ("model", model.name.clone()),
                    ("content root", model.content_root.clone()),
                    ("imported", model.imported.clone()),
                    ("served", served(model)),
                ];
                let file = |file: &ModelFile| format!("{} {} {}", file.content_root, file.length, file.name);
                lines.extend(model.files.iter().map(|one| ("file", file(one))));
                facts(&lines)
            })
        }
        ModelsCommand::Import { name } => {
            let model: ImportedModel = client.put(&format!("/api/models/{}", segment(&name)), &()).await?;
            show(server, &model, |model| {
                format!("{} is {}, {} bytes\n", model.name, model.content_root, model.length)
            })
        }
    }
}

/// `ashlar buckets …`
pub(crate) async fn buckets(server: &ServerAddress, command: Option<BucketsCommand>) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    match command.unwrap_or(BucketsCommand::List) {
        BucketsCommand::List => {
            let mut buckets: Vec<Bucket> = Vec::new();
            let mut path = "/api/buckets".to_owned();
            loop {
                let page: BucketsPage = client.get(&path).await?;
                buckets.extend(page.buckets);
                let Some(next) = page.next else { break };
                path = format!("/api/buckets?after={}", segment(&next));
            }
            show(server, &buckets, |buckets| {
                let row = |bucket: &Bucket| {
                    vec![
                        bucket.name.clone(),
                        bucket.created.clone(),
                        bucket.versioning.clone(),
                        bucket.owner.chars().take(16).collect(),
                    ]
                };
                table(
                    &["bucket", "created", "versioning", "owner"],
                    &buckets.iter().map(row).collect::<Vec<_>>(),
                )
            })
        }
        BucketsCommand::Show { name } => show(
            server,
            &client.get::<Bucket>(&format!("/api/buckets/{}", segment(&name))).await?,
            |bucket| {
                facts(&[
                    ("bucket", bucket.name.clone()),
                    ("created", bucket.created.clone()),
                    ("versioning", bucket.versioning.clone()),
                    ("owner", bucket.owner.clone()),
                ])
            },
        ),
        BucketsCommand::DurableWhen { name, level } => {
            let path = format!("/api/buckets/{}/durable-when", segment(&name));
            let answer: BucketDurability = match level {
                None => client.get(&path).await?,
                Some(level) => {
                    let durable_when = DurableWhen::parse(&level).with_context(|| {
                        format!("'{level}' is no level; quorum, certified and anchored are")
                    })?;
                    client.put(&path, &BucketDurability { durable_when }).await?
                }
            };
            show(server, &answer, |answer| {
                format!("Changes of {name} are answered when they are durable as: {}\n", answer.durable_when)
            })
        }
    }
}

fn new_key(key: &NewKey) -> String {
    let lines = [
        ("user", key.user.clone()),
        ("access key", key.access_key.clone()),
        ("secret key", key.secret_key.clone()),
    ];
    format!("{}\nThe secret key is not shown again.\n", facts(&lines))
}

fn show<T: Serialize + DeserializeOwned>(
    server: &ServerAddress,
    answer: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    if server.json {
        let json = serde_json::to_string_pretty(answer).context("writing the answer as JSON")?;
        return print(&format!("{json}\n"));
    }
    print(&text(answer))
}

fn done(server: &ServerAddress, text: String) -> anyhow::Result<()> {
    if server.json { print("{}\n") } else { print(&text) }
}

fn yes_or_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Text as one segment of a path or value of a query.
fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
