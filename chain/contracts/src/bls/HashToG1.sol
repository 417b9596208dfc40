// SPDX-License-Identifier: Apache-2.0
// Hashing bytes to G1: RFC 9380, suite BLS12381G1_XMD:SHA-256_SSWU_RO_ under a caller's tag.
//
// Invariant: equals the RFC for every message and every tag of 1 to 255 bytes.
// Does not know: which tags there are; two uses must never share one.
pragma solidity 0.8.37;

import {Bls12381} from "./Bls12381.sol";

/// @title hash_to_curve for G1.
library HashToG1 {
    /// @notice Tags have 1 to 255 bytes here; RFC 9380 would hash longer ones first, and nobody uses them.
    error TagLength(uint256 length);

    /// @notice A point of G1's prime-order subgroup, uniform and with unknown logarithm.
    /// @param message Any bytes.
    /// @param tag Domain separation tag.
    function hash(bytes memory message, bytes memory tag) internal view returns (Bls12381.G1 memory) {
        (bytes32 a, bytes32 b, bytes32 c, bytes32 d) = expand(message, tag);
        (uint256 high, uint256 low) = Bls12381.reduce(a, b);
        Bls12381.G1 memory first = Bls12381.mapToG1(high, low);
        (high, low) = Bls12381.reduce(c, d);
        // The precompile clears the cofactor of each; the RFC clears that of the sum, which is the same point.
        return Bls12381.add(first, Bls12381.mapToG1(high, low));
    }

    /// @notice expand_message_xmd (RFC 9380 §5.3.1) with SHA-256 to 128 bytes: two field elements of 64.
    function expand(bytes memory message, bytes memory tag)
        internal
        view
        returns (bytes32 a, bytes32 b, bytes32 c, bytes32 d)
    {
        if (tag.length == 0 || tag.length > 255) revert TagLength(tag.length);
        bytes memory suffix = abi.encodePacked(tag, uint8(tag.length));
        // A block of zeros, the message, 128 as two bytes, a zero byte.
        bytes32 seed =
            digest(abi.encodePacked(bytes32(0), bytes32(0), message, uint16(128), uint8(0), suffix));
        a = digest(abi.encodePacked(seed, uint8(1), suffix));
        b = digest(abi.encodePacked(seed ^ a, uint8(2), suffix));
        c = digest(abi.encodePacked(seed ^ b, uint8(3), suffix));
        d = digest(abi.encodePacked(seed ^ c, uint8(4), suffix));
    }

    /// SHA-256, with the check that Solidity's own leaves out: that 32 bytes came back.
    function digest(bytes memory input) private view returns (bytes32) {
        uint256[1] memory output;
        uint256 pointer;
        uint256 result;
        assembly ("memory-safe") {
            pointer := add(input, 32)
            result := output
        }
        Bls12381.call(Bls12381.SHA256, pointer, input.length, result, 32);
        return bytes32(output[0]);
    }
}
