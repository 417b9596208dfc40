// SPDX-License-Identifier: Apache-2.0
// What transactions cost, each as one of its own (isolated by forge): intrinsic gas, calldata and cold storage included.
//
// Invariant: the bars hold: verifyCertificate at most 250,000 with 100 registered and 67 signers, anchor at most 350,000.
// Does not know: prices. `build --gas` writes what is logged here to GAS.md.
pragma solidity 0.8.37;

import {BatchHeader} from "../src/BatchHeader.sol";
import {CommitmentRegistry} from "../src/CommitmentRegistry.sol";
import {DaQuorum} from "../src/DaQuorum.sol";
import {Headers} from "./CommitmentRegistry.t.sol";
import {Quorum} from "./Quorum.sol";

/// forge's measure of the last call.
interface Meters {
    struct Gas {
        uint64 gasLimit;
        uint64 gasTotalUsed;
        uint64 gasMemoryUsed;
        int64 gasRefunded;
        uint64 gasRemaining;
    }

    function lastCallGas() external view returns (Gas memory gas);
}

/// Deploys, since forge measures no creation by a test.
contract Factory {
    function quorum() external {
        new DaQuorum(address(1), 1000);
    }

    function registry() external {
        new CommitmentRegistry();
    }
}

/// Measures a view call from within a transaction in which nothing has been touched.
contract Meter {
    uint256 public used;

    function verifyCertificate(DaQuorum of_, bytes32 namespace, uint64 sequence, bytes32 hash, bytes calldata certificate)
        external
    {
        uint256 before = gasleft();
        of_.verifyCertificate(namespace, sequence, hash, certificate);
        used = before - gasleft();
    }
}

/// forge-config: default.isolate = true
contract GasTest is Quorum, Headers {
    /// The name that forge prints.
    event log_named_uint(string what, uint256 gas);

    address private constant PUBLISHER = address(0xab);
    Meter private meter;

    function setUp() public {
        vm.warp(1_800_000_000);
        registry = new CommitmentRegistry();
        meter = new Meter();
        quorum = newQuorum();
    }

    function last() private view returns (uint256) {
        return Meters(address(vm)).lastCallGas().gasTotalUsed;
    }

    function anchored(uint256 registered, uint256 absent) private returns (uint256 verification, uint256 whole) {
        start(quorum, equalStakes(registered, 10));
        bytes32 namespace = registry.createNamespace("salt", PUBLISHER, address(quorum), 1);
        // The second: the first finds no header before it, and costs a slot less.
        for (uint256 n = 0; n < 2; ++n) {
            BatchHeader.Fields memory fields = next(namespace);
            fields.batchRoot = keccak256("root");
            bytes memory header = encode(fields);
            bytes32 hash = hashOf(header);
            bytes memory certificate = certify(namespace, fields.sequence, hash, claim(1), registered, absent);
            meter.verifyCertificate(quorum, namespace, fields.sequence, hash, certificate);
            verification = meter.used();
            vm.prank(PUBLISHER);
            registry.anchor(header, certificate);
            whole = last();
        }
    }

    function row(uint256 registered, uint256 absent, bool bars) private {
        (uint256 verification, uint256 whole) = anchored(registered, absent);
        string memory of_ =
            string.concat(vm.toString(registered), " registered, ", vm.toString(registered - absent), " signers");
        emit log_named_uint(string.concat("gas | verifyCertificate, ", of_), verification);
        emit log_named_uint(string.concat("gas | anchor, ", of_), whole);
        // Cheaper than its parts would mean that the measure is wrong: intrinsic gas and two new slots.
        check(whole > verification + 21_000 + 22_100, "each is a transaction of its own: forge did not isolate them");
        if (!bars) return;
        check(verification <= 250_000, "verifyCertificate over 250,000");
        check(whole <= 350_000, "anchor over 350,000");
    }

    function test_gas_01_six_registered_all_sign() public {
        row(6, 0, true);
    }

    function test_gas_02_six_registered_five_sign() public {
        row(6, 1, true);
    }

    function test_gas_03_a_hundred_registered_all_sign() public {
        row(100, 0, true);
    }

    function test_gas_04_a_hundred_registered_67_sign() public {
        row(100, 33, true);
    }

    function test_gas_05_as_many_as_fit_81_sign() public {
        row(120, 39, true);
    }

    function test_gas_06_registration_and_epochs() public {
        register(quorum, secret(200));
        emit log_named_uint("gas | register a key", last());
        bytes32[] memory ids = new bytes32[](100);
        for (uint256 i = 0; i < 100; ++i) ids[i] = register(quorum, secret(i));
        vm.prank(GOVERNOR);
        quorum.setStakes(ids, equalStakes(100, 10));
        emit log_named_uint("gas | setStakes of 100 signers, first time", last());
        vm.prank(GOVERNOR);
        quorum.rollEpoch();
        emit log_named_uint("gas | rollEpoch, 100 members, changed", last());
        vm.warp(time() + EPOCH_SECONDS);
        quorum.rollEpoch();
        emit log_named_uint("gas | rollEpoch, unchanged", last());
    }

    function test_gas_07_deployment_and_namespaces() public {
        Factory factory = new Factory();
        factory.quorum();
        emit log_named_uint("gas | DaQuorum by a factory, known answers included", last());
        factory.registry();
        emit log_named_uint("gas | CommitmentRegistry by a factory", last());
        bytes32 namespace = registry.createNamespace("salt", address(this), address(quorum), 1);
        emit log_named_uint("gas | createNamespace", last());
        registry.offerPublisher(namespace, PUBLISHER);
        emit log_named_uint("gas | offerPublisher", last());
        vm.prank(PUBLISHER);
        registry.acceptPublisher(namespace);
        emit log_named_uint("gas | acceptPublisher", last());
    }
}
