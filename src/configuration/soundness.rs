//! What must hold between settings.
//!
//! Invariant: a tree that [`Configuration::check`] accepted can be started from. Each refusal names the setting, what is
//! wrong, and what to do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::quantities::CodingChoice;
use super::tree::{Configuration, mebibytes};

/// Most storage nodes that one process runs.
const NODES_MAX: u16 = 256;
/// Longest that DA nodes keep a batch.
const RETENTION_MAX: Duration = Duration::from_secs(15 * 24 * 3600);

/// A setting that cannot be started from.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}; {remedy}")]
pub(crate) struct Unsound {
    /// The setting.
    pub(crate) key: &'static str,
    /// What is wrong.
    pub(crate) problem: String,
    /// What to do next.
    pub(crate) remedy: &'static str,
}

impl Configuration {
    /// Whether the settings fit each other.
    pub(crate) fn check(&self) -> Result<(), Unsound> {
        let refuse = |key, problem: String, remedy| Err(Unsound { key, problem, remedy });
        let CodingChoice { k, m } = self.coding;
        if k == 0 || u16::from(k) + u16::from(m) > 64 {
            let problem = format!("{} is not a coding that can be used", self.coding);
            return refuse(
                "coding",
                problem,
                "take at least one data shard and at most 64 shards in all, like 4+2",
            );
        }
        if self.nodes > NODES_MAX {
            let problem = format!("{} storage nodes in one process", self.nodes);
            return refuse("nodes", problem, "at most 256 are possible");
        }
        if self.nodes < u16::from(m) + 1 {
            let problem = format!("{} storage nodes cannot hold {m} parity shards beside data", self.nodes);
            return refuse("nodes", problem, "take at least one node more than parity shards");
        }
        if let Some(disk) = duplicate(&self.disks) {
            let problem = format!("{} is named twice", disk.display());
            return refuse("disks", problem, "name each disk once");
        }
        if !self.disks.is_empty() && usize::from(self.nodes) < self.disks.len() {
            let problem = format!("{} disks for {} storage nodes", self.disks.len(), self.nodes);
            return refuse(
                "disks",
                problem,
                "raise --nodes so that every disk gets at least one, or name fewer disks",
            );
        }
        if !self.api.listen.ip().is_loopback() && !self.api.allow_plaintext_auth {
            let problem = format!(
                "{} can be reached from other machines, and keys would travel in clear",
                self.api.listen
            );
            return refuse(
                "api.listen",
                problem,
                "listen on 127.0.0.1, or put TLS in front and say --allow-plaintext-auth",
            );
        }
        self.sql.check()?;
        self.models.check()?;
        self.pg.check("pg.listen")?;
        self.flight.check("flight.listen")?;
        if self.runtime.blocking_threads_max < 8 {
            let problem = format!("{} threads are too few for the disks", self.runtime.blocking_threads_max);
            return refuse("runtime.blocking_threads_max", problem, "take at least 8");
        }
        if self.background.lifecycle_day_s == 0 {
            let problem = "a day without length would expire everything at once".to_owned();
            return refuse("background.lifecycle_day_s", problem, "take 86400, or at least 1 for testing");
        }
        if !self.chain.listen.ip().is_loopback() {
            let problem = format!("{} can be reached from other machines", self.chain.listen);
            return refuse("chain.listen", problem, "the embedded chain answers on loopback addresses only");
        }
        if self.chain.id == 0 || i64::try_from(self.chain.id).is_err() {
            let problem = format!("{} is no chain id", self.chain.id);
            return refuse("chain.id", problem, "take a number from 1 to 2^63 - 1");
        }
        if self.chain.quorum.is_empty() != self.chain.registry.is_empty() {
            let problem = "one contract without the other".to_owned();
            return refuse("chain.quorum", problem, "give chain.quorum and chain.registry, or neither");
        }
        if self.chain.rpc.is_empty()
            && !(self.chain.quorum.is_empty() && self.chain.keystore.as_os_str().is_empty())
        {
            let problem = "contracts or a key for another chain, and no chain".to_owned();
            return refuse("chain.rpc", problem, "name the chain's endpoints, or leave the others out");
        }
        if self.publish.batch < mebibytes(1) || self.publish.batch > mebibytes(24) {
            let problem = "batches of this size cannot be published".to_owned();
            return refuse("publish.batch", problem, "take 1MiB to 24MiB");
        }
        if self.publish.interval.0.is_zero() || self.publish.epoch.0 < Duration::from_secs(60) {
            let problem = "an interval of nothing, or an epoch of less than a minute".to_owned();
            return refuse("publish", problem, "take an interval like 1s and an epoch like 24h");
        }
        if self.publish.retention.0 < Duration::from_secs(60) || self.publish.retention.0 > RETENTION_MAX {
            let problem = "DA nodes keep batches for a minute to 15 days".to_owned();
            return refuse("publish.retention", problem, "take a time like 14d");
        }
        if self.memory.intake < mebibytes(1)
            || self.memory.rows < mebibytes(8)
            || self.memory.reads < mebibytes(1)
        {
            let problem = "the budgets are too small for a single upload or download".to_owned();
            return refuse("memory", problem, "give intake 1MiB, rows 8MiB and reads 1MiB at least");
        }
        Ok(())
    }

    /// The folders under which storage nodes lie: the disks, or else the data directory.
    pub(crate) fn node_roots(&self) -> Vec<PathBuf> {
        if self.disks.is_empty() { vec![self.data_dir.clone()] } else { self.disks.clone() }
    }
}

fn duplicate(paths: &[PathBuf]) -> Option<&Path> {
    let mut sorted: Vec<&PathBuf> = paths.iter().collect();
    sorted.sort();
    sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].as_path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::quantities::ByteSize;

    #[test]
    fn defaults_can_be_started_from() {
        Configuration::default().check().unwrap();
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let refused = |change: &dyn Fn(&mut Configuration)| {
            let mut tree = Configuration::default();
            change(&mut tree);
            tree.check().unwrap_err().key
        };
        assert_eq!(refused(&|tree| tree.nodes = 2), "nodes");
        assert_eq!(refused(&|tree| tree.coding.k = 0), "coding");
        assert_eq!(refused(&|tree| tree.coding.m = 62), "coding");
        assert_eq!(refused(&|tree| tree.disks = vec!["/a".into(), "/b".into(), "/a".into()]), "disks");
        assert_eq!(refused(&|tree| tree.disks = (0..7).map(|n| format!("/{n}").into()).collect()), "disks");
        assert_eq!(refused(&|tree| tree.api.listen = "0.0.0.0:9001".parse().unwrap()), "api.listen");
        assert_eq!(refused(&|tree| tree.pg.listen = "0.0.0.0:5433".parse().unwrap()), "pg.listen");
        assert_eq!(refused(&|tree| tree.sql.running_max = 0), "sql.running_max");
        assert_eq!(refused(&|tree| tree.sql.statement_memory = mebibytes(2048)), "sql.statement_memory");
        assert_eq!(refused(&|tree| tree.flight.tls_key = "/key.pem".into()), "flight.listen");
        assert_eq!(refused(&|tree| tree.memory.rows = ByteSize(1)), "memory");
        assert_eq!(refused(&|tree| tree.background.lifecycle_day_s = 0), "background.lifecycle_day_s");
    }

    #[test]
    fn another_machine_may_be_let_in_on_purpose() {
        let mut tree = Configuration::default();
        tree.api.listen = "0.0.0.0:9001".parse().unwrap();
        tree.api.allow_plaintext_auth = true;
        tree.check().unwrap();
    }
}
