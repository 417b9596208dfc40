//! What buyer and provider sign, byte for byte as the contract `ComputeMarket` checks it (docs/formats/market.md).
//!
//! An escrow lock is named by the hash of its [`LockTerms`]; the buyer's session key signs a [`Voucher`], the provider's
//! signing key the [`Receipt`] on it; a [`Settlement`] is both with both signatures, in the words that calldata has.
//!
//! Invariant: statements have one encoding, signatures one form, and decoding refuses every other. Does not know
//! whether what is signed should be: that is `terms`.

use crate::amount::Amount;
use crate::bytes::{Address, ContentRoot, Digest, JobId, LockId, Salt, TranscriptHead, VoucherHash};
use crate::digest::keccak;

mod settlement;
mod signature;
mod words;

pub use settlement::{SETTLEMENT_BYTES, Settlement};
pub use signature::{Key, KeyError, Signature, SignatureError};
pub use words::WordError;

use serde::{Deserialize, Serialize};
use words::{Reader, Words};

/// The type of a voucher, as EIP-712 writes it.
pub const VOUCHER_TYPE: &str = "Voucher(bytes32 lock,address provider,bytes32 job,uint32 shard,uint64 fence,bytes32 transcriptHead,uint64 units,uint96 cumulativeFee,uint32 seq,uint64 settleBy)";
/// The type of a usage receipt, as EIP-712 writes it.
pub const RECEIPT_TYPE: &str = "Receipt(bytes32 voucherHash,bytes32 modelRoot,bytes32 requestHash,bytes32 responseHash,bytes32 outputRoot,uint64 usage,bytes32 determinismClass,uint8 level)";
const DOMAIN_TYPE: &str =
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
const NAME: &str = "Ashlar ComputeMarket";
const VERSION: &str = "1";

/// Where what is signed holds: one contract on one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Id of the chain.
    pub chain_id: u64,
    /// The contract `ComputeMarket`.
    pub contract: Address,
}

impl Domain {
    /// The domain separator of EIP-712.
    pub fn separator(&self) -> Digest {
        let mut words = Words::default();
        words.bytes32(keccak(&[DOMAIN_TYPE.as_bytes()]));
        words.bytes32(keccak(&[NAME.as_bytes()]));
        words.bytes32(keccak(&[VERSION.as_bytes()]));
        words.number(self.chain_id.into());
        words.address(self.contract);
        Digest(keccak(&[words.as_bytes()]))
    }

    /// What the buyer's session key signs.
    pub fn voucher_digest(&self, voucher: &Voucher) -> Digest {
        self.digest(voucher.hash().0)
    }

    /// What the provider's signing key signs.
    pub fn receipt_digest(&self, receipt: &Receipt) -> Digest {
        self.digest(receipt.hash())
    }

    fn digest(&self, hash: [u8; 32]) -> Digest {
        Digest(keccak(&[&[0x19, 0x01], self.separator().as_ref(), &hash]))
    }
}

/// What a buyer opens an escrow lock under. Amounts in wei, times in Unix seconds of the chain's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockTerms {
    /// Who is paid.
    pub provider: Address,
    /// Number of the offer among the provider's, from 1.
    pub offer: u32,
    /// The offer's version.
    pub offer_version: u32,
    /// Content root of the model.
    pub model_root: ContentRoot,
    /// Price of a unit.
    pub unit_price: Amount,
    /// The most that the lock pays.
    pub cap: Amount,
    /// Most that one voucher adds; zero for a hundredth of the cap. [`LockTerms::exposure_max`] resolves it.
    pub exposure_max: Amount,
    /// Signs vouchers for the buyer.
    pub session_key: Address,
    /// Until when, inclusive, the provider may accept.
    pub accept_by: u64,
    /// Until when work is done. The contract only orders the times by it.
    pub work_by: u64,
    /// Until when, inclusive, the contract settles.
    pub settle_by: u64,
    /// Tells apart locks of equal terms.
    pub salt: Salt,
}

impl LockTerms {
    /// The lock's name: keccak(abi.encode(chain id, contract, buyer, terms)).
    pub fn lock_id(&self, domain: &Domain, buyer: Address) -> LockId {
        let mut words = Words::default();
        words.number(domain.chain_id.into());
        words.address(domain.contract);
        words.address(buyer);
        words.address(self.provider);
        words.number(self.offer.into());
        words.number(self.offer_version.into());
        words.bytes32(self.model_root.0);
        words.number(self.unit_price.wei());
        words.number(self.cap.wei());
        words.number(self.exposure_max.wei());
        words.address(self.session_key);
        words.number(self.accept_by.into());
        words.number(self.work_by.into());
        words.number(self.settle_by.into());
        words.bytes32(self.salt.0);
        LockId(keccak(&[words.as_bytes()]))
    }

