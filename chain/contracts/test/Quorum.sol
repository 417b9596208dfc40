// SPDX-License-Identifier: Apache-2.0
// A quorum to test with: keys with known secrets, signatures by the precompiles, certificates of any kind.
//
// Invariant: the secrets are keccak256("secret", i); signing is independent of the contract's own checks but shares its
// hash to curve, which has vectors of its own.
// Does not know: what tests do with it.
pragma solidity 0.8.37;

import {Bls12381} from "../src/bls/Bls12381.sol";
import {HashToG1} from "../src/bls/HashToG1.sol";
import {DaQuorum} from "../src/DaQuorum.sol";
import {Base} from "./Base.sol";

/// Registers signers and makes certificates.
abstract contract Quorum is Base {
    uint256 internal constant ORDER = 0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001;
    bytes internal constant SIGNATURE_TAG = "ASHLAR-DA-SIG-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";
    bytes internal constant POSSESSION_TAG = "ASHLAR-DA-POP-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";
    address internal constant GOVERNOR = address(0x60f);
    uint64 internal constant EPOCH_SECONDS = 1000;

    DaQuorum internal quorum;

    /// What a certificate says besides who signed.
    struct Claim {
        uint64 epoch;
        bytes32 commitment;
        uint64 blobLength;
        uint32 originalRows;
        uint32 parityRows;
        uint32 rowBytes;
        uint64 keepUntil;
    }

    function claim(uint64 epoch) internal view returns (Claim memory) {
        return Claim(epoch, keccak256("commitment"), 1000, 4, 12, 64, time() + 30 days);
    }

    function secret(uint256 i) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode("secret", i))) % ORDER;
    }

    function generator() internal pure returns (Bls12381.G2 memory) {
        return Bls12381.negate(Bls12381.negatedGeneratorG2());
    }

    function keyOf(uint256 ofSecret) internal view returns (bytes memory) {
        return abi.encode(Bls12381.multiply(generator(), ofSecret));
    }

    /// secret · H(message), by the precompile for multiplication in G1, which the contracts do not use.
    function sign(uint256 withSecret, bytes memory message, bytes memory tag) internal view returns (bytes memory) {
        (bool success, bytes memory signature) =
            address(0x0c).staticcall(abi.encode(HashToG1.hash(message, tag), withSecret));
        check(success && signature.length == 128, "multiplication in G1");
        return signature;
    }

    function possession(DaQuorum of_, uint256 withSecret) internal view returns (bytes memory) {
        return sign(withSecret, of_.possessionMessage(keyOf(withSecret)), POSSESSION_TAG);
    }

    function register(DaQuorum to, uint256 withSecret) internal returns (bytes32) {
        return to.register(keyOf(withSecret), possession(to, withSecret));
    }

    function newQuorum() internal returns (DaQuorum) {
        return new DaQuorum(GOVERNOR, EPOCH_SECONDS);
    }

    /// Registers signers 0 … count − 1 with these stakes and begins epoch 1.
    function start(DaQuorum of_, uint64[] memory stakes) internal {
        bytes32[] memory ids = new bytes32[](stakes.length);
        for (uint256 i = 0; i < stakes.length; ++i) ids[i] = register(of_, secret(i));
        vm.prank(GOVERNOR);
        of_.setStakes(ids, stakes);
        vm.prank(GOVERNOR);
        of_.rollEpoch();
    }

    function equalStakes(uint256 count, uint64 stake) internal pure returns (uint64[] memory stakes) {
        stakes = new uint64[](count);
        for (uint256 i = 0; i < count; ++i) stakes[i] = stake;
    }

    /// Lets the epoch run out and begins the next.
    function nextEpoch() internal {
        vm.warp(time() + EPOCH_SECONDS);
        quorum.rollEpoch();
    }

    function unsigned(Claim memory of_) internal pure returns (bytes memory) {
        return abi.encodePacked(
            uint16(1),
            of_.epoch,
            of_.commitment,
            of_.blobLength,
            of_.originalRows,
            of_.parityRows,
            of_.rowBytes,
            of_.keepUntil
        );
    }

    /// docs/formats/log.md §5, written anew here and not taken from the contract.
    function signedMessage(address verifier, bytes32 namespace, uint64 sequence, bytes32 headerHash, Claim memory of_)
        internal
        view
        returns (bytes memory)
    {
        bytes memory fixedFields = unsigned(of_);
        return bytes.concat(
            "ASHLAR-DA-V1",
            abi.encodePacked(chain(), verifier, of_.epoch, namespace, sequence, headerHash),
            slice(fixedFields, 10, 70)
        );
    }

    /// The sum of the secrets of signers whose bit is not set: one signature with it is the aggregate.
    function secretWithout(bytes memory bitmap, uint256 count) internal pure returns (uint256 sum) {
        for (uint256 i = 0; i < count; ++i) {
            if (uint8(bitmap[i / 8]) & (0x80 >> (i % 8)) == 0) sum = addmod(sum, secret(i), ORDER);
        }
    }

    /// A bitmap in which the last `absent` of `count` did not sign.
    function lastAbsent(uint256 count, uint256 absent) internal pure returns (bytes memory bitmap) {
        bitmap = new bytes((count + 7) / 8);
        for (uint256 i = count - absent; i < count; ++i) bitmap[i / 8] |= bytes1(uint8(0x80 >> (i % 8)));
    }

    /// A certificate by the first members of the snapshot, all but the last `absent`.
    function certify(
        bytes32 namespace,
        uint64 sequence,
        bytes32 headerHash,
        Claim memory of_,
        uint256 count,
        uint256 absent
    ) internal view returns (bytes memory) {
        bytes memory bitmap = lastAbsent(count, absent);
        bytes memory message = signedMessage(address(quorum), namespace, sequence, headerHash, of_);
        bytes memory signature = sign(secretWithout(bitmap, count), message, SIGNATURE_TAG);
        return bytes.concat(unsigned(of_), signature, bitmap);
    }
}
