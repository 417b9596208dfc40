// SPDX-License-Identifier: Apache-2.0
// What providers, buyers and strangers try, by name, and what it gets them.
//
// Invariant: each test says what either side has at the end, and that the contract still has all coins that are claimed.
// Does not know: whether results are right.
pragma solidity 0.8.37;

import {ComputeMarket} from "../../src/ComputeMarket.sol";
import {Accounts} from "../../src/market/Accounts.sol";
import {Providers} from "../../src/market/Providers.sol";
import {Vouchers} from "../../src/market/Vouchers.sol";
import {Market} from "./Market.sol";

/// Withdraws again while it is paid, and tries whatever else is open to it.
contract Thief {
    ComputeMarket private immutable market;
    uint256 public tries;

    constructor(ComputeMarket of_) {
        market = of_;
    }

    function steal(uint256 amount) external {
        market.withdraw(amount, payable(address(this)));
    }

    receive() external payable {
        if (tries++ == 3) return;
        try market.withdraw(msg.value, payable(address(this))) {} catch {}
        try market.finishUnstake() {} catch {}
    }
}

contract AttacksTest is Market {
    ComputeMarket.Outcome private constant PAID = ComputeMarket.Outcome.Paid;
    bytes32 private lock;

    function setUp() public {
        startMarket();
        lock = accepted();
    }

    function another(bytes32 salt) private returns (bytes32) {
        ComputeMarket.Terms memory under = terms();
        under.salt = salt;
        return accepted(under);
    }

    /// After the last deadline everyone takes what is his, and nothing is left.
    function ends(uint256 buyers, uint256 providers) private {
        vm.warp(time() + 100 days);
        if (market.lockOf(lock).state == ComputeMarket.State.Accepted) {
            vm.prank(STRANGER);
            market.close(lock);
        }
        same(market.balanceOf(BUYER), buyers, "the buyer has");
        same(market.balanceOf(PROVIDER), providers, "the provider has");
        uint128 stake = market.providerOf(PROVIDER).stake;
        vm.prank(PROVIDER);
        market.beginUnstake(stake);
        vm.warp(time() + 7 days);
        vm.prank(PROVIDER);
        market.finishUnstake();
        drain(PROVIDER);
        drain(BUYER);
        same(address(market).balance, market.forfeited(), "all is withdrawn but what was forfeited");
    }

    function drain(address account) private {
        uint256 balance = market.balanceOf(account);
        vm.prank(account);
        market.withdraw(balance, payable(account));
    }

    // Providers

    function test_a_provider_that_replays_is_paid_once() public {
        Vouchers.Settlement memory item = signed(voucher(lock, 0, 2, 2 * EXPOSURE));
        Vouchers.Settlement[] memory batch = new Vouchers.Settlement[](4);
        batch[0] = signed(voucher(lock, 0, 1, EXPOSURE));
        (batch[1], batch[2], batch[3]) = (item, item, batch[0]);
        ComputeMarket.Outcome[] memory outcomes = market.settle(batch);
        same(uint256(outcomes[1]), uint256(PAID), "once");
        same(uint256(outcomes[2]), uint256(ComputeMarket.Outcome.Stale), "twice in a batch");
        same(uint256(outcomes[3]), uint256(ComputeMarket.Outcome.Stale), "the one before");
        settles(item, ComputeMarket.Outcome.Stale, "in another batch");
        ends(3 * CAP - 2 * EXPOSURE, 2 * EXPOSURE);
    }

    function test_a_provider_that_replays_at_another_contract_or_chain_gets_nothing() public {
        Vouchers.Settlement memory item = signed(voucher(lock, 0, 1, EXPOSURE));
        ComputeMarket first = market;
        startMarket();
        // The id is that of the other contract's lock, so the lock itself is not even found.
        settles(item, ComputeMarket.Outcome.NotAccepted, "lock of another contract");
        bytes32 here = accepted();
        item.voucher.lock = here;
        item.receipt.voucherHash = hashOf(item.voucher);
        settles(item, ComputeMarket.Outcome.NotBuyers, "signatures of another contract");
        market = first;
        vm.chainId(99);
        item.voucher.lock = lock;
        item.receipt.voucherHash = hashOf(item.voucher);
        settles(item, ComputeMarket.Outcome.NotBuyers, "a fork takes nothing that was signed for the other chain");
        Vouchers.Settlement memory there = signed(voucher(lock, 0, 1, EXPOSURE));
        there.provider = item.provider;
        settles(there, ComputeMarket.Outcome.NotProviders, "nor the provider's");
    }

    function test_a_provider_that_inflates_usage_needs_the_session_key() public {
        Vouchers.Voucher memory owed = voucher(lock, 0, 5, EXPOSURE);
        Vouchers.Settlement memory item = signed(owed);
        Vouchers.Voucher memory more = voucher(lock, 0, 5, 2 * EXPOSURE);
        item.voucher = more;
        item.receipt = receipt(more);
        item.provider = sign(SIGNING_SECRET, digestOf(hashOf(item.receipt)));
        settles(item, ComputeMarket.Outcome.NotBuyers, "units and fee");
        item.voucher = owed;
        item.receipt = receipt(owed);
        item.receipt.usage += 1;
        item.provider = sign(SIGNING_SECRET, digestOf(hashOf(item.receipt)));
        settles(item, ComputeMarket.Outcome.WrongUsage, "usage alone");
        ends(3 * CAP, 0);
    }

    function test_a_provider_that_signs_with_another_key_is_refused() public {
        vm.prank(PROVIDER);
        market.update(vm.addr(OTHER_SECRET), "elsewhere");
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, EXPOSURE);
        settles(
            signed(owed, receipt(owed), SESSION_SECRET, OTHER_SECRET), ComputeMarket.Outcome.NotProviders, "new key"
        );
        pays(signed(owed), EXPOSURE, "the key of when it accepted");
        bytes32 later = another("later");
        owed = voucher(later, 1, 1, EXPOSURE);
        settles(signed(owed), ComputeMarket.Outcome.NotProviders, "the old key for a later lock");
        pays(signed(owed, receipt(owed), SESSION_SECRET, OTHER_SECRET), EXPOSURE, "the new key for a later lock");
    }

    function test_a_provider_that_dies_after_the_lease_is_replaced_and_paid_for_what_it_did() public {
        address other = address(0x9042);
        newProvider(other, vm.addr(OTHER_SECRET), STAKE);
        ComputeMarket.Terms memory under = terms();
        under.provider = other;
        bytes32 second = accepted(under);
        Vouchers.Settlement memory done = signed(voucher(lock, 0, 3, 3 * EXPOSURE));
        // The shard goes on elsewhere, under the next fence.
        Vouchers.Voucher memory rest = voucher(second, 0, 1, EXPOSURE);
        rest.fence = 2;
        pays(signed(rest, receipt(rest), SESSION_SECRET, OTHER_SECRET), EXPOSURE, "the one that took over");
        pays(done, 3 * EXPOSURE, "the dead one's heirs");
        vm.warp(time() + 100 days);
        market.close(second);
        market.close(lock);
        same(market.balanceOf(BUYER), 3 * CAP - 4 * EXPOSURE, "the buyer paid for what he signed");
    }

    function test_a_provider_that_sells_one_result_under_two_locks_is_paid_once() public {
        bytes32 second = another("second");
        pays(signed(voucher(lock, 0, 1, EXPOSURE)), EXPOSURE, "first");
        settles(signed(voucher(second, 0, 1, EXPOSURE)), ComputeMarket.Outcome.OtherLock, "second");
        Vouchers.Voucher memory later = voucher(second, 0, 9, 2 * EXPOSURE);
        later.fence = 2;
        settles(signed(later), ComputeMarket.Outcome.OtherLock, "under a later fence");
        vm.prank(PROVIDER);
        market.close(second);
        ends(3 * CAP - EXPOSURE, EXPOSURE);
    }

    function test_a_provider_that_sells_one_transcript_to_two_buyers_loses_its_stake() public {
        fund(STRANGER, CAP);
        vm.prank(STRANGER);
        bytes32 theirs = market.open(terms());
        vm.prank(PROVIDER);
        market.accept(theirs);
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, EXPOSURE);
        Vouchers.Voucher memory again = voucher(theirs, 0, 1, EXPOSURE);
        again.transcriptHead = owed.transcriptHead;
        market.slash(countersigned(again), countersigned(owed));
        same(market.balanceOf(STRANGER), STAKE / 10, "the buyer of the first receipt");
        same(market.providerOf(PROVIDER).stake, 0, "stake");
    }

    function test_a_provider_that_goes_silent_before_accepting_holds_nothing_up() public {
        ComputeMarket.Terms memory under = terms();
        under.salt = "silent";
        bytes32 id = opened(under);
        vm.prank(BUYER);
        market.cancel(id);
        same(market.balanceOf(BUYER), 2 * CAP, "at once");
        vm.prank(PROVIDER);
        vm.expectRevert(
            abi.encodeWithSelector(
                ComputeMarket.LockState.selector, id, ComputeMarket.State.Open, ComputeMarket.State.Closed
            )
        );
        market.accept(id);
    }

    function test_a_provider_that_goes_silent_after_accepting_costs_only_time() public {
        vm.warp(market.lockOf(lock).settleBy + 1);
        ends(3 * CAP, 0);
    }

    function test_a_provider_that_unstakes_before_it_is_found_out_is_too_early() public {
        vm.prank(PROVIDER);
        market.beginUnstake(STAKE);
        uint64 settleBy = market.lockOf(lock).settleBy;
        vm.warp(settleBy + 7 days - 1);
        vm.prank(PROVIDER);
        vm.expectRevert(abi.encodeWithSelector(Providers.StakeNotFree.selector, settleBy + 7 days));
        market.finishUnstake();
        Vouchers.Voucher memory other = voucher(lock, 0, 1, 1);
        other.transcriptHead = "other";
        market.slash(countersigned(voucher(lock, 0, 1, 1)), countersigned(other));
        ends(3 * CAP + STAKE / 10, 0);
    }

    function test_a_provider_that_accepts_while_its_stake_leaves_is_covered_by_what_stays() public {
        vm.prank(PROVIDER);
        market.beginUnstake(STAKE);
        ComputeMarket.Terms memory under = terms();
        under.salt = "other";
        bytes32 id = opened(under);
        vm.prank(PROVIDER);
        vm.expectRevert(abi.encodeWithSelector(Providers.StakeTooSmall.selector, STAKE_MIN, 0));
        market.accept(id);
    }

    function test_a_provider_that_slashes_itself_saves_a_tenth() public {
        fund(PROVIDER, CAP);
        vm.prank(PROVIDER);
        bytes32 own = market.open(terms());
        vm.prank(PROVIDER);
        market.accept(own);
        Vouchers.Voucher memory other = voucher(own, 0, 1, 1);
        other.transcriptHead = "other";
        market.slash(countersigned(voucher(own, 0, 1, 1)), countersigned(other));
        same(market.balanceOf(PROVIDER), STAKE / 10, "saved");
        same(market.forfeited(), STAKE - STAKE / 10, "lost");
    }

    function test_a_provider_that_changes_its_offer_under_the_buyers_hands_gets_no_lock() public {
        ComputeMarket.Terms memory under = terms();
        under.salt = "other";
        Providers.Offer memory dearer = offer();
        dearer.unitPrice = 2 * PRICE;
        vm.prank(PROVIDER);
        market.reviseOffer(1, dearer);
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.OfferDiffers.selector, PROVIDER, 1, 2));
        market.open(under);
        // The lock of before keeps its price.
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, PRICE + 1);
        owed.units = 1;
        settles(signed(owed), ComputeMarket.Outcome.AbovePrice, "the new price");
    }

    function test_a_provider_that_is_its_own_buyer_gains_nothing() public {
        fund(PROVIDER, CAP);
        uint256 before = market.balanceOf(PROVIDER);
        vm.prank(PROVIDER);
        bytes32 own = market.open(terms());
        vm.prank(PROVIDER);
        market.accept(own);
        pays(signed(voucher(own, 0, 50, 50 * EXPOSURE)), 50 * EXPOSURE, "from its own coins");
        vm.prank(PROVIDER);
        market.close(own);
        same(market.balanceOf(PROVIDER), before, "round and round");
    }

    // Buyers

    function test_a_buyer_who_denies_pays_what_he_signed() public {
        Vouchers.Settlement memory item = signed(voucher(lock, 0, 80, 80 * EXPOSURE));
        vm.prank(BUYER);
        vm.expectRevert(
            abi.encodeWithSelector(
                ComputeMarket.LockState.selector, lock, ComputeMarket.State.Open, ComputeMarket.State.Accepted
            )
        );
        market.cancel(lock);
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.NotAllowed.selector, lock, BUYER));
        market.close(lock);
        drain(BUYER);
        vm.warp(market.lockOf(lock).settleBy);
        pays(item, 80 * EXPOSURE, "in the last second");
        ends(20 * EXPOSURE, 80 * EXPOSURE);
    }

    function test_a_buyer_who_signs_more_than_he_locked_pays_the_lock() public {
        for (uint32 shard = 0; shard < 3; ++shard) {
            settles(signed(voucher(lock, shard, 50, 50 * EXPOSURE)), PAID, "a shard");
        }
        ends(2 * CAP, CAP);
    }

    function test_a_buyer_who_spends_coins_twice_opens_no_second_lock() public {
        another("second");
        another("third");
        ComputeMarket.Terms memory under = terms();
        under.salt = "fourth";
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(Accounts.BalanceTooSmall.selector, BUYER, 0, CAP));
        market.open(under);
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(Accounts.BalanceTooSmall.selector, BUYER, 0, 1));
        market.withdraw(1, payable(BUYER));
    }

    function test_a_buyer_who_vanishes_keeps_nobody_waiting() public {
        pays(signed(voucher(lock, 0, 2, 2 * EXPOSURE)), 2 * EXPOSURE, "settled without him");
        vm.prank(PROVIDER);
        market.withdraw(2 * EXPOSURE, payable(PROVIDER));
        same(PROVIDER.balance, 2 * EXPOSURE, "and taken");
        ends(3 * CAP - 2 * EXPOSURE, 0);
    }

    function test_a_buyer_who_sends_the_oldest_voucher_gains_nothing() public {
        pays(signed(voucher(lock, 0, 1, EXPOSURE)), EXPOSURE, "the oldest");
        pays(signed(voucher(lock, 0, 9, 9 * EXPOSURE)), 8 * EXPOSURE, "the newest pays the rest");
        ends(3 * CAP - 9 * EXPOSURE, 9 * EXPOSURE);
    }

    function test_a_buyer_who_settles_through_another_provider_voids_nothing() public {
        address crony = address(0xc407);
        newProvider(crony, vm.addr(OTHER_SECRET), STAKE);
        ComputeMarket.Terms memory under = terms();
        under.provider = crony;
        bytes32 cronys = accepted(under);
        Vouchers.Settlement memory honest = signed(voucher(lock, 0, 9, 9 * EXPOSURE));
        Vouchers.Voucher memory first = voucher(cronys, 0, type(uint32).max, 1);
        first.fence = type(uint64).max;
        pays(signed(first, receipt(first), SESSION_SECRET, OTHER_SECRET), 1, "the crony");
        pays(honest, 9 * EXPOSURE, "the honest one");
    }

    function test_a_buyer_who_names_anothers_job_voids_nothing() public {
        Vouchers.Settlement memory honest = signed(voucher(lock, 0, 9, 9 * EXPOSURE));
        fund(STRANGER, CAP);
        vm.prank(STRANGER);
        bytes32 theirs = market.open(terms());
        vm.prank(PROVIDER);
        market.accept(theirs);
        pays(signed(voucher(theirs, 0, 1, 1)), 1, "the same job and shard");
        pays(honest, 9 * EXPOSURE, "the first buyer's");
    }

    function test_a_buyer_who_lends_a_session_key_to_two_locks_risks_neither() public {
        bytes32 second = another("second");
        Vouchers.Settlement memory item = signed(voucher(lock, 0, 1, EXPOSURE));
        item.voucher.lock = second;
        item.receipt.voucherHash = hashOf(item.voucher);
        item.provider = sign(SIGNING_SECRET, digestOf(hashOf(item.receipt)));
        settles(item, ComputeMarket.Outcome.NotBuyers, "a voucher of the other lock");
    }

    function test_a_buyer_who_forges_evidence_takes_no_stake() public {
        Vouchers.Voucher memory owed = voucher(lock, 0, 1, 1);
        Vouchers.Voucher memory other = voucher(lock, 0, 1, 1);
        other.transcriptHead = "other";
        Vouchers.Countersigned memory good = countersigned(owed);
        Vouchers.Countersigned memory forged = countersigned(other, receipt(other), SESSION_SECRET);
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.NotCountersigned.selector, lock));
        market.slash(good, forged);
    }

    function test_a_buyer_who_opens_locks_of_dust_binds_nobody() public {
        ComputeMarket.Terms memory dust = terms();
        dust.cap = 1;
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.CapOutside.selector, 1 ether, 1000 ether, 1));
        market.open(dust);
        uint64 busyUntil = market.providerOf(PROVIDER).busyUntil;
        dust = terms();
        (dust.cap, dust.workBy, dust.settleBy) = (1 ether, time() + 29 days, time() + 90 days);
        opened(dust);
        same(market.providerOf(PROVIDER).busyUntil, busyUntil, "a lock that is not accepted holds no stake");
    }

    // Anyone

    function test_one_bad_item_stops_no_other() public {
        Vouchers.Settlement[] memory batch = new Vouchers.Settlement[](5);
        batch[0] = signed(voucher(lock, 0, 1, EXPOSURE));
        batch[1] = signed(voucher("?", 1, 1, EXPOSURE));
        batch[2] = signed(voucher(lock, 2, 1, EXPOSURE));
        batch[2].buyer.r = 0;
        // The fourth is all zeros.
        batch[4] = signed(voucher(lock, 4, 1, EXPOSURE));
        vm.expectEmit(true, true, true, true, address(market));
        emit ComputeMarket.SettlementRefused("?", 1, ComputeMarket.Outcome.NotAccepted);
        vm.expectEmit(true, true, true, true, address(market));
        emit ComputeMarket.SettlementRefused(lock, 2, ComputeMarket.Outcome.NotBuyers);
        ComputeMarket.Outcome[] memory outcomes = market.settle(batch);
        same(uint256(outcomes[0]), uint256(PAID), "first");
        same(uint256(outcomes[1]), uint256(ComputeMarket.Outcome.NotAccepted), "second");
        same(uint256(outcomes[2]), uint256(ComputeMarket.Outcome.NotBuyers), "third");
        same(uint256(outcomes[3]), uint256(ComputeMarket.Outcome.NotAccepted), "fourth");
        same(uint256(outcomes[4]), uint256(PAID), "fifth");
        same(paidOf(lock), 2 * EXPOSURE, "paid");
    }

    /// Whatever gas a relay gives, a batch is done as a whole or not at all, and can be sent again.
    function test_a_relay_that_gives_too_little_gas_uses_up_nothing() public {
        Vouchers.Settlement[] memory batch = new Vouchers.Settlement[](2);
        batch[0] = signed(voucher(lock, 0, 1, EXPOSURE));
        batch[1] = signed(voucher(lock, 1, 1, EXPOSURE));
        bool done = false;
        uint256 limit = 10_000;
        for (; !done; limit += 700) {
            try market.settle{gas: limit}(batch) returns (ComputeMarket.Outcome[] memory outcomes) {
                done = outcomes[0] == PAID && outcomes[1] == PAID;
                check(done, "an item was refused for want of gas");
            } catch {
                same(paidOf(lock), 0, "half a batch");
            }
        }
        same(paidOf(lock), 2 * EXPOSURE, "with enough of it");
        check(limit < 400_000, "how much that is");
    }

    function test_signatures_have_one_form() public {
        Vouchers.Settlement memory item = signed(voucher(lock, 0, 1, EXPOSURE));
        Vouchers.Signature memory honest = sign(SESSION_SECRET, digestOf(hashOf(item.voucher)));
        uint256 s = uint256(honest.yParityAndS) & (type(uint256).max >> 1);
        uint256 parity = uint256(honest.yParityAndS) >> 255;
        // The other root: n − s with the other parity. It has 256 bits, so the form cannot even hold it all.
        uint256 high = ORDER - s;
        item.buyer.yParityAndS = bytes32((high & (type(uint256).max >> 1)) | (1 - parity) << 255);
        settles(item, ComputeMarket.Outcome.NotBuyers, "the other root");
        item.buyer.yParityAndS = bytes32(s | (1 - parity) << 255);
        settles(item, ComputeMarket.Outcome.NotBuyers, "the other parity");
        item.buyer = honest;
        pays(item, EXPOSURE, "the honest one");
    }

    /// Between half the order and 2^255 the form could hold an s of the upper half. Nobody can be asked for such a signature,
    /// so the key is made to fit: the one that recovers from a receipt's digest, which does not depend on it.
    function test_s_above_half_the_order_is_refused() public {
        ComputeMarket.Terms memory under = terms();
        under.salt = "high";
        bytes32 id = opened(under);
        Vouchers.Settlement memory item = signed(voucher(id, 0, 1, EXPOSURE));
        bytes32 r = bytes32(uint256(0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798));
        uint256 s = ORDER / 2 + 1;
        check(s < 1 << 255, "the form holds it");
        address key = ecrecover(digestOf(hashOf(item.receipt)), 27, r, bytes32(s));
        vm.prank(PROVIDER);
        market.update(key, "");
        vm.prank(PROVIDER);
        market.accept(id);
        item.provider = Vouchers.Signature({r: r, yParityAndS: bytes32(s)});
        settles(item, ComputeMarket.Outcome.NotProviders, "high");
        // The same one in its low form is taken: it is the form that was refused.
        item.provider = Vouchers.Signature({r: r, yParityAndS: bytes32((ORDER - s) | 1 << 255)});
        pays(item, EXPOSURE, "low");
    }

    function test_a_signature_that_gives_no_key_is_nobodys() public {
        Vouchers.Settlement memory item = signed(voucher(lock, 0, 1, EXPOSURE));
        item.buyer = Vouchers.Signature(0, 0);
        settles(item, ComputeMarket.Outcome.NotBuyers, "zeros");
        item.buyer = Vouchers.Signature(bytes32(type(uint256).max), bytes32(uint256(1)));
        settles(item, ComputeMarket.Outcome.NotBuyers, "r beyond the field");
        // Of a lock that is not accepted the provider's key is zero; evidence against it must not pass either.
        ComputeMarket.Terms memory under = terms();
        under.salt = "open";
        bytes32 open_ = opened(under);
        Vouchers.Countersigned memory nobodys = countersigned(voucher(open_, 0, 1, 1));
        nobodys.provider = Vouchers.Signature(0, 0);
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.NotCountersigned.selector, open_));
        market.slash(nobodys, nobodys);
    }

    function test_a_thief_who_calls_back_takes_his_own_once() public {
        Thief thief = new Thief(market);
        fund(address(thief), 5 ether);
        thief.steal(5 ether);
        same(address(thief).balance, 5 ether, "his own");
        same(market.balanceOf(address(thief)), 0, "nothing left");
        ends(3 * CAP, 0);
    }

    function test_a_thief_who_calls_back_for_a_part_gets_no_more_than_all() public {
        Thief thief = new Thief(market);
        fund(address(thief), 5 ether);
        thief.steal(2 ether);
        same(address(thief).balance, 4 ether, "two parts");
        same(market.balanceOf(address(thief)), 1 ether, "rest");
    }

    function test_coins_that_are_forced_in_change_nothing() public {
        vm.deal(address(market), address(market).balance + 9 ether);
        same(market.balanceOf(BUYER), 2 * CAP, "buyer");
        pays(signed(voucher(lock, 0, 200, 200 * EXPOSURE)), CAP, "cap");
        same(market.balanceOf(address(market)), 0, "nobody's");
    }

    function test_nobody_opens_a_lock_in_anothers_name() public {
        ComputeMarket.Terms memory under = terms();
        under.salt = "front run";
        bytes32 his = market.lockId(BUYER, under);
        fund(STRANGER, CAP);
        vm.prank(STRANGER);
        check(market.open(under) != his, "id");
        same(opened(under), his, "still his to open");
    }
}
