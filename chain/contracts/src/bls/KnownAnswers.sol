// SPDX-License-Identifier: Apache-2.0
// Known answers of every precompile that is relied on, asked once, when a contract that relies on them is made.
//
// Invariant: returns only on a chain whose precompiles give these answers and refuse what they must refuse. One that has
// no EIP-2537, or has something else at its addresses, is refused and not trusted.
// Does not know: anything but fixed inputs.
pragma solidity 0.8.37;

import {Bls12381} from "./Bls12381.sol";
import {HashToG1} from "./HashToG1.sol";

/// @title Self-test of EIP-2537, SHA-256 and MODEXP.
library KnownAnswers {
    /// @notice A precompile gave another answer than it must. 1 hash to curve, 2 pairing that is one, 3 pairing that is
    /// not, 4 additions in G2, 5 multiplication in G2, 6 subgroup of G2, 7 subgroup of G1 in a pairing.
    error KnownAnswer(uint256 which);

    /// @notice Reverts with {KnownAnswer} or Bls12381.PrecompileFailed unless all answers are right.
    function check() internal view {
        // RFC 9380, J.9.1, msg = "abc".
        Bls12381.G1 memory abc = HashToG1.hash("abc", "QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_");
        bool equal = abc.xHigh == 0x03567bc5ef9c690c2ab2ecdf6a96ef1c
            && abc.xLow == 0x139cc0b2f284dca0a9a7943388a49a3aee664ba5379a7655d3c68900be2f6903
            && abc.yHigh == 0x0b9c15f3fe6e5cf4211f346271d7b01c
            && abc.yLow == 0x8f3b28be689c8429c85b67af215533311f0b8dfaaa154fa6b88176c229f2885d;
        if (!equal) revert KnownAnswer(1);

        Bls12381.G2 memory negated = Bls12381.negatedGeneratorG2();
        Bls12381.G2 memory generator = Bls12381.negate(negated);
        if (!Bls12381.pairingIsOne(abc, negated, abc, generator)) revert KnownAnswer(2);
        if (Bls12381.pairingIsOne(abc, generator, abc, generator)) revert KnownAnswer(3);

        Bls12381.G2 memory doubled = sum(generator, generator);
        if (!Bls12381.isInfinity(sum(generator, negated)) || Bls12381.isInfinity(doubled)) revert KnownAnswer(4);
        if (!same(Bls12381.multiply(generator, 2), doubled)) revert KnownAnswer(5);
        if (!refusesOutsideG2()) revert KnownAnswer(6);
        if (!refusesOutsideG1(generator)) revert KnownAnswer(7);
    }

    /// Whether the multiplication refuses a point of the twist that is not in the subgroup: x = 2.
    function refusesOutsideG2() private view returns (bool) {
        Bls12381.G2 memory outside = Bls12381.G2({
            x0High: 0,
            x0Low: 2,
            x1High: 0,
            x1Low: 0,
            y0High: 0x18c6b864ae17dc9da64203ffefb96630,
            y0Low: 0x6425a7bc6aeb7c75247438372716284a4173830420cd476ba1a365b95bfcec38,
            y1High: 0x172e93db764a8400a7d5071b6b6f5de0,
            y1Low: 0xda2f0f4a063119abca014006b7c40a2cfe291a1924e65db0d6d0fcfbf3bf3d5c
        });
        // It is on the curve, which the addition confirms by not reverting.
        sum(outside, outside);
        return refuses(Bls12381.G2_MSM, abi.encode(outside, uint256(1)));
    }

    /// Whether the pairing refuses a point of the curve that is not in the subgroup: (0, −2).
    function refusesOutsideG1(Bls12381.G2 memory generator) private view returns (bool) {
        Bls12381.G1 memory outside =
            Bls12381.G1({xHigh: 0, xLow: 0, yHigh: Bls12381.P_HIGH, yLow: Bls12381.P_LOW - 2});
        Bls12381.add(outside, outside);
        return refuses(Bls12381.PAIRING, abi.encode(outside, generator));
    }

    /// A refusing precompile takes all gas that it is given, so it is given enough and no more.
    function refuses(uint256 precompile, bytes memory input) private view returns (bool) {
        (bool success,) = address(uint160(precompile)).staticcall{gas: 200_000}(input);
        return !success;
    }

    function sum(Bls12381.G2 memory left, Bls12381.G2 memory right) private view returns (Bls12381.G2 memory) {
        uint256[16] memory pair;
        assembly ("memory-safe") {
            mcopy(pair, left, 256)
            mcopy(add(pair, 256), right, 256)
        }
        uint256 from = Bls12381.addSecondToFirst(pair);
        Bls12381.G2 memory result;
        assembly ("memory-safe") {
            mcopy(result, from, 256)
        }
        return result;
    }

    function same(Bls12381.G2 memory left, Bls12381.G2 memory right) private pure returns (bool) {
        return keccak256(abi.encode(left)) == keccak256(abi.encode(right));
    }
}
