// SPDX-License-Identifier: Apache-2.0
// What holds after any sequence of calls, right ones and wrong ones, by anyone.
//
// Invariant: the handlers keep a model of their own; it is compared after every call.
// Does not know: certificates' insides; the registry's stand-in vouches for what begins with 01.
pragma solidity 0.8.37;

import {BatchHeader} from "../src/BatchHeader.sol";
import {CommitmentRegistry} from "../src/CommitmentRegistry.sol";
import {DaQuorum} from "../src/DaQuorum.sol";
import {Base} from "./Base.sol";
import {Quorum} from "./Quorum.sol";
import {FirstByteVerifier, Headers} from "./CommitmentRegistry.t.sol";

/// Publishes into three namespaces, as everyone it can think of.
contract RegistryHandler is Headers {
    bytes32[] public logs;
    mapping(bytes32 => bytes32[]) private anchored;
    mapping(bytes32 => uint64) private last;
    mapping(bytes32 => address) private publisher;
    mapping(bytes32 => address) private offered;
    uint256 public accepted;
    uint256 public refusals;

    constructor(CommitmentRegistry of_, address verifier) {
        registry = of_;
        for (uint256 i = 0; i < 3; ++i) {
            bytes32 log = of_.createNamespace(bytes32(i), someone(i), verifier, 77);
            logs.push(log);
            publisher[log] = someone(i);
        }
    }

    function someone(uint256 seed) private pure returns (address) {
        return address(uint160(0x1000 + seed % 4));
    }

    /// A header that may be wrong in one way, by someone who may not be the publisher, with a certificate that may be bad.
    function anchor(uint256 which, uint256 who, uint256 bend, uint64 value, bool vouched) external {
        bytes32 log = logs[which % 3];
        // A log whose position is near 2^64 is at its end, and the model's own sums would overflow.
        value = value % (1 << 48);
        BatchHeader.Fields memory fields = next(log);
        fields.lastPosition = fields.firstPosition + value % 5;
        address sender = who % 3 == 0 ? someone(who) : publisher[log];
        bend = bend % 16;
        if (bend == 0) fields.sequence = value;
        if (bend == 1) fields.previousHeaderHash = bytes32(uint256(value));
        if (bend == 2) fields.firstPosition = value;
        if (bend == 3) fields.lastPosition = value;
        if (bend == 4) fields.entryCount = 0;
        bool right = vouched && sender == publisher[log] && fields.sequence == anchored[log].length + 1
            && fields.previousHeaderHash == newest(log) && fields.entryCount > 0
            && fields.firstPosition <= fields.lastPosition && (fields.sequence == 1 || fields.firstPosition > last[log]);
        bytes memory header = encode(fields);
        vm.prank(sender);
        try registry.anchor(header, vouched ? bytes(hex"01") : bytes(hex"00")) returns (bytes32 hash) {
            check(right && hash == hashOf(header), "anchored");
            anchored[log].push(hash);
            last[log] = fields.lastPosition;
            ++accepted;
        } catch {
            check(!right, "refused");
            ++refusals;
        }
    }

    function offer(uint256 which, uint256 who, uint256 to) external {
        bytes32 log = logs[which % 3];
        vm.prank(someone(who));
        try registry.offerPublisher(log, someone(to)) {
            check(publisher[log] == someone(who), "offered by another");
            offered[log] = someone(to);
        } catch {
            check(publisher[log] != someone(who), "refused");
        }
    }

    function accept(uint256 which, uint256 who) external {
        bytes32 log = logs[which % 3];
        vm.prank(someone(who));
        try registry.acceptPublisher(log) {
            check(offered[log] == someone(who), "accepted by another");
            (publisher[log], offered[log]) = (someone(who), address(0));
        } catch {
            check(offered[log] != someone(who), "refused");
        }
    }

    function newest(bytes32 log) private view returns (bytes32) {
        uint256 count = anchored[log].length;
        return count == 0 ? bytes32(0) : anchored[log][count - 1];
    }

    /// The log is the model: gap-free, in order, unchanged, with its publisher.
    function compare() external view {
        for (uint256 i = 0; i < 3; ++i) {
            bytes32 log = logs[i];
            (uint64 sequence, uint64 position, bytes32 hash) = registry.headOf(log);
            same(sequence, anchored[log].length, "sequence");
            same(position, last[log], "position");
            same(hash, newest(log), "head");
            for (uint64 n = 1; n <= sequence; ++n) {
                same(registry.headerHashOf(log, n), anchored[log][n - 1], "header hash");
            }
            same(registry.headerHashOf(log, sequence + 1), 0, "nothing ahead");
            same(registry.namespaceOf(log).publisher, publisher[log], "publisher");
        }
    }
}

