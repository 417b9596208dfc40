// SPDX-License-Identifier: Apache-2.0
// What holds after any sequence of calls, right ones and wrong ones, by anyone, at any time.
//
// Invariant: the handler decides by itself, from its own model, what each call must do; the market is compared with the
// model after every call, and at the end of each run everyone takes all that is his, alone.
// Does not know: the market's storage.
pragma solidity 0.8.37;

import {ComputeMarket} from "../../src/ComputeMarket.sol";
import {Providers} from "../../src/market/Providers.sol";
import {Vouchers} from "../../src/market/Vouchers.sol";
import {Market} from "./Market.sol";

/// Three buyers, two providers, and their locks.
contract MarketHandler is Market {
    struct Model {
        address buyer;
        address provider;
        uint256 signing;
        uint96 cap;
        uint96 exposure;
        uint96 paid;
        uint64 acceptBy;
        uint64 settleBy;
        uint8 state;
    }

    struct Progress {
        bytes32 lock;
        uint64 fence;
        uint32 seq;
        uint96 fee;
    }

    uint256 private constant LOCKS_MAX = 24;
    bytes32[] public ids;
    mapping(bytes32 => Model) private models;
    mapping(bytes32 => Progress) private progress;
    mapping(address => uint256) private balances;
    mapping(address => uint256) private stakes;
    mapping(address => uint256) private leaving;
    mapping(address => uint64) private leavesAt;
    mapping(address => uint64) private busyUntil;
    mapping(address => uint256) private keys;
    mapping(address => bool) private slashed;
    uint256 private forfeited;
    /// All coins that came in and did not go out.
    uint256 private inside;
    uint256 public settlements;
    uint256 public refusals;
    uint256 private salts;

    constructor() {
        vm.warp(1_800_000_000);
        market = new ComputeMarket(STAKE_MIN, 60);
        for (uint256 i = 0; i < 2; ++i) {
            address provider = providerAt(i);
            newProvider(provider, vm.addr(SIGNING_SECRET + i), STAKE);
            (keys[provider], stakes[provider]) = (SIGNING_SECRET + i, STAKE);
            inside += STAKE;
        }
        for (uint256 i = 0; i < 3; ++i) put(i, CAP);
    }

    function buyerAt(uint256 seed) private pure returns (address) {
        return address(uint160(0xb000 + seed % 3));
    }

    function providerAt(uint256 seed) private pure returns (address) {
        return address(uint160(0xa000 + seed % 2));
    }

    function someone(uint256 seed) private pure returns (address) {
        seed %= 6;
        return seed < 3 ? buyerAt(seed) : seed < 5 ? providerAt(seed) : STRANGER;
    }

    /// Most calls are meant to be right; one in eight is by anyone.
    function caller(uint256 seed, address right) private pure returns (address) {
        return seed % 8 == 0 ? someone(seed / 8) : right;
    }

    function expected(bool right, bool done) private {
        check(right == done, right ? "refused" : "done");
        if (!done) ++refusals;
    }

    function pass(uint256 seconds_) public {
        vm.warp(time() + seconds_ % 20 hours);
    }

    function leap(uint256 seconds_) external {
        if (seconds_ % 4 == 0) vm.warp(time() + seconds_ % 9 days);
    }

    // Accounts and stake

    function put(uint256 who, uint256 amount) public {
        amount = bound(amount, 1, 3 * CAP);
        address account = someone(who);
        fund(account, amount);
        balances[account] += amount;
        inside += amount;
    }

    function take(uint256 who, uint256 amount) external {
        address account = someone(who);
        amount %= balances[account] + 2;
        vm.prank(account);
        try market.withdraw(amount, payable(address(0xfff1))) {
            expected(amount <= balances[account], true);
            balances[account] -= amount;
            inside -= amount;
        } catch {
            expected(amount <= balances[account], false);
        }
    }

    function addStake(uint256 who, uint256 amount) external {
        address provider = providerAt(who);
        amount = bound(amount, 0, 10 ether);
        vm.deal(provider, amount);
        vm.prank(provider);
        try market.addStake{value: amount}() {
            expected(!slashed[provider], true);
            stakes[provider] += amount;
            inside += amount;
        } catch {
            expected(!slashed[provider], false);
        }
    }

    function unstake(uint256 who, uint128 amount) external {
        address provider = providerAt(who);
        amount = uint128(amount % (stakes[provider] + 2));
        vm.prank(provider);
        try market.beginUnstake(amount) {
            expected(amount <= stakes[provider], true);
            stakes[provider] -= amount;
            leaving[provider] += amount;
            leavesAt[provider] = (busyUntil[provider] > time() ? busyUntil[provider] : time()) + 7 days;
        } catch {
            expected(amount <= stakes[provider], false);
        }
    }

    function finish(uint256 who) external {
        address provider = providerAt(who);
        bool right = time() >= leavesAt[provider];
        vm.prank(provider);
        try market.finishUnstake() {
            expected(right, true);
            balances[provider] += leaving[provider];
            leaving[provider] = 0;
        } catch {
            expected(right, false);
        }
    }

    function rotate(uint256 who, uint256 secret) external {
        address provider = providerAt(who);
        keys[provider] = SIGNING_SECRET + secret % 5;
        vm.prank(provider);
        market.update(vm.addr(keys[provider]), "moved");
    }

    // Locks

    function open(uint256 who, uint256 whom, uint256 cap, uint256 exposure, uint256 bend) external {
        if (ids.length == LOCKS_MAX) return;
        address buyer = buyerAt(who);
        ComputeMarket.Terms memory under = terms();
        under.provider = providerAt(whom);
        under.cap = uint96(bound(cap, 1 ether, CAP));
        under.exposureMax = uint96(exposure % 3 == 0 ? 0 : exposure % (under.cap + 2));
        under.salt = bytes32(++salts);
        under.acceptBy = time() + uint64(cap % 2 days);
        under.workBy = under.acceptBy + 1 + uint64(exposure % 2 days);
        under.settleBy = under.workBy + 1 hours + uint64(cap % 9 hours);
        bend %= 16;
        if (bend == 0) under.settleBy -= 10 hours;
        if (bend == 1) under.unitPrice -= 1;
        if (bend == 2) under.cap = 1 ether - 1;
        bool right = under.cap <= balances[buyer] && under.cap >= 1 ether && under.exposureMax <= under.cap
            && bend != 1 && under.settleBy >= under.workBy + 1 hours;
        bytes32 id = market.lockId(buyer, under);
        vm.prank(buyer);
        try market.open(under) {
            expected(right, true);
            ids.push(id);
            balances[buyer] -= under.cap;
            Model storage lock = models[id];
            (lock.buyer, lock.provider, lock.cap, lock.state) = (buyer, under.provider, under.cap, 1);
            (lock.acceptBy, lock.settleBy) = (under.acceptBy, under.settleBy);
            lock.exposure = under.exposureMax != 0 ? under.exposureMax : (under.cap + 99) / 100;
        } catch {
            expected(right, false);
        }
    }

    function accept(uint256 which, uint256 who) public {
        if (ids.length == 0) return;
        bytes32 id = ids[which % ids.length];
        Model storage lock = models[id];
        address sender = caller(who, lock.provider);
        bool right = lock.state == 1 && sender == lock.provider && time() <= lock.acceptBy && !slashed[sender]
            && stakes[sender] >= STAKE_MIN;
        vm.prank(sender);
        try market.accept(id) {
            expected(right, true);
            (lock.state, lock.signing) = (2, keys[sender]);
            if (lock.settleBy > busyUntil[sender]) busyUntil[sender] = lock.settleBy;
        } catch {
            expected(right, false);
        }
    }

    function cancel(uint256 which, uint256 who) external {
        if (ids.length == 0) return;
        bytes32 id = ids[which % ids.length];
        Model storage lock = models[id];
        // Seldom at once, so that most are accepted.
        if (which % 4 != 0 && time() <= lock.acceptBy) return accept(which, 1);
        address sender = someone(who);
        bool right = lock.state == 1 && (sender == lock.buyer || sender == lock.provider || time() > lock.acceptBy);
        vm.prank(sender);
        try market.cancel(id) {
            expected(right, true);
            lock.state = 3;
            balances[lock.buyer] += lock.cap;
        } catch {
            expected(right, false);
        }
    }

    function close(uint256 which, uint256 who) external {
        if (ids.length == 0) return;
        bytes32 id = ids[which % ids.length];
        Model storage lock = models[id];
        address sender = someone(who);
        bool right = lock.state == 2 && (sender == lock.provider || time() > lock.settleBy);
        vm.prank(sender);
        try market.close(id) {
            expected(right, true);
            lock.state = 3;
            balances[lock.buyer] += lock.cap - lock.paid;
        } catch {
            expected(right, false);
        }
    }

    // Vouchers

    /// Two vouchers in a batch: of two locks and shards, each of them bent in one way or in none.
    function settle(uint256 which, uint256 shape, uint256 bend) external {
        if (ids.length == 0) return;
        Vouchers.Settlement[] memory batch = new Vouchers.Settlement[](2);
        bool[2] memory sound;
        for (uint256 i = 0; i < 2; ++i) {
            uint256 seed = uint256(keccak256(abi.encode(shape, bend, i)));
            (batch[i], sound[i]) = item(ids[(which % ids.length + i * (shape % 3)) % ids.length], seed);
        }
        // Of the first, one thing may be made wrong after signing.
        bend %= 16;
        if (bend == 0) batch[0].voucher.cumulativeFee += 1;
        if (bend == 1) batch[0].receipt.outputRoot = "other";
        if (bend == 2) batch[0].buyer.r ^= bytes32(uint256(1));
        if (bend < 3) sound[0] = false;
        vm.prank(STRANGER);
        ComputeMarket.Outcome[] memory outcomes = market.settle(batch);
        for (uint256 i = 0; i < 2; ++i) {
            bool right = sound[i] && goesOn(batch[i].voucher);
            expected(right, outcomes[i] == ComputeMarket.Outcome.Paid);
            if (right) apply_(batch[i].voucher);
        }
    }

    /// A voucher and a receipt with the right or with other keys. Whether they are signed and priced as they should be.
    function item(bytes32 id, uint256 seed) private view returns (Vouchers.Settlement memory made, bool sound) {
        Model storage lock = models[id];
        uint32 shard = uint32(seed % 3);
        Progress storage before = progress[place(lock.buyer, lock.provider, shard)];
        Vouchers.Voucher memory owed = voucher(id, shard, before.seq + uint32(seed >> 8 & 3), 0);
        owed.cumulativeFee = before.fee + uint96((seed >> 16) % (lock.exposure * 3 / 2));
        if (seed >> 12 & 7 == 0) owed.cumulativeFee = before.fee - (before.fee == 0 ? 0 : 1);
        owed.units = unitsFor(owed.cumulativeFee);
        owed.fence = before.fence + uint64(seed >> 128 & 1);
        if (owed.fence > 0 && seed >> 129 & 15 == 0) owed.fence -= 1;
        uint256 session = seed >> 140 & 15 == 0 ? OTHER_SECRET : SESSION_SECRET;
        uint256 signing = seed >> 144 & 15 == 0 ? OTHER_SECRET : lock.signing == 0 ? SIGNING_SECRET : lock.signing;
        made = signed(owed, receipt(owed), session, signing);
        sound = session == SESSION_SECRET && signing == lock.signing;
    }

    function place(address buyer, address provider, uint32 shard) private pure returns (bytes32) {
        return keccak256(abi.encode(buyer, provider, shard));
    }

    function goesOn(Vouchers.Voucher memory owed) private view returns (bool) {
        Model storage lock = models[owed.lock];
        Progress storage before = progress[place(lock.buyer, lock.provider, owed.shard)];
        return lock.state == 2 && time() <= lock.settleBy && (before.seq == 0 || before.lock == owed.lock)
            && owed.seq > before.seq && owed.fence >= before.fence && owed.cumulativeFee >= before.fee
            && owed.cumulativeFee <= uint256(owed.seq) * lock.exposure;
    }

    function apply_(Vouchers.Voucher memory owed) private {
        Model storage lock = models[owed.lock];
        Progress storage now_ = progress[place(lock.buyer, lock.provider, owed.shard)];
        uint96 amount = owed.cumulativeFee - now_.fee;
        if (amount > lock.cap - lock.paid) amount = lock.cap - lock.paid;
        (now_.lock, now_.fence, now_.seq) = (owed.lock, owed.fence, owed.seq);
        now_.fee += amount;
        lock.paid += amount;
        balances[lock.provider] += amount;
        ++settlements;
    }

    /// Seldom, since a slashed provider is out: two receipts of one place, that differ or do not.
    function slash(uint256 which, uint256 seed, bool differ) external {
        if (ids.length == 0 || seed % 8 != 0) return;
        bytes32 id = ids[which % ids.length];
        Model storage lock = models[id];
        uint256 signing = lock.signing == 0 ? SIGNING_SECRET : lock.signing;
        Vouchers.Voucher memory one = voucher(id, 0, 1, 1);
        Vouchers.Voucher memory other = voucher(id, 0, 1, 1);
        if (differ) other.transcriptHead = "other";
        bool right = differ && lock.signing != 0 && !slashed[lock.provider];
        Vouchers.Countersigned memory first = countersigned(one, receipt(one), signing);
        Vouchers.Countersigned memory second = countersigned(other, receipt(other), signing);
        try market.slash(first, second) {
            expected(right, true);
            address provider = lock.provider;
            uint256 stake = stakes[provider] + leaving[provider];
            uint256 part = stake / 10 < lock.exposure ? stake / 10 : lock.exposure;
            (stakes[provider], leaving[provider], slashed[provider]) = (0, 0, true);
            balances[lock.buyer] += part;
            forfeited += stake - part;
        } catch {
            expected(right, false);
        }
    }

    // Comparison

    /// The market is the model, and its coins are exactly what is claimed.
    function compare() external view {
        uint256 claimed = forfeited;
        for (uint256 i = 0; i < 6; ++i) {
            same(market.balanceOf(someone(i)), balances[someone(i)], "balance");
            claimed += balances[someone(i)];
        }
        for (uint256 i = 0; i < 2; ++i) {
            Providers.Provider memory provider = market.providerOf(providerAt(i));
            same(provider.stake, stakes[providerAt(i)], "stake");
            same(provider.leaving, leaving[providerAt(i)], "leaving");
            check(provider.slashed == slashed[providerAt(i)], "slashed");
            claimed += stakes[providerAt(i)] + leaving[providerAt(i)];
        }
        for (uint256 i = 0; i < ids.length; ++i) claimed += compareLock(ids[i]);
        same(market.forfeited(), forfeited, "forfeited");
        same(claimed, inside, "claims are what came in and did not go out");
        same(address(market).balance, inside, "and so are the coins");
    }

    /// What is still locked. A lock's payments are those of its shards, and none is above its cap.
    function compareLock(bytes32 id) private view returns (uint256) {
        Model storage model = models[id];
        ComputeMarket.Lock memory lock = market.lockOf(id);
        same(uint256(lock.state), model.state, "state");
        same(lock.paid, model.paid, "paid");
        check(lock.paid <= lock.cap, "above the cap");
        uint256 shards = 0;
        for (uint32 shard = 0; shard < 3; ++shard) {
            ComputeMarket.Settled memory record = market.settled(model.buyer, model.provider, JOB, shard);
            Progress storage now_ = progress[place(model.buyer, model.provider, shard)];
            check(record.seq == now_.seq && record.fee == now_.fee && record.fence == now_.fence, "record");
            if (record.seq != 0 && record.lock == bytes8(id)) shards += record.fee;
        }
        same(lock.paid, shards, "what its shards were paid");
        return model.state == 3 ? 0 : lock.cap - lock.paid;
    }

    /// After the last deadline: strangers close, and each takes his own, without the other side.
    function unwind() external {
        vm.warp(time() + 200 days);
        for (uint256 i = 0; i < ids.length; ++i) {
            uint8 state = models[ids[i]].state;
            if (state == 3) continue;
            vm.prank(STRANGER);
            if (state == 1) market.cancel(ids[i]);
            else market.close(ids[i]);
        }
        for (uint256 i = 0; i < 2; ++i) {
            vm.prank(providerAt(i));
            market.beginUnstake(uint128(stakes[providerAt(i)]));
        }
        vm.warp(time() + 7 days);
        for (uint256 i = 0; i < 2; ++i) {
            vm.prank(providerAt(i));
            market.finishUnstake();
        }
        for (uint256 i = 0; i < 6; ++i) {
            uint256 balance = market.balanceOf(someone(i));
            vm.prank(someone(i));
            market.withdraw(balance, payable(address(0xfff2)));
        }
        same(address(market).balance, forfeited, "nothing is left but what nobody gets");
    }
}

