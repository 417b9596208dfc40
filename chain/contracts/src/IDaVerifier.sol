// SPDX-License-Identifier: Apache-2.0
// The one question that the registry asks of a data-availability layer, whichever it is.
//
// Invariant: an implementation answers only for certificates that it checked in this very call; it never trusts the
// registry, and the registry trusts nothing that it did not return.
// Does not know: what a batch contains, who may publish it, or which batch came before.
pragma solidity 0.8.37;

/// @title Checks that a data-availability layer vouches for the bytes of one batch.
interface IDaVerifier {
    /// What a checked certificate says.
    struct Availability {
        /// The layer's commitment to the blob's bytes.
        bytes32 commitment;
        /// Bytes of the blob: header, leaves and sealed records.
        uint64 blobLength;
        /// Unix time in seconds until which the layer promises to serve the blob.
        uint64 keepUntil;
    }

    /// @notice Which certificates this contract reads. 1: quorum of BLS keys (docs/formats/log.md §4). Others are for
    /// layers to come. Never changes for a deployed contract.
    function kind() external view returns (uint32);

    /// @notice Reverts unless `certificate` proves that the layer holds the blob of this batch.
    /// @dev Must be a view: the registry calls it with STATICCALL before it writes. Must bind chain, itself, the
    /// namespace, the sequence and the header hash, so that a certificate is good for exactly one anchor.
    /// @param namespace The log.
    /// @param sequence Number of the batch in the log, first 1.
    /// @param headerHash keccak256(0x11 ‖ header).
    /// @param certificate Encoded as the kind says.
    /// @return what the certificate vouches for; meaningless if it reverts.
    function verifyCertificate(
        bytes32 namespace,
        uint64 sequence,
        bytes32 headerHash,
        bytes calldata certificate
    ) external view returns (Availability memory what);
}
