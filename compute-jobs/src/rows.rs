//! Rows of jobs: their keys and what stands under them (docs/adr/0006-durable-jobs.md).
//!
//! Invariant: tags 0x30 to 0x3f are of this crate alone; no row grows with a job: a statement lies in pages, units have rows
//! of their own, lists of attempts are bounded. Does not know which rows change together.

use ashlar_compute_api::jobs::{JobState, Kind, Limits, Progress, Unit};
use ashlar_compute_api::{Address, Amount, ContentRoot, JobId};
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::keys::{KeyReader, KeyWriter, Tag};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes of a statement that one row holds.
pub(crate) const SPEC_PAGE_BYTES: usize = 256 << 10;
/// Longest excerpt of a text in a job's own row.
pub(crate) const EXCERPT_BYTES_MAX: usize = 512;

/// A job, without its statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobRow {
    pub(crate) attempt: u32,
    pub(crate) family: JobId,
    pub(crate) principal: String,
    pub(crate) kind: Kind,
    /// Beginnings of the statement's texts, for lists.
    pub(crate) target: String,
    pub(crate) text: String,
    pub(crate) limits: Limits,
    pub(crate) state: JobState,
    pub(crate) progress: Progress,
    /// What leases under way may still cost.
    pub(crate) reserved: Amount,
    /// Units that were hedged.
    pub(crate) hedges: u32,
    /// Pages of the statement.
    pub(crate) spec_pages: u32,
    /// What it waits for, where that is known.
    pub(crate) waiting: Option<String>,
    pub(crate) submitted_at: u64,
    pub(crate) changed_at: u64,
}

impl NamespaceRow for JobRow {
    const KIND: &'static str = "job";
}

/// All attempts at one statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FamilyRow {
    pub(crate) principal: String,
    /// Number and name of the newest.
    pub(crate) attempt: u32,
    pub(crate) newest: JobId,
    /// When the newest ended.
    pub(crate) ended_at: Option<u64>,
    /// It is being removed; what is submitted waits.
    pub(crate) is_leaving: bool,
}

impl NamespaceRow for FamilyRow {
    const KIND: &'static str = "family of jobs";
}

/// What a principal has under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PrincipalRow {
    /// Jobs that have not ended.
    pub(crate) open: u32,
    /// Jobs that are kept, these among them.
    pub(crate) kept: u32,
    /// Spend caps of the open ones.
    pub(crate) reserved: Amount,
    /// What those that ended cost.
    pub(crate) spent: Amount,
}

impl NamespaceRow for PrincipalRow {
    const KIND: &'static str = "principal's jobs";
}

/// What a lease was given under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseTerms {
    pub(crate) fence: u64,
    pub(crate) price: Amount,
    pub(crate) allowance: Amount,
    pub(crate) paid: Amount,
}

/// Answers to some rows of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) content_root: ContentRoot,
    pub(crate) rows: u64,
}

/// A unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitRow {
    pub(crate) unit: Unit,
    pub(crate) model: ContentRoot,
    pub(crate) determinism: Option<ContentRoot>,
    /// The most units of usage that it may come to.
    pub(crate) usage_max: u64,
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Of leases under way.
    pub(crate) terms: Vec<LeaseTerms>,
}

impl NamespaceRow for UnitRow {
    const KIND: &'static str = "unit";
}

/// What earlier attempts know of a unit with this input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ResultRow {
    /// All its answers.
    Whole { content_root: ContentRoot, usage: u64 },
    /// Some.
    Part(Checkpoint),
}

impl NamespaceRow for ResultRow {
    const KIND: &'static str = "result of a unit";
}

/// Who coordinates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TermRow {
    pub(crate) number: u64,
    pub(crate) holder: u128,
}

impl NamespaceRow for TermRow {
    const KIND: &'static str = "coordinator's term";
}

/// Until when the coordinator's word is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RenewalRow {
    /// Unix seconds, inclusive.
    pub(crate) until: u64,
}

impl NamespaceRow for RenewalRow {
    const KIND: &'static str = "coordinator's renewal";
}

/// Outcomes of a provider's leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reputation {
    /// Leases that ended with the unit's result.
    pub finished: u64,
    /// That the provider gave up, or whose answers were none.
    pub failed: u64,
    /// That were not renewed.
    pub expired: u64,
    /// That another finished first.
    pub overtaken: u64,
    /// Failed and expired ones since the last that was finished.
    pub failures_in_a_row: u32,
    /// Unix seconds until which it gets no lease.
    pub suspended_until: u64,
}

impl NamespaceRow for Reputation {
    const KIND: &'static str = "provider's reputation";
}

