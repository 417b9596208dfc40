// SPDX-License-Identifier: Apache-2.0
// Accounts, providers, stake and offers: each function, each error with its facts.
//
// Invariant: what comes in and goes out of an account or a stake is compared with the contract's coins.
// Does not know: settlement.
pragma solidity 0.8.37;

import {ComputeMarket} from "../../src/ComputeMarket.sol";
import {Accounts} from "../../src/market/Accounts.sol";
import {Providers} from "../../src/market/Providers.sol";
import {Market} from "./Market.sol";

/// Takes no coins.
contract Refuser {}

contract ProvidersTest is Market {
    function setUp() public {
        startMarket();
    }

    // Accounts

    function test_anyone_puts_into_an_account_and_its_owner_alone_takes_out() public {
        vm.deal(STRANGER, 5 ether);
        vm.expectEmit(true, true, true, true, address(market));
        emit Accounts.Deposited(BUYER, STRANGER, 5 ether);
        vm.prank(STRANGER);
        market.deposit{value: 5 ether}(BUYER);
        same(market.balanceOf(BUYER), 3 * CAP + 5 ether, "balance");
        same(market.balanceOf(STRANGER), 0, "of who paid");
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(Accounts.BalanceTooSmall.selector, STRANGER, 0, 1));
        market.withdraw(1, payable(STRANGER));
        vm.expectEmit(true, true, true, true, address(market));
        emit Accounts.Withdrawn(BUYER, address(0x99), 2 ether);
        vm.prank(BUYER);
        market.withdraw(2 ether, payable(address(0x99)));
        same(address(0x99).balance, 2 ether, "coins");
        same(market.balanceOf(BUYER), 3 * CAP + 3 ether, "rest");
        same(address(market).balance, 3 * CAP + 3 ether + STAKE, "of the contract");
    }

    function test_all_of_a_balance_can_be_taken_and_no_more() public {
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(Accounts.BalanceTooSmall.selector, BUYER, 3 * CAP, 3 * CAP + 1));
        market.withdraw(3 * CAP + 1, payable(BUYER));
        vm.prank(BUYER);
        market.withdraw(3 * CAP, payable(BUYER));
        same(market.balanceOf(BUYER), 0, "balance");
    }

    function test_nothing_goes_to_nobody() public {
        vm.expectRevert(abi.encodeWithSelector(Accounts.ZeroAddress.selector));
        market.deposit(address(0));
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(Accounts.ZeroAddress.selector));
        market.withdraw(1, payable(address(0)));
        address refuser = address(new Refuser());
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(Accounts.RecipientRefused.selector, refuser));
        market.withdraw(1, payable(refuser));
        same(market.balanceOf(BUYER), 3 * CAP, "nothing was taken");
    }

    function test_coins_that_no_function_takes_are_refused() public {
        vm.deal(address(this), 1);
        (bool taken,) = address(market).call{value: 1}("");
        check(!taken, "taken");
    }

    // Providers

    function test_a_provider_registers_once_and_changes_what_it_said() public {
        vm.deal(STRANGER, 7);
        vm.expectEmit(true, true, true, true, address(market));
        emit Providers.ProviderSet(STRANGER, address(1), "a");
        vm.expectEmit(true, true, true, true, address(market));
        emit Providers.StakeAdded(STRANGER, 7);
        vm.prank(STRANGER);
        market.register{value: 7}(address(1), "a");
        Providers.Provider memory found = market.providerOf(STRANGER);
        same(found.signingKey, address(1), "key");
        same(bytes(found.endpoint), "a", "endpoint");
        same(found.stake, 7, "stake");
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(Providers.ProviderExists.selector, STRANGER));
        market.register(address(2), "b");
        vm.expectEmit(true, true, true, true, address(market));
        emit Providers.ProviderSet(STRANGER, address(2), "b");
        vm.prank(STRANGER);
        market.update(address(2), "b");
        found = market.providerOf(STRANGER);
        same(found.signingKey, address(2), "new key");
        same(bytes(found.endpoint), "b", "new endpoint");
        same(found.stake, 7, "stake stays");
    }

    function test_a_provider_has_a_key_and_an_endpoint_of_bounded_length() public {
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(Accounts.ZeroAddress.selector));
        market.register(address(0), "");
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(Providers.EndpointTooLong.selector, 256, 257));
        market.register(address(1), string(new bytes(257)));
        vm.prank(STRANGER);
        market.register(address(1), string(new bytes(256)));
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(Accounts.ZeroAddress.selector));
        market.update(address(0), "");
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(Providers.EndpointTooLong.selector, 256, 257));
        market.update(address(1), string(new bytes(257)));
    }

    function test_who_never_registered_can_do_nothing_of_a_providers() public {
        bytes memory unknown = abi.encodeWithSelector(Providers.ProviderUnknown.selector, address(this));
        vm.expectRevert(unknown);
        market.update(address(1), "");
        vm.expectRevert(unknown);
        market.addStake();
        vm.expectRevert(unknown);
        market.beginUnstake(0);
        vm.expectRevert(unknown);
        market.finishUnstake();
        vm.expectRevert(unknown);
        market.publishOffer(offer());
        vm.expectRevert(unknown);
        market.providerOf(address(this));
    }

    // Stake

    function test_stake_grows_and_leaves_after_its_time() public {
        vm.deal(PROVIDER, 2 ether);
        vm.expectEmit(true, true, true, true, address(market));
        emit Providers.StakeAdded(PROVIDER, 2 ether);
        vm.prank(PROVIDER);
        market.addStake{value: 2 ether}();
        same(market.providerOf(PROVIDER).stake, STAKE + 2 ether, "stake");
        vm.prank(PROVIDER);
        vm.expectRevert(abi.encodeWithSelector(Providers.StakeTooSmall.selector, 11 ether, 10 ether));
        market.beginUnstake(11 ether);
        uint64 leavesAt = time() + 7 days;
        vm.expectEmit(true, true, true, true, address(market));
        emit Providers.UnstakeBegun(PROVIDER, 4 ether, leavesAt);
        vm.prank(PROVIDER);
        market.beginUnstake(4 ether);
        same(market.providerOf(PROVIDER).stake, 6 ether, "stake that stays");
        same(market.providerOf(PROVIDER).leaving, 4 ether, "stake that leaves");
        vm.warp(leavesAt - 1);
        vm.prank(PROVIDER);
        vm.expectRevert(abi.encodeWithSelector(Providers.StakeNotFree.selector, leavesAt));
        market.finishUnstake();
        vm.warp(leavesAt);
        vm.expectEmit(true, true, true, true, address(market));
        emit Providers.UnstakeFinished(PROVIDER, 4 ether);
        vm.prank(PROVIDER);
        market.finishUnstake();
        same(market.balanceOf(PROVIDER), 4 ether, "balance");
        vm.prank(PROVIDER);
        market.finishUnstake();
        same(market.balanceOf(PROVIDER), 4 ether, "once");
    }

    function test_asking_again_adds_up_and_moves_the_time() public {
        vm.prank(PROVIDER);
        market.beginUnstake(1 ether);
        vm.warp(time() + 3 days);
        vm.prank(PROVIDER);
        market.beginUnstake(2 ether);
        Providers.Provider memory found = market.providerOf(PROVIDER);
        same(found.leaving, 3 ether, "leaving");
        same(found.leavesAt, time() + 7 days, "time");
    }

    function test_stake_stays_for_locks_that_were_accepted() public {
        ComputeMarket.Terms memory long = terms();
        (long.workBy, long.settleBy) = (time() + 20 days, time() + 40 days);
        accepted(long);
        ComputeMarket.Terms memory short = terms();
        accepted(short);
        same(market.providerOf(PROVIDER).busyUntil, long.settleBy, "the later one counts");
        vm.prank(PROVIDER);
        market.beginUnstake(STAKE);
        same(market.providerOf(PROVIDER).leavesAt, long.settleBy + 7 days, "after the last lock");
    }

    function test_too_many_coins_for_a_stake_are_refused() public {
        vm.deal(PROVIDER, 1 << 130);
        vm.prank(PROVIDER);
        vm.expectRevert(abi.encodeWithSelector(Providers.AmountTooLarge.selector, uint256(1 << 128)));
        market.addStake{value: 1 << 128}();
    }

    // Offers

    function test_an_offer_is_published_revised_withdrawn_and_offered_again() public {
        Providers.Offer memory other = offer();
        other.unitPrice = 7;
        vm.expectEmit(true, true, true, true, address(market));
        emit Providers.OfferSet(PROVIDER, 2, 1, other);
        vm.prank(PROVIDER);
        same(market.publishOffer(other), 2, "number");
        expectOffer(1, 1, offer());
        expectOffer(2, 1, other);
        other.kind = 2;
        vm.expectEmit(true, true, true, true, address(market));
        emit Providers.OfferSet(PROVIDER, 1, 2, other);
        vm.prank(PROVIDER);
        market.reviseOffer(1, other);
        expectOffer(1, 2, other);
        Providers.Offer memory gone = market_offer(1);
        gone.kind = 0;
        vm.expectEmit(true, true, true, true, address(market));
        emit Providers.OfferSet(PROVIDER, 1, 3, gone);
        vm.prank(PROVIDER);
        market.withdrawOffer(1);
        expectOffer(1, 3, gone);
        vm.prank(PROVIDER);
        vm.expectRevert(abi.encodeWithSelector(Providers.OfferUnknown.selector, PROVIDER, 1));
        market.withdrawOffer(1);
        vm.prank(PROVIDER);
        market.reviseOffer(1, other);
        expectOffer(1, 4, other);
    }

    function market_offer(uint32 number) private view returns (Providers.Offer memory found) {
        (, found) = market.offerOf(PROVIDER, number);
    }

    function expectOffer(uint32 number, uint32 version, Providers.Offer memory expected) private view {
        (uint32 found, Providers.Offer memory of_) = market.offerOf(PROVIDER, number);
        same(found, version, "version");
        same(abi.encode(of_), abi.encode(expected), "offer");
    }

    function test_nobody_touches_an_offer_that_is_not_his() public {
        vm.expectRevert(abi.encodeWithSelector(Providers.OfferUnknown.selector, address(this), 1));
        market.withdrawOffer(1);
        vm.expectRevert(abi.encodeWithSelector(Providers.OfferUnknown.selector, address(this), 1));
        market.reviseOffer(1, offer());
        vm.prank(PROVIDER);
        vm.expectRevert(abi.encodeWithSelector(Providers.OfferUnknown.selector, PROVIDER, 2));
        market.reviseOffer(2, offer());
    }

    function test_an_offer_is_whole_or_refused() public {
        Providers.Offer memory bad = offer();
        bad.kind = 0;
        refused(bad);
        bad = offer();
        bad.unitPrice = 0;
        refused(bad);
        bad = offer();
        bad.modelRoot = 0;
        refused(bad);
        bad = offer();
        bad.capMin = 0;
        refused(bad);
        bad = offer();
        bad.capMin = bad.capMax + 1;
        refused(bad);
        bad.capMin = bad.capMax;
        vm.prank(PROVIDER);
        market.publishOffer(bad);
    }

    function refused(Providers.Offer memory bad) private {
        vm.prank(PROVIDER);
        vm.expectRevert(abi.encodeWithSelector(Providers.OfferInvalid.selector));
        market.publishOffer(bad);
        vm.prank(PROVIDER);
        vm.expectRevert(abi.encodeWithSelector(Providers.OfferInvalid.selector));
        market.reviseOffer(1, bad);
    }
}