    /// The increment that these terms mean: what stands there, or a hundredth of the cap, rounded up.
    pub fn exposure_max(&self) -> Amount {
        if self.exposure_max != Amount::ZERO {
            return self.exposure_max;
        }
        Amount::try_from(self.cap.wei().div_ceil(100)).expect("a hundredth has no more bits than the whole")
    }
}

/// The buyer's word: so much is owed so far for a shard of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voucher {
    /// The escrow lock that pays.
    pub lock: LockId,
    /// The lock's provider.
    pub provider: Address,
    /// Which job, as the buyer names it.
    pub job: JobId,
    /// Which piece of the job.
    pub shard: u32,
    /// Of the lease under which the work was done.
    pub fence: u64,
    /// Newest head of the transcript's hash chain.
    pub transcript_head: TranscriptHead,
    /// Units so far in this shard.
    pub units: u64,
    /// Owed so far for this shard.
    pub cumulative_fee: Amount,
    /// 1 for the shard's first voucher, one more for each.
    pub seq: u32,
    /// The lock's, in Unix seconds.
    pub settle_by: u64,
}

impl Voucher {
    /// `hashStruct` of EIP-712.
    pub fn hash(&self) -> VoucherHash {
        let mut words = Words::default();
        words.bytes32(keccak(&[VOUCHER_TYPE.as_bytes()]));
        self.write(&mut words);
        VoucherHash(keccak(&[words.as_bytes()]))
    }

    fn write(&self, words: &mut Words) {
        words.bytes32(self.lock.0);
        words.address(self.provider);
        words.bytes32(self.job.0);
        words.number(self.shard.into());
        words.number(self.fence.into());
        words.bytes32(self.transcript_head.0);
        words.number(self.units.into());
        words.number(self.cumulative_fee.wei());
        words.number(self.seq.into());
        words.number(self.settle_by.into());
    }

    fn read(words: &mut Reader<'_>) -> Result<Self, WordError> {
        Ok(Self {
            lock: LockId(words.bytes32()),
            provider: words.address()?,
            job: JobId(words.bytes32()),
            shard: words.number()?,
            fence: words.number()?,
            transcript_head: TranscriptHead(words.bytes32()),
            units: words.number()?,
            cumulative_fee: words.amount()?,
            seq: words.number()?,
            settle_by: words.number()?,
        })
    }
}

/// The provider's word on a voucher: which model ran, what was asked and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Of the voucher.
    pub voucher_hash: VoucherHash,
    /// Content root of the model that was run; the lock's.
    pub model_root: ContentRoot,
    /// BLAKE3 of what was asked in the increment.
    pub request_hash: ContentRoot,
    /// BLAKE3 of what was answered in the increment.
    pub response_hash: ContentRoot,
    /// Content root of the output so far; zero where there is none yet.
    pub output_root: ContentRoot,
    /// The voucher's units.
    pub usage: u64,
    /// BLAKE3 of the class's name; zero where none is claimed.
    pub determinism_class: ContentRoot,
    /// How the work is verified: [`Level`]'s number.
    pub level: u8,
}

impl Receipt {
    /// `hashStruct` of EIP-712.
    pub fn hash(&self) -> [u8; 32] {
        let mut words = Words::default();
        words.bytes32(keccak(&[RECEIPT_TYPE.as_bytes()]));
        self.write(&mut words);
        keccak(&[words.as_bytes()])
    }

    fn write(&self, words: &mut Words) {
        words.bytes32(self.voucher_hash.0);
        words.bytes32(self.model_root.0);
        words.bytes32(self.request_hash.0);
        words.bytes32(self.response_hash.0);
        words.bytes32(self.output_root.0);
        words.number(self.usage.into());
        words.bytes32(self.determinism_class.0);
        words.number(self.level.into());
    }

    fn read(words: &mut Reader<'_>) -> Result<Self, WordError> {
        Ok(Self {
            voucher_hash: VoucherHash(words.bytes32()),
            model_root: ContentRoot(words.bytes32()),
            request_hash: ContentRoot(words.bytes32()),
            response_hash: ContentRoot(words.bytes32()),
            output_root: ContentRoot(words.bytes32()),
            usage: words.number()?,
            determinism_class: ContentRoot(words.bytes32()),
            level: words.number()?,
        })
    }
}

/// How work is verified. The contract takes any number and judges none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Level {
    /// Signatures, roots, and usage recounted by the buyer.
    Bound = 1,
    /// A secret fraction recomputed by a provider that the buyer trusts.
    Sampled = 2,
    /// Computed by several providers.
    Redundant = 3,
    /// Vouched for by hardware.
    Attested = 4,
}

impl Level {
    /// The number in a receipt.
    pub const fn number(self) -> u8 {
        self as u8
    }
}
