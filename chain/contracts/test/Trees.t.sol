// SPDX-License-Identifier: Apache-2.0
// Merkle paths and block proofs against the committed vectors of docs/formats/commitment.md, and every way of bending
// them.
//
// Invariant: each vector verifies, and no change of one, of whatever level, does.
// Does not know: how the vectors were made; the Rust writer and a Python checker agree on them.
pragma solidity 0.8.37;

import {BlockProof} from "../src/BlockProof.sol";
import {Merkle} from "../src/Merkle.sol";
import {Base} from "./Base.sol";

contract TreesTest is Base {
    string private vectors;
    uint256 private constant FIXED = 57;

    struct Proof {
        bytes32 root;
        bytes proof;
        bytes32 leaf;
    }

    Proof[] private proofs;

    function setUp() public {
        vectors = vm.readFile("../../docs/formats/vectors/commitment.json");
        for (uint256 o = 0;; ++o) {
            string memory object = string.concat(".objects[", vm.toString(o), "]");
            if (!vm.keyExistsJson(vectors, object)) break;
            bytes32 root = hexBytes32(string.concat(object, ".object_root"));
            for (uint256 p = 0;; ++p) {
                string memory at_ = string.concat(object, ".proofs[", vm.toString(p), "]");
                if (!vm.keyExistsJson(vectors, at_)) break;
                proofs.push(Proof(root, hexBytes(string.concat(at_, ".proof")), hexBytes32(string.concat(at_, ".leaf"))));
            }
        }
    }

    /// The vectors write hexadecimal without a prefix.
    function hexBytes(string memory key) private view returns (bytes memory) {
        return unhex(bytes(vm.parseJsonString(vectors, key)));
    }

    function hexBytes32(string memory key) private view returns (bytes32) {
        return bytes32(hexBytes(key));
    }

    function verifyPath(uint8 tag, bytes32 root, bytes32 leaf, uint256 index, uint256 count, bytes calldata path)
        external
        pure
        returns (bool)
    {
        return Merkle.verify(tag, root, leaf, index, count, path);
    }

    function verifyBlock(bytes32 root, bytes calldata proof, bytes32 leaf) external pure returns (bool) {
        return BlockProof.verify(root, proof, leaf);
    }

    function test_every_path_of_the_vectors_verifies_and_nothing_near_it() public view {
        uint256 paths = 0;
        for (uint256 t = 0;; ++t) {
            string memory tree = string.concat(".trees[", vm.toString(t), "]");
            if (!vm.keyExistsJson(vectors, tree)) break;
            uint8 tag = uint8(hexBytes(string.concat(tree, ".node_tag"))[0]);
            bytes32 root = hexBytes32(string.concat(tree, ".root"));
            string[] memory leaves = vm.parseJsonStringArray(vectors, string.concat(tree, ".leaves"));
            for (uint256 i = 0; i < leaves.length; ++i) {
                string memory at_ = string.concat(tree, ".paths[", vm.toString(i), "]");
                string[] memory siblings = vm.parseJsonStringArray(vectors, at_);
                bytes memory path;
                for (uint256 s = 0; s < siblings.length; ++s) path = bytes.concat(path, unhex(bytes(siblings[s])));
                nothingNear(tag, root, bytes32(unhex(bytes(leaves[i]))), i, leaves.length, path);
                ++paths;
            }
        }
        same(paths, 4 * (1 + 2 + 3 + 5), "paths");
    }

    function nothingNear(uint8 tag, bytes32 root, bytes32 leaf, uint256 index, uint256 count, bytes memory path)
        private
        view
    {
        check(this.verifyPath(tag, root, leaf, index, count, path), "path");
        check(!this.verifyPath(tag, root, leaf, count, count, path), "index out of range");
        check(!this.verifyPath(tag, root, leaf, index + (1 << 32), count, path), "far index");
        check(!this.verifyPath(tag, root, ~leaf, index, count, path), "leaf");
        check(!this.verifyPath(tag, ~root, leaf, index, count, path), "root");
        check(count == 1 || !this.verifyPath(tag ^ 1, root, leaf, index, count, path), "tag");
        check(!this.verifyPath(tag, root, leaf, index, count, bytes.concat(path, bytes32(0))), "long");
        check(!this.verifyPath(tag, root, leaf, index, count, bytes.concat(path, bytes1(0))), "long by a byte");
        check(!this.verifyPath(tag, root, leaf, index, 0, path), "of none");
        if (path.length == 0) return;
        check(!this.verifyPath(tag, root, leaf, index, count, slice(path, 0, path.length - 32)), "short");
        check(!this.verifyPath(tag, root, leaf, index, count, slice(path, 0, path.length - 1)), "short by a byte");
        check(!this.verifyPath(tag, root, leaf, index ^ 1, count, path), "sibling's index");
        // The node above the leaf, taken for a leaf, with what is left of the path.
        bytes32 sibling = bytes32(path);
        bytes32 inner = index & 1 == 1 ? Merkle.join(tag, sibling, leaf) : Merkle.join(tag, leaf, sibling);
        bytes memory rest = slice(path, 32, path.length);
        for (uint256 i = 0; i < count; ++i) check(!this.verifyPath(tag, root, inner, i, count, rest), "inner node");
    }

    function testFuzz_any_tree_proves_each_of_its_leaves(uint256 seed, uint256 count, uint256 index) public view {
        count = bound(count, 1, 70);
        index = bound(index, 0, count - 1);
        bytes32[] memory level = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) level[i] = keccak256(abi.encode(seed, i));
        bytes32 leaf = level[index];
        (bytes32 root, bytes memory path) = pathOf(0x25, level, index);
        same(path.length, 32 * Merkle.siblings(index, count), "length");
        nothingNear(0x25, root, leaf, index, count, path);
    }

    /// Written apart from Merkle: root and path of one leaf.
    function pathOf(uint8 tag, bytes32[] memory level, uint256 index) private pure returns (bytes32, bytes memory path) {
        while (level.length > 1) {
            bytes32[] memory next = new bytes32[]((level.length + 1) / 2);
            for (uint256 i = 0; i < next.length; ++i) {
                bool alone = 2 * i + 1 == level.length;
                next[i] = alone ? level[2 * i] : keccak256(abi.encodePacked(tag, level[2 * i], level[2 * i + 1]));
            }
            uint256 sibling = index ^ 1;
            if (sibling < level.length) path = bytes.concat(path, level[sibling]);
            (level, index) = (next, index / 2);
        }
        return (level[0], path);
    }

    function test_every_block_proof_of_the_vectors_verifies() public view {
        same(proofs.length, 29, "proofs");
        for (uint256 i = 0; i < proofs.length; ++i) {
            check(this.verifyBlock(proofs[i].root, proofs[i].proof, proofs[i].leaf), vm.toString(i));
        }
    }

    function test_no_bit_of_a_block_proof_may_differ() public view {
        for (uint256 i = 0; i < proofs.length; ++i) this.noBitMayDiffer(i);
    }

    /// A call of its own for each proof, so that memory does not pile up.
    function noBitMayDiffer(uint256 i) external view {
        Proof memory of_ = proofs[i];
        for (uint256 bit = 0; bit < of_.proof.length * 8; ++bit) {
            // All bits of headers and indexes, one of each eight bytes of siblings.
            if (bit > FIXED * 8 && bit % 64 != 0) continue;
            // With k = 1 all shards are equal copies, and each is rightly where any other is.
            if (bit / 8 == 52 && of_.proof[46] == 0x01) continue;
            check(!this.verifyBlock(of_.root, flipped(of_.proof, bit), of_.leaf), "bit");
        }
    }

    function test_block_proofs_of_another_length_are_refused() public view {
        for (uint256 i = 0; i < proofs.length; ++i) this.noLengthMayDiffer(i);
    }

    function noLengthMayDiffer(uint256 i) external view {
        Proof memory of_ = proofs[i];
        for (uint256 length = 0; length < of_.proof.length; ++length) {
            check(!this.verifyBlock(of_.root, slice(of_.proof, 0, length), of_.leaf), "short");
        }
        check(!this.verifyBlock(of_.root, bytes.concat(of_.proof, bytes1(0)), of_.leaf), "a byte more");
        check(!this.verifyBlock(of_.root, bytes.concat(of_.proof, bytes32(0)), of_.leaf), "a node more");
    }

    /// Every digest on the way from a block to the root, offered as a block's digest with every shorter proof.
    function test_no_inner_node_of_any_level_passes_for_a_block() public view {
        for (uint256 i = 0; i < proofs.length; ++i) {
            Proof memory of_ = proofs[i];
            check(!this.verifyBlock(of_.root, of_.proof, of_.root), "the root itself");
            for (uint256 cut = FIXED + 32; cut <= of_.proof.length; cut += 32) {
                bytes32 sibling = bytes32(slice(of_.proof, cut - 32, cut));
                bytes memory shorter = bytes.concat(slice(of_.proof, 0, FIXED), slice(of_.proof, cut, of_.proof.length));
                for (uint8 tag = 0x21; tag <= 0x25; ++tag) {
                    bytes32 left = Merkle.join(tag, of_.leaf, sibling);
                    bytes32 right = Merkle.join(tag, sibling, of_.leaf);
                    check(!this.verifyBlock(of_.root, shorter, left), "left");
                    check(!this.verifyBlock(of_.root, shorter, right), "right");
                    check(!this.verifyBlock(of_.root, of_.proof, left), "left, whole proof");
                }
                // A copy's sibling may be the same block.
                check(sibling == of_.leaf || !this.verifyBlock(of_.root, of_.proof, sibling), "sibling");
            }
        }
    }

    /// The object of several parts: every part's block for every other part's place, chunks swapped, object cut short.
    function test_block_proofs_do_not_move_between_places() public view {
        for (uint256 i = 0; i < proofs.length; ++i) {
            for (uint256 j = 0; j < proofs.length; ++j) {
                Proof memory a = proofs[i];
                Proof memory b = proofs[j];
                if (a.root != b.root) check(!this.verifyBlock(a.root, b.proof, b.leaf), "another object's proof");
                if (a.leaf != b.leaf) check(!this.verifyBlock(a.root, a.proof, b.leaf), "another block");
            }
        }
    }

    /// A truncated object: fewer chunks or parts, or less length, whatever else is made to fit.
    function test_a_truncated_object_is_refused() public view {
        uint256 tried = 0;
        for (uint256 i = 0; i < proofs.length; ++i) {
            bytes memory proof = proofs[i].proof;
            uint64 partLength = uint64(bytes8(slice(proof, 22, 30)));
            uint32 chunkBytes = uint32(bytes4(slice(proof, 30, 34)));
            uint32 chunkCount = uint32(bytes4(slice(proof, 34, 38)));
            uint32 chunk = uint32(bytes4(slice(proof, 38, 42)));
            if (chunkCount < 2 || chunk + 1 == chunkCount) continue;
            uint64 cut = uint64(chunkBytes) * (chunkCount - 1);
            bytes memory header = bytes.concat(
                slice(proof, 0, 4),
                bytes8(uint64(bytes8(slice(proof, 4, 12))) - (partLength - cut)),
                slice(proof, 12, 22),
                bytes8(cut),
                slice(proof, 30, 34),
                bytes4(chunkCount - 1)
            );
            bytes memory rest = slice(proof, 38, proof.length);
            // With each number of siblings, so that the length may fit.
            for (uint256 drop = 0; drop <= rest.length - (FIXED - 38); drop += 32) {
                bytes memory bent = bytes.concat(header, slice(rest, 0, rest.length - drop));
                check(!this.verifyBlock(proofs[i].root, bent, proofs[i].leaf), "truncated");
            }
            ++tried;
        }
        check(tried >= 3, "vectors have objects of several chunks");
    }

    // Roots that cover nonsense: whoever makes an object root can hash any header into it.

    /// A proof in the smallest object there is: one part of 100 bytes, one chunk, k = 1, m = 0, so no siblings.
    function smallest() private pure returns (bytes memory) {
        return bytes.concat(
            abi.encodePacked(uint16(1), uint16(1), uint64(100), uint32(1), uint32(0)),
            abi.encodePacked(uint16(1), uint64(100), uint32(1000), uint32(1), uint32(0)),
            abi.encodePacked(uint32(100), uint8(1), uint8(0), uint32(65536), uint8(0), uint32(0))
        );
    }

    /// The root that headers, siblings of the shard tree and digest make, whether they make sense or not.
    function rootOf(bytes calldata proof, bytes32 digest, uint256 shards) external pure returns (bytes32 node) {
        node = Merkle.fold(0x23, digest, uint8(proof[52]), shards, proof[FIXED:]);
        node = keccak256(abi.encodePacked(uint8(0x03), proof[42:52], node));
        node = keccak256(abi.encodePacked(uint8(0x02), proof[20:38], node));
        node = keccak256(abi.encodePacked(uint8(0x05), proof[22:30], node));
        return keccak256(abi.encodePacked(uint8(0x04), proof[2:16], node));
    }

    /// The smallest proof with one field replaced, under the root that it makes.
    function senseless(uint256 offset, bytes memory value, string memory what) private view {
        bytes memory bent = smallest();
        for (uint256 i = 0; i < value.length; ++i) bent[offset + i] = value[i];
        check(!this.verifyBlock(this.rootOf(bent, "d", 1), bent, "d"), what);
    }

    function test_a_root_over_headers_that_contradict_each_other_proves_nothing() public view {
        check(this.verifyBlock(this.rootOf(smallest(), "d", 1), smallest(), "d"), "the smallest itself");
        senseless(0, hex"0002", "format of the proof");
        senseless(2, hex"0002", "format of the object");
        senseless(20, hex"0002", "format of the blob");
        senseless(4, abi.encodePacked(uint64(99)), "object shorter than its part");
        senseless(4, abi.encodePacked(uint64(101)), "object longer than its only part");
        senseless(12, abi.encodePacked(uint32(0)), "no parts");
        senseless(16, abi.encodePacked(uint32(1)), "part out of range");
        senseless(22, abi.encodePacked(uint64(101)), "part longer than its object");
        senseless(22, abi.encodePacked(uint64(0)), "empty blob with a chunk");
        senseless(30, abi.encodePacked(uint32(0)), "chunks of nothing");
        senseless(30, abi.encodePacked(uint32(99)), "chunks too few");
        senseless(30, abi.encodePacked(uint32(4194305)), "chunks too large");
        senseless(34, abi.encodePacked(uint32(0)), "no chunks");
        senseless(38, abi.encodePacked(uint32(1)), "chunk out of range");
        senseless(42, abi.encodePacked(uint32(99)), "chunk shorter than it is");
        senseless(42, abi.encodePacked(uint32(101)), "chunk longer than it is");
        senseless(42, abi.encodePacked(uint32(0)), "chunk of nothing");
        senseless(46, hex"00", "no data shards");
        senseless(48, abi.encodePacked(uint32(65535)), "cells of another size");
        senseless(52, hex"01", "shard out of range");
        senseless(53, abi.encodePacked(uint32(1)), "block out of range");
    }

    function test_a_chunk_has_at_most_64_shards() public view {
        for (uint8 shards = 63; shards <= 66; ++shards) {
            bytes memory proof = bytes.concat(smallest(), new bytes(32 * Merkle.siblings(0, shards)));
            proof[47] = bytes1(shards - 1);
            same(this.verifyBlock(this.rootOf(proof, "d", shards), proof, "d") ? 1 : 0, shards <= 64 ? 1 : 0, "shards");
        }
    }

    /// A chunk of the middle that is as long as the last, in a blob of two; and one of the largest size there is.
    function test_each_chunk_has_the_length_of_its_place() public view {
        bytes memory proof = smallest();
        bytes memory longer = abi.encodePacked(uint64(1100));
        for (uint256 i = 0; i < 8; ++i) proof[4 + i] = proof[22 + i] = longer[i];
        proof[37] = 0x02;
        check(!this.verifyBlock(this.rootOfChunk(proof, "d"), this.withSibling(proof), "d"), "first with the last's length");
        proof[41] = 0x01;
        check(this.verifyBlock(this.rootOfChunk(proof, "d"), this.withSibling(proof), "d"), "the last");
        (proof[44], proof[45]) = (0x03, 0xe8);
        check(!this.verifyBlock(this.rootOfChunk(proof, "d"), this.withSibling(proof), "d"), "last with the first's length");
        proof[41] = 0x00;
        check(this.verifyBlock(this.rootOfChunk(proof, "d"), this.withSibling(proof), "d"), "the first");
    }

    function withSibling(bytes calldata proof) external pure returns (bytes memory) {
        return bytes.concat(proof, bytes32(uint256(7)));
    }

    /// As rootOf, for one shard and two chunks, the other chunk's root being 7.
    function rootOfChunk(bytes calldata proof, bytes32 digest) external pure returns (bytes32 node) {
        node = keccak256(abi.encodePacked(uint8(0x03), proof[42:52], digest));
        bytes32 other = bytes32(uint256(7));
        node = proof[41] == 0x01 ? Merkle.join(0x22, other, node) : Merkle.join(0x22, node, other);
        node = keccak256(abi.encodePacked(uint8(0x02), proof[20:38], node));
        node = keccak256(abi.encodePacked(uint8(0x05), proof[22:30], node));
        return keccak256(abi.encodePacked(uint8(0x04), proof[2:16], node));
    }

    function testFuzz_noise_is_no_proof_and_no_revert(bytes calldata noise, bytes32 root, bytes32 leaf) public view {
        check(!this.verifyBlock(root, noise, leaf), "noise");
    }

    /// Valid but for one field, so that deeper checks are reached than by noise.
    function testFuzz_no_field_may_differ(uint256 which, uint256 at_, uint32 value) public view {
        Proof memory of_ = proofs[which % proofs.length];
        bytes memory bent = bytes.concat(of_.proof);
        at_ = at_ % (FIXED - 3);
        bytes4 word = bytes4(value);
        for (uint256 i = 0; i < 4; ++i) bent[at_ + i] = word[i];
        vm.assume(keccak256(bent) != keccak256(of_.proof));
        check(!this.verifyBlock(of_.root, bent, of_.leaf), "field");
    }
}
