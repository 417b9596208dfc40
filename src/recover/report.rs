//! What a recovery brought back, and what not.

use std::fmt;

use ashlar_da_publisher::history::Plan;
use ashlar_metadata::namespace::log::GenerationRow;
use ashlar_objects::Adopted;
use ashlar_objects::restore::{LostVersion, Restored};
use serde::Serialize;

use crate::output::bytes;

/// Lost versions that people are shown; the file has all.
const SHOWN: usize = 20;

/// The facts.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    generation: u64,
    /// The log that it was read from.
    namespace: String,
    /// The last batch of it.
    last_sequence: u64,
    batches: usize,
    skipped_batches: Vec<u64>,
    unpublished_batches: usize,
    chunks: u64,
    moved_chunks: u64,
    missing_shards: u64,
    unknown_shards: u64,
    #[serde(flatten)]
    restored: Restored,
}

impl Report {
    pub(super) fn new(generation: GenerationRow, plan: &Plan, adopted: &Adopted, restored: Restored) -> Self {
        Self {
            generation: generation.generation,
            namespace: hex::encode(generation.base_namespace),
            last_sequence: generation.base_sequence,
            batches: plan.batches.len(),
            skipped_batches: plan.skipped.iter().map(|(_, sequence)| *sequence).collect(),
            unpublished_batches: plan.unpublished.len(),
            chunks: adopted.chunks,
            moved_chunks: adopted.moved,
            missing_shards: adopted.missing_shards,
            unknown_shards: adopted.unknown_shards,
            restored,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        format!("{}\n", text.expect("plain facts can be written as JSON"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Restored { buckets, versions, objects, bytes: stored, users, nameless_users, lost } =
            &self.restored;
        writeln!(
            f,
            "Recovered {objects} objects in {buckets} buckets ({versions} versions, {}), from {} batches of the log up to \
             batch {}.",
            bytes(*stored),
            self.batches,
            self.last_sequence
        )?;
        if self.moved_chunks > 0 {
            writeln!(f, "{} of {} chunks had moved and were found.", self.moved_chunks, self.chunks)?;
        }
        if self.missing_shards > 0 {
            writeln!(f, "{} shards are missing and will be rebuilt.", self.missing_shards)?;
        }
        writeln!(f, "\nWhat does not come back:")?;
        writeln!(
            f,
            "  secrets: {users} users are there without access keys; `ashlar users keys add` makes new ones. Root's pair is \
             that of the credentials file or the environment, or is made at the next start."
        )?;
        if *nameless_users > 0 {
            writeln!(f, "  names of {nameless_users} users, who are called recovered-… now")?;
        }
        writeln!(f, "  open uploads and staged groups")?;
        write!(f, "  what was written after the last batch")?;
        match self.unknown_shards {
            0 => writeln!(f)?,
            shards => writeln!(
                f,
                ": {shards} shards belong to nothing that came back, and will be collected after the next start"
            )?,
        }
        if !self.skipped_batches.is_empty() {
            writeln!(
                f,
                "  {} batches that could not be read: {:?}",
                self.skipped_batches.len(),
                self.skipped_batches
            )?;
        }
        for LostVersion { bucket, key, version, length, reason } in lost.iter().take(SHOWN) {
            let reason = format!("{reason:?}").to_lowercase();
            writeln!(f, "  s3://{bucket}/{key} (version {version}, {}): lost its {reason}", bytes(*length))?;
        }
        if lost.len() > SHOWN {
            writeln!(f, "  and {} more versions", lost.len() - SHOWN)?;
        }
        writeln!(
            f,
            "\nrecovered-{0}.json in the data directory says all of it. `ashlar up` starts the store; it begins a new log \
             (generation {0}) and writes a new trust.json for whoever verifies.",
            self.generation
        )
    }
}
