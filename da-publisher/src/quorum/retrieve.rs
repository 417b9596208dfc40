//! Retrieval and sampling: rows from whoever serves them, each checked as it comes.
//!
//! Asks each node what it holds, then fetches K distinct rows from distinct nodes where it can, and goes on with
//! other nodes where rows do not come or fail their check. Fetches no more than K rows at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_rsema1d::sample::draw;
use ashlar_rsema1d::{CheckedOpening, CheckedRow, Commitment, Opening, ReconstructError, reconstruct};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use rand::RngCore;
use tokio::time::timeout;

use super::QuorumClient;
use crate::certificate::Certificate;
use crate::layer::{BlobReference, RetrieveError, SampleError, SampleReport};
use crate::service::DaNodeService;

/// How long to wait for what nodes say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Until K rows are promised: a silent node delays nobody.
    UntilEnough,
    /// Until every node answered, or its time is up.
    UntilAll,
}

/// What nodes say they hold of a blob, and an opening that the commitment commits to.
struct Found {
    opening: Arc<CheckedOpening>,
    /// For each row, who says to hold it and was not found lying about it.
    holders: BTreeMap<u32, Vec<usize>>,
}

impl QuorumClient {
    pub(super) async fn retrieve_from_any(&self, reference: &BlobReference) -> Result<Bytes, RetrieveError> {
        let commitment = commitment_of(reference).map_err(|reason| RetrieveError::Reference { reason })?;
        let nodes = self.all_nodes();
        // First whoever answers soonest; everybody only where that was not enough.
        let mut patience = Patience::UntilEnough;
        let nobody = RetrieveError::Unavailable { rows: 0, needed: 0 };
        let mut found = self.find(&nodes, commitment, patience).await.ok_or(nobody.clone())?;
        let needed = rows_needed(&found.opening);
        let mut rows: BTreeMap<u32, CheckedRow> = BTreeMap::new();
        while rows.len() < needed {
            let plan = plan(&found.holders, &rows, needed - rows.len());
            if plan.is_empty() && patience == Patience::UntilEnough {
                patience = Patience::UntilAll;
                found = self.find(&nodes, commitment, patience).await.ok_or(nobody.clone())?;
                continue;
            }
            if plan.is_empty() {
                return Err(RetrieveError::Unavailable { rows: rows.len(), needed });
            }
            let answers = self.fetch_all(&nodes, &found.opening, plan).await;
            for (row, node, answer) in answers {
                match answer {
                    Some(checked) => {
                        rows.insert(row, checked);
                    }
                    None => found.holders.entry(row).or_default().retain(|holder| *holder != node),
                }
            }
        }
        let rows: Vec<CheckedRow> = rows.into_values().collect();
        let work = move || reconstruct(&found.opening, &rows);
        match self.tasks.spawn_blocking(work).await {
            Ok(Ok(blob)) => Ok(blob),
            Ok(Err(lie @ (ReconstructError::NoCodeWord { .. } | ReconstructError::Padding { .. }))) => {
                Err(RetrieveError::Lie { reason: lie.to_string() })
            }
            _ => Err(RetrieveError::Unavailable { rows: needed, needed }),
        }
    }

    /// Asks all nodes what they hold; `None` if no node has an opening of this commitment.
    async fn find(
        &self,
        nodes: &[Arc<dyn DaNodeService>],
        commitment: Commitment,
        patience: Patience,
    ) -> Option<Found> {
        let deadline = self.config.fetch_deadline;
        let ask = |(number, node): (usize, Arc<dyn DaNodeService>)| async move {
            (number, timeout(deadline, node.held(commitment)).await)
        };
        let mut answers: FuturesUnordered<_> = nodes.iter().cloned().enumerate().map(ask).collect();
        let mut opening: Option<Arc<CheckedOpening>> = None;
        let mut holders: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        while let Some((number, answer)) = answers.next().await {
            let Ok(Ok(held)) = answer else { continue };
            if opening.is_none() {
                let check = move || Opening::from_bytes(&held.opening).and_then(|one| one.check(commitment));
                opening = self.tasks.spawn_blocking(check).await.ok().and_then(Result::ok).map(Arc::new);
            }
            for row in held.rows.into_iter().take(MAX_ROWS) {
                holders.entry(row).or_default().push(number);
            }
            let needed = opening.as_ref().map_or(usize::MAX, |opening| rows_needed(opening));
            if patience == Patience::UntilEnough && holders.len() >= needed {
                break;
            }
        }
        let opening = opening?;
        holders.retain(|row, _| *row < opening.shape().rows());
        Some(Found { opening, holders })
    }

