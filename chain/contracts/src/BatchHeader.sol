// SPDX-License-Identifier: Apache-2.0
// The header of a batch: 190 bytes, version 1 (docs/formats/log.md §1), and its hash.
//
// Invariant: what is decoded has exactly the length and version of the format; every other field is as given.
// Does not know: what the fields must be for a namespace. That is CommitmentRegistry's.
pragma solidity 0.8.37;

/// @title Decodes and hashes batch headers.
library BatchHeader {
    /// Bytes of a header of version 1.
    uint256 internal constant BYTES = 190;
    /// The only version there is.
    uint16 internal constant VERSION = 1;
    /// First byte of what a header hash hashes.
    bytes1 internal constant HASH_TAG = 0x11;

    /// @notice The header has `length` bytes and not 190.
    error HeaderLength(uint256 length);
    /// @notice The header is of a version that is not 1.
    error HeaderVersion(uint16 version);

    /// The fields, in their order.
    struct Fields {
        uint64 chainId;
        address registry;
        bytes32 namespace;
        uint64 sequence;
        bytes32 previousHeaderHash;
        uint64 firstPosition;
        uint64 lastPosition;
        uint32 entryCount;
        bytes32 batchRoot;
        bytes32 stateRoot;
        uint32 keyEpoch;
    }

    /// @notice keccak256(0x11 ‖ header), whatever the bytes are.
    function hash(bytes calldata header) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(HASH_TAG, header));
    }

    /// @notice The fields of a header of version 1; reverts for other lengths and versions.
    function decode(bytes calldata header) internal pure returns (Fields memory fields) {
        if (header.length != BYTES) revert HeaderLength(header.length);
        uint16 version = uint16(bytes2(header[0:2]));
        if (version != VERSION) revert HeaderVersion(version);
        fields.chainId = uint64(bytes8(header[2:10]));
        fields.registry = address(bytes20(header[10:30]));
        fields.namespace = bytes32(header[30:62]);
        fields.sequence = uint64(bytes8(header[62:70]));
        fields.previousHeaderHash = bytes32(header[70:102]);
        fields.firstPosition = uint64(bytes8(header[102:110]));
        fields.lastPosition = uint64(bytes8(header[110:118]));
        fields.entryCount = uint32(bytes4(header[118:122]));
        fields.batchRoot = bytes32(header[122:154]);
        fields.stateRoot = bytes32(header[154:186]);
        fields.keyEpoch = uint32(bytes4(header[186:190]));
    }
}