contract RegistryInvariants is Base {
    RegistryHandler private handler;

    function setUp() public {
        handler = new RegistryHandler(new CommitmentRegistry(), address(new FirstByteVerifier()));
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_a_log_is_what_was_anchored_in_order_and_nothing_else() public view {
        handler.compare();
    }
}

/// Changes stakes, rolls epochs and asks for certificates, as the governor and as others.
contract QuorumHandler is Quorum {
    uint256 private constant KNOWN = 6;
    bytes32[] private ids;
    /// By epoch: stakes of all known signers, as they must be in its snapshot.
    mapping(uint64 => uint64[6]) private frozen;
    /// Changes that were asked for: by signer, the stake and from when on.
    uint64[6] private wanted;
    uint64[6] private from;
    uint64[6] private current;
    uint64 public epochs;
    uint64 private startedAt;
    /// Certificates asked about. Written, since forge calls no function that only reads.
    uint256 public taken;
    uint256 public refusals;

    constructor() {
        vm.warp(1_800_000_000);
        quorum = newQuorum();
        uint64[] memory stakes = equalStakes(KNOWN, 9);
        start(quorum, stakes);
        for (uint256 i = 0; i < KNOWN; ++i) {
            ids.push(keccak256(keyOf(secret(i))));
            current[i] = wanted[i] = 9;
            from[i] = 1;
        }
        frozen[1] = current;
        epochs = 1;
        startedAt = time();
    }

    function setStake(uint256 which, uint64 stake, bool asGovernor) external {
        which = which % KNOWN;
        stake = stake % 4 == 0 ? 0 : stake % 100;
        bytes32[] memory one = new bytes32[](1);
        one[0] = ids[which];
        if (asGovernor) vm.prank(GOVERNOR);
        try quorum.setStakes(one, equalStakes(1, stake)) {
            check(asGovernor, "set by another");
            if (epochs >= from[which]) current[which] = wanted[which];
            (wanted[which], from[which]) = (stake, epochs + 2);
        } catch {
            check(!asGovernor, "refused");
        }
    }

    function roll(uint256 seconds_) external {
        vm.warp(time() + seconds_ % (2 * EPOCH_SECONDS));
        bool over = time() >= startedAt + EPOCH_SECONDS;
        try quorum.rollEpoch() returns (uint64 number) {
            check(over && number == epochs + 1, "rolled");
            epochs = number;
            startedAt = time();
            uint64[6] memory stakes;
            bool any = false;
            for (uint256 i = 0; i < KNOWN; ++i) {
                stakes[i] = number >= from[i] ? wanted[i] : current[i];
                any = any || stakes[i] != 0;
            }
            frozen[number] = any ? stakes : frozen[number - 1];
        } catch {
            check(!over, "refused");
        }
    }

    /// A certificate by any set of signers, for any epoch: taken if and only if epoch and stake say so.
    function certificate(uint64 back, uint8 set, bytes32 headerHash) external {
        // Mostly near the current epoch, and with most signers: the others are refused anyway.
        uint64 of_ = back % 8 == 0 ? epochs - back % (epochs + 1) : epochs - back % (epochs < 4 ? epochs : 4);
        if (back & 16 != 0) set |= uint8(0x3f ^ (1 << (set % 6)));
        Claim memory said = claim(of_);
        (bytes memory bitmap, uint256 with, uint256 signed, uint256 sum) = signersOf(of_, set);
        bytes memory message = signedMessage(address(quorum), "n", 3, headerHash, said);
        bytes memory signature = with == 0 ? new bytes(128) : sign(with, message, SIGNATURE_TAG);
        bool right = of_ != 0 && epochs - of_ <= 2 && 3 * signed > 2 * sum;
        try quorum.verifyCertificate("n", 3, headerHash, bytes.concat(unsigned(said), signature, bitmap)) {
            check(right, "taken");
            ++taken;
        } catch {
            check(!right, "refused");
            ++refusals;
        }
    }

    /// Members in the snapshot's own order; which of them sign is `set`, by their number among the known.
    function signersOf(uint64 of_, uint8 set)
        private
        view
        returns (bytes memory bitmap, uint256 with, uint256 signed, uint256 sum)
    {
        if (of_ == 0) return ("", 1, 0, 0);
        (,, bytes[] memory keys, uint64[] memory stakes) = quorum.membersOf(of_);
        bitmap = new bytes((keys.length + 7) / 8);
        for (uint256 i = 0; i < keys.length; ++i) {
            uint256 who = numberOf(keccak256(keys[i]));
            sum += stakes[i];
            if (set >> who & 1 == 1) {
                signed += stakes[i];
                with = addmod(with, secret(who), ORDER);
            } else {
                bitmap[i / 8] |= bytes1(uint8(0x80 >> (i % 8)));
            }
        }
    }

    function numberOf(bytes32 id) private view returns (uint256) {
        for (uint256 i = 0; i < KNOWN; ++i) if (ids[i] == id) return i;
        revert Fails("a member that nobody named");
    }

    /// Every epoch's snapshot is what the model froze, each member once, and its aggregate is the sum of its keys.
    function compare() external view {
        same(quorum.epoch(), epochs, "epoch");
        uint64 oldest = epochs > 3 ? epochs - 3 : 1;
        for (uint64 of_ = oldest; of_ <= epochs; ++of_) {
            (, bytes memory aggregate, bytes[] memory keys, uint64[] memory stakes) = quorum.membersOf(of_);
            uint256 sum = 0;
            uint256 members = 0;
            uint256 with = 0;
            for (uint256 i = 0; i < keys.length; ++i) {
                uint256 who = numberOf(keccak256(keys[i]));
                check(members >> who & 1 == 0, "twice");
                members |= 1 << who;
                same(stakes[i], frozen[of_][who], "stake");
                check(stakes[i] != 0, "a member without stake");
                sum += stakes[i];
                with = addmod(with, secret(who), ORDER);
            }
            for (uint256 i = 0; i < KNOWN; ++i) check(members >> i & 1 == 1 || frozen[of_][i] == 0, "left out");
            same(aggregate, keyOf(with), "aggregate");
        }
    }
}

contract QuorumInvariants is Base {
    QuorumHandler private handler;

    function setUp() public {
        handler = new QuorumHandler();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_snapshots_are_what_the_governor_said_two_epochs_before() public view {
        handler.compare();
    }
}
