// SPDX-License-Identifier: Apache-2.0
// The registry alone: names, roles, order of batches, events, storage, and what it answers about entries. Certificates
// are those of a stand-in here; Anchor.t.sol has the real quorum.
//
// Invariant: every error of the registry is met by a test, with its facts.
// Does not know: curves.
pragma solidity 0.8.37;

import {BatchHeader} from "../src/BatchHeader.sol";
import {CommitmentRegistry} from "../src/CommitmentRegistry.sol";
import {IDaVerifier} from "../src/IDaVerifier.sol";
import {Base} from "./Base.sol";

/// Vouches for what begins with a given byte: a stand-in for tests, deployed by them alone.
contract FirstByteVerifier is IDaVerifier {
    uint32 public constant kind = 77;

    error Unconvinced();

    function verifyCertificate(bytes32, uint64, bytes32, bytes calldata certificate)
        external
        pure
        returns (Availability memory)
    {
        if (certificate.length != 1 || certificate[0] != 0x01) revert Unconvinced();
        return Availability(bytes32("commitment"), 5, 6);
    }
}

/// Tries to write while it is asked.
contract ReentrantVerifier {
    uint32 public constant kind = 77;
    CommitmentRegistry private immutable registry;

    constructor(CommitmentRegistry of_) {
        registry = of_;
    }

    function verifyCertificate(bytes32 namespace, uint64, bytes32, bytes calldata)
        external
        returns (IDaVerifier.Availability memory)
    {
        registry.offerPublisher(namespace, address(this));
        return IDaVerifier.Availability(0, 0, 0);
    }
}

/// Headers for tests of the registry.
abstract contract Headers is Base {
    CommitmentRegistry internal registry;

    function encode(BatchHeader.Fields memory fields) internal pure returns (bytes memory) {
        return bytes.concat(
            abi.encodePacked(uint16(1), fields.chainId, fields.registry, fields.namespace, fields.sequence),
            abi.encodePacked(fields.previousHeaderHash, fields.firstPosition, fields.lastPosition),
            abi.encodePacked(fields.entryCount, fields.batchRoot, fields.stateRoot, fields.keyEpoch)
        );
    }

    function hashOf(bytes memory header) internal pure returns (bytes32) {
        return keccak256(bytes.concat(hex"11", header));
    }

    /// What comes next in a namespace.
    function next(bytes32 namespace) internal view returns (BatchHeader.Fields memory fields) {
        (uint64 sequence, uint64 last, bytes32 hash) = registry.headOf(namespace);
        fields = BatchHeader.Fields({
            chainId: chain(),
            registry: address(registry),
            namespace: namespace,
            sequence: sequence + 1,
            previousHeaderHash: hash,
            firstPosition: last + 1,
            lastPosition: last + 10,
            entryCount: 3,
            batchRoot: keccak256(abi.encode("batch", sequence)),
            stateRoot: 0,
            keyEpoch: 7
        });
    }
}

