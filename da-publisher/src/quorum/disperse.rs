//! Dispersal: encode once, ask every signer at once, stop waiting at a quorum.
//!
//! Nodes that are slower than the quorum still get their rows: their requests go on until the deadline, in the
//! client's task group. Does not retry a node within a dispersal; the publisher disperses again.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_rsema1d::assign::Assignment;
use ashlar_rsema1d::{Encoded, encode};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::{Epoch, QuorumClient};
use crate::bls::{PublicKey, Signature};
use crate::certificate::Certificate;
use crate::layer::{DisperseError, Dispersed};
use crate::service::{StoreError, StoreRequest};
use crate::snapshot::Snapshot;
use crate::statement::{Dispersal, Statement};

/// A blob ready to be sent.
struct Prepared {
    encoded: Encoded,
    assignment: Assignment,
    statement: Statement,
}

/// Why a signer is not in the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    Refused(StoreError),
    /// It answered something that is not its signature on the statement.
    Lied,
}

impl QuorumClient {
    pub(super) async fn disperse_to_quorum(
        &self,
        dispersal: &Dispersal,
        blob: Bytes,
        authorization: Bytes,
    ) -> Result<Dispersed, DisperseError> {
        let permit = Arc::clone(&self.dispersals).acquire_owned().await.map_err(|_| DisperseError::Closed)?;
        let none =
            DisperseError::Unavailable { signed: 0, total: 0, failures: "no signers are known".to_owned() };
        let epoch = self.newest().ok_or(none)?;
        let prepared = Arc::new(self.prepare(&epoch, *dispersal, blob).await?);
        let mut answers = self.ask_everybody(&epoch, &prepared, &authorization, permit);
        let mut signed: BTreeMap<usize, Signature> = BTreeMap::new();
        let mut failures: BTreeMap<usize, Failure> = BTreeMap::new();
        while let Some((signer, answer)) = answers.recv().await {
            match answer {
                Ok(signature) => {
                    signed.insert(signer, signature);
                }
                Err(failure) => {
                    failures.insert(signer, failure);
                }
            }
            let signers: Vec<usize> = signed.keys().copied().collect();
            let needed = usize::try_from(prepared.statement.shape.original_rows()).unwrap_or(usize::MAX);
            if epoch.snapshot.is_quorum(&signers)
                && prepared.assignment.distinct_rows(signers.iter().copied()) >= needed
            {
                return self.certify(&epoch, &prepared.statement, signed);
            }
        }
        let signers: Vec<usize> = signed.keys().copied().collect();
        Err(explain(&epoch.snapshot, &signers, &failures))
    }

    async fn prepare(
        &self,
        epoch: &Epoch,
        dispersal: Dispersal,
        blob: Bytes,
    ) -> Result<Prepared, DisperseError> {
        let bytes = u64::try_from(blob.len()).unwrap_or(u64::MAX);
        let largest = self.config.limits.blob_bytes_max;
        if bytes > largest {
            let reason = format!("{bytes} bytes, at most {largest} are taken");
            return Err(DisperseError::Invalid { reason });
        }
        let snapshot = Arc::clone(&epoch.snapshot);
        let work = move || {
            let invalid = |reason: String| DisperseError::Invalid { reason };
            let encoded = encode(snapshot.profile(), blob).map_err(|error| invalid(error.to_string()))?;
            let commitment = encoded.commitment();
            let assignment = snapshot
                .assignment(snapshot.profile(), &commitment)
                .map_err(|error| invalid(error.to_string()))?;
            let statement =
                Statement { epoch: snapshot.epoch(), dispersal, commitment, shape: encoded.shape() };
            Ok(Prepared { encoded, assignment, statement })
        };
        self.tasks.spawn_blocking(work).await.unwrap_or(Err(DisperseError::Closed))
    }

