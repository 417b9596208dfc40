//! docs/formats/vectors/market.json, made by another implementation: every value of it comes out here as well.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use std::str::FromStr;

use ashlar_compute_api::vouchers::{
    Domain, Key, LockTerms, RECEIPT_TYPE, Receipt, SETTLEMENT_BYTES, Settlement, Signature, VOUCHER_TYPE,
    Voucher, WordError,
};
use ashlar_compute_api::{Address, Amount, transcript};
use serde_json::Value;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats/vectors/market.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_else(|| panic!("{key} is text in {of}"))
}

/// Bytes of any fixed type.
fn bytes<T>(of: &Value, key: &str) -> T
where
    T: FromStr,
    T::Err: std::fmt::Debug,
{
    format!("0x{}", text(of, key)).parse().unwrap()
}

fn number<T>(of: &Value, key: &str) -> T
where
    T: FromStr,
    T::Err: std::fmt::Debug,
{
    text(of, key).parse().unwrap()
}

fn signature(of: &Value, key: &str) -> Signature {
    Signature(hex::decode(text(of, key)).unwrap().try_into().unwrap())
}

fn domain(vectors: &Value) -> Domain {
    let of = &vectors["domain"];
    Domain { chain_id: number(of, "chainId"), contract: bytes(of, "verifyingContract") }
}

fn terms(of: &Value) -> LockTerms {
    LockTerms {
        provider: bytes(of, "provider"),
        offer: number(of, "offer"),
        offer_version: number(of, "offerVersion"),
        model_root: bytes(of, "modelRoot"),
        unit_price: number(of, "unitPrice"),
        cap: number(of, "cap"),
        exposure_max: number(of, "exposureMax"),
        session_key: bytes(of, "sessionKey"),
        accept_by: number(of, "acceptBy"),
        work_by: number(of, "workBy"),
        settle_by: number(of, "settleBy"),
        salt: bytes(of, "salt"),
    }
}

fn voucher(of: &Value) -> Voucher {
    Voucher {
        lock: bytes(of, "lock"),
        provider: bytes(of, "provider"),
        job: bytes(of, "job"),
        shard: number(of, "shard"),
        fence: number(of, "fence"),
        transcript_head: bytes(of, "transcriptHead"),
        units: number(of, "units"),
        cumulative_fee: number(of, "cumulativeFee"),
        seq: number(of, "seq"),
        settle_by: number(of, "settleBy"),
    }
}

fn receipt(of: &Value) -> Receipt {
    Receipt {
        voucher_hash: bytes(of, "voucherHash"),
        model_root: bytes(of, "modelRoot"),
        request_hash: bytes(of, "requestHash"),
        response_hash: bytes(of, "responseHash"),
        output_root: bytes(of, "outputRoot"),
        usage: number(of, "usage"),
        determinism_class: bytes(of, "determinismClass"),
        level: number(of, "level"),
    }
}

fn key(of: &Value) -> Key {
    let key = Key::from_secret(&hex::decode(text(of, "secret")).unwrap().try_into().unwrap()).unwrap();
    assert_eq!(key.address(), bytes::<Address>(of, "address"));
    key
}

fn settlements() -> (Value, Vec<Settlement>) {
    let vectors = vectors();
    let all = vectors["settlements"].as_array().unwrap().iter().map(|of| Settlement {
        voucher: voucher(&of["voucher"]),
        receipt: receipt(&of["receipt"]),
        buyer: signature(of, "voucher_signature"),
        provider: signature(of, "receipt_signature"),
    });
    let all = all.collect();
    (vectors, all)
}

#[test]
fn types_domain_and_lock_are_those_of_the_vectors() {
    let vectors = vectors();
    assert_eq!(text(&vectors["types"], "voucher"), VOUCHER_TYPE);
    assert_eq!(text(&vectors["types"], "receipt"), RECEIPT_TYPE);
    let domain = domain(&vectors);
    assert_eq!(domain.separator(), bytes(&vectors, "domain_separator"));
    let terms = terms(&vectors["terms"]);
    assert_eq!(terms.lock_id(&domain, bytes(&vectors, "buyer")), bytes(&vectors, "lock"));
    assert_eq!(terms.exposure_max(), Amount::try_from(10u128.pow(18)).unwrap(), "a hundredth of the cap");
    let odd = LockTerms { cap: Amount::from(101), ..terms };
    assert_eq!(odd.exposure_max(), Amount::from(2), "rounded up");
    assert_eq!(LockTerms { exposure_max: Amount::from(7), ..odd }.exposure_max(), Amount::from(7));
}

#[test]
fn statements_and_signatures_are_those_of_the_vectors() {
    let (vectors, settlements) = settlements();
    let domain = domain(&vectors);
    let (session, signing) = (key(&vectors["session_key"]), key(&vectors["signing_key"]));
    assert!(settlements.len() >= 4);
    for (settlement, of) in settlements.iter().zip(vectors["settlements"].as_array().unwrap()) {
        let Settlement { voucher, receipt, buyer, provider } = settlement;
        let first = transcript::first_head(voucher.lock, voucher.job, voucher.shard, voucher.fence);
        assert_eq!(first, bytes(of, "first_head"));
        assert_eq!(voucher.hash(), bytes(of, "voucher_hash"));
        assert_eq!(domain.voucher_digest(voucher), bytes(of, "voucher_digest"));
        assert_eq!(hex::encode(receipt.hash()), text(of, "receipt_hash"));
        assert_eq!(domain.receipt_digest(receipt), bytes(of, "receipt_digest"));
        assert_eq!(session.sign(&domain.voucher_digest(voucher)), *buyer);
        assert_eq!(signing.sign(&domain.receipt_digest(receipt)), *provider);
        assert!(settlement.is_signed(&domain, session.address(), signing.address()));
        let elsewhere = Domain { chain_id: domain.chain_id + 1, ..domain };
        assert!(!settlement.is_signed(&elsewhere, session.address(), signing.address()));
        assert!(!settlement.is_signed(&domain, signing.address(), session.address()));
    }
}

#[test]
fn settlements_have_one_encoding() {
    let (_, settlements) = settlements();
    for settlement in settlements {
        let words = settlement.encode();
        assert_eq!(words.len(), SETTLEMENT_BYTES);
        assert_eq!(Settlement::decode(&words), Ok(settlement));
        let json = serde_json::to_string(&settlement).unwrap();
        assert_eq!(serde_json::from_str::<Settlement>(&json).unwrap(), settlement);
        for length in [0, SETTLEMENT_BYTES - 32, SETTLEMENT_BYTES - 1, SETTLEMENT_BYTES + 32] {
            let mut other = words.clone();
            other.resize(length, 0);
            let error = WordError::Length { expected: SETTLEMENT_BYTES, found: length };
            assert_eq!(Settlement::decode(&other), Err(error));
        }
        // Provider, shard, fence, units, fee, seq, settleBy; usage, level: what is narrower than its word.
        for (word, field_bytes) in
            [(1, 20), (3, 4), (4, 8), (6, 8), (7, 12), (8, 4), (9, 8), (15, 8), (17, 1)]
        {
            let mut other = words.clone();
            other[word * 32 + 31 - field_bytes] = 1;
            assert_eq!(Settlement::decode(&other), Err(WordError::TooLarge { word }));
        }
    }
}
