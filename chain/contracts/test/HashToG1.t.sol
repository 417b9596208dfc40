// SPDX-License-Identifier: Apache-2.0
// Hashing to G1 against RFC 9380's vectors, and the curve's arithmetic against itself.
//
// Invariant: every vector of the RFC for this suite is checked.
// Does not know: certificates.
pragma solidity 0.8.37;

import {Bls12381} from "../src/bls/Bls12381.sol";
import {HashToG1} from "../src/bls/HashToG1.sol";
import {Quorum} from "./Quorum.sol";

contract HashToG1Test is Quorum {
    string private vectors;

    function setUp() public {
        vectors = vm.readFile("test/vectors/rfc9380.json");
    }

    function test_hashes_as_rfc_9380_appendix_j_9_1() public view {
        string[] memory messages = vm.parseJsonStringArray(vectors, ".messages");
        bytes[] memory points = vm.parseJsonBytesArray(vectors, ".points");
        bytes memory tag = bytes(vm.parseJsonString(vectors, ".hash_tag"));
        same(messages.length, 5, "vectors");
        for (uint256 i = 0; i < messages.length; ++i) {
            same(abi.encode(HashToG1.hash(bytes(messages[i]), tag)), points[i], messages[i]);
        }
    }

    function test_expands_as_rfc_9380_appendix_k_1() public view {
        string[] memory messages = vm.parseJsonStringArray(vectors, ".messages");
        bytes[] memory expanded = vm.parseJsonBytesArray(vectors, ".expanded");
        bytes memory tag = bytes(vm.parseJsonString(vectors, ".expand_tag"));
        for (uint256 i = 0; i < messages.length; ++i) {
            (bytes32 a, bytes32 b, bytes32 c, bytes32 d) = HashToG1.expand(bytes(messages[i]), tag);
            same(bytes.concat(a, b, c, d), expanded[i], messages[i]);
        }
    }

    function hash(bytes calldata message, bytes calldata tag) external view returns (Bls12381.G1 memory) {
        return HashToG1.hash(message, tag);
    }

    function test_tags_have_1_to_255_bytes() public {
        this.hash("", new bytes(1));
        this.hash("", new bytes(255));
        vm.expectRevert(abi.encodeWithSelector(HashToG1.TagLength.selector, 0));
        this.hash("", "");
        vm.expectRevert(abi.encodeWithSelector(HashToG1.TagLength.selector, 256));
        this.hash("", new bytes(256));
    }

    function testFuzz_reduces_like_integers(uint256 high, uint256 low) public view {
        // Below 2^381 + little, so that one or two subtractions are the reference.
        high = high & type(uint128).max;
        (uint256 foundHigh, uint256 foundLow) = Bls12381.reduce(bytes32(high), bytes32(low));
        (uint256 h, uint256 l) = (high, low);
        while (h > Bls12381.P_HIGH || (h == Bls12381.P_HIGH && l >= Bls12381.P_LOW)) {
            unchecked {
                (h, l) = (h - Bls12381.P_HIGH - (l < Bls12381.P_LOW ? 1 : 0), l - Bls12381.P_LOW);
            }
        }
        same(foundHigh, h, "high");
        same(foundLow, l, "low");
    }

    function testFuzz_negation_is_the_inverse_and_its_own(uint256 scalar) public view {
        scalar = bound(scalar, 1, ORDER - 1);
        Bls12381.G2 memory point = Bls12381.multiply(generator(), scalar);
        Bls12381.G2 memory negated = Bls12381.negate(point);
        same(abi.encode(negated), keyOf(ORDER - scalar), "negated");
        same(abi.encode(Bls12381.negate(negated)), abi.encode(point), "twice");
        (bool success, bytes memory sum) = address(0x0d).staticcall(abi.encode(point, negated));
        check(success, "addition");
        same(sum, new bytes(256), "sum");
    }

    function test_negation_leaves_zero_halves_alone() public pure {
        Bls12381.G2 memory point;
        check(Bls12381.isInfinity(Bls12381.negate(point)), "infinity");
        point.y1Low = 1;
        Bls12381.G2 memory negated = Bls12381.negate(point);
        check(negated.y0High == 0 && negated.y0Low == 0, "half");
        check(negated.y1High == Bls12381.P_HIGH && negated.y1Low == Bls12381.P_LOW - 1, "other half");
    }

    function testFuzz_signatures_verify_for_their_message_alone(uint256 with, bytes calldata message, bytes calldata other)
        public
        view
    {
        with = bound(with, 1, ORDER - 1);
        Bls12381.G1 memory signature = abi.decode(sign(with, message, "TAG"), (Bls12381.G1));
        Bls12381.G2 memory key = Bls12381.multiply(generator(), with);
        check(Bls12381.verify(key, HashToG1.hash(message, "TAG"), signature), "own");
        check(!Bls12381.verify(key, HashToG1.hash(message, "TAH"), signature), "other tag");
        bool equal = keccak256(message) == keccak256(other);
        check(equal || !Bls12381.verify(key, HashToG1.hash(other, "TAG"), signature), "other message");
    }
}
