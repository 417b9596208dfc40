// SPDX-License-Identifier: Apache-2.0
// Where buyers and providers of computation settle: coins locked for a provider, paid by what both signed, given back
// when time is over.
//
// Invariant: a lock pays its provider at most its cap and at most what both signed, each difference once; what it does not
// pay goes back to its buyer. Every state of a lock has an end that time or one side alone brings about. Balances, locks,
// stakes and what was forfeited are together what was put in and not withdrawn. There is no owner, no upgrade and no pause.
// Does not know: whether the work is right, what a unit is, or what happens between two settlements.
pragma solidity 0.8.37;

import {Providers} from "./market/Providers.sol";
import {Vouchers} from "./market/Vouchers.sol";

/// @title A market of computation: offers, escrow and settlement (docs/formats/market.md).
contract ComputeMarket is Providers {
    /// What a lock is opened under; its id is a hash of it. Amounts in wei, times in Unix seconds.
    struct Terms {
        address provider;
        uint32 offer;
        uint32 offerVersion;
        bytes32 modelRoot;
        uint96 unitPrice;
        uint96 cap;
        /// Most that one voucher adds; 0 for a hundredth of `cap`, rounded up.
        uint96 exposureMax;
        /// Signs vouchers.
        address sessionKey;
        uint64 acceptBy;
        uint64 workBy;
        uint64 settleBy;
        /// Chosen by the buyer.
        bytes32 salt;
    }

    enum State {
        None,
        Open,
        Accepted,
        Closed
    }

    /// A lock. A settlement writes one slot of it.
    struct Lock {
        address buyer;
        uint64 settleBy;
        State state;
        address provider;
        uint96 exposureMax;
        address sessionKey;
        uint96 unitPrice;
        /// The provider's key when it accepted; zero before.
        address signingKey;
        /// To the provider, so far.
        uint96 paid;
        uint96 cap;
        uint64 acceptBy;
        uint64 workBy;
        bytes32 modelRoot;
    }

    /// What the winning receipt of a job's shard says.
    struct Settled {
        uint64 fence;
        uint32 seq;
        /// Paid for the shard so far, in wei.
        uint96 fee;
        /// First eight bytes of the id of the lock that pays for the shard. A buyer who makes two locks with the same ones
        /// can only pay twice himself.
        bytes8 lock;
        /// What the provider signed.
        bytes32 receiptDigest;
    }

    /// Why a settlement was refused, in the order of the checks.
    enum Outcome {
        Paid,
        NotAccepted,
        Late,
        WrongProvider,
        WrongDeadline,
        WrongVoucher,
        WrongModel,
        WrongUsage,
        AbovePrice,
        AboveExposure,
        OtherLock,
        Stale,
        FenceFell,
        FeeFell,
        NotBuyers,
        NotProviders
    }

    /// What two receipts of a provider prove.
    enum Offence {
        None,
        Equivocation,
        SoldTwice
    }

    /// Longest time from opening a lock to its settleBy.
    uint64 public constant LOCK_SECONDS_MAX = 90 days;
    /// Least time from workBy to settleBy, whatever the chain's finality.
    uint64 public constant GRACE_SECONDS_MIN = 1 hours;
    /// Most settlements of a batch.
    uint256 public constant SETTLEMENTS_MAX = 128;
    /// Most of a forfeited stake that goes to a buyer is one part in so many.
    uint256 public constant COMPENSATION_DIVISOR = 10;

    /// Least seconds from workBy to settleBy. Never changes.
    uint64 public graceSeconds;
    /// Stake that offences cost, in wei. Nobody's, for ever.
    uint256 public forfeited;

    mapping(bytes32 id => Lock) private locks;
    /// By keccak256 of buyer, provider, job and shard.
    mapping(bytes32 place => Settled) private records;

    /// @notice `terms.cap` of the buyer's balance is locked. The id is the hash of chain, contract, buyer and terms.
    event LockOpened(bytes32 indexed lock, address indexed buyer, address indexed provider, uint96 exposureMax, Terms terms);
    /// @notice The provider took the lock; receipts count with this key.
    event LockAccepted(bytes32 indexed lock, address indexed provider, address signingKey);
    /// @notice The lock was never accepted; all of it went back to the buyer's balance.
    event LockCancelled(bytes32 indexed lock, uint96 refund);
    /// @notice The lock pays no more; what it did not pay went back to the buyer's balance.
    event LockClosed(bytes32 indexed lock, uint96 paid, uint96 refund);
    /// @notice `amount` went to the provider's balance. For all of the shard it has `fee` by now.
    event SettlementPaid(
        bytes32 indexed lock,
        bytes32 indexed job,
        uint32 indexed shard,
        uint64 fence,
        uint32 seq,
        uint96 amount,
        uint96 fee,
        bytes32 outputRoot,
        bytes32 receiptDigest
    );
    /// @notice Item `index` of a batch changed nothing.
    event SettlementRefused(bytes32 indexed lock, uint256 index, Outcome outcome);
    /// @notice The provider lost its stake, of which `compensation` went to the balance of `buyer`.
    event Slashed(
        address indexed provider, Offence indexed offence, address indexed buyer, uint256 stake, uint256 compensation
    );

    /// @notice With this finality no lock would fit into LOCK_SECONDS_MAX.
    error FinalityTooLong(uint64 finalitySeconds);
    /// @notice The offer is not what the terms say: withdrawn, of another version, or of another chain's history.
    error OfferDiffers(address provider, uint32 offer, uint32 version);
    /// @notice The cap is outside of the offer's limits.
    error CapOutside(uint96 capMin, uint96 capMax, uint96 found);
    /// @notice One increment is not more than the lock.
    error ExposureAboveCap(uint96 cap, uint96 found);
    /// @notice The times are not now ≤ acceptBy < workBy < settleBy with what must lie between them.
    error Times();
    /// @notice The buyer has opened a lock with these terms before.
    error LockExists(bytes32 lock);
    /// @notice The lock is in another state.
    error LockState(bytes32 lock, State expected, State found);
    /// @notice The caller may not do this, or not yet.
    error NotAllowed(bytes32 lock, address caller);
    /// @notice The lock could be accepted until `acceptBy`.
    error AcceptedTooLate(bytes32 lock, uint64 acceptBy);
    /// @notice A batch has at most `maximum` settlements.
    error TooManySettlements(uint256 maximum, uint256 found);
    /// @notice The two receipts do not contradict each other.
    error NoOffence();
    /// @notice A receipt is not one of its voucher that the lock's provider signed.
    error NotCountersigned(bytes32 lock);

    /// @param leastStake With which a provider may accept locks, in wei; may be 0.
    /// @param finalitySeconds After how long a block of this chain is final. Twice that is the least time to settle in,
    /// but never less than GRACE_SECONDS_MIN.
    constructor(uint128 leastStake, uint64 finalitySeconds) {
        if (finalitySeconds >= LOCK_SECONDS_MAX / 4) revert FinalityTooLong(finalitySeconds);
        stakeMin = leastStake;
        graceSeconds = 2 * finalitySeconds > GRACE_SECONDS_MIN ? 2 * finalitySeconds : GRACE_SECONDS_MIN;
    }

    // Locks

    /// @notice Locks coins of the caller's balance, to which what is sent with the call is added first.
    /// @return id Hash of chain, contract, caller and terms.
    function open(Terms calldata terms) external payable returns (bytes32 id) {
        if (msg.value != 0) {
            credit(msg.sender, msg.value);
            emit Deposited(msg.sender, msg.sender, msg.value);
        }
        id = lockId(msg.sender, terms);
        if (locks[id].state != State.None) revert LockExists(id);
        if (terms.sessionKey == address(0)) revert ZeroAddress();
        uint96 exposureMax = checkTerms(terms);
        debit(msg.sender, terms.cap);
        locks[id] = Lock({
            buyer: msg.sender,
            settleBy: terms.settleBy,
            state: State.Open,
            provider: terms.provider,
            exposureMax: exposureMax,
            sessionKey: terms.sessionKey,
            unitPrice: terms.unitPrice,
            signingKey: address(0),
            paid: 0,
            cap: terms.cap,
            acceptBy: terms.acceptBy,
            workBy: terms.workBy,
            modelRoot: terms.modelRoot
        });
        emit LockOpened(id, msg.sender, terms.provider, exposureMax, terms);
    }

    /// @notice Takes a lock. Only its provider may, until acceptBy, with enough stake and no offence proven.
    function accept(bytes32 id) external {
        Lock storage lock = inState(id, State.Open);
        if (msg.sender != lock.provider) revert NotAllowed(id, msg.sender);
        if (block.timestamp > lock.acceptBy) revert AcceptedTooLate(id, lock.acceptBy);
        lock.state = State.Accepted;
        lock.signingKey = engage(msg.sender, lock.settleBy);
        emit LockAccepted(id, msg.sender, lock.signingKey);
    }

    /// @notice Undoes a lock that nobody accepted: its buyer or its provider at any time, anyone after acceptBy.
    function cancel(bytes32 id) external {
        Lock storage lock = inState(id, State.Open);
        bool party = msg.sender == lock.buyer || msg.sender == lock.provider;
        if (!party && block.timestamp <= lock.acceptBy) revert NotAllowed(id, msg.sender);
        lock.state = State.Closed;
        credit(lock.buyer, lock.cap);
        emit LockCancelled(id, lock.cap);
    }

    /// @notice Ends an accepted lock: its provider at any time, giving up what is not settled; anyone after settleBy.
    function close(bytes32 id) external {
        Lock storage lock = inState(id, State.Accepted);
        if (msg.sender != lock.provider && block.timestamp <= lock.settleBy) revert NotAllowed(id, msg.sender);
        lock.state = State.Closed;
        uint96 refund = lock.cap - lock.paid;
        credit(lock.buyer, refund);
        emit LockClosed(id, lock.paid, refund);
    }

    // Settlement

    /// @notice Pays what both signed. Anyone may send it. An item that is refused changes nothing and stops no other.
    /// @return outcomes One for each item, in their order.
    function settle(Vouchers.Settlement[] calldata items) external returns (Outcome[] memory outcomes) {
        if (items.length > SETTLEMENTS_MAX) revert TooManySettlements(SETTLEMENTS_MAX, items.length);
        outcomes = new Outcome[](items.length);
        bytes32 domain = Vouchers.domain();
        for (uint256 i = 0; i < items.length; ++i) {
            outcomes[i] = settleOne(items[i], domain);
            if (outcomes[i] != Outcome.Paid) {
                emit SettlementRefused(items[i].voucher.lock, i, outcomes[i]);
            }
        }
    }

    /// @notice What {settle} would do now with this item, and how much it would pay.
    function judge(Vouchers.Settlement calldata item) external view returns (Outcome outcome, uint96 amount) {
        (outcome, amount,) = examine(item, Vouchers.domain());
    }

    function settleOne(Vouchers.Settlement calldata item, bytes32 domain) private returns (Outcome) {
        (Outcome outcome, uint96 amount, bytes32 countersigned) = examine(item, domain);
        if (outcome != Outcome.Paid) return outcome;
        Vouchers.Voucher calldata voucher = item.voucher;
        Lock storage lock = locks[voucher.lock];
        Settled storage record = recordOf(lock.buyer, lock.provider, voucher.job, voucher.shard);
        uint96 fee = record.fee + amount;
        record.fence = voucher.fence;
        record.seq = voucher.seq;
        record.fee = fee;
        record.lock = bytes8(voucher.lock);
        record.receiptDigest = countersigned;
        lock.paid += amount;
        credit(lock.provider, amount);
        emit SettlementPaid(
            voucher.lock,
            voucher.job,
            voucher.shard,
            voucher.fence,
            voucher.seq,
            amount,
            fee,
            item.receipt.outputRoot,
            countersigned
        );
        return Outcome.Paid;
    }

    /// All checks of an item, the dear ones last. Never reverts.
    function examine(Vouchers.Settlement calldata item, bytes32 domain)
        private
        view
        returns (Outcome outcome, uint96 amount, bytes32 countersigned)
    {
        Vouchers.Voucher calldata voucher = item.voucher;
        Lock storage lock = locks[voucher.lock];
        bytes32 voucherHash = Vouchers.hash(voucher);
        outcome = checkTerms(lock, voucher, item.receipt, voucherHash);
        if (outcome != Outcome.Paid) return (outcome, 0, 0);
        Settled storage record = recordOf(lock.buyer, lock.provider, voucher.job, voucher.shard);
        outcome = checkProgress(record, voucher);
        if (outcome != Outcome.Paid) return (outcome, 0, 0);
        if (!Vouchers.signedBy(lock.sessionKey, Vouchers.digest(domain, voucherHash), item.buyer)) {
            return (Outcome.NotBuyers, 0, 0);
        }
        countersigned = Vouchers.digest(domain, Vouchers.hash(item.receipt));
        if (!Vouchers.signedBy(lock.signingKey, countersigned, item.provider)) return (Outcome.NotProviders, 0, 0);
        uint96 owed = voucher.cumulativeFee - record.fee;
        uint96 left = lock.cap - lock.paid;
        amount = owed < left ? owed : left;
    }

    /// Whether voucher and receipt belong to the lock, to each other, and to its prices.
    function checkTerms(
        Lock storage lock,
        Vouchers.Voucher calldata voucher,
        Vouchers.Receipt calldata receipt,
        bytes32 voucherHash
    ) private view returns (Outcome) {
        if (lock.state != State.Accepted) return Outcome.NotAccepted;
        if (block.timestamp > lock.settleBy) return Outcome.Late;
        if (voucher.provider != lock.provider) return Outcome.WrongProvider;
        if (voucher.settleBy != lock.settleBy) return Outcome.WrongDeadline;
        if (receipt.voucherHash != voucherHash) return Outcome.WrongVoucher;
        if (receipt.modelRoot != lock.modelRoot) return Outcome.WrongModel;
        if (receipt.usage != voucher.units) return Outcome.WrongUsage;
        // In 256 bits neither product overflows: 64 + 96 and 32 + 96.
        if (voucher.cumulativeFee > uint256(voucher.units) * lock.unitPrice) return Outcome.AbovePrice;
        if (voucher.cumulativeFee > uint256(voucher.seq) * lock.exposureMax) return Outcome.AboveExposure;
        return Outcome.Paid;
    }

    /// Whether the voucher goes on from what was settled for its shard.
    function checkProgress(Settled storage record, Vouchers.Voucher calldata voucher) private view returns (Outcome) {
        if (record.seq != 0 && record.lock != bytes8(voucher.lock)) return Outcome.OtherLock;
        if (voucher.seq <= record.seq) return Outcome.Stale;
        if (voucher.fence < record.fence) return Outcome.FenceFell;
        if (voucher.cumulativeFee < record.fee) return Outcome.FeeFell;
        return Outcome.Paid;
    }

    // Offences

    /// @notice Takes the stake of a provider that signed two receipts which contradict each other. Anyone may call it; the
    /// buyer of the first receipt's lock gets a part.
    function slash(Vouchers.Countersigned calldata first, Vouchers.Countersigned calldata second) external {
        Lock storage lock = accused(first);
        address provider = lock.provider;
        if (accused(second).provider != provider) revert NoOffence();
        Offence offence = contradiction(first, second);
        if (offence == Offence.None) revert NoOffence();
        uint256 stake = forfeit(provider);
        uint256 part = stake / COMPENSATION_DIVISOR;
        uint256 compensation = part < lock.exposureMax ? part : lock.exposureMax;
        credit(lock.buyer, compensation);
        forfeited += stake - compensation;
        emit Slashed(provider, offence, lock.buyer, stake, compensation);
    }

    /// The lock of a receipt that its provider did sign.
    function accused(Vouchers.Countersigned calldata both) private view returns (Lock storage lock) {
        bytes32 id = both.voucher.lock;
        lock = locks[id];
        if (!Vouchers.countersigned(both, lock.signingKey)) revert NotCountersigned(id);
    }

    function contradiction(Vouchers.Countersigned calldata first, Vouchers.Countersigned calldata second)
        private
        pure
        returns (Offence)
    {
        Vouchers.Voucher calldata a = first.voucher;
        Vouchers.Voucher calldata b = second.voucher;
        bool place = a.lock == b.lock && a.job == b.job && a.shard == b.shard && a.fence == b.fence;
        bool head = a.transcriptHead == b.transcriptHead;
        if (!place) return head ? Offence.SoldTwice : Offence.None;
        if (a.seq != b.seq) return Offence.None;
        bool result = first.receipt.responseHash == second.receipt.responseHash
            && first.receipt.outputRoot == second.receipt.outputRoot;
        return head && result ? Offence.None : Offence.Equivocation;
    }

    // Reading

    /// @notice keccak256(abi.encode(chain id, this, buyer, terms)), whether there is such a lock or not.
    function lockId(address buyer, Terms calldata terms) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), buyer, terms));
    }

    /// @notice All about a lock; state None where there is none.
    function lockOf(bytes32 id) external view returns (Lock memory) {
        return locks[id];
    }

    /// @notice What was settled for a job's shard by this provider; seq 0 where nothing was.
    function settled(address buyer, address provider, bytes32 job, uint32 shard)
        external
        view
        returns (Settled memory)
    {
        return recordOf(buyer, provider, job, shard);
    }

    /// @notice What the session key signs.
    function voucherDigest(Vouchers.Voucher calldata voucher) external view returns (bytes32) {
        return Vouchers.digest(Vouchers.domain(), Vouchers.hash(voucher));
    }

    /// @notice What the provider's key signs.
    function receiptDigest(Vouchers.Receipt calldata receipt) external view returns (bytes32) {
        return Vouchers.digest(Vouchers.domain(), Vouchers.hash(receipt));
    }

    /// @notice The domain of what is signed, as EIP-5267 has it: fields name, version, chain id and contract.
    function eip712Domain()
        external
        view
        returns (bytes1, string memory, string memory, uint256, address, bytes32, uint256[] memory)
    {
        return (0x0f, Vouchers.NAME, Vouchers.VERSION, block.chainid, address(this), 0, new uint256[](0));
    }

    /// The exposure that these terms mean, or a revert that says why they do not hold.
    function checkTerms(Terms calldata terms) private view returns (uint96 exposureMax) {
        (uint32 version, Offer memory offer) = offerOf(terms.provider, terms.offer);
        bool same = offer.kind != 0 && version == terms.offerVersion && offer.modelRoot == terms.modelRoot
            && offer.unitPrice == terms.unitPrice;
        if (!same) revert OfferDiffers(terms.provider, terms.offer, version);
        if (terms.cap < offer.capMin || terms.cap > offer.capMax) {
            revert CapOutside(offer.capMin, offer.capMax, terms.cap);
        }
        if (terms.exposureMax > terms.cap) revert ExposureAboveCap(terms.cap, terms.exposureMax);
        bool ordered = block.timestamp <= terms.acceptBy && terms.acceptBy < terms.workBy
            && terms.settleBy >= uint256(terms.workBy) + graceSeconds;
        // Both differences are of times that are not before now.
        bool bounded = ordered && terms.workBy - block.timestamp <= offer.workSecondsMax
            && terms.settleBy - block.timestamp <= LOCK_SECONDS_MAX;
        if (!bounded) revert Times();
        // Rounded up, so that a hundred increments are the whole lock.
        return terms.exposureMax != 0 ? terms.exposureMax : uint96((uint256(terms.cap) + 99) / 100);
    }

    function inState(bytes32 id, State expected) private view returns (Lock storage lock) {
        lock = locks[id];
        if (lock.state != expected) revert LockState(id, expected, lock.state);
    }

    function recordOf(address buyer, address provider, bytes32 job, uint32 shard)
        private
        view
        returns (Settled storage)
    {
        return records[keccak256(abi.encode(buyer, provider, job, shard))];
    }
}
