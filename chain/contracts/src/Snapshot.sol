// SPDX-License-Identifier: Apache-2.0
// The members of one epoch, frozen as the code of a contract of its own, and the sum of those who signed.
//
// Invariant: a snapshot is written once and cannot change: its code begins with STOP and nothing else runs there. The
// aggregate in it is the sum of its keys, its total the sum of its stakes.
// Does not know: epochs, signatures, or why these are the members. Keys were checked when they were registered.
//
// Code: 00 ‖ members u32 ‖ total stake u128 ‖ aggregate 192 ‖ members × (key 192 ‖ stake u64). A key is its four field
// elements of 48 bytes, without the zeros that EIP-2537 pads them with.
pragma solidity 0.8.37;

import {Bls12381} from "./bls/Bls12381.sol";

/// @title Writes and reads snapshots.
library Snapshot {
    /// Bytes of a key without padding.
    uint256 internal constant KEY_BYTES = 192;
    /// Most members: their code must stay within 24,576 bytes (EIP-170).
    uint256 internal constant MEMBERS_MAX = 120;

    /// Bytes of a member's record.
    uint256 internal constant RECORD_BYTES = 200;
    uint256 private constant HEADER_BYTES = 213;

    /// @notice The code was not written.
    error WriteFailed();
    /// @notice Not exactly ⌈members ÷ 8⌉ bytes, or bits beyond the last member.
    error Bitmap(uint256 members, bytes bitmap);

    /// A snapshot in memory.
    struct Loaded {
        /// Its code.
        bytes code;
        uint256 members;
        uint256 totalStake;
    }

    /// @notice Stores bytes as code behind a STOP.
    function write(bytes memory content) internal returns (address pointer) {
        // PUSH2 size, DUP1, PUSH1 10, RETURNDATASIZE (zero), CODECOPY, RETURNDATASIZE, RETURN; then the code.
        bytes memory creation = abi.encodePacked(
            hex"61", uint16(content.length + 1), hex"80600a3d393df3", hex"00", content
        );
        assembly ("memory-safe") {
            pointer := create(0, add(creation, 32), mload(creation))
        }
        if (pointer == address(0) || pointer.code.length != content.length + 1) revert WriteFailed();
    }

    /// @notice A key without its zeros. The caller has checked that they are zero.
    function pack(Bls12381.G2 memory key) internal pure returns (bytes memory) {
        return abi.encodePacked(
            uint128(key.x0High),
            key.x0Low,
            uint128(key.x1High),
            key.x1Low,
            uint128(key.y0High),
            key.y0Low,
            uint128(key.y1High),
            key.y1Low
        );
    }

    /// @notice Adds a member to a snapshot that is being made: its record to `records`, its key to the sum in the first half
    /// of `pair`.
    /// @param keyCode Code that {write} made of a packed key.
    function append(
        bytes memory records,
        uint256 index,
        address keyCode,
        uint64 stake,
        uint256[16] memory pair
    ) internal view {
        uint256 record;
        uint256 second;
        assembly ("memory-safe") {
            record := add(add(records, 32), mul(index, RECORD_BYTES))
            second := add(pair, 256)
            extcodecopy(keyCode, record, 1, KEY_BYTES)
            // The record's last 8 bytes; what stands before them in the word is kept.
            let end := add(record, sub(RECORD_BYTES, 32))
            mstore(end, or(and(mload(end), not(0xffffffffffffffff)), stake))
        }
        unpackKey(record, second);
        Bls12381.addSecondToFirst(pair);
    }

    /// @notice Header and records of a snapshot, ready to {write}.
    /// @param pair Holds the sum of all keys in its first half.
    function encode(uint256 members, uint256 totalStake, uint256[16] memory pair, bytes memory records)
        internal
        pure
        returns (bytes memory)
    {
        Bls12381.G2 memory sum;
        assembly ("memory-safe") {
            mcopy(sum, pair, 256)
            // Those who left had room in it, and need none.
            mstore(records, mul(members, RECORD_BYTES))
        }
        return abi.encodePacked(uint32(members), uint128(totalStake), pack(sum), records);
    }

    /// @notice Copies a snapshot into memory. The pointer must be one that {write} returned.
    function load(address pointer) internal view returns (Loaded memory snapshot) {
        snapshot.code = pointer.code;
        uint256 header;
        bytes memory code = snapshot.code;
        assembly ("memory-safe") {
            header := mload(add(code, 33))
        }
        snapshot.members = header >> 224;
        snapshot.totalStake = (header >> 96) & type(uint128).max;
    }

    /// @notice The sum of all keys.
    function aggregate(Loaded memory snapshot) internal pure returns (Bls12381.G2 memory key) {
        unpack(snapshot.code, HEADER_BYTES - KEY_BYTES, Bls12381.pointerOf(key));
    }

    /// @notice Key and stake of a member; reverts for index ≥ members.
    function member(Loaded memory snapshot, uint256 index)
        internal
        pure
        returns (Bls12381.G2 memory key, uint64 stake)
    {
        assert(index < snapshot.members);
        stake = unpackMember(snapshot.code, index, Bls12381.pointerOf(key));
    }

    /// @notice The sum of the keys of those whose bit is not set, and of their stakes.
    function signers(Loaded memory snapshot, bytes calldata nonSigners)
        internal
        view
        returns (Bls12381.G2 memory key, uint256 stake)
    {
        uint256 bits = bitmap(snapshot.members, nonSigners);
        stake = snapshot.totalStake;
        if (bits == 0) return (aggregate(snapshot), stake);
        // First half: what is summed up. Second half: what is added next.
        uint256[16] memory pair;
        uint256 next;
        assembly ("memory-safe") {
            next := add(pair, 256)
        }
        bytes memory code = snapshot.code;
        for (uint256 index = 0; bits != 0; ++index) {
            if (bits >> 255 == 1) {
                stake -= unpackMember(code, index, next);
                Bls12381.addSecondToFirst(pair);
            }
            bits <<= 1;
        }
        Bls12381.G2 memory absent;
        assembly ("memory-safe") {
            mcopy(absent, pair, 256)
        }
        absent = Bls12381.negate(absent);
        unpack(code, HEADER_BYTES - KEY_BYTES, next);
        assembly ("memory-safe") {
            mcopy(pair, absent, 256)
        }
        Bls12381.addSecondToFirst(pair);
        assembly ("memory-safe") {
            mcopy(key, pair, 256)
        }
    }

    /// The bitmap as a word, first member in the highest bit. At most 120 members, so 15 bytes.
    function bitmap(uint256 members, bytes calldata encoded) private pure returns (uint256 bits) {
        if (encoded.length != (members + 7) / 8) revert Bitmap(members, encoded);
        bits = uint256(bytes32(encoded));
        if (bits << members != 0) revert Bitmap(members, encoded);
    }

    function unpackMember(bytes memory code, uint256 index, uint256 to) private pure returns (uint64 stake) {
        uint256 from = HEADER_BYTES + index * RECORD_BYTES;
        unpack(code, from, to);
        assembly ("memory-safe") {
            stake := shr(192, mload(add(add(code, 32), add(from, 192))))
        }
    }

    function unpack(bytes memory code, uint256 from, uint256 to) private pure {
        uint256 source;
        assembly ("memory-safe") {
            source := add(add(code, 32), from)
        }
        unpackKey(source, to);
    }

    /// Four elements of 48 bytes in memory, each written as 64 bytes.
    function unpackKey(uint256 source, uint256 to) private pure {
        assembly ("memory-safe") {
            for { let end := add(to, 256) } lt(to, end) { to := add(to, 64) source := add(source, 48) } {
                mstore(to, shr(128, mload(source)))
                mstore(add(to, 32), mload(add(source, 16)))
            }
        }
    }
}