    /// Fetches and checks rows, each from one node.
    async fn fetch_all(
        &self,
        nodes: &[Arc<dyn DaNodeService>],
        opening: &Arc<CheckedOpening>,
        plan: Vec<(u32, usize)>,
    ) -> Vec<(u32, usize, Option<CheckedRow>)> {
        let fetch = |(row, node): (u32, usize)| async move {
            (row, node, self.fetch(Arc::clone(&nodes[node]), Arc::clone(opening), row).await)
        };
        plan.into_iter().map(fetch).collect::<FuturesUnordered<_>>().collect().await
    }

    async fn fetch(
        &self,
        node: Arc<dyn DaNodeService>,
        opening: Arc<CheckedOpening>,
        row: u32,
    ) -> Option<CheckedRow> {
        let answer = timeout(self.config.fetch_deadline, node.row(opening.commitment(), row)).await;
        let proof = answer.ok()?.ok().filter(|proof| proof.index == row)?;
        self.tasks.spawn_blocking(move || opening.check_row(proof)).await.ok()?.ok()
    }

    pub(super) async fn sample_rows(
        &self,
        reference: &BlobReference,
        samples: u32,
        rng: &mut (dyn RngCore + Send),
    ) -> Result<SampleReport, SampleError> {
        let invalid = |reason: String| SampleError::Reference { reason };
        let commitment = commitment_of(reference).map_err(invalid)?;
        let bytes = reference.certificate.as_ref();
        let bytes = bytes.ok_or_else(|| invalid("sampling needs the certificate".to_owned()))?;
        let certificate = Certificate::from_bytes(bytes).map_err(|error| invalid(error.to_string()))?;
        let epoch = self.epoch(certificate.epoch);
        let epoch = epoch
            .ok_or_else(|| invalid(format!("the signers of epoch {} are not known", certificate.epoch)))?;
        let profile = certificate.shape.profile();
        let assignment =
            epoch.snapshot.assignment(profile, &commitment).map_err(|error| invalid(error.to_string()))?;
        let drawn = draw(profile, &assignment.held_rows(), samples, rng);
        let asked = u32::try_from(drawn.rows.len()).unwrap_or(u32::MAX);
        let mut served = 0;
        // Openings come from anybody; rows from whoever should hold them, else from whoever says to.
        let nodes = self.all_nodes();
        if let Some(found) = self.find(&nodes, commitment, Patience::UntilAll).await {
            let fetches: FuturesUnordered<_> =
                drawn.rows.into_iter().map(|row| self.is_served(&nodes, &found, row)).collect();
            served = fetches.fold(0, |sum, served| async move { sum + u32::from(served) }).await;
        }
        let bits = if served == asked { drawn.bits } else { 0.0 };
        Ok(SampleReport { asked, served, bits })
    }

    async fn is_served(&self, nodes: &[Arc<dyn DaNodeService>], found: &Found, row: u32) -> bool {
        for holder in found.holders.get(&row).into_iter().flatten() {
            if self.fetch(Arc::clone(&nodes[*holder]), Arc::clone(&found.opening), row).await.is_some() {
                return true;
            }
        }
        false
    }
}

/// More rows than any profile has.
const MAX_ROWS: usize = 1024;

fn commitment_of(reference: &BlobReference) -> Result<Commitment, String> {
    let commitment = Commitment(reference.commitment);
    if let Some(bytes) = &reference.certificate {
        let certificate = Certificate::from_bytes(bytes).map_err(|error| error.to_string())?;
        if certificate.commitment != commitment {
            return Err("the certificate is of another commitment".to_owned());
        }
    }
    Ok(commitment)
}

/// K.
fn rows_needed(opening: &CheckedOpening) -> usize {
    usize::try_from(opening.shape().original_rows()).unwrap_or(usize::MAX)
}

/// Rows still needed, original ones first as they need no decoding, each with the least busy node that says to
/// hold it.
fn plan(
    holders: &BTreeMap<u32, Vec<usize>>,
    have: &BTreeMap<u32, CheckedRow>,
    needed: usize,
) -> Vec<(u32, usize)> {
    let mut busy: BTreeMap<usize, usize> = BTreeMap::new();
    let mut chosen = Vec::new();
    for (row, nodes) in holders.iter().filter(|(row, _)| !have.contains_key(row)) {
        let least = nodes.iter().min_by_key(|node| busy.get(node).copied().unwrap_or(0));
        if let Some(node) = least.copied().filter(|_| chosen.len() < needed) {
            *busy.entry(node).or_default() += 1;
            chosen.push((*row, node));
        }
    }
    chosen
}
