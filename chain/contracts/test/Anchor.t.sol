// SPDX-License-Identifier: Apache-2.0
// Registry and quorum together: what a publisher does, and what someone who is none may try.
//
// Invariant: what is refused leaves no trace in the log.
// Does not know: nodes; their signatures are made with their secrets.
pragma solidity 0.8.37;

import {BatchHeader} from "../src/BatchHeader.sol";
import {CommitmentRegistry} from "../src/CommitmentRegistry.sol";
import {DaQuorum} from "../src/DaQuorum.sol";
import {Quorum} from "./Quorum.sol";
import {Headers} from "./CommitmentRegistry.t.sol";

contract AnchorTest is Quorum, Headers {
    address private constant PUBLISHER = address(0xab);
    bytes32 private namespace;

    function setUp() public {
        vm.warp(1_800_000_000);
        registry = new CommitmentRegistry();
        quorum = newQuorum();
        start(quorum, equalStakes(7, 10));
        namespace = registry.createNamespace("salt", PUBLISHER, address(quorum), 1);
    }

    function certified(BatchHeader.Fields memory fields, uint256 absent) private view returns (bytes memory) {
        bytes32 hash = hashOf(encode(fields));
        return certify(fields.namespace, fields.sequence, hash, claim(quorum.epoch()), 7, absent);
    }

    function anchor(BatchHeader.Fields memory fields, bytes memory certificate) private {
        bytes memory header = encode(fields);
        vm.prank(PUBLISHER);
        registry.anchor(header, certificate);
    }

    function refused(BatchHeader.Fields memory fields, bytes memory certificate, bytes memory reason) private {
        bytes memory header = encode(fields);
        (uint64 head,,) = registry.headOf(namespace);
        vm.prank(PUBLISHER);
        vm.expectRevert(reason);
        registry.anchor(header, certificate);
        (uint64 sequence,,) = registry.headOf(namespace);
        same(sequence, head, "no trace");
    }

    bytes private invalid = abi.encodeWithSelector(DaQuorum.SignatureInvalid.selector);

    function test_certified_batches_are_anchored_one_after_the_other() public {
        for (uint256 n = 0; n < 4; ++n) {
            BatchHeader.Fields memory fields = next(namespace);
            bytes memory header = encode(fields);
            bytes memory certificate = certified(fields, n % 3);
            vm.expectEmit(true, true, true, true, address(registry));
            emit CommitmentRegistry.Anchored(
                namespace,
                fields.sequence,
                hashOf(header),
                keccak256("commitment"),
                1000,
                time() + 30 days,
                header,
                certificate
            );
            anchor(fields, certificate);
            nextEpoch();
        }
    }

    /// Root A with blob B: nodes signed another header than the one that is sent.
    function test_a_certificate_of_another_header_is_refused() public {
        BatchHeader.Fields memory fields = next(namespace);
        bytes memory certificate = certified(fields, 0);
        fields.batchRoot = "another";
        refused(fields, certificate, invalid);
        fields = next(namespace);
        fields.lastPosition += 1;
        refused(fields, certificate, invalid);
        fields = next(namespace);
        fields.entryCount += 1;
        refused(fields, certificate, invalid);
        fields = next(namespace);
        fields.keyEpoch += 1;
        refused(fields, certificate, invalid);
        anchor(next(namespace), certificate);
    }

    function test_a_certificate_is_not_replayed() public {
        BatchHeader.Fields memory fields = next(namespace);
        bytes memory certificate = certified(fields, 0);
        anchor(fields, certificate);
        // As it was.
        bytes32 hash = hashOf(encode(fields));
        bytes memory taken =
            abi.encodeWithSelector(CommitmentRegistry.SequenceTaken.selector, namespace, uint64(1), hash);
        refused(fields, certificate, taken);
        // For the next batch.
        refused(next(namespace), certificate, invalid);
        // In another namespace of the same publisher.
        bytes32 other = registry.createNamespace("other", PUBLISHER, address(quorum), 1);
        bytes memory header = encode(next(other));
        vm.prank(PUBLISHER);
        vm.expectRevert(invalid);
        registry.anchor(header, certificate);
        // In another registry: its header hash differs, its namespace too.
        CommitmentRegistry twin = new CommitmentRegistry();
        bytes32 twins = twin.createNamespace("salt", PUBLISHER, address(quorum), 1);
        check(twins != namespace, "names differ");
        CommitmentRegistry first = registry;
        registry = twin;
        header = encode(next(twins));
        vm.prank(PUBLISHER);
        vm.expectRevert(invalid);
        twin.anchor(header, certificate);
        registry = first;
        // On a chain that split off: header and signature both say no.
        uint64 before = chain();
        BatchHeader.Fields memory second = next(namespace);
        certificate = certified(second, 0);
        vm.chainId(before + 1);
        refused(
            second, certificate, abi.encodeWithSelector(CommitmentRegistry.WrongChain.selector, before + 1, before)
        );
        second.chainId = before + 1;
        refused(second, certificate, invalid);
        vm.chainId(before);
    }

    function test_another_quorum_vouches_for_nothing_here() public {
        DaQuorum own = quorum;
        quorum = newQuorum();
        start(quorum, equalStakes(7, 10));
        bytes memory certificate = certified(next(namespace), 0);
        quorum = own;
        refused(next(namespace), certificate, invalid);
    }

    function test_a_log_is_never_stuck_behind_an_old_certificate() public {
        BatchHeader.Fields memory fields = next(namespace);
        bytes memory old = certified(fields, 0);
        for (uint256 i = 0; i < 3; ++i) nextEpoch();
        refused(fields, old, abi.encodeWithSelector(DaQuorum.EpochStale.selector, uint64(1), uint64(4)));
        anchor(fields, certified(fields, 2));
    }

    function test_a_stranger_with_a_good_certificate_anchors_nothing() public {
        BatchHeader.Fields memory fields = next(namespace);
        bytes memory certificate = certified(fields, 0);
        bytes memory header = encode(fields);
        vm.expectRevert(
            abi.encodeWithSelector(CommitmentRegistry.NotPublisher.selector, namespace, PUBLISHER, address(this))
        );
        registry.anchor(header, certificate);
    }

    function testFuzz_no_changed_byte_is_anchored(uint256 at_, uint8 with, bool inHeader) public {
        anchor(next(namespace), certified(next(namespace), 0));
        BatchHeader.Fields memory fields = next(namespace);
        bytes memory header = encode(fields);
        bytes memory certificate = certified(fields, 1);
        vm.assume(with != 0);
        bytes memory bent = inHeader ? header : certificate;
        bent[at_ % bent.length] ^= bytes1(with);
        vm.prank(PUBLISHER);
        vm.expectRevert();
        registry.anchor{gas: 2_000_000}(header, certificate);
    }
}
