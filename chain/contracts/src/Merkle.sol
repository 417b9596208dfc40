// SPDX-License-Identifier: Apache-2.0
// Paths in the trees of docs/formats/commitment.md §3: node = keccak256(tag ‖ left ‖ right), odd nodes promoted.
//
// Invariant: a path is as long as count and index say, to the byte; anything else proves nothing.
// Does not know: where counts come from. The caller takes them from a header that the root covers.
pragma solidity 0.8.37;

/// @title Folds sibling paths.
library Merkle {
    /// @notice Number of siblings from leaf `index` of `count` up to the root.
    /// @dev Meaningful for index < count; count 1 has none.
    function siblings(uint256 index, uint256 count) internal pure returns (uint256 number) {
        while (count > 1) {
            if (index & 1 == 1 || index + 1 < count) ++number;
            index >>= 1;
            count = (count + 1) >> 1;
        }
    }

    /// @notice The root that `node` at `index` of `count` and the siblings in `path` make.
    /// @dev `path` must have exactly 32 · siblings(index, count) bytes; the caller has checked that.
    function fold(uint8 tag, bytes32 node, uint256 index, uint256 count, bytes calldata path)
        internal
        pure
        returns (bytes32)
    {
        uint256 next = 0;
        while (count > 1) {
            if (index & 1 == 1) {
                node = join(tag, bytes32(path[next:next + 32]), node);
                next += 32;
            } else if (index + 1 < count) {
                node = join(tag, node, bytes32(path[next:next + 32]));
                next += 32;
            }
            index >>= 1;
            count = (count + 1) >> 1;
        }
        return node;
    }

    /// @notice Whether `leaf` is number `index` of the `count` leaves under `root`.
    function verify(uint8 tag, bytes32 root, bytes32 leaf, uint256 index, uint256 count, bytes calldata path)
        internal
        pure
        returns (bool)
    {
        if (index >= count || path.length != 32 * siblings(index, count)) return false;
        return fold(tag, leaf, index, count, path) == root;
    }

    /// @notice keccak256(tag ‖ left ‖ right).
    function join(uint8 tag, bytes32 left, bytes32 right) internal pure returns (bytes32 node) {
        // Written past the free pointer and left there: a path of twenty costs no memory.
        assembly ("memory-safe") {
            let input := mload(0x40)
            mstore8(input, tag)
            mstore(add(input, 1), left)
            mstore(add(input, 33), right)
            node := keccak256(input, 65)
        }
    }
}
