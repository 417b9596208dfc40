// SPDX-License-Identifier: Apache-2.0
// What is tested is what is deployed: the committed artifacts hold the very code that these tests run.
//
// Invariant: creation code is equal, byte for byte, and what is deployed from it has the artifact's runtime code.
// Does not know: ABIs; `build --check` compares those.
pragma solidity 0.8.37;

import {CommitmentRegistry} from "../src/CommitmentRegistry.sol";
import {ComputeMarket} from "../src/ComputeMarket.sol";
import {DaQuorum} from "../src/DaQuorum.sol";
import {Base} from "./Base.sol";

contract ArtifactsTest is Base {
    function compare(string memory name, bytes memory creation, bytes memory runtime) private view {
        string memory artifact = vm.readFile(string.concat("../artifacts/", name, ".json"));
        same(keccak256(vm.parseJsonBytes(artifact, ".bytecode")), keccak256(creation), name);
        same(keccak256(vm.parseJsonBytes(artifact, ".deployedBytecode")), keccak256(runtime), name);
    }

    function test_tests_run_the_committed_code() public {
        compare("CommitmentRegistry", type(CommitmentRegistry).creationCode, address(new CommitmentRegistry()).code);
        compare("ComputeMarket", type(ComputeMarket).creationCode, address(new ComputeMarket(1, 1)).code);
        compare("DaQuorum", type(DaQuorum).creationCode, address(new DaQuorum(address(1), 1)).code);
    }

    /// No immutables: the code hash is the same for every deployment, as trust files need it.
    function test_code_does_not_depend_on_arguments() public {
        same(
            address(new DaQuorum(address(1), 1)).codehash, address(new DaQuorum(address(2), 99)).codehash, "code hash"
        );
        same(
            address(new ComputeMarket(1, 1)).codehash,
            address(new ComputeMarket(2, 9999)).codehash,
            "code hash of a market"
        );
    }
}
