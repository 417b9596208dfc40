// SPDX-License-Identifier: Apache-2.0
// Logs of batches: who may append to each, which header is at each sequence, and checks of what they contain.
//
// Invariant: a namespace's headers are numbered from 1 without gap, each names the hash of the one before, positions only
// grow, and a header that is stored never changes. Nothing is stored whose availability its verifier did not confirm
// in the same transaction. There is no owner, no upgrade and no pause.
// Does not know: what a record says, how a layer proves availability, or whether publishers are honest.
pragma solidity 0.8.37;

import {BatchHeader} from "./BatchHeader.sol";
import {BlockProof} from "./BlockProof.sol";
import {IDaVerifier} from "./IDaVerifier.sol";
import {Merkle} from "./Merkle.sol";

/// @title Anchors batches of commitments, and checks what was anchored.
/// @dev Storage that light clients read by eth_getProof (docs/formats/log.md §6); slots 0 and 1 are part of the format.
contract CommitmentRegistry {
    /// Everything about a namespace but its headers. Two slots are touched by an anchor.
    struct Namespace {
        /// May anchor and offer its role.
        address publisher;
        /// Sequence of the newest header; 0 before the first.
        uint64 sequence;
        /// What `verifier` said of itself at creation.
        uint32 kind;
        /// Checks this namespace's certificates, for ever.
        address verifier;
        /// `last_position` of the newest header.
        uint64 lastPosition;
        /// Was offered the publisher's role; zero for nobody.
        address offeredTo;
    }

    /// Leaf tag of an entry, and node tag of the tree over a batch's entries.
    bytes1 private constant ENTRY_TAG = 0x10;
    uint8 private constant ENTRIES = 0x25;

    /// Slot 0. Header hash of each (namespace, sequence); zero where there is none.
    mapping(bytes32 namespace => mapping(uint64 sequence => bytes32)) private headerHashes;
    /// Slot 1.
    mapping(bytes32 namespace => Namespace) private namespaces;

    /// @notice A namespace exists from now on.
    event NamespaceCreated(
        bytes32 indexed namespace,
        address indexed creator,
        address indexed publisher,
        bytes32 salt,
        address verifier,
        uint32 kind
    );
    /// @notice `offeredTo` may take over the publisher's role; zero withdraws the offer.
    event PublisherOffered(bytes32 indexed namespace, address indexed publisher, address indexed offeredTo);
    /// @notice The role went to `publisher`.
    event PublisherChanged(bytes32 indexed namespace, address indexed previous, address indexed publisher);
    /// @notice Batch `sequence` is in the log, and its verifier vouched for its bytes. Header and certificate are exactly
    /// what was checked, so that a reader of events needs nothing else to fetch the blob.
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

    /// @notice The chain's id has more than 64 bits, for which the formats have no room.
    error ChainIdTooLarge(uint256 chainId);
    /// @notice Creator and salt have been used together before.
    error NamespaceExists(bytes32 namespace);
    /// @notice Nobody created this namespace.
    error NamespaceUnknown(bytes32 namespace);
    /// @notice The publisher or verifier given is the zero address.
    error ZeroAddress();
    /// @notice The verifier reads certificates of another kind than asked for.
    error VerifierKind(uint32 expected, uint32 found);
    /// @notice Only `publisher` may do this.
    error NotPublisher(bytes32 namespace, address publisher, address caller);
    /// @notice The role was offered to `offeredTo`.
    error NotOffered(bytes32 namespace, address offeredTo, address caller);
    /// @notice The header is for another chain.
    error WrongChain(uint64 expected, uint64 found);
    /// @notice The header is for another registry.
    error WrongRegistry(address expected, address found);
    /// @notice This sequence is anchored already, with `anchored`. To its publisher that is success if it is the hash of
    /// the header that was sent, and an alarm otherwise.
    error SequenceTaken(bytes32 namespace, uint64 sequence, bytes32 anchored);
    /// @notice The next batch of this namespace has another number.
    error SequenceGap(bytes32 namespace, uint64 expected, uint64 found);
    /// @notice The header follows another one than the newest.
    error PreviousHeader(bytes32 expected, bytes32 found);
    /// @notice Positions must be above those of the batch before, and first ≤ last.
    error Positions(uint64 lastAnchored, uint64 first, uint64 last);
    /// @notice A batch has at least one entry.
    error BatchEmpty();
    /// @notice `state_root` is reserved and zero in version 1.
    error StateRootReserved(bytes32 found);

    constructor() {
        chainId();
    }

    // Namespaces

    /// @notice Creates a log. Its verifier is bound to it for ever: nobody can later swap in one that confirms anything.
    /// @param salt Chosen by the creator; one namespace for each.
    /// @param publisher May anchor.
    /// @param verifier Contract that checks certificates; must answer kind() with `kind`.
    /// @param kind Which kind of certificate the creator means.
    /// @return namespace keccak256(chain id u64 ‖ this ‖ creator ‖ salt).
    function createNamespace(bytes32 salt, address publisher, address verifier, uint32 kind)
        external
        returns (bytes32 namespace)
    {
        if (publisher == address(0) || verifier == address(0)) revert ZeroAddress();
        namespace = namespaceId(msg.sender, salt);
        if (namespaces[namespace].publisher != address(0)) revert NamespaceExists(namespace);
        uint32 found = IDaVerifier(verifier).kind();
        if (found != kind) revert VerifierKind(kind, found);
        namespaces[namespace] = Namespace({
            publisher: publisher,
            sequence: 0,
            kind: kind,
            verifier: verifier,
            lastPosition: 0,
            offeredTo: address(0)
        });
        emit NamespaceCreated(namespace, msg.sender, publisher, salt, verifier, kind);
    }

    /// @notice Offers the publisher's role, which stays where it is until the other side accepts. A second offer replaces
    /// the first; zero withdraws it.
    function offerPublisher(bytes32 namespace, address offeredTo) external {
        Namespace storage log = existing(namespace);
        if (msg.sender != log.publisher) revert NotPublisher(namespace, log.publisher, msg.sender);
        log.offeredTo = offeredTo;
        emit PublisherOffered(namespace, msg.sender, offeredTo);
    }

    /// @notice Takes the role that was offered to the caller. From here on the one before can anchor no more.
    function acceptPublisher(bytes32 namespace) external {
        Namespace storage log = existing(namespace);
        if (msg.sender != log.offeredTo) revert NotOffered(namespace, log.offeredTo, msg.sender);
        emit PublisherChanged(namespace, log.publisher, msg.sender);
        log.publisher = msg.sender;
        log.offeredTo = address(0);
    }

    // Anchoring

    /// @notice Appends a batch: atomic, in order, each sequence once. Reverts unless the caller is the publisher, every
    /// field of the header is what comes next, and the certificate holds.
    /// @param header 190 bytes, docs/formats/log.md §1.
    /// @param certificate For this header, as the namespace's verifier reads it.
    /// @return headerHash keccak256(0x11 ‖ header), now stored.
    function anchor(bytes calldata header, bytes calldata certificate) external returns (bytes32 headerHash) {
        BatchHeader.Fields memory fields = BatchHeader.decode(header);
        Namespace storage log = checkPlace(fields);
        headerHash = BatchHeader.hash(header);
        // A view call (STATICCALL): nothing can come back in and change the log meanwhile.
        IDaVerifier.Availability memory what = IDaVerifier(log.verifier).verifyCertificate(
            fields.namespace, fields.sequence, headerHash, certificate
        );
        headerHashes[fields.namespace][fields.sequence] = headerHash;
        log.sequence = fields.sequence;
        log.lastPosition = fields.lastPosition;
        emit Anchored(
            fields.namespace,
            fields.sequence,
            headerHash,
            what.commitment,
            what.blobLength,
            what.keepUntil,
            header,
            certificate
        );
    }

    /// The log that the header continues, or a revert that says why it does not.
    function checkPlace(BatchHeader.Fields memory fields) private view returns (Namespace storage log) {
        if (fields.chainId != chainId()) revert WrongChain(chainId(), fields.chainId);
        if (fields.registry != address(this)) revert WrongRegistry(address(this), fields.registry);
        log = existing(fields.namespace);
        if (msg.sender != log.publisher) revert NotPublisher(fields.namespace, log.publisher, msg.sender);
        uint64 newest = log.sequence;
        if (fields.sequence != 0 && fields.sequence <= newest) {
            revert SequenceTaken(
                fields.namespace, fields.sequence, headerHashes[fields.namespace][fields.sequence]
            );
        }
        // Checked arithmetic: a namespace ends after 2^64 − 1 batches.
        if (fields.sequence != newest + 1) revert SequenceGap(fields.namespace, newest + 1, fields.sequence);
        bytes32 previous = headerHashes[fields.namespace][newest];
        if (fields.previousHeaderHash != previous) revert PreviousHeader(previous, fields.previousHeaderHash);
        bool goesOn = newest == 0 || fields.firstPosition > log.lastPosition;
        if (!goesOn || fields.firstPosition > fields.lastPosition) {
            revert Positions(log.lastPosition, fields.firstPosition, fields.lastPosition);
        }
        if (fields.entryCount == 0) revert BatchEmpty();
        if (fields.stateRoot != 0) revert StateRootReserved(fields.stateRoot);
    }

    // Reading

    /// @notice The newest batch of a log; all zero before the first.
    function headOf(bytes32 namespace)
        external
        view
        returns (uint64 sequence, uint64 lastPosition, bytes32 headerHash)
    {
        Namespace storage log = existing(namespace);
        return (log.sequence, log.lastPosition, headerHashes[namespace][log.sequence]);
    }

    /// @notice Header hash at a sequence; zero where nothing is anchored.
    function headerHashOf(bytes32 namespace, uint64 sequence) external view returns (bytes32) {
        return headerHashes[namespace][sequence];
    }

    /// @notice Publisher, verifier and head of a namespace; reverts if nobody created it.
    function namespaceOf(bytes32 namespace) external view returns (Namespace memory) {
        return existing(namespace);
    }

    /// @notice keccak256(chain id u64 ‖ this ‖ creator ‖ salt), whether it exists or not.
    function namespaceId(address creator, bytes32 salt) public view returns (bytes32) {
        return keccak256(abi.encodePacked(chainId(), address(this), creator, salt));
    }

    /// @notice The leaf of an entry: keccak256(0x10 ‖ chain id ‖ this ‖ namespace ‖ position ‖ index ‖ recordDigest).
    /// @param position Commit position in the store's metadata.
    /// @param index Number of the entry among those of that commit.
    /// @param recordDigest keccak256(salt ‖ record).
    function entryLeaf(bytes32 namespace, uint64 position, uint32 index, bytes32 recordDigest)
        external
        view
        returns (bytes32)
    {
        return keccak256(
            abi.encodePacked(ENTRY_TAG, chainId(), address(this), namespace, position, index, recordDigest)
        );
    }

    /// @notice Whether `leaf` is entry number `index` of the batch that is anchored at `sequence` with this header.
    /// @dev False, never a revert, for whatever does not prove that. A caller that knows the record makes the leaf with
    /// {entryLeaf}; a leaf taken from elsewhere says nothing about its record.
    /// @param header The anchored header; its count fixes the length of the proof.
    /// @param proof Siblings from the leaf up, joined.
    function verifyEntry(
        bytes32 namespace,
        uint64 sequence,
        bytes calldata header,
        bytes32 leaf,
        uint32 index,
        bytes calldata proof
    ) external view returns (bool) {
        bytes32 anchored = headerHashes[namespace][sequence];
        if (anchored == 0 || BatchHeader.hash(header) != anchored) return false;
        // The hash is anchored, so the header was decoded and checked then.
        BatchHeader.Fields memory fields = BatchHeader.decode(header);
        return Merkle.verify(ENTRIES, fields.batchRoot, leaf, index, fields.entryCount, proof);
    }

    /// @notice Whether the block with BLAKE3 `blockDigest` is where `proof` says in the object with `objectRoot`.
    /// @dev False, never a revert, for whatever does not prove that. Checks docs/formats/commitment.md §7 but for 6 and 8,
    /// which need the block's bytes.
    /// @param objectRoot From the record of an entry that was verified.
    /// @param proof Encoded as docs/formats/commitment.md §7.
    function verifyBlock(bytes32 objectRoot, bytes calldata proof, bytes32 blockDigest) external pure returns (bool) {
        return BlockProof.verify(objectRoot, proof, blockDigest);
    }

    function existing(bytes32 namespace) private view returns (Namespace storage log) {
        log = namespaces[namespace];
        if (log.publisher == address(0)) revert NamespaceUnknown(namespace);
    }

    /// Read anew each time: after a fork, the chain that took a new id must not take the other's headers.
    function chainId() private view returns (uint64) {
        if (block.chainid > type(uint64).max) revert ChainIdTooLarge(block.chainid);
        return uint64(block.chainid);
    }
}
