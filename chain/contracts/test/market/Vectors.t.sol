// SPDX-License-Identifier: Apache-2.0
// The vectors of docs/formats/market.md, made by another implementation, against the contract and against the tests' own.
//
// Invariant: every value of the file that the contract can tell is compared, and what was signed there settles here.
// Does not know: how the vectors were made.
pragma solidity 0.8.37;

import {ComputeMarket} from "../../src/ComputeMarket.sol";
import {Providers} from "../../src/market/Providers.sol";
import {Vouchers} from "../../src/market/Vouchers.sol";
import {Market} from "./Market.sol";

contract MarketVectorsTest is Market {
    uint256 private constant COUNT = 4;
    string private vectors;

    function setUp() public {
        vm.warp(1_800_000_000);
        vectors = vm.readFile("../../docs/formats/vectors/market.json");
        vm.chainId(number(".domain.chainId"));
        market = ComputeMarket(account(".domain.verifyingContract"));
        vm.etch(address(market), address(new ComputeMarket(0, 60)).code);
    }

    function number(string memory key) private view returns (uint256) {
        return vm.parseJsonUint(vectors, key);
    }

    function data(string memory key) private view returns (bytes memory) {
        return unhex(bytes(vm.parseJsonString(vectors, key)));
    }

    function word(string memory key) private view returns (bytes32) {
        bytes memory value = data(key);
        same(value.length, 32, key);
        return bytes32(value);
    }

    function account(string memory key) private view returns (address) {
        return address(bytes20(data(key)));
    }

    function field(uint256 n, string memory name) private pure returns (string memory) {
        return string.concat(".settlements[", vm.toString(n), "].", name);
    }

    function termsOf() private view returns (ComputeMarket.Terms memory) {
        return ComputeMarket.Terms({
            provider: account(".terms.provider"),
            offer: uint32(number(".terms.offer")),
            offerVersion: uint32(number(".terms.offerVersion")),
            modelRoot: word(".terms.modelRoot"),
            unitPrice: uint96(number(".terms.unitPrice")),
            cap: uint96(number(".terms.cap")),
            exposureMax: uint96(number(".terms.exposureMax")),
            sessionKey: account(".terms.sessionKey"),
            acceptBy: uint64(number(".terms.acceptBy")),
            workBy: uint64(number(".terms.workBy")),
            settleBy: uint64(number(".terms.settleBy")),
            salt: word(".terms.salt")
        });
    }

    function voucherOf(uint256 n) private view returns (Vouchers.Voucher memory) {
        return Vouchers.Voucher({
            lock: word(field(n, "voucher.lock")),
            provider: account(field(n, "voucher.provider")),
            job: word(field(n, "voucher.job")),
            shard: uint32(number(field(n, "voucher.shard"))),
            fence: uint64(number(field(n, "voucher.fence"))),
            transcriptHead: word(field(n, "voucher.transcriptHead")),
            units: uint64(number(field(n, "voucher.units"))),
            cumulativeFee: uint96(number(field(n, "voucher.cumulativeFee"))),
            seq: uint32(number(field(n, "voucher.seq"))),
            settleBy: uint64(number(field(n, "voucher.settleBy")))
        });
    }

    function receiptOf(uint256 n) private view returns (Vouchers.Receipt memory) {
        return Vouchers.Receipt({
            voucherHash: word(field(n, "receipt.voucherHash")),
            modelRoot: word(field(n, "receipt.modelRoot")),
            requestHash: word(field(n, "receipt.requestHash")),
            responseHash: word(field(n, "receipt.responseHash")),
            outputRoot: word(field(n, "receipt.outputRoot")),
            usage: uint64(number(field(n, "receipt.usage"))),
            determinismClass: word(field(n, "receipt.determinismClass")),
            level: uint8(number(field(n, "receipt.level")))
        });
    }

    function signatureOf(uint256 n, string memory name) private view returns (Vouchers.Signature memory) {
        bytes memory both = data(field(n, name));
        same(both.length, 64, "a signature's bytes");
        return Vouchers.Signature(bytes32(slice(both, 0, 32)), bytes32(slice(both, 32, 64)));
    }

    function test_types_and_domain_are_those_of_the_vectors() public view {
        same(keccak256(bytes(vm.parseJsonString(vectors, ".types.voucher"))), word(".type_hashes.voucher"), "voucher");
        same(keccak256(bytes(vm.parseJsonString(vectors, ".types.receipt"))), word(".type_hashes.receipt"), "receipt");
        same(Vouchers.VOUCHER_TYPE, word(".type_hashes.voucher"), "the contract's voucher");
        same(Vouchers.RECEIPT_TYPE, word(".type_hashes.receipt"), "the contract's receipt");
        same(domainOf(chain(), address(market)), word(".domain_separator"), "domain");
        same(vm.addr(uint256(word(".session_key.secret"))), account(".session_key.address"), "session key");
        same(vm.addr(uint256(word(".signing_key.secret"))), account(".signing_key.address"), "signing key");
        same(market.lockId(account(".buyer"), termsOf()), word(".lock"), "lock");
    }

    function test_digests_and_signatures_are_those_of_the_vectors() public view {
        for (uint256 n = 0; n < COUNT; ++n) {
            Vouchers.Voucher memory owed = voucherOf(n);
            Vouchers.Receipt memory done = receiptOf(n);
            same(hashOf(owed), word(field(n, "voucher_hash")), "voucher's hash");
            same(market.voucherDigest(owed), word(field(n, "voucher_digest")), "voucher's digest");
            same(hashOf(done), word(field(n, "receipt_hash")), "receipt's hash");
            same(market.receiptDigest(done), word(field(n, "receipt_digest")), "receipt's digest");
            signatures(n);
            bytes memory first = abi.encodePacked(hex"14", owed.lock, owed.job, owed.shard, owed.fence);
            same(first.length, 77, "a transcript's first bytes");
            same(keccak256(first), word(field(n, "first_head")), "first head");
        }
        check(!vm.keyExistsJson(vectors, ".settlements[4]"), "all settlements");
    }

    /// RFC 6979 makes signatures the same everywhere.
    function signatures(uint256 n) private view {
        bytes memory found = abi.encode(signatureOf(n, "voucher_signature"));
        bytes memory own = abi.encode(sign(uint256(word(".session_key.secret")), word(field(n, "voucher_digest"))));
        same(found, own, "voucher's signature");
        found = abi.encode(signatureOf(n, "receipt_signature"));
        own = abi.encode(sign(uint256(word(".signing_key.secret")), word(field(n, "receipt_digest"))));
        same(found, own, "receipt's signature");
    }

    function test_what_the_vectors_signed_is_paid() public {
        ComputeMarket.Terms memory under = termsOf();
        Providers.Offer memory terms_ = offer();
        (terms_.modelRoot, terms_.unitPrice) = (under.modelRoot, under.unitPrice);
        vm.prank(under.provider);
        market.register(account(".signing_key.address"), "");
        vm.prank(under.provider);
        market.publishOffer(terms_);
        vm.prank(under.provider);
        market.reviseOffer(1, terms_);
        fund(account(".buyer"), under.cap);
        vm.prank(account(".buyer"));
        same(market.open(under), word(".lock"), "lock");
        vm.prank(under.provider);
        market.accept(word(".lock"));
        pays(itemOf(0), 1 ether, "first");
        pays(itemOf(1), 1.5 ether, "second");
        pays(itemOf(2), 0, "another shard");
        settles(itemOf(3), ComputeMarket.Outcome.AboveExposure, "the greatest numbers");
    }

    function itemOf(uint256 n) private view returns (Vouchers.Settlement memory) {
        return Vouchers.Settlement({
            voucher: voucherOf(n),
            receipt: receiptOf(n),
            buyer: signatureOf(n, "voucher_signature"),
            provider: signatureOf(n, "receipt_signature")
        });
    }
}
