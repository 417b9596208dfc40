// SPDX-License-Identifier: Apache-2.0
// What either side loses when the other stops, cheats or vanishes at the worst moment.
//
// Invariant: one increment of the lock at most, over all its shards, whoever goes ahead and whoever stops.
// Does not know: how work is delivered; here it is a number.
pragma solidity 0.8.37;

import {ComputeMarket} from "../../src/ComputeMarket.sol";
import {Vouchers} from "../../src/market/Vouchers.sol";
import {Market} from "./Market.sol";

contract ExposureTest is Market {
    uint32 private constant SHARDS = 4;
    bytes32 private lock;
    /// By shard: worth of the work delivered, fee of the last voucher, its seq, and the newest item with both signatures.
    uint96[SHARDS] private delivered;
    uint96[SHARDS] private owed;
    uint32[SHARDS] private seqs;
    bytes[SHARDS] private held;

    function setUp() public {
        startMarket();
        lock = accepted();
    }

    function sum(uint96[SHARDS] storage of_) private view returns (uint96 all) {
        for (uint32 shard = 0; shard < SHARDS; ++shard) all += of_[shard];
    }

    function dice(uint256 seed, uint256 step) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, step)));
    }

    /// The next voucher of a shard, with both signatures.
    function exchange(uint32 shard, uint96 fee) private {
        owed[shard] = fee;
        seqs[shard] += 1;
        held[shard] = abi.encode(signed(voucher(lock, shard, seqs[shard], fee)));
    }

    /// The cheat sends what suits him, in any order, some of it forged; then the honest provider sends what it holds.
    function settleAll(uint256 seed) private {
        for (uint32 i = 0; i < SHARDS; ++i) {
            uint32 shard = uint32((seed % SHARDS + i) % SHARDS);
            if (held[shard].length == 0) continue;
            Vouchers.Settlement memory item = abi.decode(held[shard], (Vouchers.Settlement));
            Vouchers.Voucher memory forged = voucher(lock, shard, seqs[shard] + 1, owed[shard] + 1);
            settle(signed(forged, receipt(forged), SESSION_SECRET, OTHER_SECRET));
            settle(signed(forged, receipt(forged), OTHER_SECRET, SIGNING_SECRET));
            settles(item, ComputeMarket.Outcome.Paid, "what both signed is paid");
        }
        vm.warp(time() + 10 days);
        market.close(lock);
    }

    /// Work first, voucher afterwards: the buyer stops signing whenever he likes.
    function testFuzz_a_provider_that_goes_ahead_loses_one_increment_at_most(uint256 seed, uint8 steps) public {
        for (uint256 step = 0; step < steps % 60; ++step) {
            uint32 shard = uint32(dice(seed, step) % SHARDS);
            uint96 worth = uint96(dice(seed, step + 1000) % EXPOSURE) + 1;
            // The provider's rule: no more than one increment without a voucher, over all shards, and within the cap.
            if (sum(delivered) + worth > sum(owed) + EXPOSURE || sum(delivered) + worth > CAP) continue;
            delivered[shard] += worth;
            if (dice(seed, step + 2000) % 3 == 0) continue;
            // The honest part of a buyer's life: he signs for what he got. That is one increment a voucher by itself.
            exchange(shard, delivered[shard]);
        }
        settleAll(seed);
        uint96 worth_ = sum(delivered);
        uint256 earned = market.balanceOf(PROVIDER);
        same(earned, sum(owed), "what was signed");
        check(worth_ - earned <= EXPOSURE, "more than an increment of work is unpaid");
        same(market.balanceOf(BUYER) + earned, 3 * CAP, "money is conserved");
        check(earned <= worth_, "the buyer paid for no more than he got");
    }

    /// Voucher first, work afterwards: the provider stops working whenever it likes.
    function testFuzz_a_buyer_who_goes_ahead_loses_one_increment_at_most(uint256 seed, uint8 steps) public {
        for (uint256 step = 0; step < steps % 60; ++step) {
            uint32 shard = uint32(dice(seed, step) % SHARDS);
            uint96 worth = uint96(dice(seed, step + 1000) % EXPOSURE) + 1;
            // The buyer's rule: no more than one increment without work, over all shards, and within the cap.
            if (sum(owed) + worth > sum(delivered) + EXPOSURE || sum(owed) + worth > CAP) continue;
            exchange(shard, owed[shard] + worth);
            if (dice(seed, step + 2000) % 3 == 0) continue;
            delivered[shard] = owed[shard];
        }
        settleAll(seed);
        uint256 paid = 3 * CAP - market.balanceOf(BUYER);
        check(paid <= sum(delivered) + EXPOSURE, "more than an increment is paid for nothing");
        same(market.balanceOf(PROVIDER), paid, "money is conserved");
    }

    /// A provider that keeps receipts back, or settles all of its life's vouchers, gets what the newest says.
    function testFuzz_order_and_gaps_of_settling_change_nothing(uint256 seed) public {
        Vouchers.Settlement[] memory items = new Vouchers.Settlement[](20);
        uint96 fee = 0;
        for (uint32 i = 0; i < 20; ++i) {
            fee += uint96(dice(seed, i) % EXPOSURE);
            items[i] = signed(voucher(lock, 0, i + 1, fee));
        }
        // The newest comes at a random place of a shuffled batch.
        for (uint256 i = 19; i > 0; --i) {
            uint256 j = dice(seed, 100 + i) % (i + 1);
            (items[i], items[j]) = (items[j], items[i]);
        }
        market.settle(items);
        same(market.balanceOf(PROVIDER), fee, "the newest counts");
        same(settledOf(lock, 0).seq, 20, "seq");
    }

    function test_the_default_increment_is_a_hundredth_of_the_lock() public view {
        same(uint256(market.lockOf(lock).exposureMax) * 100, CAP, "a hundredth");
    }
}