contract MarketInvariants is Market {
    MarketHandler private handler;

    function setUp() public {
        handler = new MarketHandler();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// Not to be called at random: what ends a run, and what compares.
    function excludeSelectors() external view returns (FuzzSelector[] memory excluded) {
        bytes4[] memory selectors = new bytes4[](1);
        selectors[0] = MarketHandler.unwind.selector;
        excluded = new FuzzSelector[](1);
        excluded[0] = FuzzSelector({addr: address(handler), selectors: selectors});
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    /// forge-config: default.invariant.runs = 64
    /// forge-config: default.invariant.depth = 160
    function invariant_money_is_conserved_and_every_lock_is_its_model() public view {
        handler.compare();
    }

    /// Chance reaches what the handler is for: locks that are taken and end, vouchers that pay, and as many that do not.
    function test_the_handler_is_not_idle() public {
        for (uint256 i = 0; i < 1500; ++i) {
            uint256 a = uint256(keccak256(abi.encode("handler", i)));
            (uint256 b, uint256 c) = (a >> 64, a >> 128);
            uint256 call = a % 12;
            if (call == 0) handler.put(b, c);
            if (call == 1) handler.open(b, c, a >> 8, a >> 16, a >> 24);
            if (call == 2) handler.accept(b, c);
            if (call == 3) handler.close(b, c);
            if (call == 4) handler.pass(b % 2 hours);
            if (call > 4) handler.settle(b, c, a >> 8);
            if (i % 100 == 0) handler.compare();
        }
        handler.compare();
        check(handler.settlements() > 100, "vouchers that pay");
        check(handler.refusals() > 100, "calls that are refused");
        handler.unwind();
    }

    function afterInvariant() external {
        handler.unwind();
    }
}
