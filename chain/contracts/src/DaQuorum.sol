// SPDX-License-Identifier: Apache-2.0
// The quorum that vouches for data: its signers, the epochs in which its membership is frozen, and its certificates.
//
// Invariant: a certificate counts only if members with more than two thirds of the stake of its epoch's snapshot signed
// exactly its fields, and that epoch is at most two behind. A snapshot never changes, and a change of membership shows
// on chain for at least one whole epoch before it counts. Every key has proven possession of its secret.
// Does not know: batches, publishers, or whether members keep what they sign for. There is no slashing: THREATS.md.
pragma solidity 0.8.37;

import {Bls12381} from "./bls/Bls12381.sol";
import {HashToG1} from "./bls/HashToG1.sol";
import {KnownAnswers} from "./bls/KnownAnswers.sol";
import {DaCertificate} from "./DaCertificate.sol";
import {IDaVerifier} from "./IDaVerifier.sol";
import {Snapshot} from "./Snapshot.sol";

/// @title Verifies certificates of a quorum with BLS12-381 keys: keys in G2, signatures in G1.
contract DaQuorum is IDaVerifier {
    /// A registered key. Stake is a weight in units of the governor's choice.
    struct Signer {
        /// Code that holds 00 ‖ key 192; zero for a signer that nobody registered.
        address keyCode;
        /// Stake before `changesAt`.
        uint64 stake;
        /// Whether the signer is in `members`.
        bool listed;
        /// Stake from the snapshot of epoch `changesAt` on.
        uint64 nextStake;
        uint64 changesAt;
    }

    /// @inheritdoc IDaVerifier
    uint32 public constant kind = 1;
    /// Most members of a snapshot.
    uint256 public constant MEMBERS_MAX = Snapshot.MEMBERS_MAX;
    /// Certificates of this many epochs before the current one still count.
    uint64 public constant EPOCHS_BEHIND_MAX = 2;

    bytes private constant SIGNATURE_TAG = "ASHLAR-DA-SIG-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";
    bytes private constant POSSESSION_TAG = "ASHLAR-DA-POP-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";
    string private constant POSSESSION_DOMAIN = "ASHLAR-DA-POP-V1";

    /// The current epoch; 0 while the first members are put in.
    uint64 public epoch;
    /// Unix seconds at which the current epoch began.
    uint64 public epochStartedAt;
    /// Least seconds between two epochs, except that epoch 1 begins as soon as the governor says. Never changes; kept in
    /// storage and not as an immutable, so that every deployed quorum has the same code hash.
    uint64 public epochSeconds;
    /// Decides who is a member with which stake.
    address public governor;
    /// Was offered the governor's role; zero for nobody.
    address public offeredTo;

    mapping(bytes32 signer => Signer) private signers;
    /// Signers with stake now or soon, in no particular order.
    bytes32[] private members;
    /// Code of each epoch's snapshot.
    mapping(uint64 epoch => address) private snapshots;
    /// Epochs at which some stake changes.
    mapping(uint64 epoch => bool) private changes;

    /// @notice A key may be given stake from now on. `signer` is keccak256(key).
    event SignerRegistered(bytes32 indexed signer, bytes key);
    /// @notice The signer's stake will be `stake` from the snapshot of epoch `from` on.
    event StakeSet(bytes32 indexed signer, uint64 stake, uint64 from);
    /// @notice Epoch `epoch` began with this snapshot, which is the one before if no stake changed.
    event EpochRolled(uint64 indexed epoch, address snapshot, uint256 members, uint256 totalStake);
    /// @notice `offeredTo` may take over the governor's role; zero withdraws the offer.
    event GovernorOffered(address indexed governor, address indexed offeredTo);
    /// @notice The role went to `governor`.
    event GovernorChanged(address indexed previous, address indexed governor);

    /// @notice An epoch needs a length, and a quorum a governor.
    error ZeroArgument();
    /// @notice Only `governor` may do this.
    error NotGovernor(address governor, address caller);
    /// @notice The role was offered to `offeredTo`.
    error NotOffered(address offeredTo, address caller);
    /// @notice A key has 256 bytes, a proof of possession or signature 128.
    error PointLength(uint256 expected, uint256 found);
    /// @notice Infinity is no key and no signature.
    error Infinity();
    /// @notice The encoding of the key is not the canonical one.
    error KeyNotCanonical();
    /// @notice The key is registered already.
    error SignerExists(bytes32 signer);
    /// @notice Nobody registered this key.
    error SignerUnknown(bytes32 signer);
    /// @notice The proof of possession is not one of this key for this contract.
    error PossessionNotProven(bytes32 signer);
    /// @notice As many stakes are needed as signers.
    error Lengths(uint256 signers, uint256 stakes);
    /// @notice A snapshot has room for `maximum` members, those counted who leave soon.
    error TooManyMembers(uint256 maximum);
    /// @notice The first epoch needs a signer with stake.
    error NoMembers();
    /// @notice The current epoch lasts at least until `endsAt`, in Unix seconds.
    error EpochNotOver(uint256 endsAt);
    /// @notice The certificate is of an epoch that is yet to come, has no snapshot, or is more than two behind. The same
    /// header can be certified anew in the current one.
    error EpochStale(uint64 epoch, uint64 current);
    /// @notice The signers have no more than two thirds of the stake.
    error QuorumMissed(uint256 signed, uint256 total);
    /// @notice The aggregate signature is not that of the signers on this message.
    error SignatureInvalid();
    /// @notice The signers no longer promise to keep the blob.
    error KeepUntilPassed(uint64 keepUntil, uint256 time);

    /// @notice Refuses to exist on a chain whose precompiles do not give known answers.
    /// @param firstGovernor Decides about members.
    /// @param secondsPerEpoch Least length of an epoch: how long a change of membership is on view, at least.
    constructor(address firstGovernor, uint64 secondsPerEpoch) {
        if (firstGovernor == address(0) || secondsPerEpoch == 0) revert ZeroArgument();
        KnownAnswers.check();
        chainId();
        epochSeconds = secondsPerEpoch;
        governor = firstGovernor;
        epochStartedAt = uint64(block.timestamp);
        emit GovernorChanged(address(0), firstGovernor);
    }

    // Governor

    /// @notice Offers the governor's role, which stays where it is until the other side accepts; zero withdraws.
    function offerGovernor(address to) external onlyGovernor {
        offeredTo = to;
        emit GovernorOffered(governor, to);
    }

    /// @notice Takes the role that was offered to the caller.
    function acceptGovernor() external {
        if (msg.sender != offeredTo) revert NotOffered(offeredTo, msg.sender);
        emit GovernorChanged(governor, msg.sender);
        governor = msg.sender;
        offeredTo = address(0);
    }

    /// @notice Gives signers stakes; 0 takes the membership away. Counts from the next epoch but one, so that everyone sees
    /// it for a whole epoch; before epoch 1, from epoch 1.
    /// @param ids Signers, registered before.
    /// @param stakes One for each.
    function setStakes(bytes32[] calldata ids, uint64[] calldata stakes) external onlyGovernor {
        if (ids.length != stakes.length) revert Lengths(ids.length, stakes.length);
        uint64 from = epoch == 0 ? 1 : epoch + 2;
        for (uint256 i = 0; i < ids.length; ++i) {
            Signer storage signer = signers[ids[i]];
            if (signer.keyCode == address(0)) revert SignerUnknown(ids[i]);
            // What is due by now stands; what is yet to come gives way.
            signer.stake = stakeAt(signer, epoch);
            signer.nextStake = stakes[i];
            signer.changesAt = from;
            if (!signer.listed && stakes[i] != 0) {
                if (members.length == MEMBERS_MAX) revert TooManyMembers(MEMBERS_MAX);
                members.push(ids[i]);
                signer.listed = true;
            }
            emit StakeSet(ids[i], stakes[i], from);
        }
        changes[from] = true;
    }

    // Signers

    /// @notice Registers a key. Anyone may send this; stake comes from the governor alone.
    /// @param key A point of G2's prime-order subgroup, 256 bytes (EIP-2537).
    /// @param proofOfPossession The key's signature on {possessionMessage} under its own tag, 128 bytes.
    /// @return id keccak256(key).
    function register(bytes calldata key, bytes calldata proofOfPossession) external returns (bytes32 id) {
        if (key.length != Bls12381.G2_BYTES) revert PointLength(Bls12381.G2_BYTES, key.length);
        id = keccak256(key);
        if (signers[id].keyCode != address(0)) revert SignerExists(id);
        Bls12381.G2 memory point = abi.decode(key, (Bls12381.G2));
        if (Bls12381.isInfinity(point)) revert Infinity();
        // Curve and subgroup are checked here by the multiplication, since additions never will.
        if (keccak256(abi.encode(Bls12381.multiply(point, 1))) != id) revert KeyNotCanonical();
        Bls12381.G1 memory message = HashToG1.hash(possessionMessage(key), POSSESSION_TAG);
        if (!Bls12381.verify(point, message, readSignature(proofOfPossession))) revert PossessionNotProven(id);
        signers[id].keyCode = Snapshot.write(Snapshot.pack(point));
        emit SignerRegistered(id, key);
    }

    /// @notice What a signer signs to prove that it has the key's secret: domain ‖ chain id u64 ‖ this ‖ key.
    function possessionMessage(bytes calldata key) public view returns (bytes memory) {
        return abi.encodePacked(POSSESSION_DOMAIN, chainId(), address(this), key);
    }

    // Epochs

    /// @notice Begins the next epoch and freezes its members. Anyone may, once the current one has had its time; the first
    /// epoch is begun by the governor at any time. Where nobody would be left, the members before stay: an epoch that could
    /// not begin would keep later members out for ever.
    /// @return next Its number.
    function rollEpoch() external returns (uint64 next) {
        next = epoch + 1;
        if (next == 1) {
            if (msg.sender != governor) revert NotGovernor(governor, msg.sender);
        } else {
            uint256 endsAt = uint256(epochStartedAt) + epochSeconds;
            if (block.timestamp < endsAt) revert EpochNotOver(endsAt);
        }
        address snapshot = snapshots[epoch];
        if (changes[next]) {
            address changed = freeze(next);
            if (changed != address(0)) snapshot = changed;
        }
        if (snapshot == address(0)) revert NoMembers();
        snapshots[next] = snapshot;
        epoch = next;
        epochStartedAt = uint64(block.timestamp);
        Snapshot.Loaded memory loaded = Snapshot.load(snapshot);
        emit EpochRolled(next, snapshot, loaded.members, loaded.totalStake);
    }

    /// Writes the snapshot of an epoch, and forgets members that have left. Zero if nobody is left.
    function freeze(uint64 next) private returns (address) {
        uint256[16] memory pair;
        uint256 total = 0;
        uint256 count = 0;
        // Room for all: shortened to what was used.
        bytes memory records = new bytes(members.length * Snapshot.RECORD_BYTES);
        uint256 index = 0;
        while (index < members.length) {
            Signer storage signer = signers[members[index]];
            uint64 stake = stakeAt(signer, next);
            if (stake == 0 && signer.changesAt <= next) {
                signer.listed = false;
                members[index] = members[members.length - 1];
                members.pop();
                continue;
            }
            ++index;
            if (stake == 0) continue;
            Snapshot.append(records, count, signer.keyCode, stake, pair);
            ++count;
            total += stake;
        }
        if (count == 0) return address(0);
        return Snapshot.write(Snapshot.encode(count, total, pair, records));
    }

    function stakeAt(Signer storage signer, uint64 number) private view returns (uint64) {
        return number >= signer.changesAt ? signer.nextStake : signer.stake;
    }

    // Certificates

    /// @inheritdoc IDaVerifier
    /// @dev docs/formats/log.md §4. Stake of the signers must be more than two thirds of the snapshot's.
    function verifyCertificate(bytes32 namespace, uint64 sequence, bytes32 headerHash, bytes calldata certificate)
        external
        view
        returns (Availability memory what)
    {
        DaCertificate.check(certificate);
        what = Availability({
            commitment: DaCertificate.commitment(certificate),
            blobLength: DaCertificate.blobLength(certificate),
            keepUntil: DaCertificate.keepUntil(certificate)
        });
        if (what.keepUntil <= block.timestamp) revert KeepUntilPassed(what.keepUntil, block.timestamp);

        Snapshot.Loaded memory snapshot = Snapshot.load(currentSnapshot(DaCertificate.epoch(certificate)));
        (Bls12381.G2 memory key, uint256 signed) =
            Snapshot.signers(snapshot, DaCertificate.nonSigners(certificate));
        if (3 * signed <= 2 * snapshot.totalStake) revert QuorumMissed(signed, snapshot.totalStake);
        // Keys that cancel out would have infinity for a signature on everything.
        if (Bls12381.isInfinity(key)) revert Infinity();
        Bls12381.G1 memory message = HashToG1.hash(
            DaCertificate.message(chainId(), address(this), namespace, sequence, headerHash, certificate),
            SIGNATURE_TAG
        );
        if (!Bls12381.verify(key, message, readSignature(DaCertificate.signature(certificate)))) {
            revert SignatureInvalid();
        }
    }

    /// @notice The bytes that signers sign for this certificate; reverts if its fixed fields cannot be read.
    function certificateMessage(bytes32 namespace, uint64 sequence, bytes32 headerHash, bytes calldata certificate)
        external
        view
        returns (bytes memory)
    {
        DaCertificate.check(certificate);
        return DaCertificate.message(chainId(), address(this), namespace, sequence, headerHash, certificate);
    }

    // Reading

    /// @notice A signer as it is now: its stakes, and the epoch from whose snapshot on the next one counts.
    function signerOf(bytes32 id)
        external
        view
        returns (bool registered, uint64 stake, uint64 nextStake, uint64 changesAt)
    {
        Signer storage signer = signers[id];
        return (signer.keyCode != address(0), stakeAt(signer, epoch), signer.nextStake, signer.changesAt);
    }

    /// @notice The frozen members of an epoch in bitmap order; reverts with {EpochStale} where there is no snapshot.
    /// @return snapshot Address of the code that holds it.
    /// @return aggregate Sum of all keys, 256 bytes.
    /// @return keys 256 bytes each.
    /// @return stakes One for each key.
    function membersOf(uint64 number)
        external
        view
        returns (address snapshot, bytes memory aggregate, bytes[] memory keys, uint64[] memory stakes)
    {
        snapshot = snapshots[number];
        if (snapshot == address(0)) revert EpochStale(number, epoch);
        Snapshot.Loaded memory loaded = Snapshot.load(snapshot);
        aggregate = abi.encode(Snapshot.aggregate(loaded));
        keys = new bytes[](loaded.members);
        stakes = new uint64[](loaded.members);
        for (uint256 i = 0; i < loaded.members; ++i) {
            Bls12381.G2 memory key;
            (key, stakes[i]) = Snapshot.member(loaded, i);
            keys[i] = abi.encode(key);
        }
    }

    /// The snapshot of an epoch whose certificates still count.
    function currentSnapshot(uint64 number) private view returns (address snapshot) {
        uint64 current = epoch;
        if (number > current || current - number > EPOCHS_BEHIND_MAX) revert EpochStale(number, current);
        snapshot = snapshots[number];
        // Epoch 0 has none.
        if (snapshot == address(0)) revert EpochStale(number, current);
    }

    /// A signature or proof of possession that is not infinity. The pairing checks curve and subgroup.
    function readSignature(bytes calldata encoded) private pure returns (Bls12381.G1 memory point) {
        if (encoded.length != Bls12381.G1_BYTES) revert PointLength(Bls12381.G1_BYTES, encoded.length);
        point = Bls12381.readG1(encoded);
        if (Bls12381.isInfinity(point)) revert Infinity();
    }

    /// Read anew each time, so that after a fork neither chain takes the other's certificates.
    function chainId() private view returns (uint64) {
        assert(block.chainid <= type(uint64).max);
        return uint64(block.chainid);
    }

    modifier onlyGovernor() {
        if (msg.sender != governor) revert NotGovernor(governor, msg.sender);
        _;
    }
}
