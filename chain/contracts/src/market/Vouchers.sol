// SPDX-License-Identifier: Apache-2.0
// What buyer and provider sign (docs/formats/market.md §3), and who signed it.
//
// Invariant: a digest names this chain and this contract, and is another for any other fields. A signature has one form.
// Does not know: locks, or whether what was signed is true.
pragma solidity 0.8.37;

/// Vouchers, receipts, and their signatures.
library Vouchers {
    /// What the buyer owes so far for a shard of a job. Signed by the session key.
    struct Voucher {
        bytes32 lock;
        address provider;
        bytes32 job;
        uint32 shard;
        /// Of the lease under which the work was done.
        uint64 fence;
        /// Newest head of the transcript's hash chain.
        bytes32 transcriptHead;
        /// Done so far in this shard.
        uint64 units;
        /// Owed so far for this shard, in wei.
        uint96 cumulativeFee;
        /// 1 for the shard's first voucher.
        uint32 seq;
        /// Unix seconds; the lock's.
        uint64 settleBy;
    }

    /// What the provider says it did for a voucher. Signed by its signing key.
    struct Receipt {
        bytes32 voucherHash;
        bytes32 modelRoot;
        bytes32 requestHash;
        bytes32 responseHash;
        bytes32 outputRoot;
        /// Units that the provider counts so far in this shard.
        uint64 usage;
        bytes32 determinismClass;
        uint8 level;
    }

    /// EIP-2098: parity of y in the highest bit of the second word, s in the others.
    struct Signature {
        bytes32 r;
        bytes32 yParityAndS;
    }

    /// Both statements with both signatures: what settles.
    struct Settlement {
        Voucher voucher;
        Receipt receipt;
        Signature buyer;
        Signature provider;
    }

    /// Both statements with the provider's signature: what an offence is proven with.
    struct Countersigned {
        Voucher voucher;
        Receipt receipt;
        Signature provider;
    }

    bytes32 internal constant DOMAIN_TYPE = keccak256(
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    );
    bytes32 internal constant VOUCHER_TYPE = keccak256(
        "Voucher(bytes32 lock,address provider,bytes32 job,uint32 shard,uint64 fence,bytes32 transcriptHead,uint64 units,uint96 cumulativeFee,uint32 seq,uint64 settleBy)"
    );
    bytes32 internal constant RECEIPT_TYPE = keccak256(
        "Receipt(bytes32 voucherHash,bytes32 modelRoot,bytes32 requestHash,bytes32 responseHash,bytes32 outputRoot,uint64 usage,bytes32 determinismClass,uint8 level)"
    );
    string internal constant NAME = "Ashlar ComputeMarket";
    string internal constant VERSION = "1";

    /// Half the order of secp256k1, rounded down: the other half of s is refused.
    uint256 private constant S_MAX = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    /// Read anew each time: after a fork, the chain that took a new id must not take what was signed for the other.
    function domain() internal view returns (bytes32) {
        return keccak256(
            abi.encode(DOMAIN_TYPE, keccak256(bytes(NAME)), keccak256(bytes(VERSION)), block.chainid, address(this))
        );
    }

    /// hashStruct of EIP-712.
    function hash(Voucher calldata voucher) internal pure returns (bytes32) {
        return keccak256(abi.encode(VOUCHER_TYPE, voucher));
    }

    /// hashStruct of EIP-712.
    function hash(Receipt calldata receipt) internal pure returns (bytes32) {
        return keccak256(abi.encode(RECEIPT_TYPE, receipt));
    }

    /// What is signed.
    function digest(bytes32 domain_, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domain_, structHash));
    }

    /// Whether the key signed. Never true for key zero.
    function signedBy(address key, bytes32 digest_, Signature calldata signature) internal pure returns (bool) {
        uint256 packed = uint256(signature.yParityAndS);
        uint256 s = packed & (type(uint256).max >> 1);
        if (s > S_MAX) return false;
        address found = ecrecover(digest_, uint8(27 + (packed >> 255)), signature.r, bytes32(s));
        return found != address(0) && found == key;
    }

    /// Whether a provider's key signed these two, and the receipt is of the voucher.
    function countersigned(Countersigned calldata both, address key) internal view returns (bool) {
        return both.receipt.voucherHash == hash(both.voucher)
            && signedBy(key, digest(domain(), hash(both.receipt)), both.provider);
    }
}
