// SPDX-License-Identifier: Apache-2.0
// Locks: opened under checked terms, accepted, cancelled, closed, each to the second.
//
// Invariant: every way out of every state is walked, by whom it is for and by whom it is not.
// Does not know: vouchers.
pragma solidity 0.8.37;

import {ComputeMarket} from "../../src/ComputeMarket.sol";
import {Accounts} from "../../src/market/Accounts.sol";
import {Providers} from "../../src/market/Providers.sol";
import {Market} from "./Market.sol";

contract LocksTest is Market {
    function setUp() public {
        startMarket();
    }

    function state(bytes32 id, ComputeMarket.State expected) private view {
        same(uint256(market.lockOf(id).state), uint256(expected), "state");
    }

    function refused(ComputeMarket.Terms memory under, bytes memory reason) private {
        vm.prank(BUYER);
        vm.expectRevert(reason);
        market.open(under);
    }

    // Opening

    function test_a_lock_holds_its_terms_and_takes_the_cap() public {
        ComputeMarket.Terms memory under = terms();
        bytes32 id = keccak256(abi.encode(uint256(chain()), address(market), BUYER, under));
        same(market.lockId(BUYER, under), id, "id asked for");
        vm.expectEmit(true, true, true, true, address(market));
        emit ComputeMarket.LockOpened(id, BUYER, PROVIDER, EXPOSURE, under);
        same(opened(under), id, "id");
        ComputeMarket.Lock memory expected = ComputeMarket.Lock({
            buyer: BUYER,
            settleBy: under.settleBy,
            state: ComputeMarket.State.Open,
            provider: PROVIDER,
            exposureMax: EXPOSURE,
            sessionKey: vm.addr(SESSION_SECRET),
            unitPrice: PRICE,
            signingKey: address(0),
            paid: 0,
            cap: CAP,
            acceptBy: under.acceptBy,
            workBy: under.workBy,
            modelRoot: MODEL
        });
        same(abi.encode(market.lockOf(id)), abi.encode(expected), "lock");
        same(market.balanceOf(BUYER), 2 * CAP, "balance");
    }

    function test_terms_make_the_id_and_a_lock_is_opened_once() public {
        ComputeMarket.Terms memory under = terms();
        bytes32 id = opened(under);
        refused(under, abi.encodeWithSelector(ComputeMarket.LockExists.selector, id));
        check(market.lockId(STRANGER, under) != id, "buyer");
        under.salt = "other";
        check(opened(under) != id, "salt");
        under = terms();
        vm.prank(BUYER);
        market.cancel(id);
        refused(under, abi.encodeWithSelector(ComputeMarket.LockExists.selector, id));
        vm.chainId(99);
        check(market.lockId(BUYER, under) != id, "chain");
    }

    function test_what_is_sent_along_is_added_to_the_balance_first() public {
        vm.deal(STRANGER, CAP + 1);
        ComputeMarket.Terms memory under = terms();
        vm.expectEmit(true, true, true, true, address(market));
        emit Accounts.Deposited(STRANGER, STRANGER, CAP + 1);
        vm.prank(STRANGER);
        market.open{value: CAP + 1}(under);
        same(market.balanceOf(STRANGER), 1, "rest");
        under.salt = "other";
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(Accounts.BalanceTooSmall.selector, STRANGER, 1, CAP));
        market.open(under);
    }

    function test_the_offer_is_what_the_terms_say() public {
        bytes memory reason = abi.encodeWithSelector(ComputeMarket.OfferDiffers.selector, PROVIDER, 1, 1);
        ComputeMarket.Terms memory under = terms();
        under.offerVersion = 2;
        refused(under, reason);
        under = terms();
        under.modelRoot = "other";
        refused(under, reason);
        under = terms();
        under.unitPrice = PRICE - 1;
        refused(under, reason);
        under.unitPrice = PRICE + 1;
        refused(under, reason);
        under = terms();
        under.offer = 2;
        refused(under, abi.encodeWithSelector(ComputeMarket.OfferDiffers.selector, PROVIDER, 2, 0));
        under.offerVersion = 0;
        (under.modelRoot, under.unitPrice) = (0, 0);
        refused(under, abi.encodeWithSelector(ComputeMarket.OfferDiffers.selector, PROVIDER, 2, 0));
        under = terms();
        under.provider = STRANGER;
        refused(under, abi.encodeWithSelector(ComputeMarket.OfferDiffers.selector, STRANGER, 1, 0));
        vm.prank(PROVIDER);
        market.withdrawOffer(1);
        under = terms();
        under.offerVersion = 2;
        refused(under, abi.encodeWithSelector(ComputeMarket.OfferDiffers.selector, PROVIDER, 1, 2));
    }

    function test_the_cap_is_within_the_offers_limits() public {
        fund(BUYER, 1000 ether);
        ComputeMarket.Terms memory under = terms();
        under.cap = 1 ether - 1;
        refused(under, abi.encodeWithSelector(ComputeMarket.CapOutside.selector, 1 ether, 1000 ether, under.cap));
        under.cap = 1000 ether + 1;
        refused(under, abi.encodeWithSelector(ComputeMarket.CapOutside.selector, 1 ether, 1000 ether, under.cap));
        under.cap = 1 ether;
        opened(under);
        under.cap = 1000 ether;
        opened(under);
    }

    function test_an_increment_is_a_hundredth_unless_the_terms_say_another() public {
        ComputeMarket.Terms memory under = terms();
        under.cap = 1 ether + 1;
        same(market.lockOf(opened(under)).exposureMax, 0.01 ether + 1, "rounded up");
        under.cap = 1 ether;
        same(market.lockOf(opened(under)).exposureMax, 0.01 ether, "whole");
        under.exposureMax = 1;
        same(market.lockOf(opened(under)).exposureMax, 1, "as said");
        under.exposureMax = 1 ether;
        same(market.lockOf(opened(under)).exposureMax, 1 ether, "all of it");
        under.exposureMax = 1 ether + 1;
        refused(
            under, abi.encodeWithSelector(ComputeMarket.ExposureAboveCap.selector, 1 ether, under.exposureMax)
        );
    }

    function test_a_lock_has_a_session_key() public {
        ComputeMarket.Terms memory under = terms();
        under.sessionKey = address(0);
        refused(under, abi.encodeWithSelector(Accounts.ZeroAddress.selector));
    }

    function test_times_are_in_order_and_leave_time_to_settle() public {
        bytes memory reason = abi.encodeWithSelector(ComputeMarket.Times.selector);
        ComputeMarket.Terms memory under = terms();
        under.acceptBy = time() - 1;
        refused(under, reason);
        under.acceptBy = under.workBy;
        refused(under, reason);
        under.acceptBy = under.workBy - 1;
        opened(under);
        under = terms();
        under.settleBy = under.workBy + 1 hours - 1;
        refused(under, reason);
        under.settleBy = under.workBy + 1 hours;
        under.acceptBy = time();
        opened(under);
        under = terms();
        under.workBy = type(uint64).max;
        under.settleBy = 1;
        refused(under, reason);
        under.settleBy = type(uint64).max;
        refused(under, reason);
    }

    function test_work_is_no_longer_than_offered_and_locks_end() public {
        bytes memory reason = abi.encodeWithSelector(ComputeMarket.Times.selector);
        ComputeMarket.Terms memory under = terms();
        (under.workBy, under.settleBy) = (time() + 30 days + 1, time() + 40 days);
        refused(under, reason);
        under.workBy = time() + 30 days;
        opened(under);
        under.settleBy = time() + 90 days + 1;
        refused(under, reason);
        under.settleBy = time() + 90 days;
        opened(under);
    }

    function test_the_time_to_settle_follows_the_chains_finality() public {
        same(market.graceSeconds(), 1 hours, "at least an hour");
        same(new ComputeMarket(0, 1800).graceSeconds(), 1 hours, "twice half an hour");
        same(new ComputeMarket(0, 1801).graceSeconds(), 3602, "twice the finality");
        same(new ComputeMarket(9, 0).stakeMin(), 9, "least stake");
        uint64 tooLong = uint64(90 days) / 4;
        same(new ComputeMarket(0, tooLong - 1).graceSeconds(), 2 * (tooLong - 1), "longest");
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.FinalityTooLong.selector, tooLong));
        new ComputeMarket(0, tooLong);
    }

    // Accepting

    function test_its_provider_accepts_until_accept_by() public {
        ComputeMarket.Terms memory under = terms();
        bytes32 id = opened(under);
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.NotAllowed.selector, id, BUYER));
        market.accept(id);
        vm.warp(under.acceptBy);
        vm.expectEmit(true, true, true, true, address(market));
        emit ComputeMarket.LockAccepted(id, PROVIDER, vm.addr(SIGNING_SECRET));
        vm.prank(PROVIDER);
        market.accept(id);
        state(id, ComputeMarket.State.Accepted);
        same(market.lockOf(id).signingKey, vm.addr(SIGNING_SECRET), "key");
        same(market.providerOf(PROVIDER).busyUntil, under.settleBy, "busy");
        vm.prank(PROVIDER);
        vm.expectRevert(wrongState(id, ComputeMarket.State.Open, ComputeMarket.State.Accepted));
        market.accept(id);
    }

    function test_nobody_accepts_after_accept_by() public {
        ComputeMarket.Terms memory under = terms();
        bytes32 id = opened(under);
        vm.warp(under.acceptBy + 1);
        vm.prank(PROVIDER);
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.AcceptedTooLate.selector, id, under.acceptBy));
        market.accept(id);
    }

    function test_accepting_takes_stake_that_does_not_leave() public {
        bytes32 id = opened(terms());
        vm.prank(PROVIDER);
        market.beginUnstake(STAKE - STAKE_MIN + 1);
        vm.prank(PROVIDER);
        vm.expectRevert(abi.encodeWithSelector(Providers.StakeTooSmall.selector, STAKE_MIN, STAKE_MIN - 1));
        market.accept(id);
        vm.deal(PROVIDER, 1);
        vm.prank(PROVIDER);
        market.addStake{value: 1}();
        vm.prank(PROVIDER);
        market.accept(id);
    }

    function wrongState(bytes32 id, ComputeMarket.State expected, ComputeMarket.State found)
        private
        pure
        returns (bytes memory)
    {
        return abi.encodeWithSelector(ComputeMarket.LockState.selector, id, expected, found);
    }

    // Ways out

    function test_an_open_lock_is_cancelled_at_once_by_either_side() public {
        bytes32 id = opened(terms());
        vm.expectEmit(true, true, true, true, address(market));
        emit ComputeMarket.LockCancelled(id, CAP);
        vm.prank(BUYER);
        market.cancel(id);
        state(id, ComputeMarket.State.Closed);
        same(market.balanceOf(BUYER), 3 * CAP, "refund");
        vm.prank(BUYER);
        vm.expectRevert(wrongState(id, ComputeMarket.State.Open, ComputeMarket.State.Closed));
        market.cancel(id);
        ComputeMarket.Terms memory under = terms();
        under.salt = "other";
        id = opened(under);
        vm.prank(PROVIDER);
        market.cancel(id);
        same(market.balanceOf(BUYER), 3 * CAP, "refund");
    }

    function test_anyone_cancels_what_can_no_longer_be_accepted() public {
        ComputeMarket.Terms memory under = terms();
        bytes32 id = opened(under);
        vm.warp(under.acceptBy);
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.NotAllowed.selector, id, STRANGER));
        market.cancel(id);
        vm.warp(under.acceptBy + 1);
        vm.prank(STRANGER);
        market.cancel(id);
        same(market.balanceOf(BUYER), 3 * CAP, "to the buyer");
        same(market.balanceOf(STRANGER), 0, "not to the caller");
    }

    function test_an_accepted_lock_is_closed_by_anyone_after_settle_by_and_by_its_provider_before() public {
        ComputeMarket.Terms memory under = terms();
        bytes32 id = accepted(under);
        vm.prank(BUYER);
        vm.expectRevert(wrongState(id, ComputeMarket.State.Open, ComputeMarket.State.Accepted));
        market.cancel(id);
        vm.warp(under.settleBy);
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(ComputeMarket.NotAllowed.selector, id, BUYER));
        market.close(id);
        pays(signed(voucher(id, 0, 3, 3 * EXPOSURE)), 3 * EXPOSURE, "in the last second");
        vm.warp(under.settleBy + 1);
        vm.expectEmit(true, true, true, true, address(market));
        emit ComputeMarket.LockClosed(id, 3 * EXPOSURE, CAP - 3 * EXPOSURE);
        vm.prank(STRANGER);
        market.close(id);
        state(id, ComputeMarket.State.Closed);
        same(market.balanceOf(BUYER), 3 * CAP - 3 * EXPOSURE, "refund");
        same(market.balanceOf(PROVIDER), 3 * EXPOSURE, "earned");
        vm.expectRevert(wrongState(id, ComputeMarket.State.Accepted, ComputeMarket.State.Closed));
        market.close(id);
    }

    function test_a_provider_gives_a_lock_back_early() public {
        bytes32 id = accepted();
        pays(signed(voucher(id, 0, 1, EXPOSURE)), EXPOSURE, "first");
        vm.prank(PROVIDER);
        market.close(id);
        same(market.balanceOf(BUYER), 3 * CAP - EXPOSURE, "refund");
        settles(signed(voucher(id, 0, 2, 2 * EXPOSURE)), ComputeMarket.Outcome.NotAccepted, "closed");
    }

    function test_nothing_works_on_a_lock_that_is_none() public {
        bytes memory none = wrongState("?", ComputeMarket.State.Open, ComputeMarket.State.None);
        vm.expectRevert(none);
        market.accept("?");
        vm.expectRevert(none);
        market.cancel("?");
        vm.expectRevert(wrongState("?", ComputeMarket.State.Accepted, ComputeMarket.State.None));
        market.close("?");
    }
}