/// A row that says all by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Present;

impl NamespaceRow for Present {
    const KIND: &'static str = "index of jobs";
}

pub(crate) fn job(id: JobId) -> Bytes {
    KeyWriter::new(Tag::Job).bytes(id.0).finish()
}

pub(crate) fn spec_page(id: JobId, page: u32) -> Bytes {
    KeyWriter::new(Tag::JobSpec).bytes(id.0).u32(page).finish()
}

pub(crate) fn family(id: JobId) -> Bytes {
    KeyWriter::new(Tag::JobFamily).bytes(id.0).finish()
}

pub(crate) fn open(id: JobId) -> Bytes {
    KeyWriter::new(Tag::JobOpen).bytes(id.0).finish()
}

pub(crate) fn open_prefix() -> Bytes {
    KeyWriter::new(Tag::JobOpen).finish()
}

pub(crate) fn parse_open(key: &[u8]) -> Option<JobId> {
    let mut reader = KeyReader::new(key, Tag::JobOpen)?;
    let id = JobId(reader.bytes()?);
    reader.end().map(|()| id)
}

/// Newest first.
pub(crate) fn of_principal(principal: &str, submitted_at: u64, id: JobId) -> Bytes {
    let key = KeyWriter::new(Tag::JobOfPrincipal).text(principal);
    key.u64_descending(submitted_at).bytes(id.0).finish()
}

pub(crate) fn of_principal_prefix(principal: Option<&str>) -> Bytes {
    let key = KeyWriter::new(Tag::JobOfPrincipal);
    principal.map_or(key, |principal| KeyWriter::new(Tag::JobOfPrincipal).text(principal)).finish()
}

pub(crate) fn parse_of_principal(key: &[u8]) -> Option<JobId> {
    let mut reader = KeyReader::new(key, Tag::JobOfPrincipal)?;
    reader.text()?;
    reader.u64_descending()?;
    let id = JobId(reader.bytes()?);
    reader.end().map(|()| id)
}

pub(crate) fn principal(principal: &str) -> Bytes {
    KeyWriter::new(Tag::JobPrincipal).text(principal).finish()
}

pub(crate) fn unit(job: JobId, number: u32) -> Bytes {
    KeyWriter::new(Tag::JobUnit).bytes(job.0).u32(number).finish()
}

pub(crate) fn units_prefix(job: JobId) -> Bytes {
    KeyWriter::new(Tag::JobUnit).bytes(job.0).finish()
}

pub(crate) fn unit_open(job: JobId, number: u32) -> Bytes {
    KeyWriter::new(Tag::JobUnitOpen).bytes(job.0).u32(number).finish()
}

pub(crate) fn units_open_prefix(job: JobId) -> Bytes {
    KeyWriter::new(Tag::JobUnitOpen).bytes(job.0).finish()
}

pub(crate) fn parse_unit_open(key: &[u8]) -> Option<u32> {
    let mut reader = KeyReader::new(key, Tag::JobUnitOpen)?;
    reader.bytes::<32>()?;
    let number = reader.u32()?;
    reader.end().map(|()| number)
}

pub(crate) fn result(family: JobId, input: ContentRoot) -> Bytes {
    KeyWriter::new(Tag::JobResult).bytes(family.0).bytes(input.0).finish()
}

pub(crate) fn results_prefix(family: JobId) -> Bytes {
    KeyWriter::new(Tag::JobResult).bytes(family.0).finish()
}

pub(crate) fn term() -> Bytes {
    KeyWriter::new(Tag::JobTerm).byte(0).finish()
}

pub(crate) fn renewal() -> Bytes {
    KeyWriter::new(Tag::JobTerm).byte(1).finish()
}

pub(crate) fn provider(address: Address) -> Bytes {
    KeyWriter::new(Tag::JobProvider).bytes(address.0).finish()
}

/// Those that ended first, first.
pub(crate) fn ended(at: u64, family: JobId) -> Bytes {
    KeyWriter::new(Tag::JobEnded).u64(at).bytes(family.0).finish()
}

pub(crate) fn ended_prefix() -> Bytes {
    KeyWriter::new(Tag::JobEnded).finish()
}

pub(crate) fn parse_ended(key: &[u8]) -> Option<(u64, JobId)> {
    let mut reader = KeyReader::new(key, Tag::JobEnded)?;
    let at = reader.u64()?;
    let family = JobId(reader.bytes()?);
    reader.end().map(|()| (at, family))
}

/// The beginning of a text, as a row has room for it.
pub(crate) fn excerpt(text: &str) -> String {
    text[..text.floor_char_boundary(EXCERPT_BYTES_MAX)].to_owned()
}
