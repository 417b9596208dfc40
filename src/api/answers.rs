//! What the API answers, as types that the server writes and the command line reads.
//!
//! Invariant: both sides use these and nothing else, so that they cannot drift apart. Fields are only ever
//! added. Sizes are bytes, times seconds or RFC 3339.

use ashlar_objects::log::DurableWhen;
use serde::{Deserialize, Serialize};

/// `GET /api/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Of the server.
    pub(crate) version: String,
    /// Whether it takes writes.
    pub(crate) ready: bool,
    /// Why not, and whatever else is not as it should be.
    pub(crate) notes: Vec<String>,
    /// Since its start.
    pub(crate) uptime_seconds: u64,
    /// Where S3 is.
    pub(crate) s3_endpoint: String,
    /// Data and parity shards, as `4+2`.
    pub(crate) coding: String,
    /// Storage nodes.
    pub(crate) nodes: u64,
    /// Those that take writes.
    pub(crate) nodes_writable: u64,
    /// Whether every shard was in its place at the last look.
    pub(crate) redundancy_full: bool,
    /// Shards that wait for repair.
    pub(crate) repair_queue: u64,
    /// Rows that wait for collection.
    pub(crate) gc_waiting: u64,
    /// Shards on all nodes.
    pub(crate) shards: u64,
    /// Their bytes.
    pub(crate) shard_bytes: u64,
    /// What the nodes could still take, each file system counted once.
    pub(crate) writable_bytes: u64,
    /// Memory of the process.
    pub(crate) resident_bytes: u64,
    /// Position of the latest commit that every reader sees.
    pub(crate) stable_position: u64,
    /// Folders that hold the metadata journal.
    pub(crate) journals: Vec<Journal>,
    /// The log of commitments, where it is published.
    pub(crate) log: Option<Log>,
}

/// How far the log of commitments is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Log {
    /// Where its chain answers.
    pub(crate) chain: String,
    /// Its id in the registry; hexadecimal digits.
    pub(crate) namespace: String,
    /// Newest sealed batch.
    pub(crate) sealed: u64,
    /// Newest batch on the chain to stay.
    pub(crate) anchored: u64,
    /// Last commit position in that.
    pub(crate) anchored_position: u64,
    /// Whether an alarm stopped it.
    pub(crate) stopped: bool,
    /// The contract where computation is paid, if anywhere on the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) market: Option<String>,
}

/// `GET /api/da/sample`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Which batch.
    pub(crate) sequence: u64,
    /// Rows asked for.
    pub(crate) asked: u32,
    /// Rows served and checked.
    pub(crate) served: u32,
    /// That too little is available to get the batch back had a chance of at most 2^-bits; 0 unless all were served.
    pub(crate) bits: f64,
}

/// A place of the metadata journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// Its folder.
    pub(crate) dir: String,
    /// Why it takes no part, if so.
    pub(crate) out: Option<String>,
    /// Bytes kept.
    pub(crate) bytes: u64,
}

/// `GET /api/nodes/{node}`, and the items of `GET /api/nodes`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Its number.
    pub(crate) node: u16,
    /// What fails together with it.
    pub(crate) domain: String,
    /// Its folder.
    pub(crate) dir: String,
    /// `writable`, `full`, `read-only` or `unavailable`.
    pub(crate) health: String,
    /// Why it is not writable.
    pub(crate) reason: Option<String>,
    /// Shards held.
    pub(crate) shards: u64,
    /// Their bytes.
    pub(crate) shard_bytes: u64,
    /// What its files take.
    pub(crate) file_bytes: u64,
    /// What it could still take; nodes of one file system share it.
    pub(crate) writable_bytes: u64,
    /// Size of its file system.
    pub(crate) total_bytes: u64,
}

/// `GET /api/users/{name}`, and the items of `GET /api/users`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct User {
    /// Unique name.
    pub(crate) name: String,
    /// Stable id, what owners and grants name.
    pub(crate) id: String,
    /// Root may do everything.
    pub(crate) root: bool,
    /// Its access keys.
    pub(crate) access_keys: Vec<String>,
}

/// `POST /api/users`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUser {
    /// Unique name.
    pub(crate) name: String,
}

