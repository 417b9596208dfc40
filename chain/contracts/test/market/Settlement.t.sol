// SPDX-License-Identifier: Apache-2.0
// Settlement and slashing: every outcome, every error, at its boundary.
//
// Invariant: whatever is refused changes neither balances, nor the lock, nor the record.
// Does not know: who would do such a thing; Attacks.t.sol does.
pragma solidity 0.8.37;

import {ComputeMarket} from "../../src/ComputeMarket.sol";
import {Providers} from "../../src/market/Providers.sol";
import {Vouchers} from "../../src/market/Vouchers.sol";
import {Market} from "./Market.sol";

contract SettlementTest is Market {
    bytes32 private lock;

    function setUp() public {
        startMarket();
        lock = accepted();
    }

    /// Refused, and nothing is other than before.
    function refused(Vouchers.Settlement memory item, ComputeMarket.Outcome expected, string memory what) private {
        bytes memory before = everything(item.voucher);
        Vouchers.Settlement[] memory batch = new Vouchers.Settlement[](1);
        batch[0] = item;
        vm.expectEmit(true, true, true, true, address(market));
        emit ComputeMarket.SettlementRefused(item.voucher.lock, 0, expected);
        same(uint256(market.settle(batch)[0]), uint256(expected), what);
        (ComputeMarket.Outcome said, uint96 amount) = market.judge(item);
        same(uint256(said), uint256(expected), what);
        same(amount, 0, what);
        same(everything(item.voucher), before, what);
    }

    function everything(Vouchers.Voucher memory of_) private view returns (bytes memory) {
        ComputeMarket.Settled memory record = market.settled(BUYER, PROVIDER, of_.job, of_.shard);
        return abi.encode(market.balanceOf(PROVIDER), market.balanceOf(BUYER), market.lockOf(lock), record);
    }

    // What pays

    function test_the_difference_is_paid_and_recorded() public {
        Vouchers.Settlement memory item = signed(voucher(lock, 7, 2, 2 * EXPOSURE));
        vm.expectEmit(true, true, true, true, address(market));
        emit ComputeMarket.SettlementPaid(
            lock, JOB, 7, 1, 2, 2 * EXPOSURE, 2 * EXPOSURE, keccak256("output"), digestOf(hashOf(item.receipt))
        );
        pays(item, 2 * EXPOSURE, "first");
        Vouchers.Voucher memory next = voucher(lock, 7, 5, 2 * EXPOSURE + 3);
        next.fence = 4;
        item = signed(next);
        vm.expectEmit(true, true, true, true, address(market));
        emit ComputeMarket.SettlementPaid(
            lock, JOB, 7, 4, 5, 3, 2 * EXPOSURE + 3, keccak256("output"), digestOf(hashOf(item.receipt))
        );
        pays(item, 3, "difference");
        ComputeMarket.Settled memory expected = ComputeMarket.Settled({
            fence: 4,
            seq: 5,
            fee: 2 * EXPOSURE + 3,
            lock: bytes8(lock),
            receiptDigest: digestOf(hashOf(item.receipt))
        });
        same(abi.encode(settledOf(lock, 7)), abi.encode(expected), "record");
        same(paidOf(lock), 2 * EXPOSURE + 3, "paid");
        same(settledOf(lock, 8).seq, 0, "another shard");
    }

    function test_the_contract_tells_what_is_signed() public view {
        Vouchers.Voucher memory owed = voucher(lock, 1, 2, 3);
        same(market.voucherDigest(owed), digestOf(hashOf(owed)), "voucher");
        same(market.receiptDigest(receipt(owed)), digestOf(hashOf(receipt(owed))), "receipt");
        (bytes1 fields, string memory name, string memory version, uint256 id, address contract_, bytes32 salt, uint256[] memory more)
        = market.eip712Domain();
        same(bytes32(fields), bytes32(hex"0f"), "fields");
        same(bytes(name), "Ashlar ComputeMarket", "name");
        same(bytes(version), "1", "version");
        same(id, chain(), "chain");
        same(contract_, address(market), "contract");
        same(salt, 0, "salt");
        same(more.length, 0, "extensions");
    }

    function test_shards_are_paid_side_by_side() public {
        for (uint32 shard = 0; shard < 5; ++shard) {
            pays(signed(voucher(lock, shard, 1, EXPOSURE)), EXPOSURE, "a shard");
        }
        same(paidOf(lock), 5 * EXPOSURE, "paid");
        Vouchers.Voucher memory other = voucher(lock, 0, 1, EXPOSURE);
        other.job = "other job";
        pays(signed(other), EXPOSURE, "another job's shard of the same number");
    }

    function test_a_voucher_may_add_nothing() public {
        pays(signed(voucher(lock, 0, 1, 0)), 0, "nothing yet");
        pays(signed(voucher(lock, 0, 2, 5)), 5, "something");
        pays(signed(voucher(lock, 0, 3, 5)), 0, "nothing more");
        same(settledOf(lock, 0).seq, 3, "the newest is recorded");
    }

    function test_seventeen_vouchers_pay_as_much_as_the_last_alone(uint256 seed, uint8 count) public {
        uint96 fee = 0;
        for (uint32 seq = 1; seq <= count % 17 + 1; ++seq) {
            fee += uint96(uint256(keccak256(abi.encode(seed, seq))) % (EXPOSURE + 1));
            if (uint256(keccak256(abi.encode(seed, "skip", seq))) % 2 == 0) continue;
            settles(signed(voucher(lock, 0, seq, fee)), ComputeMarket.Outcome.Paid, "in order");
            same(paidOf(lock), fee, "paid so far");
        }
        settles(signed(voucher(lock, 0, 18, fee)), ComputeMarket.Outcome.Paid, "last");
        same(market.balanceOf(PROVIDER), fee, "all");
        same(paidOf(lock), fee, "lock");
    }

    function test_no_lock_pays_above_its_cap() public {
        pays(signed(voucher(lock, 0, 60, 60 * EXPOSURE)), 60 * EXPOSURE, "within");
        pays(signed(voucher(lock, 1, 60, 60 * EXPOSURE)), 40 * EXPOSURE, "what is left");
        pays(signed(voucher(lock, 0, 70, 70 * EXPOSURE)), 0, "nothing is left");
        pays(signed(voucher(lock, 1, 61, 61 * EXPOSURE)), 0, "nor here");
        same(settledOf(lock, 1).fee, 40 * EXPOSURE, "what was paid is recorded");
        same(paidOf(lock), CAP, "cap");
    }

    // What does not

    function test_a_lock_that_is_not_accepted_pays_nothing() public {
        ComputeMarket.Terms memory under = terms();
        under.salt = "other";
        bytes32 other = opened(under);
        refused(signed(voucher(other, 0, 1, 1)), ComputeMarket.Outcome.NotAccepted, "open");
        vm.prank(BUYER);
        market.cancel(other);
        refused(signed(voucher(other, 0, 1, 1)), ComputeMarket.Outcome.NotAccepted, "cancelled");
        refused(signed(voucher("?", 0, 1, 1)), ComputeMarket.Outcome.NotAccepted, "none");
    }

    function test_nothing_is_paid_after_settle_by() public {
        uint64 settleBy = market.lockOf(lock).settleBy;
        vm.warp(settleBy);
        pays(signed(voucher(lock, 0, 1, 1)), 1, "in the last second");
        vm.warp(settleBy + 1);
        refused(signed(voucher(lock, 0, 2, 2)), ComputeMarket.Outcome.Late, "a second later");
    }

    function test_the_voucher_is_of_the_lock() public {
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, 1);
        owed.provider = STRANGER;
        refused(signed(owed), ComputeMarket.Outcome.WrongProvider, "provider");
        owed = voucher(lock, 0, 1, 1);
        owed.settleBy -= 1;
        refused(signed(owed), ComputeMarket.Outcome.WrongDeadline, "earlier");
        owed.settleBy += 2;
        refused(signed(owed), ComputeMarket.Outcome.WrongDeadline, "later");
    }

    function test_the_receipt_is_of_the_voucher_and_of_the_model() public {
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, 1);
        Vouchers.Receipt memory done = receipt(voucher(lock, 0, 2, 1));
        refused(signed(owed, done, SESSION_SECRET, SIGNING_SECRET), ComputeMarket.Outcome.WrongVoucher, "voucher");
        done = receipt(owed);
        done.modelRoot = "cheaper";
        refused(signed(owed, done, SESSION_SECRET, SIGNING_SECRET), ComputeMarket.Outcome.WrongModel, "model");
    }

    function test_both_count_the_same_usage() public {
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, 1);
        Vouchers.Receipt memory done = receipt(owed);
        done.usage += 1;
        refused(signed(owed, done, SESSION_SECRET, SIGNING_SECRET), ComputeMarket.Outcome.WrongUsage, "more");
        done.usage -= 2;
        refused(signed(owed, done, SESSION_SECRET, SIGNING_SECRET), ComputeMarket.Outcome.WrongUsage, "fewer");
    }

    function test_the_fee_is_within_the_price_of_the_units() public {
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, 10 * PRICE);
        owed.units = 9;
        refused(signed(owed), ComputeMarket.Outcome.AbovePrice, "nine");
        owed = voucher(lock, 0, 1, 10 * PRICE);
        owed.cumulativeFee += 1;
        refused(signed(owed), ComputeMarket.Outcome.AbovePrice, "a wei above");
        owed.units = type(uint64).max;
        pays(signed(owed), 10 * PRICE + 1, "cheaper than the price");
    }

    function test_a_voucher_adds_one_increment_at_most() public {
        refused(signed(voucher(lock, 0, 1, EXPOSURE + 1)), ComputeMarket.Outcome.AboveExposure, "first");
        refused(signed(voucher(lock, 0, 3, 3 * EXPOSURE + 1)), ComputeMarket.Outcome.AboveExposure, "third");
        refused(signed(voucher(lock, 0, 0, 1)), ComputeMarket.Outcome.AboveExposure, "before the first");
        pays(signed(voucher(lock, 0, 3, 3 * EXPOSURE)), 3 * EXPOSURE, "three");
        uint32 most = type(uint32).max;
        pays(signed(voucher(lock, 0, most, CAP)), CAP - 3 * EXPOSURE, "the greatest seq");
        refused(signed(voucher(lock, 0, most, CAP)), ComputeMarket.Outcome.Stale, "nothing after it");
    }

    function test_the_greatest_numbers_do_not_overflow() public {
        Vouchers.Voucher memory owed = voucher(lock, type(uint32).max, type(uint32).max, 0);
        owed.cumulativeFee = type(uint96).max;
        owed.units = type(uint64).max;
        owed.fence = type(uint64).max;
        refused(signed(owed), ComputeMarket.Outcome.AboveExposure, "fee");
        owed.cumulativeFee = EXPOSURE;
        pays(signed(owed), EXPOSURE, "all but the fee");
    }

    function test_a_shard_starts_at_seq_one() public {
        refused(signed(voucher(lock, 0, 0, 0)), ComputeMarket.Outcome.Stale, "seq 0");
    }

    function test_a_shard_is_paid_under_one_lock() public {
        ComputeMarket.Terms memory under = terms();
        under.salt = "other";
        bytes32 other = accepted(under);
        pays(signed(voucher(lock, 0, 1, 1)), 1, "first lock");
        refused(signed(voucher(other, 0, 2, 2)), ComputeMarket.Outcome.OtherLock, "second lock");
        pays(signed(voucher(other, 1, 1, 1)), 1, "another shard");
    }

    function test_an_older_voucher_pays_nothing() public {
        pays(signed(voucher(lock, 0, 5, 50)), 50, "fifth");
        refused(signed(voucher(lock, 0, 5, 50)), ComputeMarket.Outcome.Stale, "the same");
        refused(signed(voucher(lock, 0, 5, 51)), ComputeMarket.Outcome.Stale, "the same seq");
        refused(signed(voucher(lock, 0, 4, 40)), ComputeMarket.Outcome.Stale, "an older one");
    }

    function test_fence_and_fee_never_fall() public {
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, 50);
        owed.fence = 3;
        pays(signed(owed), 50, "first");
        owed = voucher(lock, 0, 2, 60);
        owed.fence = 2;
        refused(signed(owed), ComputeMarket.Outcome.FenceFell, "fence");
        owed.fence = 3;
        owed.cumulativeFee = 49;
        refused(signed(owed), ComputeMarket.Outcome.FeeFell, "fee");
        owed.cumulativeFee = 50;
        pays(signed(owed), 0, "neither");
    }

    function test_both_sign_and_nobody_else() public {
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, 1);
        Vouchers.Receipt memory done = receipt(owed);
        refused(signed(owed, done, OTHER_SECRET, SIGNING_SECRET), ComputeMarket.Outcome.NotBuyers, "stranger");
        refused(signed(owed, done, SIGNING_SECRET, SIGNING_SECRET), ComputeMarket.Outcome.NotBuyers, "provider");
        refused(signed(owed, done, SESSION_SECRET, OTHER_SECRET), ComputeMarket.Outcome.NotProviders, "stranger");
        refused(signed(owed, done, SESSION_SECRET, SESSION_SECRET), ComputeMarket.Outcome.NotProviders, "buyer");
    }

    function test_no_field_may_differ_from_what_was_signed(uint8 field, uint256 bit) public {
        Vouchers.Settlement memory item = signed(voucher(lock, 1, 5, EXPOSURE));
        item.voucher.units += 5;
        item.receipt.usage += 5;
        item = signed(item.voucher, receipt(item.voucher), SESSION_SECRET, SIGNING_SECRET);
        uint256 turned = 1 << bit % 16;
        field %= 18;
        if (field == 0) item.voucher.lock ^= bytes32(turned);
        if (field == 1) item.voucher.provider = address(uint160(item.voucher.provider) ^ uint160(turned));
        if (field == 2) item.voucher.job ^= bytes32(turned);
        if (field == 3) item.voucher.shard ^= uint32(turned);
        if (field == 4) item.voucher.fence ^= uint64(turned);
        if (field == 5) item.voucher.transcriptHead ^= bytes32(turned);
        if (field == 6) item.voucher.units ^= uint64(turned);
        if (field == 7) item.voucher.cumulativeFee ^= uint96(turned);
        if (field == 8) item.voucher.seq ^= uint32(turned);
        if (field == 9) item.voucher.settleBy ^= uint64(turned);
        if (field == 10) item.receipt.voucherHash ^= bytes32(turned);
        if (field == 11) item.receipt.modelRoot ^= bytes32(turned);
        if (field == 12) item.receipt.requestHash ^= bytes32(turned);
        if (field == 13) item.receipt.responseHash ^= bytes32(turned);
        if (field == 14) item.receipt.outputRoot ^= bytes32(turned);
        if (field == 15) item.receipt.usage ^= uint64(turned);
        if (field == 16) item.receipt.determinismClass ^= bytes32(turned);
        if (field == 17) item.receipt.level ^= uint8(1 << bit % 8);
        check(settle(item) != ComputeMarket.Outcome.Paid, "another field");
        // With the voucher's hash put right, the signatures are what is left to see it.
        if (field < 10) item.receipt.voucherHash = hashOf(item.voucher);
        check(field == 10 || settle(item) != ComputeMarket.Outcome.Paid, "another voucher");
    }

    function test_a_batch_is_bounded() public {
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.TooManySettlements.selector, 128, 129));
        market.settle(new Vouchers.Settlement[](129));
        same(market.settle(new Vouchers.Settlement[](128)).length, 128, "as many as go");
        same(market.settle(new Vouchers.Settlement[](0)).length, 0, "none");
    }

    // Offences

    function slashes(
        Vouchers.Countersigned memory first,
        Vouchers.Countersigned memory second,
        ComputeMarket.Offence offence
    ) private {
        vm.expectEmit(true, true, true, true, address(market));
        emit ComputeMarket.Slashed(PROVIDER, offence, BUYER, STAKE, STAKE / 10);
        vm.prank(STRANGER);
        market.slash(first, second);
        Providers.Provider memory provider = market.providerOf(PROVIDER);
        check(provider.slashed && provider.stake == 0 && provider.leaving == 0, "stake is gone");
        same(market.forfeited(), STAKE - STAKE / 10, "forfeited");
        same(market.balanceOf(BUYER), 2 * CAP + STAKE / 10, "compensation");
        same(market.balanceOf(STRANGER), 0, "who calls gets nothing");
    }

    function innocent(Vouchers.Countersigned memory first, Vouchers.Countersigned memory second) private {
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.NoOffence.selector));
        market.slash(first, second);
    }

    /// As `voucher`, with another head.
    function altered() private view returns (Vouchers.Voucher memory owed) {
        owed = voucher(lock, 0, 1, 1);
        owed.transcriptHead = "other";
    }

    function test_two_heads_at_one_place_are_an_equivocation() public {
        slashes(
            countersigned(voucher(lock, 0, 1, 1)), countersigned(altered()), ComputeMarket.Offence.Equivocation
        );
    }

    function test_two_responses_at_one_place_are_an_equivocation() public {
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, 1);
        Vouchers.Receipt memory done = receipt(owed);
        done.responseHash = "other";
        slashes(
            countersigned(owed), countersigned(owed, done, SIGNING_SECRET), ComputeMarket.Offence.Equivocation
        );
    }

    function test_two_outputs_at_one_place_are_an_equivocation() public {
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, 1);
        Vouchers.Receipt memory done = receipt(owed);
        done.outputRoot = "other";
        slashes(
            countersigned(owed), countersigned(owed, done, SIGNING_SECRET), ComputeMarket.Offence.Equivocation
        );
    }

    function test_one_head_at_two_places_is_a_result_sold_twice(uint8 which) public {
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, 1);
        Vouchers.Voucher memory again = voucher(lock, 0, 2, 1);
        again.transcriptHead = owed.transcriptHead;
        which %= 4;
        if (which == 0) again.job = "other";
        if (which == 1) again.shard = 1;
        if (which == 2) again.fence = 2;
        if (which == 3) {
            ComputeMarket.Terms memory under = terms();
            under.salt = "other";
            again.lock = accepted(under);
            // So that the balance is as without the second lock.
            fund(BUYER, CAP);
        }
        slashes(countersigned(owed), countersigned(again), ComputeMarket.Offence.SoldTwice);
    }

    function test_what_is_no_contradiction_costs_nothing() public {
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, 1);
        innocent(countersigned(owed), countersigned(owed));
        innocent(countersigned(owed), countersigned(voucher(lock, 0, 2, 1)));
        innocent(countersigned(owed), countersigned(voucher(lock, 1, 1, 1)));
        Vouchers.Voucher memory idle = voucher(lock, 0, 2, 1);
        idle.transcriptHead = owed.transcriptHead;
        innocent(countersigned(owed), countersigned(idle));
        // The same result said in other words: fee, class, level.
        Vouchers.Voucher memory dearer = voucher(lock, 0, 1, 2);
        innocent(countersigned(owed), countersigned(dearer));
        Vouchers.Receipt memory done = receipt(owed);
        (done.level, done.determinismClass, done.requestHash) = (2, "other", "other");
        innocent(countersigned(owed), countersigned(owed, done, SIGNING_SECRET));
    }

    function test_evidence_is_what_the_locks_provider_signed() public {
        bytes memory reason = abi.encodeWithSelector(ComputeMarket.NotCountersigned.selector, lock);
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, 1);
        Vouchers.Countersigned memory good = countersigned(owed);
        Vouchers.Countersigned memory bad = countersigned(altered(), receipt(altered()), OTHER_SECRET);
        vm.expectRevert(reason);
        market.slash(good, bad);
        vm.expectRevert(reason);
        market.slash(bad, good);
        // A receipt that was signed, beside a voucher that it is not of.
        bad = countersigned(altered(), receipt(owed), SIGNING_SECRET);
        vm.expectRevert(reason);
        market.slash(good, bad);
        bad = countersigned(voucher("?", 0, 1, 1));
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.NotCountersigned.selector, bytes32("?")));
        market.slash(bad, good);
        ComputeMarket.Terms memory under = terms();
        under.salt = "not accepted";
        bytes32 other = opened(under);
        Vouchers.Voucher memory again = voucher(other, 0, 1, 1);
        again.transcriptHead = owed.transcriptHead;
        bad = countersigned(again);
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.NotCountersigned.selector, other));
        market.slash(good, bad);
    }

    function test_two_providers_do_not_contradict_each_other() public {
        address twin = address(0x7917);
        newProvider(twin, vm.addr(SIGNING_SECRET), STAKE);
        ComputeMarket.Terms memory under = terms();
        under.provider = twin;
        bytes32 other = accepted(under);
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, 1);
        Vouchers.Voucher memory again = voucher(other, 0, 1, 1);
        again.transcriptHead = owed.transcriptHead;
        innocent(countersigned(owed), countersigned(again));
    }

    function test_what_offences_cost_adds_up() public {
        market.slash(countersigned(voucher(lock, 0, 1, 1)), countersigned(altered()));
        address twin = address(0x7917);
        newProvider(twin, vm.addr(SIGNING_SECRET), STAKE);
        ComputeMarket.Terms memory under = terms();
        under.provider = twin;
        bytes32 other = accepted(under);
        Vouchers.Voucher memory again = voucher(other, 0, 1, 1);
        again.transcriptHead = "other";
        market.slash(countersigned(again), countersigned(voucher(other, 0, 1, 1)));
        same(market.forfeited(), 2 * (STAKE - STAKE / 10), "both");
    }

    function test_the_compensation_is_an_increment_at_most() public {
        ComputeMarket.Terms memory under = terms();
        (under.cap, under.salt) = (1 ether, "small");
        bytes32 small = accepted(under);
        Vouchers.Voucher memory owed = voucher(small, 0, 1, 1);
        Vouchers.Voucher memory other = voucher(small, 0, 1, 1);
        other.transcriptHead = "other";
        market.slash(countersigned(owed), countersigned(other));
        same(market.balanceOf(BUYER), 2 * CAP - 1 ether + 0.01 ether, "an increment");
        same(market.forfeited(), STAKE - 0.01 ether, "rest");
    }

    function test_a_slashed_provider_is_out_and_keeps_what_it_earned() public {
        ComputeMarket.Terms memory under = terms();
        under.salt = "other";
        bytes32 waiting = opened(under);
        pays(signed(voucher(lock, 0, 1, EXPOSURE)), EXPOSURE, "before");
        vm.prank(PROVIDER);
        market.beginUnstake(3 ether);
        Vouchers.Countersigned memory first = countersigned(voucher(lock, 0, 1, 1));
        Vouchers.Countersigned memory second = countersigned(altered());
        market.slash(first, second);
        same(market.forfeited(), STAKE - STAKE / 10, "what was leaving as well");
        bytes memory reason = abi.encodeWithSelector(Providers.ProviderSlashed.selector, PROVIDER);
        vm.expectRevert(reason);
        market.slash(first, second);
        vm.prank(PROVIDER);
        vm.expectRevert(reason);
        market.accept(waiting);
        vm.deal(PROVIDER, 5 ether);
        vm.prank(PROVIDER);
        vm.expectRevert(reason);
        market.addStake{value: 5 ether}();
        pays(signed(voucher(lock, 0, 2, 2 * EXPOSURE)), EXPOSURE, "after");
        vm.warp(time() + 100 days);
        vm.prank(PROVIDER);
        market.finishUnstake();
        same(market.balanceOf(PROVIDER), 2 * EXPOSURE, "no stake comes back");
    }

    function test_evidence_holds_after_the_lock_is_closed() public {
        vm.warp(market.lockOf(lock).settleBy + 1);
        market.close(lock);
        market.slash(countersigned(voucher(lock, 0, 1, 1)), countersigned(altered()));
        check(market.providerOf(PROVIDER).slashed, "slashed");
    }
}
