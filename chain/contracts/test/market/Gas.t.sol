// SPDX-License-Identifier: Apache-2.0
// What transactions of the market cost, each as one of its own (isolated by forge).
//
// Invariant: the bars hold: a settlement alone at most 160,000, and at most 75,000 in a batch of 64 of new shards.
// Does not know: prices. `build --gas` writes what is logged here to GAS.md.
pragma solidity 0.8.37;

import {ComputeMarket} from "../../src/ComputeMarket.sol";
import {Vouchers} from "../../src/market/Vouchers.sol";
import {Meters} from "../Gas.t.sol";
import {Market} from "./Market.sol";

/// Deploys, since forge measures no creation by a test.
contract MarketFactory {
    function market() external {
        new ComputeMarket(1, 60);
    }
}

/// forge-config: default.isolate = true
contract MarketGasTest is Market {
    /// The name that forge prints.
    event log_named_uint(string what, uint256 gas);

    function setUp() public {
        startMarket();
    }

    function log(string memory what) private returns (uint256 gas) {
        gas = Meters(address(vm)).lastCallGas().gasTotalUsed;
        emit log_named_uint(string.concat("gas | ", what), gas);
    }

    function test_gas_01_accounts_and_stake() public {
        new MarketFactory().market();
        log("ComputeMarket by a factory");
        vm.deal(address(this), 1 ether);
        market.deposit{value: 1 ether}(STRANGER);
        log("market: deposit, first");
        vm.prank(STRANGER);
        market.withdraw(0.5 ether, payable(STRANGER));
        log("market: withdraw");
        vm.deal(STRANGER, 1 ether);
        vm.prank(STRANGER);
        market.register{value: 1 ether}(address(1), "https://provider.example");
        log("market: register with stake, endpoint of 24 bytes");
        vm.prank(STRANGER);
        market.publishOffer(offer());
        log("market: publishOffer");
        vm.prank(STRANGER);
        market.reviseOffer(1, offer());
        log("market: reviseOffer");
        vm.prank(STRANGER);
        market.beginUnstake(1 ether);
        log("market: beginUnstake");
        vm.warp(time() + 7 days);
        vm.prank(STRANGER);
        market.finishUnstake();
        log("market: finishUnstake");
    }

    function test_gas_02_locks() public {
        ComputeMarket.Terms memory under = terms();
        bytes32 id = opened(under);
        log("market: open");
        vm.prank(PROVIDER);
        market.accept(id);
        log("market: accept, first lock");
        vm.prank(PROVIDER);
        market.close(id);
        log("market: close");
        under.salt = "other";
        id = opened(under);
        vm.prank(BUYER);
        market.cancel(id);
        log("market: cancel");
    }

    function test_gas_03_settlements() public {
        bytes32 id = accepted();
        Vouchers.Settlement[] memory one = new Vouchers.Settlement[](1);
        one[0] = signed(voucher(id, 1000, 1, EXPOSURE));
        market.settle(one);
        uint256 first = log("market: settle one, the provider's first");
        one[0] = signed(voucher(id, 1001, 1, EXPOSURE));
        market.settle(one);
        uint256 shard = log("market: settle one, a shard's first");
        one[0] = signed(voucher(id, 1001, 2, 2 * EXPOSURE));
        market.settle(one);
        uint256 next = log("market: settle one, a shard's next");
        market.settle(one);
        log("market: settle one, refused as stale");
        check(first > shard && shard > next, "each is a transaction of its own: forge did not isolate them");
        check(first <= 160_000, "a settlement over 160,000");
        Vouchers.Settlement[] memory batch = new Vouchers.Settlement[](64);
        for (uint32 i = 0; i < 64; ++i) batch[i] = signed(voucher(id, i, 1, EXPOSURE));
        market.settle(batch);
        uint256 all = log("market: settle 64, of new shards");
        emit log_named_uint("gas | market: one of these 64", all / 64);
        check(all / 64 <= 75_000, "a settlement in a batch over 75,000");
        check(paidOf(id) == 67 * EXPOSURE, "all were paid");
    }

    function test_gas_04_a_full_batch() public {
        bytes32 id = accepted();
        Vouchers.Settlement[] memory batch = new Vouchers.Settlement[](128);
        for (uint32 i = 0; i < 128; ++i) batch[i] = signed(voucher(id, i, 1, EXPOSURE / 2));
        market.settle(batch);
        uint256 all = log("market: settle 128, of new shards, the most in a batch");
        check(all <= 15_000_000, "half of a block");
    }

    function test_gas_05_an_offence() public {
        bytes32 id = accepted();
        Vouchers.Voucher memory other = voucher(id, 0, 1, 1);
        other.transcriptHead = "other";
        Vouchers.Countersigned memory first = countersigned(voucher(id, 0, 1, 1));
        Vouchers.Countersigned memory second = countersigned(other);
        market.slash(first, second);
        log("market: slash");
    }
}
