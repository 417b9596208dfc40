// SPDX-License-Identifier: Apache-2.0
// Chains that lack EIP-2537 or answer wrongly: a quorum must not come to exist there, nor trust them later.
//
// Invariant: each precompile that is relied on is taken away, made to lie and made to answer with too little, one by one.
// Does not know: how revm implements them.
pragma solidity 0.8.37;

import {Bls12381} from "../src/bls/Bls12381.sol";
import {KnownAnswers} from "../src/bls/KnownAnswers.sol";
import {DaQuorum} from "../src/DaQuorum.sol";
import {Quorum} from "./Quorum.sol";

contract PrecompilesTest is Quorum {
    function setUp() public {
        vm.warp(1_800_000_000);
    }

    function precompiles() private pure returns (uint160[7] memory) {
        return [uint160(0x02), 0x05, 0x0b, 0x0d, 0x0e, 0x0f, 0x10];
    }

    /// Deployment by a call of its own, so that a revert is caught.
    function deploy() external returns (DaQuorum) {
        return newQuorum();
    }

    function deploys() private returns (bool) {
        // Enough for a deployment that succeeds, so that what fails has failed for its reason.
        try this.deploy{gas: 30_000_000}() {
            return true;
        } catch {
            return false;
        }
    }

    /// forge-config: default.evm_version = "cancun"
    function test_a_chain_before_prague_is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(Bls12381.PrecompileFailed.selector, Bls12381.MAP_FP_TO_G1));
        this.deploy{gas: 30_000_000}();
    }

    function test_a_chain_with_prague_is_taken() public {
        check(deploys(), "on this chain");
    }

    function test_each_missing_precompile_is_noticed() public {
        for (uint256 i = 0; i < 7; ++i) {
            // A call to an address without code succeeds and returns nothing.
            vm.mockCall(address(precompiles()[i]), "", "");
            check(!deploys(), "missing");
            vm.clearMockedCalls();
            check(deploys(), "there");
        }
    }

    function test_each_answer_of_another_length_is_noticed() public {
        uint16[7] memory lengths = [32, 48, 128, 256, 256, 32, 128];
        for (uint256 i = 0; i < 7; ++i) {
            vm.mockCall(address(precompiles()[i]), "", new bytes(lengths[i] - 1));
            check(!deploys(), "short");
            vm.mockCall(address(precompiles()[i]), "", new bytes(lengths[i] + 1));
            check(!deploys(), "long");
            vm.clearMockedCalls();
        }
    }

    function test_each_wrong_answer_is_noticed() public {
        uint16[7] memory lengths = [32, 48, 128, 256, 256, 32, 128];
        for (uint256 i = 0; i < 7; ++i) {
            // All zero: infinity, or a pairing that is never one.
            vm.mockCall(address(precompiles()[i]), "", new bytes(lengths[i]));
            check(!deploys(), "zero");
            // All one: a pairing that always is.
            vm.mockCall(address(precompiles()[i]), "", bytes.concat(new bytes(lengths[i] - 1), bytes1(0x01)));
            check(!deploys(), "one");
            vm.clearMockedCalls();
        }
    }

    /// A chain whose multiplication takes what is outside of the subgroup.
    function test_a_missing_subgroup_check_is_noticed() public {
        bytes memory outside = abi.encodePacked(
            abi.encode(uint256(0), uint256(2), uint256(0), uint256(0)),
            uint256(0x18c6b864ae17dc9da64203ffefb96630),
            uint256(0x6425a7bc6aeb7c75247438372716284a4173830420cd476ba1a365b95bfcec38),
            uint256(0x172e93db764a8400a7d5071b6b6f5de0),
            uint256(0xda2f0f4a063119abca014006b7c40a2cfe291a1924e65db0d6d0fcfbf3bf3d5c)
        );
        vm.mockCall(address(0x0e), bytes.concat(outside, bytes32(uint256(1))), outside);
        vm.expectRevert(abi.encodeWithSelector(KnownAnswers.KnownAnswer.selector, 6));
        this.deploy();
        vm.clearMockedCalls();
        bytes memory three = abi.encode(uint256(0), uint256(0), Bls12381.P_HIGH, Bls12381.P_LOW - 2);
        vm.mockCall(address(0x0f), bytes.concat(three, abi.encode(generator())), abi.encode(uint256(0)));
        vm.expectRevert(abi.encodeWithSelector(KnownAnswers.KnownAnswer.selector, 7));
        this.deploy();
        vm.clearMockedCalls();
    }

    /// After deployment: what fails later refuses certificates, and never accepts them.
    function test_a_certificate_is_refused_when_a_precompile_goes_missing() public {
        quorum = newQuorum();
        start(quorum, equalStakes(4, 1));
        bytes memory certificate = certify("n", 1, "h", claim(1), 4, 1);
        quorum.verifyCertificate("n", 1, "h", certificate);
        uint160[6] memory used = [uint160(0x02), 0x05, 0x0b, 0x0d, 0x0f, 0x10];
        for (uint256 i = 0; i < 6; ++i) {
            vm.mockCall(address(used[i]), "", "");
            vm.expectRevert(abi.encodeWithSelector(Bls12381.PrecompileFailed.selector, uint256(used[i])));
            quorum.verifyCertificate("n", 1, "h", certificate);
            vm.clearMockedCalls();
        }
        quorum.verifyCertificate("n", 1, "h", certificate);
    }
}
