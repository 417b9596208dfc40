//! What the contracts of `chain/contracts/` declare to the outside.
//!
//! Invariant: names, types and order are theirs; a difference would be another selector, and no answer. Deliberately
//! knows nothing of how a call is made.

#![allow(clippy::too_many_arguments, reason = "`sol!` makes a function of each event with all of its fields")]

use alloy_sol_types::sol;

sol! {
    /// Logs of batches.
    #[derive(Debug, PartialEq, Eq)]
    interface ICommitmentRegistry {
        /// Everything about a namespace but its headers.
        struct Namespace {
            address publisher;
            uint64 sequence;
            uint32 kind;
            address verifier;
            uint64 lastPosition;
            address offeredTo;
        }

        event NamespaceCreated(
            bytes32 indexed namespace,
            address indexed creator,
            address indexed publisher,
            bytes32 salt,
            address verifier,
            uint32 kind
        );
        event PublisherOffered(bytes32 indexed namespace, address indexed publisher, address indexed offeredTo);
        event PublisherChanged(bytes32 indexed namespace, address indexed previous, address indexed publisher);
        event Anchored(
            bytes32 indexed namespace,
            uint64 indexed sequence,
            bytes32 indexed headerHash,
            bytes32 commitment,
            uint64 blobLength,
            uint64 keepUntil,
            bytes header,
            bytes certificate
        );

        error ChainIdTooLarge(uint256 chainId);
        error NamespaceExists(bytes32 namespace);
        error NamespaceUnknown(bytes32 namespace);
        error ZeroAddress();
        error VerifierKind(uint32 expected, uint32 found);
        error NotPublisher(bytes32 namespace, address publisher, address caller);
        error NotOffered(bytes32 namespace, address offeredTo, address caller);
        error WrongChain(uint64 expected, uint64 found);
        error WrongRegistry(address expected, address found);
        error SequenceTaken(bytes32 namespace, uint64 sequence, bytes32 anchored);
        error SequenceGap(bytes32 namespace, uint64 expected, uint64 found);
        error PreviousHeader(bytes32 expected, bytes32 found);
        error Positions(uint64 lastAnchored, uint64 first, uint64 last);
        error BatchEmpty();
        error StateRootReserved(bytes32 found);
        error HeaderLength(uint256 length);
        error HeaderVersion(uint16 version);

        function createNamespace(bytes32 salt, address publisher, address verifier, uint32 kind)
            external returns (bytes32 namespace);
        function offerPublisher(bytes32 namespace, address offeredTo) external;
        function acceptPublisher(bytes32 namespace) external;
        function anchor(bytes calldata header, bytes calldata certificate) external returns (bytes32 headerHash);
        function headOf(bytes32 namespace)
            external view returns (uint64 sequence, uint64 lastPosition, bytes32 headerHash);
        function headerHashOf(bytes32 namespace, uint64 sequence) external view returns (bytes32 headerHash);
        function namespaceOf(bytes32 namespace) external view returns (Namespace memory found);
        function namespaceId(address creator, bytes32 salt) external view returns (bytes32 namespace);
    }

    /// A quorum of BLS keys that vouches for data.
    #[derive(Debug, PartialEq, Eq)]
    interface IDaQuorum {
        /// What a checked certificate says.
        struct Availability {
            bytes32 commitment;
            uint64 blobLength;
            uint64 keepUntil;
        }

        error ZeroArgument();
        error NotGovernor(address governor, address caller);
        error PointLength(uint256 expected, uint256 found);
        error Infinity();
        error KeyNotCanonical();
        error SignerExists(bytes32 signer);
        error SignerUnknown(bytes32 signer);
        error PossessionNotProven(bytes32 signer);
        error Lengths(uint256 signers, uint256 stakes);
        error TooManyMembers(uint256 maximum);
        error NoMembers();
        error EpochNotOver(uint256 endsAt);
        error EpochStale(uint64 epoch, uint64 current);
        error QuorumMissed(uint256 signed, uint256 total);
        error SignatureInvalid();
        error KeepUntilPassed(uint64 keepUntil, uint256 now_);
        error CertificateLength(uint256 length);
        error CertificateVersion(uint16 version);
        error Bitmap(uint256 members, bytes bitmap);
        error KnownAnswer(uint256 which);
        error NotOffered(address offeredTo, address caller);
        error PrecompileFailed(uint256 precompile);
        error TagLength(uint256 length);
        error WriteFailed();

        function kind() external view returns (uint32 kind);
        function epoch() external view returns (uint64 epoch);
        function epochStartedAt() external view returns (uint64 at);
        function epochSeconds() external view returns (uint64 length);
        function governor() external view returns (address governor);
        function setStakes(bytes32[] calldata ids, uint64[] calldata stakes) external;
        function register(bytes calldata key, bytes calldata proofOfPossession) external returns (bytes32 id);
        function possessionMessage(bytes calldata key) external view returns (bytes memory message);
        function rollEpoch() external returns (uint64 next);
        function verifyCertificate(
            bytes32 namespace, uint64 sequence, bytes32 headerHash, bytes calldata certificate
        ) external view returns (Availability memory what);
        function certificateMessage(
            bytes32 namespace, uint64 sequence, bytes32 headerHash, bytes calldata certificate
        ) external view returns (bytes memory message);
        function signerOf(bytes32 id)
            external view returns (bool registered, uint64 stake, uint64 nextStake, uint64 changesAt);
        function membersOf(uint64 number) external view returns (
            address snapshot, bytes memory aggregate, bytes[] memory keys, uint64[] memory stakes
        );
    }
}
