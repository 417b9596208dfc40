// SPDX-License-Identifier: Apache-2.0
// BLS12-381 through the precompiles of EIP-2537: points as those encode them, and the calls themselves.
//
// Invariant: every call is checked for success and for the exact number of bytes returned, because calling an address
// without a precompile succeeds and returns nothing.
// Does not know: what is signed. Subgroups: the multi-scalar and pairing precompiles check them, the additions do not;
// each function says which holds.
pragma solidity 0.8.37;

/// @title Curve arithmetic by precompile.
library Bls12381 {
    /// A point of G1, 128 bytes: x, y, each as 16 zero bytes and 48 of a field element. All zero is infinity.
    struct G1 {
        uint256 xHigh;
        uint256 xLow;
        uint256 yHigh;
        uint256 yLow;
    }

    /// A point of G2, 256 bytes: x.c0, x.c1, y.c0, y.c1.
    struct G2 {
        uint256 x0High;
        uint256 x0Low;
        uint256 x1High;
        uint256 x1Low;
        uint256 y0High;
        uint256 y0Low;
        uint256 y1High;
        uint256 y1Low;
    }

    uint256 internal constant G1_BYTES = 128;
    uint256 internal constant G2_BYTES = 256;

    /// The field's modulus, and the number of bytes that EIP-2537 writes it in.
    uint256 internal constant P_HIGH = 0x1a0111ea397fe69a4b1ba7b6434bacd7;
    uint256 internal constant P_LOW = 0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab;

    uint256 internal constant SHA256 = 0x02;
    uint256 internal constant MODEXP = 0x05;
    uint256 internal constant G1_ADD = 0x0b;
    uint256 internal constant G2_ADD = 0x0d;
    uint256 internal constant G2_MSM = 0x0e;
    uint256 internal constant PAIRING = 0x0f;
    uint256 internal constant MAP_FP_TO_G1 = 0x10;

    /// @notice The precompile at this address refused its input, or is not there.
    error PrecompileFailed(uint256 precompile);

    /// @notice Calls a precompile with memory [input, input + inputBytes) and has it write exactly `outputBytes`.
    function call(uint256 precompile, uint256 input, uint256 inputBytes, uint256 output, uint256 outputBytes)
        internal
        view
    {
        bool done;
        assembly ("memory-safe") {
            let success := staticcall(gas(), precompile, input, inputBytes, output, outputBytes)
            done := and(success, eq(returndatasize(), outputBytes))
        }
        if (!done) revert PrecompileFailed(precompile);
    }

    /// @notice Where a point lies in memory.
    function pointerOf(G1 memory point) internal pure returns (uint256 pointer) {
        assembly ("memory-safe") {
            pointer := point
        }
    }

    /// @notice Where a point lies in memory.
    function pointerOf(G2 memory point) internal pure returns (uint256 pointer) {
        assembly ("memory-safe") {
            pointer := point
        }
    }

    /// @notice Reads 128 bytes as a point; reverts for other lengths. Whether it is one, the next precompile says.
    function readG1(bytes calldata encoded) internal pure returns (G1 memory point) {
        (point.xHigh, point.xLow, point.yHigh, point.yLow) =
            abi.decode(encoded, (uint256, uint256, uint256, uint256));
    }

    /// @notice Whether the point is infinity, as EIP-2537 encodes it.
    function isInfinity(G1 memory point) internal pure returns (bool) {
        return point.xHigh | point.xLow | point.yHigh | point.yLow == 0;
    }

    /// @notice Whether the point is infinity, as EIP-2537 encodes it.
    function isInfinity(G2 memory point) internal pure returns (bool) {
        return (point.x0High | point.x0Low | point.x1High | point.x1Low) == 0
            && (point.y0High | point.y0Low | point.y1High | point.y1Low) == 0;
    }

    /// @notice Adds two points of the curve. Subgroups are not checked.
    function add(G1 memory left, G1 memory right) internal view returns (G1 memory sum) {
        uint256[8] memory input =
            [left.xHigh, left.xLow, left.yHigh, left.yLow, right.xHigh, right.xLow, right.yHigh, right.yLow];
        uint256 pointer;
        assembly ("memory-safe") {
            pointer := input
        }
        call(G1_ADD, pointer, 2 * G1_BYTES, pointerOf(sum), G1_BYTES);
    }

    /// @notice Adds a point of the curve to `sum`, in place. Subgroups are not checked.
    /// @param sum The first half of `pair`, whose second half is the point to add.
    function addSecondToFirst(uint256[16] memory pair) internal view returns (uint256 sum) {
        assembly ("memory-safe") {
            sum := pair
        }
        call(G2_ADD, sum, 2 * G2_BYTES, sum, G2_BYTES);
    }

    /// @notice Multiplies by a scalar below 2^256. Reverts for what is not canonically encoded, not on the curve or not in
    /// the subgroup of prime order.
    function multiply(G2 memory point, uint256 scalar) internal view returns (G2 memory product) {
        uint256[9] memory input;
        uint256 pointer;
        assembly ("memory-safe") {
            pointer := input
            mcopy(input, point, 256)
            mstore(add(input, 256), scalar)
        }
        call(G2_MSM, pointer, G2_BYTES + 32, pointerOf(product), G2_BYTES);
    }

    /// @notice Maps a field element to G1, cofactor cleared (RFC 9380, §6.6.3 and §7).
    function mapToG1(uint256 high, uint256 low) internal view returns (G1 memory point) {
        uint256[2] memory input = [high, low];
        uint256 pointer;
        assembly ("memory-safe") {
            pointer := input
        }
        call(MAP_FP_TO_G1, pointer, 64, pointerOf(point), G1_BYTES);
    }

    /// @notice A 64-byte integer modulo the field's modulus.
    function reduce(bytes32 first, bytes32 second) internal view returns (uint256 high, uint256 low) {
        // MODEXP: three lengths, base of 64 bytes, exponent 1 of one byte, modulus of 48.
        bytes memory input = abi.encodePacked(
            uint256(64), uint256(1), uint256(48), first, second, uint8(1), uint128(P_HIGH), P_LOW
        );
        uint256 pointer;
        assembly ("memory-safe") {
            pointer := add(input, 32)
        }
        uint256[2] memory output;
        uint256 result;
        assembly ("memory-safe") {
            result := add(output, 16)
        }
        call(MODEXP, pointer, input.length, result, 48);
        return (output[0], output[1]);
    }

    /// @notice The point with y negated. For canonically encoded points; infinity stays what it is.
    function negate(G2 memory point) internal pure returns (G2 memory) {
        (uint256 y0High, uint256 y0Low) = negate(point.y0High, point.y0Low);
        (uint256 y1High, uint256 y1Low) = negate(point.y1High, point.y1Low);
        return G2(point.x0High, point.x0Low, point.x1High, point.x1Low, y0High, y0Low, y1High, y1Low);
    }

    function negate(uint256 high, uint256 low) private pure returns (uint256, uint256) {
        // p − 0 would be p, which is not canonical: a half of y may well be zero where y is not.
        if (high | low == 0) return (0, 0);
        unchecked {
            return (P_HIGH - high - (low > P_LOW ? 1 : 0), P_LOW - low);
        }
    }

    /// @notice The generator of G2, negated.
    function negatedGeneratorG2() internal pure returns (G2 memory) {
        return G2({
            x0High: 0x024aa2b2f08f0a91260805272dc51051,
            x0Low: 0xc6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8,
            x1High: 0x13e02b6052719f607dacd3a088274f65,
            x1Low: 0x596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e,
            y0High: 0x0d1b3cc2c7027888be51d9ef691d77bc,
            y0Low: 0xb679afda66c73f17f9ee3837a55024f78c71363275a75d75d86bab79f74782aa,
            y1High: 0x13fa4d4a0ad8b1ce186ed5061789213d,
            y1Low: 0x993923066dddaf1040bc3ff59f825c78df74f2d75467e25e0f55f8a00fa030ed
        });
    }

    /// @notice Whether e(a, b) · e(c, d) = 1. Reverts for what is not a point of the prime-order subgroups.
    function pairingIsOne(G1 memory a, G2 memory b, G1 memory c, G2 memory d) internal view returns (bool) {
        uint256[24] memory input;
        uint256 pointer;
        assembly ("memory-safe") {
            pointer := input
            mcopy(input, a, 128)
            mcopy(add(input, 128), b, 256)
            mcopy(add(input, 384), c, 128)
            mcopy(add(input, 512), d, 256)
        }
        uint256[1] memory output;
        uint256 result;
        assembly ("memory-safe") {
            result := output
        }
        call(PAIRING, pointer, 2 * (G1_BYTES + G2_BYTES), result, 32);
        return output[0] == 1;
    }

    /// @notice Whether `signature` is that of `key` on the message hashed to `message`: e(signature, −g₂) · e(message, key)
    /// = 1. Reverts for points outside of the subgroups. Infinity is the caller's to refuse.
    function verify(G2 memory key, G1 memory message, G1 memory signature) internal view returns (bool) {
        return pairingIsOne(signature, negatedGeneratorG2(), message, key);
    }
}
