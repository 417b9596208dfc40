// SPDX-License-Identifier: Apache-2.0
// A market with a provider, an offer and a buyer, and an implementation of its signatures of its own.
//
// Invariant: hashes what is signed field by field, without the contract's own code.
// Does not know: which of it a test means to be refused.
pragma solidity 0.8.37;

import {ComputeMarket} from "../../src/ComputeMarket.sol";
import {Providers} from "../../src/market/Providers.sol";
import {Vouchers} from "../../src/market/Vouchers.sol";
import {Base} from "../Base.sol";

abstract contract Market is Base {
    uint256 internal constant SESSION_SECRET = 0x5e55;
    uint256 internal constant SIGNING_SECRET = 0x516e;
    uint256 internal constant OTHER_SECRET = 0x0714;
    address internal constant BUYER = address(0xb00e);
    address internal constant PROVIDER = address(0x9041);
    address internal constant STRANGER = address(0x57a4);
    bytes32 internal constant MODEL = keccak256("model");
    bytes32 internal constant JOB = keccak256("job");
    uint96 internal constant PRICE = 0.001 ether;
    uint96 internal constant CAP = 100 ether;
    /// A hundredth of CAP, which is the default.
    uint96 internal constant EXPOSURE = 1 ether;
    uint128 internal constant STAKE_MIN = 5 ether;
    uint128 internal constant STAKE = 8 ether;
    uint256 internal constant ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;

    ComputeMarket internal market;

    /// PROVIDER with stake and offer 1, BUYER with three caps in his account.
    function startMarket() internal {
        vm.warp(1_800_000_000);
        market = new ComputeMarket(STAKE_MIN, 60);
        newProvider(PROVIDER, vm.addr(SIGNING_SECRET), STAKE);
        fund(BUYER, 3 * CAP);
    }

    function newProvider(address account, address signingKey, uint128 stake) internal {
        vm.deal(account, stake);
        vm.prank(account);
        market.register{value: stake}(signingKey, "https://provider.example");
        vm.prank(account);
        same(market.publishOffer(offer()), 1, "number of the first offer");
    }

    function fund(address account, uint256 amount) internal {
        vm.deal(address(this), amount);
        market.deposit{value: amount}(account);
    }

    function offer() internal pure returns (Providers.Offer memory) {
        return Providers.Offer({
            kind: 1,
            unitPrice: PRICE,
            capMin: 1 ether,
            capMax: 1000 ether,
            workSecondsMax: 30 days,
            modelRoot: MODEL,
            limits: keccak256("limits")
        });
    }

    function terms() internal view returns (ComputeMarket.Terms memory) {
        return ComputeMarket.Terms({
            provider: PROVIDER,
            offer: 1,
            offerVersion: 1,
            modelRoot: MODEL,
            unitPrice: PRICE,
            cap: CAP,
            exposureMax: 0,
            sessionKey: vm.addr(SESSION_SECRET),
            acceptBy: time() + 600,
            workBy: time() + 1 days,
            settleBy: time() + 1 days + 2 hours,
            salt: "salt"
        });
    }

    function opened(ComputeMarket.Terms memory under) internal returns (bytes32) {
        vm.prank(BUYER);
        return market.open(under);
    }

    function accepted(ComputeMarket.Terms memory under) internal returns (bytes32 id) {
        id = opened(under);
        vm.prank(under.provider);
        market.accept(id);
    }

    function accepted() internal returns (bytes32) {
        return accepted(terms());
    }

    /// As few units as pay for the fee.
    function unitsFor(uint96 fee) internal pure returns (uint64) {
        return uint64((uint256(fee) + PRICE - 1) / PRICE);
    }

    /// The seq-th voucher of a shard of JOB.
    function voucher(bytes32 lock, uint32 shard, uint32 seq, uint96 fee) internal view returns (Vouchers.Voucher memory) {
        ComputeMarket.Lock memory of_ = market.lockOf(lock);
        return Vouchers.Voucher({
            lock: lock,
            provider: of_.provider,
            job: JOB,
            shard: shard,
            fence: 1,
            transcriptHead: keccak256(abi.encode("head", lock, shard, seq)),
            units: unitsFor(fee),
            cumulativeFee: fee,
            seq: seq,
            settleBy: of_.settleBy
        });
    }

    function receipt(Vouchers.Voucher memory of_) internal pure returns (Vouchers.Receipt memory) {
        return Vouchers.Receipt({
            voucherHash: hashOf(of_),
            modelRoot: MODEL,
            requestHash: keccak256("request"),
            responseHash: keccak256(abi.encode("response", of_.seq)),
            outputRoot: keccak256("output"),
            usage: of_.units,
            determinismClass: keccak256("class"),
            level: 1
        });
    }

    function hashOf(Vouchers.Voucher memory of_) internal pure returns (bytes32) {
        bytes32 type_ = keccak256(
            "Voucher(bytes32 lock,address provider,bytes32 job,uint32 shard,uint64 fence,bytes32 transcriptHead,uint64 units,uint96 cumulativeFee,uint32 seq,uint64 settleBy)"
        );
        bytes memory first = abi.encode(type_, of_.lock, of_.provider, of_.job, of_.shard, of_.fence);
        return keccak256(
            bytes.concat(
                first, abi.encode(of_.transcriptHead, of_.units, of_.cumulativeFee, of_.seq, of_.settleBy)
            )
        );
    }

    function hashOf(Vouchers.Receipt memory of_) internal pure returns (bytes32) {
        bytes32 type_ = keccak256(
            "Receipt(bytes32 voucherHash,bytes32 modelRoot,bytes32 requestHash,bytes32 responseHash,bytes32 outputRoot,uint64 usage,bytes32 determinismClass,uint8 level)"
        );
        bytes memory first = abi.encode(type_, of_.voucherHash, of_.modelRoot, of_.requestHash, of_.responseHash);
        return keccak256(bytes.concat(first, abi.encode(of_.outputRoot, of_.usage, of_.determinismClass, of_.level)));
    }

    function domainOf(uint256 chainId, address contract_) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Ashlar ComputeMarket"),
                keccak256("1"),
                chainId,
                contract_
            )
        );
    }

    function digestOf(bytes32 structHash) internal view returns (bytes32) {
        return keccak256(bytes.concat(hex"1901", domainOf(chain(), address(market)), structHash));
    }

    function sign(uint256 secret, bytes32 digest) internal pure returns (Vouchers.Signature memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return Vouchers.Signature({r: r, yParityAndS: bytes32(uint256(s) | uint256(v - 27) << 255)});
    }

    /// Signed by these two keys, whatever it says.
    function signed(Vouchers.Voucher memory owed, Vouchers.Receipt memory done, uint256 buyers, uint256 providers)
        internal
        view
        returns (Vouchers.Settlement memory)
    {
        return Vouchers.Settlement({
            voucher: owed,
            receipt: done,
            buyer: sign(buyers, digestOf(hashOf(owed))),
            provider: sign(providers, digestOf(hashOf(done)))
        });
    }

    function signed(Vouchers.Voucher memory owed) internal view returns (Vouchers.Settlement memory) {
        return signed(owed, receipt(owed), SESSION_SECRET, SIGNING_SECRET);
    }

    function countersigned(Vouchers.Voucher memory owed, Vouchers.Receipt memory done, uint256 providers)
        internal
        view
        returns (Vouchers.Countersigned memory)
    {
        return Vouchers.Countersigned({
            voucher: owed, receipt: done, provider: sign(providers, digestOf(hashOf(done)))
        });
    }

    function countersigned(Vouchers.Voucher memory owed) internal view returns (Vouchers.Countersigned memory) {
        return countersigned(owed, receipt(owed), SIGNING_SECRET);
    }

    /// Settles one, as a stranger; `judge` must have said the same.
    function settle(Vouchers.Settlement memory item) internal returns (ComputeMarket.Outcome) {
        (ComputeMarket.Outcome said, uint96 amount) = market.judge(item);
        uint256 before = market.balanceOf(item.voucher.provider);
        Vouchers.Settlement[] memory batch = new Vouchers.Settlement[](1);
        batch[0] = item;
        vm.prank(STRANGER);
        ComputeMarket.Outcome outcome = market.settle(batch)[0];
        same(uint256(outcome), uint256(said), "judge said another outcome");
        same(market.balanceOf(item.voucher.provider), before + amount, "judge said another amount");
        return outcome;
    }

    function settles(Vouchers.Settlement memory item, ComputeMarket.Outcome expected, string memory what) internal {
        same(uint256(settle(item)), uint256(expected), what);
    }

    function pays(Vouchers.Settlement memory item, uint96 amount, string memory what) internal {
        uint256 before = market.balanceOf(item.voucher.provider);
        settles(item, ComputeMarket.Outcome.Paid, what);
        same(market.balanceOf(item.voucher.provider), before + amount, what);
    }

    function paidOf(bytes32 lock) internal view returns (uint96) {
        return market.lockOf(lock).paid;
    }

    function settledOf(bytes32 lock, uint32 shard) internal view returns (ComputeMarket.Settled memory) {
        ComputeMarket.Lock memory of_ = market.lockOf(lock);
        return market.settled(of_.buyer, of_.provider, JOB, shard);
    }
}
