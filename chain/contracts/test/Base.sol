// SPDX-License-Identifier: Apache-2.0
// What tests stand on: forge's cheatcodes that are used here, and assertions that say what differed.
//
// Invariant: an assertion that fails reverts, so no failure can be missed.
// Does not know: the contracts.
pragma solidity 0.8.37;

/// The cheatcodes in use (forge 1.7).
interface Vm {
    function addr(uint256 secret) external pure returns (address);
    function assume(bool condition) external pure;
    function chainId(uint256 id) external;
    function clearMockedCalls() external;
    function deal(address account, uint256 balance) external;
    function etch(address target, bytes calldata code) external;
    function expectEmit(bool, bool, bool, bool, address emitter) external;
    function expectRevert(bytes calldata data) external;
    function expectRevert(bytes4 selector) external;
    function expectRevert() external;
    function getBlockTimestamp() external view returns (uint256);
    function load(address target, bytes32 slot) external view returns (bytes32);
    function mockCall(address callee, bytes calldata data, bytes calldata returned) external;
    function mockCallRevert(address callee, bytes calldata data, bytes calldata reverted) external;
    function parseJsonBytes(string calldata json, string calldata key) external pure returns (bytes memory);
    function parseJsonBytes32(string calldata json, string calldata key) external pure returns (bytes32);
    function parseJsonBytes32Array(string calldata json, string calldata key) external pure returns (bytes32[] memory);
    function parseJsonBytesArray(string calldata json, string calldata key) external pure returns (bytes[] memory);
    function parseJsonString(string calldata json, string calldata key) external pure returns (string memory);
    function parseJsonStringArray(string calldata json, string calldata key) external pure returns (string[] memory);
    function parseJsonUint(string calldata json, string calldata key) external pure returns (uint256);
    function keyExistsJson(string calldata json, string calldata key) external view returns (bool);
    function prank(address sender) external;
    function readFile(string calldata path) external view returns (string memory);
    function sign(uint256 secret, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function store(address target, bytes32 slot, bytes32 value) external;
    function toString(uint256 value) external pure returns (string memory);
    function warp(uint256 time) external;
}

/// Assertions and cheatcodes.
abstract contract Base {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    error Differs(string what, bytes expected, bytes found);
    error Fails(string what);

    function check(bool condition, string memory what) internal pure {
        if (!condition) revert Fails(what);
    }

    function same(bytes memory found, bytes memory expected, string memory what) internal pure {
        if (keccak256(found) != keccak256(expected)) revert Differs(what, expected, found);
    }

    function same(bytes32 found, bytes32 expected, string memory what) internal pure {
        if (found != expected) revert Differs(what, abi.encode(expected), abi.encode(found));
    }

    function same(uint256 found, uint256 expected, string memory what) internal pure {
        same(bytes32(found), bytes32(expected), what);
    }

    function same(address found, address expected, string memory what) internal pure {
        same(uint256(uint160(found)), uint256(uint160(expected)), what);
    }

    /// The time as it is now. The optimiser takes TIMESTAMP for a constant, which warping makes it not.
    function time() internal view returns (uint64) {
        return uint64(vm.getBlockTimestamp());
    }

    /// The chain's id as it is now, by a call for the same reason.
    function chain() internal view returns (uint64) {
        return this.chainNow();
    }

    function chainNow() external view returns (uint64) {
        return uint64(block.chainid);
    }

    /// The value within [low, high].
    function bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + value % (high - low + 1);
    }

    /// Bytes [start, end).
    function slice(bytes memory of_, uint256 start, uint256 end) internal pure returns (bytes memory part) {
        part = new bytes(end - start);
        for (uint256 i = 0; i < part.length; ++i) part[i] = of_[start + i];
    }

    /// With one bit turned over.
    function flipped(bytes memory of_, uint256 bit) internal pure returns (bytes memory other) {
        other = bytes.concat(of_);
        other[bit / 8] = bytes1(uint8(other[bit / 8]) ^ uint8(1 << (bit % 8)));
    }

    /// Bytes of hexadecimal text without a prefix, as the vectors of docs/formats/ write them.
    function unhex(bytes memory text) internal pure returns (bytes memory out) {
        out = new bytes(text.length / 2);
        for (uint256 i = 0; i < out.length; ++i) {
            out[i] = bytes1(digit(text[2 * i]) * 16 + digit(text[2 * i + 1]));
        }
    }

    function digit(bytes1 character) internal pure returns (uint8) {
        return uint8(character) < 58 ? uint8(character) - 48 : uint8(character) - 87;
    }
}