/// An access key that was just made; the only time that its secret is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NewKey {
    /// Whose.
    pub(crate) user: String,
    /// The access key.
    pub(crate) access_key: String,
    /// Its secret.
    pub(crate) secret_key: String,
}

/// `POST /api/keys`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewApiKey {
    /// What its owner calls it.
    pub(crate) name: String,
    /// Whose; the caller's own where there is none.
    #[serde(default)]
    pub(crate) user: Option<String>,
    /// From when on it is nothing any more, RFC 3339.
    #[serde(default)]
    pub(crate) expires: Option<String>,
    /// Routes that it opens; all where there is none.
    #[serde(default)]
    pub(crate) routes: Option<Vec<String>>,
    /// Models that it may ask, by name or content root; all where there is none.
    #[serde(default)]
    pub(crate) models: Option<Vec<String>>,
    /// The most that it may spend, in wei; a decimal number.
    #[serde(default)]
    pub(crate) spend_cap: Option<String>,
}

/// An API key that was just made; the only time that it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NewApiKeyAnswer {
    /// What is known of it.
    pub(crate) key: ApiKey,
    /// What programs send.
    pub(crate) secret: String,
}

/// An API key, without what programs send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ApiKey {
    /// What it is managed by.
    pub(crate) id: String,
    /// What its owner calls it.
    pub(crate) name: String,
    /// Whose.
    pub(crate) user: String,
    /// When it was made, RFC 3339.
    pub(crate) created: String,
    /// From when on it is nothing any more, RFC 3339.
    pub(crate) expires: Option<String>,
    /// Routes that it opens; all where there is none.
    pub(crate) routes: Option<Vec<String>>,
    /// Models that it may ask; all where there is none.
    pub(crate) models: Option<Vec<String>>,
    /// The most that it may spend, in wei.
    pub(crate) spend_cap: Option<String>,
    /// What it has spent, in wei.
    pub(crate) spent: String,
}

/// `GET` and `PUT /api/models/{name}`, and the items of `GET /api/models`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImportedModel {
    /// What it is called.
    pub(crate) name: String,
    /// BLAKE3 of the file, or of the manifest of several.
    pub(crate) content_root: String,
    /// Bytes of all files.
    pub(crate) length: u64,
    /// When it was imported, RFC 3339.
    pub(crate) imported: String,
    /// Whether this server answers for it now.
    pub(crate) is_served: bool,
    /// Its files.
    pub(crate) files: Vec<ModelFile>,
}

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelFile {
    /// Path within the model.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) length: u64,
    /// BLAKE3 of them.
    pub(crate) content_root: String,
}

/// `GET /api/keys`: a page; `next` goes into `after` for the following one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ApiKeysPage {
    /// Keys.
    pub(crate) keys: Vec<ApiKey>,
    /// Where the next page starts, if there is one.
    pub(crate) next: Option<String>,
}

/// `GET /api/buckets/{name}`, and the items of `GET /api/buckets`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bucket {
    /// Its name.
    pub(crate) name: String,
    /// Id of the user who owns it.
    pub(crate) owner: String,
    /// When it was made, RFC 3339.
    pub(crate) created: String,
    /// `off`, `enabled` or `suspended`.
    pub(crate) versioning: String,
}

/// `GET` and `PUT /api/buckets/{name}/durable-when`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BucketDurability {
    /// What answers to changes wait for.
    pub(crate) durable_when: DurableWhen,
}

/// What went wrong, in place of any other answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// For programs.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
    /// Finds the request in the log.
    pub(crate) request_id: String,
}

/// What is committed of an object.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CommittedObject {
    /// The bucket.
    pub(crate) bucket: String,
    /// The key.
    pub(crate) key: String,
    /// The version, as S3 shows it.
    pub(crate) version: String,
    /// Bytes.
    pub(crate) length: u64,
    /// BLAKE3 of the plain bytes, or of the digests of parts; hexadecimal digits.
    pub(crate) content_root: String,
    /// Commitment to bytes and coding; hexadecimal digits.
    pub(crate) object_root: String,
    /// Position of the commit that made it.
    pub(crate) position: u64,
    /// Number among that commit's entries.
    pub(crate) index: u32,
    /// The batch of the log that it is in, once it is sealed.
    pub(crate) sequence: Option<u64>,
    /// Whether that batch is on the chain to stay.
    pub(crate) anchored: bool,
}
