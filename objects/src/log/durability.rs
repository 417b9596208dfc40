//! How durable a bucket wants its writes before they are answered, and the waiting for it.
//!
//! Invariant: what was committed stays committed. Where the level is not reached in time, the answer is an error
//! that says that the change *is* stored and carries its receipt; nothing is taken back. A change that could
//! never reach its level, because the store publishes nothing, is refused before it is made.

use std::sync::Arc;

use ashlar_metadata::namespace::buckets::Document;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::access::{Action, RequestContext};
use crate::error::Error;
use crate::requests::BucketChanged;
use crate::transaction::Transaction;
use crate::types::BucketName;

/// When a change counts as durable enough to be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurableWhen {
    /// Its shards and its commit are: what every write waits for.
    #[default]
    Quorum,
    /// Its entry's batch is certified by the DA layer as well.
    Certified,
    /// Its entry's batch is anchored on the chain, finally.
    Anchored,
}

impl DurableWhen {
    const ALL: [Self; 3] = [Self::Quorum, Self::Certified, Self::Anchored];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Certified => "certified",
            Self::Anchored => "anchored",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == word)
    }
}

impl std::fmt::Display for DurableWhen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A change that was committed, as the log has it.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) position: u64,
    /// Of the commit's first entry.
    pub(crate) receipt: Option<Arc<str>>,
    /// What its answer waits for.
    pub(crate) durable_when: DurableWhen,
}

impl Store {
    /// Commits a change that announces itself, and has its first entry promised. `None`: a check did not hold
    /// and nothing happened.
    pub(crate) async fn commit_logged(
        &self,
        transaction: Transaction,
        durable_when: DurableWhen,
    ) -> Result<Option<Logged>, Error> {
        self.check_level(durable_when)?;
        let record = transaction.first_record();
        let Some(position) = transaction.commit(&self.inner.kv).await? else { return Ok(None) };
        let receipt = record.and_then(|record| self.receipt(position.0, &record));
        Ok(Some(Logged { position: position.0, receipt, durable_when }))
    }

    /// The receipt of a commit's first entry.
    pub(crate) fn receipt(&self, position: u64, record: &[u8]) -> Option<Arc<str>> {
        self.inner.publishing.receipts.as_ref()?.issue(position, 0, record)
    }

    fn check_level(&self, level: DurableWhen) -> Result<(), Error> {
        if level == DurableWhen::Quorum || self.inner.publishing.durability.is_some() {
            return Ok(());
        }
        Err(Error::SlowDown {
            what: "the bucket asks for changes to be certified or anchored, and this store publishes nothing",
        })
    }

    /// Waits until a change is as durable as its bucket asks, for no longer than is configured. Its caller may
    /// go at any time.
    pub(crate) async fn until_durable(&self, logged: &Logged) -> Result<(), Error> {
        let level = logged.durable_when;
        let publishing = &self.inner.publishing;
        let Some(durability) = publishing.durability.as_ref().filter(|_| level != DurableWhen::Quorum) else {
            return Ok(());
        };
        let reached = durability.reached(logged.position, level);
        match tokio::time::timeout(publishing.durable_wait, reached).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(halted)) => {
                tracing::warn!(position = logged.position, %level, %halted, "a change is stored and not as durable as its bucket asks");
                Err(not_yet(logged))
            }
            Err(_) => Err(not_yet(logged)),
        }
    }

    /// Says when changes of a bucket are answered. More than a quorum needs a store that publishes.
    ///
    /// It is a property of the bucket like its versioning, and asks for the same right.
    pub async fn set_durable_when(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        level: DurableWhen,
    ) -> Result<BucketChanged, Error> {
        if level != DurableWhen::Quorum && self.inner.publishing.durability.is_none() {
            return Err(Error::InvalidArgument {
                name: "durable-when",
                reason: format!("'{level}' needs a store that publishes its log, and this one does not"),
            });
        }
        let action = Action::PutBucketVersioning;
        self.put_document_at(cx, name, action, Document::DurableWhen, &level, Some(level)).await
    }

    /// When changes of a bucket are answered.
    pub async fn durable_when(&self, cx: &RequestContext, name: &BucketName) -> Result<DurableWhen, Error> {
        Ok(self.bucket_for(cx, name, Action::GetBucketVersioning).await?.durable_when)
    }
}

fn not_yet(logged: &Logged) -> Error {
    Error::NotYetDurable { level: logged.durable_when, receipt: logged.receipt.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_one_word_each_everywhere() {
        for level in DurableWhen::ALL {
            assert_eq!(DurableWhen::parse(level.name()), Some(level));
            assert_eq!(serde_json::to_string(&level).unwrap(), format!("\"{level}\""));
        }
        assert_eq!(DurableWhen::parse("Anchored"), None);
        assert!(
            DurableWhen::Quorum < DurableWhen::Certified && DurableWhen::Certified < DurableWhen::Anchored
        );
    }
}