contract CommitmentRegistryTest is Headers {
    address private constant PUBLISHER = address(0xab);
    address private constant STRANGER = address(0x57);
    bytes private constant GOOD = hex"01";

    FirstByteVerifier private verifier;
    bytes32 private namespace;

    function setUp() public {
        registry = new CommitmentRegistry();
        verifier = new FirstByteVerifier();
        namespace = registry.createNamespace("salt", PUBLISHER, address(verifier), 77);
    }

    function anchor(BatchHeader.Fields memory fields) private returns (bytes32) {
        vm.prank(PUBLISHER);
        return registry.anchor(encode(fields), GOOD);
    }

    function refused(BatchHeader.Fields memory fields, bytes memory reason) private {
        bytes memory header = encode(fields);
        vm.prank(PUBLISHER);
        vm.expectRevert(reason);
        registry.anchor(header, GOOD);
    }

    // Namespaces

    function test_a_namespace_is_named_by_chain_registry_creator_and_salt() public {
        bytes32 expected = keccak256(
            abi.encodePacked(chain(), address(registry), address(this), bytes32("salt"))
        );
        same(namespace, expected, "id");
        same(registry.namespaceId(address(this), "salt"), expected, "id asked for");
        vm.expectEmit(true, true, true, true, address(registry));
        bytes32 other = registry.namespaceId(STRANGER, "salt");
        emit CommitmentRegistry.NamespaceCreated(other, STRANGER, PUBLISHER, "salt", address(verifier), 77);
        vm.prank(STRANGER);
        same(registry.createNamespace("salt", PUBLISHER, address(verifier), 77), other, "of another creator");
        CommitmentRegistry.Namespace memory log = registry.namespaceOf(other);
        same(log.publisher, PUBLISHER, "publisher");
        same(log.verifier, address(verifier), "verifier");
        same(log.kind, 77, "kind");
        same(log.sequence, 0, "sequence");
    }

    function test_a_namespace_is_created_once_and_completely() public {
        vm.expectRevert(abi.encodeWithSelector(CommitmentRegistry.NamespaceExists.selector, namespace));
        registry.createNamespace("salt", STRANGER, address(verifier), 77);
        vm.expectRevert(abi.encodeWithSelector(CommitmentRegistry.ZeroAddress.selector));
        registry.createNamespace("b", address(0), address(verifier), 77);
        vm.expectRevert(abi.encodeWithSelector(CommitmentRegistry.ZeroAddress.selector));
        registry.createNamespace("b", PUBLISHER, address(0), 77);
        vm.expectRevert(abi.encodeWithSelector(CommitmentRegistry.VerifierKind.selector, 1, 77));
        registry.createNamespace("b", PUBLISHER, address(verifier), 1);
        vm.expectRevert();
        registry.createNamespace("b", PUBLISHER, STRANGER, 77);
    }

    function test_nothing_works_on_a_namespace_that_nobody_created() public {
        bytes memory unknown = abi.encodeWithSelector(CommitmentRegistry.NamespaceUnknown.selector, bytes32("?"));
        vm.expectRevert(unknown);
        registry.headOf("?");
        vm.expectRevert(unknown);
        registry.namespaceOf("?");
        vm.expectRevert(unknown);
        registry.offerPublisher("?", STRANGER);
        vm.prank(address(0));
        vm.expectRevert(unknown);
        registry.acceptPublisher("?");
        BatchHeader.Fields memory fields = next(namespace);
        fields.namespace = "?";
        refused(fields, unknown);
    }

    // Roles

    function test_a_role_moves_in_two_steps() public {
        vm.prank(PUBLISHER);
        vm.expectEmit(true, true, true, true, address(registry));
        emit CommitmentRegistry.PublisherOffered(namespace, PUBLISHER, STRANGER);
        registry.offerPublisher(namespace, STRANGER);
        anchor(next(namespace));
        vm.prank(STRANGER);
        vm.expectEmit(true, true, true, true, address(registry));
        emit CommitmentRegistry.PublisherChanged(namespace, PUBLISHER, STRANGER);
        registry.acceptPublisher(namespace);
        BatchHeader.Fields memory fields = next(namespace);
        refused(
            fields, abi.encodeWithSelector(CommitmentRegistry.NotPublisher.selector, namespace, STRANGER, PUBLISHER)
        );
        vm.prank(STRANGER);
        registry.anchor(encode(fields), GOOD);
        // An offer is good for one move.
        vm.prank(STRANGER);
        vm.expectRevert(
            abi.encodeWithSelector(CommitmentRegistry.NotOffered.selector, namespace, address(0), STRANGER)
        );
        registry.acceptPublisher(namespace);
    }

    function test_an_offer_can_be_withdrawn_and_replaced() public {
        vm.prank(PUBLISHER);
        registry.offerPublisher(namespace, STRANGER);
        vm.prank(PUBLISHER);
        registry.offerPublisher(namespace, address(0x99));
        vm.prank(STRANGER);
        vm.expectRevert(
            abi.encodeWithSelector(CommitmentRegistry.NotOffered.selector, namespace, address(0x99), STRANGER)
        );
        registry.acceptPublisher(namespace);
        vm.prank(PUBLISHER);
        registry.offerPublisher(namespace, address(0));
        vm.prank(address(0x99));
        vm.expectRevert(
            abi.encodeWithSelector(CommitmentRegistry.NotOffered.selector, namespace, address(0), address(0x99))
        );
        registry.acceptPublisher(namespace);
    }

    function test_a_stranger_neither_offers_nor_anchors() public {
        bytes memory reason =
            abi.encodeWithSelector(CommitmentRegistry.NotPublisher.selector, namespace, PUBLISHER, STRANGER);
        bytes memory header = encode(next(namespace));
        vm.prank(STRANGER);
        vm.expectRevert(reason);
        registry.offerPublisher(namespace, STRANGER);
        vm.prank(STRANGER);
        vm.expectRevert(reason);
        registry.anchor(header, GOOD);
        // Nor does the creator, who is not the publisher.
        vm.expectRevert(
            abi.encodeWithSelector(CommitmentRegistry.NotPublisher.selector, namespace, PUBLISHER, address(this))
        );
        registry.anchor(header, GOOD);
    }

    // Order

    function test_batches_follow_each_other() public {
        for (uint64 n = 1; n <= 3; ++n) {
            BatchHeader.Fields memory fields = next(namespace);
            bytes memory header = encode(fields);
            same(header.length, 190, "bytes");
            vm.expectEmit(true, true, true, true, address(registry));
            emit CommitmentRegistry.Anchored(
                namespace, n, hashOf(header), bytes32("commitment"), 5, 6, header, GOOD
            );
            same(anchor(fields), hashOf(header), "hash");
            (uint64 sequence, uint64 last, bytes32 hash) = registry.headOf(namespace);
            same(sequence, n, "sequence");
            same(last, 10 * n, "last position");
            same(hash, hashOf(header), "head's hash");
            same(registry.headerHashOf(namespace, n), hashOf(header), "hash asked for");
        }
        same(registry.headerHashOf(namespace, 0), 0, "none before the first");
        same(registry.headerHashOf(namespace, 4), 0, "none after the last");
    }

    function test_one_storage_slot_proves_a_header_hash() public {
        anchor(next(namespace));
        bytes32 hash = anchor(next(namespace));
        // docs/formats/log.md §6.
        bytes32 ofNamespace = keccak256(abi.encode(namespace, uint256(0)));
        bytes32 slot = keccak256(abi.encode(uint256(2), ofNamespace));
        same(vm.load(address(registry), slot), hash, "slot");
        bytes32 log = keccak256(abi.encode(namespace, uint256(1)));
        uint256 first = uint256(77) << 224 | uint256(2) << 160 | uint256(uint160(PUBLISHER));
        same(uint256(vm.load(address(registry), log)), first, "kind, sequence, publisher");
        uint256 second = uint256(20) << 160 | uint256(uint160(address(verifier)));
        same(uint256(vm.load(address(registry), bytes32(uint256(log) + 1))), second, "last position, verifier");
    }

    function test_a_sequence_is_taken_once() public {
        BatchHeader.Fields memory first = next(namespace);
        bytes32 hash = anchor(first);
        // With the same header and with another: the error says which one is there.
        bytes memory taken =
            abi.encodeWithSelector(CommitmentRegistry.SequenceTaken.selector, namespace, uint64(1), hash);
        refused(first, taken);
        first.keyEpoch = 8;
        refused(first, taken);
        anchor(next(namespace));
        refused(first, taken);
    }

    function test_no_sequence_is_left_out() public {
        BatchHeader.Fields memory fields = next(namespace);
        fields.sequence = 2;
        refused(fields, gap(1, 2));
        fields.sequence = 0;
        refused(fields, gap(1, 0));
        anchor(next(namespace));
        fields = next(namespace);
        fields.sequence = 3;
        refused(fields, gap(2, 3));
        fields.sequence = 0;
        refused(fields, gap(2, 0));
        fields.sequence = type(uint64).max;
        refused(fields, gap(2, type(uint64).max));
    }

    function gap(uint64 expected, uint64 found) private view returns (bytes memory) {
        return abi.encodeWithSelector(CommitmentRegistry.SequenceGap.selector, namespace, expected, found);
    }

    function test_the_header_before_is_named() public {
        BatchHeader.Fields memory fields = next(namespace);
        fields.previousHeaderHash = "x";
        refused(fields, abi.encodeWithSelector(CommitmentRegistry.PreviousHeader.selector, bytes32(0), bytes32("x")));
        bytes32 first = anchor(next(namespace));
        fields = next(namespace);
        fields.previousHeaderHash = 0;
        refused(fields, abi.encodeWithSelector(CommitmentRegistry.PreviousHeader.selector, first, bytes32(0)));
    }

    function test_positions_go_on() public {
        BatchHeader.Fields memory fields = next(namespace);
        (fields.firstPosition, fields.lastPosition) = (5, 4);
        refused(fields, positions(0, 5, 4));
        // The first batch may begin at 0, and a batch may be of one commit.
        (fields.firstPosition, fields.lastPosition) = (0, 0);
        anchor(fields);
        fields = next(namespace);
        (fields.firstPosition, fields.lastPosition) = (0, 9);
        refused(fields, positions(0, 0, 9));
        // Positions may be left out: not every commit has an entry.
        (fields.firstPosition, fields.lastPosition) = (100, 200);
        anchor(fields);
        fields = next(namespace);
        (fields.firstPosition, fields.lastPosition) = (200, 300);
        refused(fields, positions(200, 200, 300));
        (fields.firstPosition, fields.lastPosition) = (201, 200);
        refused(fields, positions(200, 201, 200));
    }

    function positions(uint64 anchored, uint64 first, uint64 last) private pure returns (bytes memory) {
        return abi.encodeWithSelector(CommitmentRegistry.Positions.selector, anchored, first, last);
    }

    function test_header_fields_are_checked() public {
        BatchHeader.Fields memory fields = next(namespace);
        fields.chainId = 5;
        refused(
            fields,
            abi.encodeWithSelector(CommitmentRegistry.WrongChain.selector, chain(), uint64(5))
        );
        fields = next(namespace);
        fields.registry = STRANGER;
        refused(fields, abi.encodeWithSelector(CommitmentRegistry.WrongRegistry.selector, address(registry), STRANGER));
        fields = next(namespace);
        fields.entryCount = 0;
        refused(fields, abi.encodeWithSelector(CommitmentRegistry.BatchEmpty.selector));
        fields = next(namespace);
        fields.stateRoot = "s";
        refused(fields, abi.encodeWithSelector(CommitmentRegistry.StateRootReserved.selector, bytes32("s")));
        bytes memory header = encode(next(namespace));
        vm.prank(PUBLISHER);
        vm.expectRevert(abi.encodeWithSelector(BatchHeader.HeaderLength.selector, 191));
        registry.anchor(bytes.concat(header, bytes1(0)), GOOD);
        vm.prank(PUBLISHER);
        vm.expectRevert(abi.encodeWithSelector(BatchHeader.HeaderLength.selector, 189));
        registry.anchor(slice(header, 0, 189), GOOD);
        header[1] = 0x02;
        vm.prank(PUBLISHER);
        vm.expectRevert(abi.encodeWithSelector(BatchHeader.HeaderVersion.selector, 2));
        registry.anchor(header, GOOD);
    }

    function test_a_fork_takes_no_headers_of_the_other_chain() public {
        bytes memory header = encode(next(namespace));
        uint64 before = chain();
        vm.chainId(before + 1);
        vm.prank(PUBLISHER);
        vm.expectRevert(abi.encodeWithSelector(CommitmentRegistry.WrongChain.selector, before + 1, before));
        registry.anchor(header, GOOD);
        vm.chainId(before);
    }

    // Certificates

    function test_nothing_is_anchored_without_its_verifiers_word() public {
        bytes memory header = encode(next(namespace));
        vm.prank(PUBLISHER);
        vm.expectRevert(abi.encodeWithSelector(FirstByteVerifier.Unconvinced.selector));
        registry.anchor(header, hex"00");
        vm.prank(PUBLISHER);
        vm.expectRevert(abi.encodeWithSelector(FirstByteVerifier.Unconvinced.selector));
        registry.anchor(header, "");
        (uint64 sequence,,) = registry.headOf(namespace);
        same(sequence, 0, "nothing anchored");
    }

    function test_a_verifier_cannot_write_while_it_is_asked() public {
        ReentrantVerifier reentrant = new ReentrantVerifier(registry);
        bytes32 log = registry.createNamespace("r", address(reentrant), address(reentrant), 77);
        bytes memory header = encode(next(log));
        vm.prank(address(reentrant));
        vm.expectRevert();
        registry.anchor(header, GOOD);
        same(registry.namespaceOf(log).offeredTo, address(0), "nothing offered");
    }

    // Entries

    function test_entries_are_proven_by_the_anchored_header_alone() public {
        bytes32[3] memory leaves;
        for (uint32 i = 0; i < 3; ++i) leaves[i] = registry.entryLeaf(namespace, 4 + i, i, keccak256(abi.encode(i)));
        bytes32 pair = node(leaves[0], leaves[1]);
        BatchHeader.Fields memory fields = next(namespace);
        fields.batchRoot = node(pair, leaves[2]);
        bytes memory header = encode(fields);
        check(!entry(1, header, leaves[2], 2, abi.encode(pair)), "before it is anchored");
        anchor(fields);
        check(entry(1, header, leaves[0], 0, abi.encode(leaves[1], leaves[2])), "first");
        check(entry(1, header, leaves[1], 1, abi.encode(leaves[0], leaves[2])), "second");
        check(entry(1, header, leaves[2], 2, abi.encode(pair)), "promoted");

        check(!entry(2, header, leaves[2], 2, abi.encode(pair)), "another sequence");
        check(!entry(0, header, leaves[2], 2, abi.encode(pair)), "no sequence");
        check(!registry.verifyEntry("?", 1, header, leaves[2], 2, abi.encode(pair)), "another namespace");
        check(!entry(1, "", leaves[2], 2, abi.encode(pair)), "no header");
        check(!entry(1, header, leaves[2], 3, abi.encode(pair)), "out of range");
        check(!entry(1, header, leaves[2], 1, abi.encode(pair)), "another place");
        check(!entry(1, header, pair, 0, abi.encode(leaves[2])), "inner node as leaf");
        check(!entry(1, header, fields.batchRoot, 0, ""), "root as leaf");
        check(!entry(1, header, leaves[0], 0, abi.encode(leaves[1])), "short");
        check(!entry(1, header, leaves[0], 0, abi.encode(leaves[1], leaves[2], bytes32(0))), "long");
        // A header with another count over the same root is not the anchored one.
        fields.entryCount = 2;
        check(!entry(1, encode(fields), pair, 0, abi.encode(leaves[2])), "another count");
    }

    function node(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(0x25), left, right));
    }

    function entry(uint64 sequence, bytes memory header, bytes32 leaf, uint32 index, bytes memory proof)
        private
        view
        returns (bool)
    {
        return registry.verifyEntry(namespace, sequence, header, leaf, index, proof);
    }

    function test_leaves_bind_chain_registry_namespace_position_index_and_record() public {
        bytes32 leaf = registry.entryLeaf(namespace, 5, 6, "d");
        bytes memory text =
            abi.encodePacked(uint8(0x10), chain(), address(registry), namespace, uint64(5), uint32(6), bytes32("d"));
        same(text.length, 105, "bytes");
        same(leaf, keccak256(text), "leaf");
        check(leaf != registry.entryLeaf("?", 5, 6, "d"), "namespace");
        check(leaf != registry.entryLeaf(namespace, 6, 5, "d"), "position and index");
        check(leaf != registry.entryLeaf(namespace, 5, 6, "e"), "record");
        check(leaf != new CommitmentRegistry().entryLeaf(namespace, 5, 6, "d"), "registry");
        vm.chainId(99);
        check(leaf != registry.entryLeaf(namespace, 5, 6, "d"), "chain");
    }

    function testFuzz_only_what_comes_next_is_anchored(BatchHeader.Fields memory fields, uint256 keep) public {
        anchor(next(namespace));
        BatchHeader.Fields memory good = next(namespace);
        // Each field is right or random; certificates are always good.
        if (keep & 1 != 0) fields.chainId = good.chainId;
        if (keep & 2 != 0) fields.registry = good.registry;
        if (keep & 4 != 0) fields.namespace = good.namespace;
        if (keep & 8 != 0) fields.sequence = good.sequence;
        if (keep & 16 != 0) fields.previousHeaderHash = good.previousHeaderHash;
        if (keep & 32 != 0) fields.stateRoot = 0;
        bool right = fields.chainId == good.chainId && fields.registry == good.registry
            && fields.namespace == good.namespace && fields.sequence == good.sequence
            && fields.previousHeaderHash == good.previousHeaderHash && fields.firstPosition > 10
            && fields.firstPosition <= fields.lastPosition && fields.entryCount > 0 && fields.stateRoot == 0;
        bytes memory header = encode(fields);
        vm.prank(PUBLISHER);
        try registry.anchor(header, GOOD) {
            check(right, "anchored");
        } catch {
            check(!right, "refused");
        }
    }

    function testFuzz_headers_come_back_from_their_encoding(BatchHeader.Fields memory fields) public view {
        bytes memory header = encode(fields);
        same(abi.encode(this.decode(header)), abi.encode(fields), "fields");
        same(this.digest(header), hashOf(header), "hash");
    }

    function decode(bytes calldata header) external pure returns (BatchHeader.Fields memory) {
        return BatchHeader.decode(header);
    }

    function digest(bytes calldata header) external pure returns (bytes32) {
        return BatchHeader.hash(header);
    }
}
