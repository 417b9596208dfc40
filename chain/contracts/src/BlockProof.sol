// SPDX-License-Identifier: Apache-2.0
// The proof that a block is part of an object: docs/formats/commitment.md §7, conditions 1 to 5 and 7.
//
// Invariant: counts, lengths and coding come from headers that the object root covers; a proof that is longer, shorter
// or out of range anywhere proves nothing, so no node of one tree passes for a node of another.
// Does not know: the block. It is given as BLAKE3 of its bytes, so conditions 6 and 8 (its length, zero padding) stay
// with whoever hashed it.
pragma solidity 0.8.37;

import {Merkle} from "./Merkle.sol";

/// @title Checks block proofs against object roots.
library BlockProof {
    uint256 private constant BYTES = 57;
    uint256 private constant FORMAT = 1;
    uint256 private constant BLOCK_BYTES = 16384;
    uint256 private constant CELL_BYTES = 65536;
    uint256 private constant UNIT_BYTES = 64;
    uint256 private constant CHUNK_BYTES_MAX = 4194304;
    uint256 private constant SHARDS_MAX = 64;

    uint8 private constant BLOCKS = 0x21;
    uint8 private constant CHUNKS = 0x22;
    uint8 private constant SHARDS = 0x23;
    uint8 private constant PARTS = 0x24;

    bytes1 private constant BLOB_TAG = 0x02;
    bytes1 private constant CHUNK_TAG = 0x03;
    bytes1 private constant OBJECT_TAG = 0x04;
    bytes1 private constant PART_TAG = 0x05;

    /// Counts and indexes of the four trees.
    struct Place {
        uint256 part;
        uint256 partCount;
        uint256 chunk;
        uint256 chunkCount;
        uint256 shard;
        uint256 shardCount;
        uint256 block;
        uint256 blockCount;
    }

    /// @notice Whether the block with BLAKE3 `digest` is where `proof` says in the object with `objectRoot`.
    /// @dev Never reverts: what cannot be read is false.
    function verify(bytes32 objectRoot, bytes calldata proof, bytes32 digest) internal pure returns (bool) {
        if (proof.length < BYTES) return false;
        (bool valid, Place memory place) = read(proof);
        if (!valid) return false;
        uint256 toShard = BYTES + 32 * Merkle.siblings(place.block, place.blockCount);
        uint256 toChunk = toShard + 32 * Merkle.siblings(place.shard, place.shardCount);
        uint256 toPart = toChunk + 32 * Merkle.siblings(place.chunk, place.chunkCount);
        uint256 end = toPart + 32 * Merkle.siblings(place.part, place.partCount);
        if (proof.length != end) return false;

        bytes32 node = Merkle.fold(BLOCKS, digest, place.block, place.blockCount, proof[BYTES:toShard]);
        node = Merkle.fold(SHARDS, node, place.shard, place.shardCount, proof[toShard:toChunk]);
        node = keccak256(abi.encodePacked(CHUNK_TAG, proof[42:52], node));
        node = Merkle.fold(CHUNKS, node, place.chunk, place.chunkCount, proof[toChunk:toPart]);
        node = keccak256(abi.encodePacked(BLOB_TAG, proof[20:38], node));
        node = keccak256(abi.encodePacked(PART_TAG, proof[22:30], node));
        node = Merkle.fold(PARTS, node, place.part, place.partCount, proof[toPart:end]);
        return keccak256(abi.encodePacked(OBJECT_TAG, proof[2:16], node)) == objectRoot;
    }

    /// Headers and indexes, valid in themselves and with each other, or false.
    function read(bytes calldata proof) private pure returns (bool valid, Place memory place) {
        if (number(proof, 0, 2) != FORMAT || number(proof, 2, 2) != FORMAT || number(proof, 20, 2) != FORMAT) {
            return (false, place);
        }
        place.partCount = number(proof, 12, 4);
        place.part = number(proof, 16, 4);
        place.chunkCount = number(proof, 34, 4);
        place.chunk = number(proof, 38, 4);
        place.shard = number(proof, 52, 1);
        place.block = number(proof, 53, 4);
        if (place.part >= place.partCount || place.chunk >= place.chunkCount) return (false, place);

        uint256 length = number(proof, 4, 8);
        uint256 partLength = number(proof, 22, 8);
        if (partLength > length || (place.partCount == 1 && partLength != length)) return (false, place);

        uint256 chunkBytes = number(proof, 30, 4);
        if (chunkBytes == 0 || chunkBytes > CHUNK_BYTES_MAX) return (false, place);
        if (place.chunkCount != (partLength + chunkBytes - 1) / chunkBytes) return (false, place);
        uint256 chunkLength = number(proof, 42, 4);
        // chunk < chunkCount = ⌈partLength ÷ chunkBytes⌉, so something is left for the last one.
        uint256 expected =
            place.chunk + 1 < place.chunkCount ? chunkBytes : partLength - (place.chunkCount - 1) * chunkBytes;
        if (chunkLength != expected) return (false, place);

        uint256 dataShards = number(proof, 46, 1);
        place.shardCount = dataShards + number(proof, 47, 1);
        if (dataShards == 0 || place.shardCount > SHARDS_MAX || number(proof, 48, 4) != CELL_BYTES) {
            return (false, place);
        }
        place.blockCount = blocks(chunkLength, dataShards);
        valid = place.shard < place.shardCount && place.block < place.blockCount;
    }

    /// Blocks of each shard of a chunk of `length` ≥ 1 bytes.
    function blocks(uint256 length, uint256 dataShards) private pure returns (uint256) {
        uint256 row = dataShards * CELL_BYTES;
        uint256 fullRows = (length - 1) / row;
        uint256 units = UNIT_BYTES * dataShards;
        uint256 lastCell = ((length - fullRows * row + units - 1) / units) * UNIT_BYTES;
        return (fullRows * CELL_BYTES + lastCell + BLOCK_BYTES - 1) / BLOCK_BYTES;
    }

    /// The integer of `size` bytes at `start`, big-endian. The caller has checked that they exist.
    function number(bytes calldata proof, uint256 start, uint256 size) private pure returns (uint256) {
        return uint256(bytes32(proof[start:start + size])) >> (256 - 8 * size);
    }
}