    /// Starts a task for each signer; what each answers, verified, comes out of the channel.
    fn ask_everybody(
        &self,
        epoch: &Epoch,
        prepared: &Arc<Prepared>,
        authorization: &Bytes,
        permit: OwnedSemaphorePermit,
    ) -> mpsc::Receiver<(usize, Result<Signature, Failure>)> {
        let (sender, receiver) = mpsc::channel(epoch.nodes.len());
        let permit = Arc::new(permit);
        let message = Arc::new(prepared.statement.message(&self.domain));
        let opening = Bytes::from(prepared.encoded.opening().to_bytes());
        let deadline = self.config.store_deadline;
        for (signer, (node, who)) in epoch.nodes.iter().zip(epoch.snapshot.signers()).enumerate() {
            let rows = prepared.assignment.rows_of(signer).iter();
            let rows = rows.map(|row| prepared.encoded.row(*row).expect("assigned rows exist")).collect();
            let (statement, opening) = (prepared.statement, opening.clone());
            let request = StoreRequest { statement, opening, rows, authorization: authorization.clone() };
            let (node, key, sender) = (Arc::clone(node), who.key, sender.clone());
            let (message, permit) = (Arc::clone(&message), Arc::clone(&permit));
            let tasks = self.tasks.clone();
            self.tasks.spawn(async move {
                let answer = match timeout(deadline, node.store(request)).await {
                    Ok(Ok(signature)) => verified(&tasks, key, message, signature).await,
                    Ok(Err(error)) => Err(Failure::Refused(error)),
                    Err(_) => Err(Failure::Refused(StoreError::NoAnswer)),
                };
                // Nobody listens any more once there is a quorum.
                let _ = sender.send((signer, answer)).await;
                drop(permit);
            });
        }
        receiver
    }

    fn certify(
        &self,
        epoch: &Epoch,
        statement: &Statement,
        signed: BTreeMap<usize, Signature>,
    ) -> Result<Dispersed, DisperseError> {
        let signed: Vec<(usize, Signature)> = signed.into_iter().collect();
        let certificate = Certificate::assemble(statement, epoch.nodes.len(), &signed)
            .ok_or_else(|| DisperseError::Refused { reason: "the signatures cancel out".to_owned() })?;
        Ok(Dispersed { commitment: statement.commitment.0, certificate: certificate.to_bytes().into() })
    }
}

/// Verifying takes about a millisecond, so not on this thread.
async fn verified(
    tasks: &tokio_util::task::TaskTracker,
    key: PublicKey,
    message: Arc<[u8; Statement::MESSAGE_BYTES]>,
    signature: Signature,
) -> Result<Signature, Failure> {
    let work = move || key.verifies(message.as_slice(), &signature).then_some(signature);
    tasks.spawn_blocking(work).await.ok().flatten().ok_or(Failure::Lied)
}

/// Why there is no quorum. One signer's word is no alarm: only where more than a third of the stake says that it
/// holds another header, an honest one does.
fn explain(snapshot: &Snapshot, signed: &[usize], failures: &BTreeMap<usize, Failure>) -> DisperseError {
    let mut claims: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
    for (signer, failure) in failures {
        if let Failure::Refused(StoreError::Equivocation { header, .. }) = failure {
            claims.entry(*header).or_default().push(*signer);
        }
    }
    let total = snapshot.total_stake();
    if let Some((header, signers)) = claims.iter().find(|(_, signers)| 3 * snapshot.stake_of(signers) > total)
    {
        return DisperseError::Equivocation {
            header: hex::encode(header),
            stake: snapshot.stake_of(signers),
            total,
        };
    }
    let each = failures.iter().map(|(signer, failure)| match failure {
        Failure::Refused(error) => format!("signer {signer}: {error}"),
        Failure::Lied => format!("signer {signer}: not its signature"),
    });
    let failures = each.collect::<Vec<_>>().join("; ");
    DisperseError::Unavailable { signed: snapshot.stake_of(signed), total, failures }
}
