//! Takes the steps of a verification in order and ends in one verdict (`docs/formats/proof.md` §5).
//!
//! Invariant: a verdict other than *failed* is reached only through every step that the proof's kind has; the
//! first that fails ends it. The bytes come last: reading them costs most and every other step is quick.

mod absence;
mod entry;
mod state;

use std::fmt;
use std::io::Read;

use crate::evidence::ChainEvidence;
use crate::hex_bytes::Id;
use crate::log::Header;
use crate::proof::Proof;
use crate::record::Operation;
use crate::trust::Trust;
use crate::verdict::{Failed, Failure, Step, Steps, Verdict};

/// What the user asks.
pub struct Request<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a str,
    /// Which version; none for whichever the proof is of.
    pub version: Option<Id>,
    /// What is said to have happened to it.
    pub operation: Operation,
    /// The object's bytes, if they are to be checked; read to the end.
    pub content: Option<&'a mut dyn Read>,
    /// The user's clock, Unix milliseconds: whether a promise is due.
    pub now_ms: u64,
}

impl<'a> Request<'a> {
    /// Whether any version of this key was stored.
    pub const fn put(bucket: &'a str, key: &'a str, now_ms: u64) -> Self {
        Self { bucket, key, version: None, operation: Operation::Put, content: None, now_ms }
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bucket, key, version, operation, now_ms, content } = self;
        write!(f, "Request({operation:?} {bucket:?}/{key:?} {version:?} {now_ms} {})", content.is_some())
    }
}

/// Checks what `proof` claims against what the user trusts and found out. Tells `sink` every step.
pub fn verify(
    request: Request<'_>,
    trust: &Trust,
    proof: &Proof,
    evidence: &ChainEvidence,
    sink: &mut dyn Steps,
) -> Verdict {
    let mut run = Run { trust, proof, evidence, sink };
    run.judge(request).unwrap_or_else(Verdict::Failed)
}

/// A verification under way.
struct Run<'a> {
    trust: &'a Trust,
    proof: &'a Proof,
    evidence: &'a ChainEvidence,
    sink: &'a mut dyn Steps,
}

/// What a step found, and a line about it.
type Found<T> = Result<(T, String), Failure>;

impl Run<'_> {
    fn judge(&mut self, request: Request<'_>) -> Result<Verdict, Failed> {
        let proof = self.proof;
        self.step(Step::Trust, |run| {
            run.same_log("proof", proof.chain_id, &proof.registry, &proof.namespace)
        })?;
        match (&proof.entry, &proof.absence, &proof.receipt) {
            (Some(entry), None, receipt) => self.entry(request, entry, receipt.as_deref()),
            (None, Some(absence), Some(receipt)) => self.absence(request, absence, receipt),
            _ => {
                unreachable!("a proof is of an entry or of an absence with its receipt, or it does not parse")
            }
        }
    }

    /// Takes one step and tells of it.
    fn step<T>(&mut self, step: Step, check: impl FnOnce(&Self) -> Found<T>) -> Result<T, Failed> {
        match check(self) {
            Ok((found, detail)) => {
                self.sink.passed(step, &detail);
                Ok(found)
            }
            Err(failure) => {
                self.sink.failed(step, &failure);
                Err(Failed { step, reason: failure.to_string() })
            }
        }
    }

    /// Whether something is about the log that the user trusts.
    fn same_log(
        &self,
        what: &'static str,
        chain_id: u64,
        registry: &crate::hex_bytes::Address,
        namespace: &crate::hex_bytes::Hash,
    ) -> Found<()> {
        let trust = self.trust;
        for (of, same) in [
            ("chain", chain_id == trust.chain_id),
            ("registry", *registry == trust.registry),
            ("namespace", *namespace == trust.namespace),
        ] {
            if !same {
                return Err(Failure::Other { what, of });
            }
        }
        Ok(((), format!("chain {chain_id}, registry {registry}, namespace {namespace}")))
    }

    /// A header of this log.
    fn header(&self, bytes: &[u8]) -> Result<Header, Failure> {
        let header = Header::decode(bytes)?;
        self.same_log("header", header.chain_id, &header.registry, &header.namespace)?;
        Ok(header)
    }
}
