// SPDX-License-Identifier: Apache-2.0
// The certificate of the DA quorum, version 1: its fields and the exact bytes that signers sign.
//
// Invariant: every byte of a certificate but version, signature and bitmap is signed, and the signed message binds chain,
// verifier, epoch, namespace, sequence and header hash, so one certificate is good for exactly one anchor.
// Does not know: keys, stakes and curves.
pragma solidity 0.8.37;

/// @title Decodes certificates and makes their signed message (docs/formats/log.md §4 and §5).
library DaCertificate {
    /// The only version there is.
    uint16 internal constant VERSION = 1;
    /// Bytes before the bitmap of non-signers.
    uint256 internal constant FIXED_BYTES = 198;
    /// First bytes of the signed message.
    string internal constant DOMAIN = "ASHLAR-DA-V1";

    /// @notice Shorter than its fixed fields.
    error CertificateLength(uint256 length);
    /// @notice Of a version that is not 1.
    error CertificateVersion(uint16 version);

    /// @notice Reverts unless version and fixed length are as they must.
    function check(bytes calldata certificate) internal pure {
        if (certificate.length < FIXED_BYTES) revert CertificateLength(certificate.length);
        uint16 version = uint16(bytes2(certificate[0:2]));
        if (version != VERSION) revert CertificateVersion(version);
    }

    /// @notice The epoch whose snapshot signed.
    function epoch(bytes calldata certificate) internal pure returns (uint64) {
        return uint64(bytes8(certificate[2:10]));
    }

    /// @notice The layer's commitment to the blob.
    function commitment(bytes calldata certificate) internal pure returns (bytes32) {
        return bytes32(certificate[10:42]);
    }

    /// @notice Bytes of the blob.
    function blobLength(bytes calldata certificate) internal pure returns (uint64) {
        return uint64(bytes8(certificate[42:50]));
    }

    /// @notice Unix seconds until which the signers serve the blob.
    function keepUntil(bytes calldata certificate) internal pure returns (uint64) {
        return uint64(bytes8(certificate[62:70]));
    }

    /// @notice The aggregate signature, 128 bytes as EIP-2537 encodes G1.
    function signature(bytes calldata certificate) internal pure returns (bytes calldata) {
        return certificate[70:FIXED_BYTES];
    }

    /// @notice One bit a member of the snapshot, 1 for those who did not sign; the first is the highest of byte 0.
    function nonSigners(bytes calldata certificate) internal pure returns (bytes calldata) {
        return certificate[FIXED_BYTES:];
    }

    /// @notice What a signer signs: 180 bytes. Those from `commitment` to `keep_until` are the certificate's own.
    function message(
        uint64 chainId,
        address verifier,
        bytes32 namespace,
        uint64 sequence,
        bytes32 headerHash,
        bytes calldata certificate
    ) internal pure returns (bytes memory) {
        return abi.encodePacked(
            DOMAIN, chainId, verifier, certificate[2:10], namespace, sequence, headerHash, certificate[10:70]
        );
    }
}
