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

sol! {
    /// Offers, escrow and settlement of computation (docs/formats/market.md).
    #[derive(Debug, PartialEq, Eq)]
    interface IComputeMarket {
        struct Provider {
            address signingKey;
            uint64 busyUntil;
            uint32 offers;
            bool slashed;
            uint128 stake;
            uint128 leaving;
            uint64 leavesAt;
            string endpoint;
        }

        struct Offer {
            uint16 kind;
            uint96 unitPrice;
            uint96 capMin;
            uint96 capMax;
            uint32 workSecondsMax;
            bytes32 modelRoot;
            bytes32 limits;
        }

        struct Terms {
            address provider;
            uint32 offer;
            uint32 offerVersion;
            bytes32 modelRoot;
            uint96 unitPrice;
            uint96 cap;
            uint96 exposureMax;
            address sessionKey;
            uint64 acceptBy;
            uint64 workBy;
            uint64 settleBy;
            bytes32 salt;
        }

        /// Of a lock.
        enum State {
            /// There is no such lock.
            None,
            /// Nobody accepted it.
            Open,
            /// It pays.
            Accepted,
            /// It pays no more.
            Closed
        }

        struct Lock {
            address buyer;
            uint64 settleBy;
            State state;
            address provider;
            uint96 exposureMax;
            address sessionKey;
            uint96 unitPrice;
            address signingKey;
            uint96 paid;
            uint96 cap;
            uint64 acceptBy;
            uint64 workBy;
            bytes32 modelRoot;
        }

        struct Settled {
            uint64 fence;
            uint32 seq;
            uint96 fee;
            bytes8 lock;
            bytes32 receiptDigest;
        }

        /// Why a settlement was refused, in the order of the checks.
        enum Outcome {
            /// It paid.
            Paid,
            /// The lock is in another state.
            NotAccepted,
            /// It is after settleBy.
            Late,
            /// The voucher pays another.
            WrongProvider,
            /// The voucher names another settleBy.
            WrongDeadline,
            /// The receipt is of another voucher.
            WrongVoucher,
            /// The receipt names another model.
            WrongModel,
            /// The receipt counts other units.
            WrongUsage,
            /// The fee is above units times price.
            AbovePrice,
            /// The fee is above seq times the increment.
            AboveExposure,
            /// Another lock has paid for the shard.
            OtherLock,
            /// A later one was settled.
            Stale,
            /// A later lease was settled.
            FenceFell,
            /// A higher fee was settled.
            FeeFell,
            /// The session key did not sign.
            NotBuyers,
            /// The provider's key did not sign.
            NotProviders
        }

        event Deposited(address indexed account, address indexed from, uint256 amount);
        event Withdrawn(address indexed account, address indexed to, uint256 amount);
        event ProviderSet(address indexed provider, address indexed signingKey, string endpoint);
        event OfferSet(address indexed provider, uint32 indexed number, uint32 version, Offer offer);
        event LockOpened(
            bytes32 indexed lock, address indexed buyer, address indexed provider, uint96 exposureMax, Terms terms
        );
        event LockAccepted(bytes32 indexed lock, address indexed provider, address signingKey);
        event LockCancelled(bytes32 indexed lock, uint96 refund);
        event LockClosed(bytes32 indexed lock, uint96 paid, uint96 refund);
        event SettlementPaid(
            bytes32 indexed lock,
            bytes32 indexed job,
            uint32 indexed shard,
            uint64 fence,
            uint32 seq,
            uint96 amount,
            uint96 fee,
            bytes32 outputRoot,
            bytes32 receiptDigest
        );
        event SettlementRefused(bytes32 indexed lock, uint256 index, Outcome outcome);

        error AcceptedTooLate(bytes32 lock, uint64 acceptBy);
        error AmountTooLarge(uint256 amount);
        error BalanceTooSmall(address account, uint256 balance, uint256 amount);
        error CapOutside(uint96 capMin, uint96 capMax, uint96 found);
        error EndpointTooLong(uint256 maximum, uint256 found);
        error ExposureAboveCap(uint96 cap, uint96 found);
        error FinalityTooLong(uint64 finalitySeconds);
        error LockExists(bytes32 lock);
        error LockState(bytes32 lock, State expected, State found);
        error NoOffence();
        error NotAllowed(bytes32 lock, address caller);
        error NotCountersigned(bytes32 lock);
        error OfferDiffers(address provider, uint32 offer, uint32 version);
        error OfferInvalid();
        error OfferUnknown(address provider, uint32 number);
        error ProviderExists(address provider);
        error ProviderSlashed(address provider);
        error ProviderUnknown(address provider);
        error RecipientRefused(address to);
        error StakeNotFree(uint64 leavesAt);
        error StakeTooSmall(uint256 needed, uint256 stake);
        error Times();
        error TooManySettlements(uint256 maximum, uint256 found);
        error ZeroAddress();

        function register(address signingKey, string calldata endpoint) external payable;
        function update(address signingKey, string calldata endpoint) external;
        function addStake() external payable;
        function beginUnstake(uint128 amount) external;
        function finishUnstake() external;
        function publishOffer(Offer calldata offer) external returns (uint32 number);
        function reviseOffer(uint32 number, Offer calldata offer) external;
        function withdrawOffer(uint32 number) external;
        function deposit(address account) external payable;
        function withdraw(uint256 amount, address to) external;
        function open(Terms calldata terms) external payable returns (bytes32 id);
        function accept(bytes32 id) external;
        function cancel(bytes32 id) external;
        function close(bytes32 id) external;

        function providerOf(address provider) external view returns (Provider memory found);
        function offerOf(address provider, uint32 number) external view returns (uint32 version, Offer memory offer);
        function balanceOf(address account) external view returns (uint256 balance);
        function lockOf(bytes32 id) external view returns (Lock memory found);
        function settled(address buyer, address provider, bytes32 job, uint32 shard)
            external view returns (Settled memory found);
        function stakeMin() external view returns (uint128 least);
        function graceSeconds() external view returns (uint64 length);
        function forfeited() external view returns (uint256 amount);
    }
}
