//! What gateway and provider say on a link once it stands (docs/formats/link.md §3): one message a frame.
//!
//! Invariant: a message decodes in one way, and no list of it is longer than its bound, so that a frame of some bytes
//! never becomes memory of many more. Order of variants and fields is the format. Knows nothing of who may say what when.

mod ask;
mod list;

pub(crate) use ask::Ask;
pub use list::List;

use ashlar_compute_api::vouchers::{LockTerms, Receipt, Signature, Voucher};
use ashlar_compute_api::{Address, Amount, ContentRoot, JobId, LockId, TranscriptHead};
use serde::{Deserialize, Serialize};

use crate::limits::{DEVICES_MAX, LIKELIEST_MAX, LIKELIHOODS_MAX, MODELS_MAX};

/// Version of the link; the last part of the upgrade's name and of every path.
pub const VERSION: u16 = 1;
/// What the connection becomes.
pub const PROTOCOL: &str = "ashlar-link/1";
/// Where providers link.
pub const LINK_PATH: &str = "/api/providers/link";
pub(crate) const DESCRIBE_PATH: &str = "/link/1/describe";
pub(crate) const LOCK_PATH: &str = "/link/1/lock";
pub(crate) const WORK_PATH: &str = "/link/1/work";
pub(crate) const RECEIPT_PATH: &str = "/link/1/receipt";
pub(crate) const COUNT_PATH: &str = "/link/1/count";

/// A device of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// As its maker calls it.
    pub name: String,
    /// Memory for models.
    pub memory_bytes: u64,
}

/// A model that a provider runs, under an offer that the chain has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfferedModel {
    /// Number of the provider's offer.
    pub offer: u32,
    /// Its version.
    pub offer_version: u32,
    /// As in the offer.
    pub kind: u16,
    /// As in the offer.
    pub root: ContentRoot,
    /// Nobody checked the model's bytes.
    pub is_claimed: bool,
    /// BLAKE3 of its name, zero where none is claimed.
    pub determinism_class: ContentRoot,
    /// The most units of request and answer together.
    pub context_units_max: u64,
    /// As in the offer.
    pub unit_price: Amount,
    /// Units a second that the provider measured; 0 where it did not.
    pub units_per_second: u32,
}

/// What a provider says first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Its devices.
    pub devices: List<Device, DEVICES_MAX>,
    /// Its models.
    pub models: List<OfferedModel, MODELS_MAX>,
    /// Requests at a time.
    pub requests_max: u32,
}

/// What a provider says as long as the link stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Notice {
    /// First, and when it changes.
    Is(Description),
    /// It takes no more work; what is under way goes on.
    Draining,
}

/// A lock that the gateway opened for the provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LockOffer {
    pub(crate) buyer: Address,
    pub(crate) terms: LockTerms,
}

/// Whether it was accepted, for good as the provider sees the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum LockAnswer {
    Accepted,
    Refused { reason: String },
}

/// From gateway to provider, on the body of a request for work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Up {
    /// First, once.
    Begin(Begin),
    /// Pays for work up to a head.
    Pay { voucher: Voucher, signature: Signature },
    /// No more is wanted; what was told until now is paid.
    Stop,
}

/// Where work stands in the books, and what is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub(crate) lock: LockId,
    pub(crate) job: JobId,
    pub(crate) shard: u32,
    pub(crate) fence: u64,
    /// The newest head of the transcript that the gateway has of this place.
    pub(crate) head: TranscriptHead,
    /// How the work will be verified.
    pub(crate) level: u8,
    /// An [`Ask`], encoded: what the request's hash is of.
    pub(crate) ask: Vec<u8>,
}

/// From provider to gateway, on the body of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Down {
    /// No work, or no more.
    Refused(Refused),
    /// Work begins; what was asked has so many units.
    Begun { asked: u64 },
    /// Events of the transcript, joined, and what a reader sees of them. A voucher may name the head behind them where they
    /// are payable.
    Piece { events: Vec<u8>, text: String, likelihoods: List<Likelihood, LIKELIHOODS_MAX>, payable: bool },
    /// A row of numbers. It is the event `output` of this row.
    Row { row: u64, values: Vec<f32> },
    /// On a voucher.
    Receipt { receipt: Receipt, signature: Signature },
    /// The voucher is not countersigned.
    Unpaid { reason: String },
    /// Work goes on.
    Alive,
}

/// A token with those that could have stood there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Likelihood {
    pub(crate) token: Likely,
    pub(crate) likeliest: List<Likely, LIKELIEST_MAX>,
}

/// A token with how likely it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Likely {
    pub(crate) id: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) log_probability: f32,
}

/// Why there is no work, or no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refused {
    /// No capacity.
    Busy { retry_after_seconds: u32 },
    /// The model can never answer this.
    Invalid { reason: String },
    /// It does not fit.
    TooLong { units: u64, maximum: u64 },
    /// The runtime failed.
    Failed { reason: String },
    /// The lock does not carry it: unknown here, too small, too late.
    Money { reason: String },
    /// The place cannot go on as the gateway has it; it begins anew under a higher fence.
    Place { reason: String },
}

/// A voucher whose receipt did not arrive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Unanswered {
    pub(crate) voucher: Voucher,
    pub(crate) signature: Signature,
}

/// What a count of units is asked of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CountAsk {
    pub(crate) model: ContentRoot,
    pub(crate) ask: Vec<u8>,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Counted {
    Units(u64),
    Refused(Refused),
}
