// SPDX-License-Identifier: Apache-2.0
// Providers: their keys, endpoints and stake, and what they offer.
//
// Invariant: stake stays until UNSTAKE_SECONDS after the last settleBy of every lock that was accepted before it was
// asked back, and only its owner or a proven offence moves it. An offer's version never stands for two sets of terms.
// Does not know: locks, offences, or what kinds of work there are.
pragma solidity 0.8.37;

import {Accounts} from "./Accounts.sol";

/// The providers of the market.
abstract contract Providers is Accounts {
    struct Provider {
        /// Signs receipts. Zero for an address that never registered.
        address signingKey;
        /// Latest settleBy of the locks that it accepted.
        uint64 busyUntil;
        /// Number of its last offer.
        uint32 offers;
        /// An offence was proven: takes no locks and no stake any more.
        bool slashed;
        /// In wei.
        uint128 stake;
        /// Stake that was asked back, still there to be slashed.
        uint128 leaving;
        /// Unix seconds from which on `leaving` may be taken.
        uint64 leavesAt;
        /// Where it is reached.
        string endpoint;
    }

    /// Terms of an offer. Amounts in wei.
    struct Offer {
        /// 1 inference, 2 embedding, 3 labeling, 4 fine-tuning; 0 for what is not offered.
        uint16 kind;
        /// Price of a unit.
        uint96 unitPrice;
        /// Least and greatest cap of a lock.
        uint96 capMin;
        uint96 capMax;
        /// Longest time from opening a lock to its workBy.
        uint32 workSecondsMax;
        /// Content root of the model.
        bytes32 modelRoot;
        /// Content root of the document with further limits.
        bytes32 limits;
    }

    /// Most bytes of an endpoint.
    uint256 public constant ENDPOINT_BYTES_MAX = 256;
    /// How long stake outlives the locks that it stood for.
    uint64 public constant UNSTAKE_SECONDS = 7 days;

    /// Least stake, in wei, with which a lock may be accepted. Never changes; kept in storage and not as an immutable, so
    /// that every deployed market has the same code hash.
    uint128 public stakeMin;

    mapping(address provider => Provider) private providers;
    mapping(address provider => mapping(uint32 number => Offer)) private offers;
    mapping(address provider => mapping(uint32 number => uint32)) private versions;

    /// @notice The provider signs with this key and is reached there from now on.
    event ProviderSet(address indexed provider, address indexed signingKey, string endpoint);
    /// @notice The provider's stake grew by `amount`.
    event StakeAdded(address indexed provider, uint256 amount);
    /// @notice `amount` of the stake was asked back; all that is leaving may be taken from `leavesAt` on.
    event UnstakeBegun(address indexed provider, uint256 amount, uint64 leavesAt);
    /// @notice `amount` went from the stake to the provider's balance.
    event UnstakeFinished(address indexed provider, uint256 amount);
    /// @notice The offer has these terms under this version; kind 0 means that it is withdrawn.
    event OfferSet(address indexed provider, uint32 indexed number, uint32 version, Offer offer);

    /// @notice The address is registered already.
    error ProviderExists(address provider);
    /// @notice The address never registered.
    error ProviderUnknown(address provider);
    /// @notice An offence of this provider was proven.
    error ProviderSlashed(address provider);
    /// @notice An endpoint has at most `maximum` bytes.
    error EndpointTooLong(uint256 maximum, uint256 found);
    /// @notice The amount has more than 128 bits.
    error AmountTooLarge(uint256 amount);
    /// @notice The provider has less stake than this takes.
    error StakeTooSmall(uint256 needed, uint256 stake);
    /// @notice Nothing can be taken before `leavesAt`.
    error StakeNotFree(uint64 leavesAt);
    /// @notice There is no such offer.
    error OfferUnknown(address provider, uint32 number);
    /// @notice An offer has a kind, a price and a model, and 0 < capMin ≤ capMax.
    error OfferInvalid();

    /// @notice Registers the caller as a provider. What is sent with the call is its stake.
    function register(address signingKey, string calldata endpoint) external payable {
        Provider storage provider = providers[msg.sender];
        if (provider.signingKey != address(0)) revert ProviderExists(msg.sender);
        set(provider, signingKey, endpoint);
        if (msg.value != 0) stakeMore(provider);
    }

    /// @notice Changes key and endpoint. Locks that were accepted before keep the key of then.
    function update(address signingKey, string calldata endpoint) external {
        set(registered(msg.sender), signingKey, endpoint);
    }

    /// @notice Adds what is sent with the call to the caller's stake.
    function addStake() external payable {
        stakeMore(registered(msg.sender));
    }

    /// @notice Asks stake back. It stays to be slashed until UNSTAKE_SECONDS after the latest of now and the settleBy of
    /// the locks accepted so far. Asking again moves the time of what is leaving already, never to an earlier one.
    function beginUnstake(uint128 amount) external {
        Provider storage provider = registered(msg.sender);
        uint128 stake = provider.stake;
        if (amount > stake) revert StakeTooSmall(amount, stake);
        uint64 time = uint64(block.timestamp);
        uint64 busyUntil = provider.busyUntil;
        uint64 leavesAt = (busyUntil > time ? busyUntil : time) + UNSTAKE_SECONDS;
        provider.stake = stake - amount;
        provider.leaving += amount;
        provider.leavesAt = leavesAt;
        emit UnstakeBegun(msg.sender, amount, leavesAt);
    }

    /// @notice Moves what has left the stake to the caller's balance.
    function finishUnstake() external {
        Provider storage provider = registered(msg.sender);
        if (block.timestamp < provider.leavesAt) revert StakeNotFree(provider.leavesAt);
        uint128 amount = provider.leaving;
        provider.leaving = 0;
        credit(msg.sender, amount);
        emit UnstakeFinished(msg.sender, amount);
    }

    // Offers

    /// @notice Publishes an offer of the caller.
    /// @return number Its number among the caller's, from 1.
    function publishOffer(Offer calldata offer) external returns (uint32 number) {
        Provider storage provider = registered(msg.sender);
        // Checked arithmetic: a provider has at most 2^32 − 1 offers.
        number = provider.offers + 1;
        provider.offers = number;
        setOffer(number, offer);
    }

    /// @notice Gives an offer new terms under a new version; a withdrawn one is offered again. Locks that are open keep
    /// theirs.
    function reviseOffer(uint32 number, Offer calldata offer) external {
        if (versions[msg.sender][number] == 0) revert OfferUnknown(msg.sender, number);
        setOffer(number, offer);
    }

    /// @notice Takes an offer back: no lock can be opened under it.
    function withdrawOffer(uint32 number) external {
        Offer storage offer = offers[msg.sender][number];
        if (offer.kind == 0) revert OfferUnknown(msg.sender, number);
        offer.kind = 0;
        emit OfferSet(msg.sender, number, ++versions[msg.sender][number], offer);
    }

    // Reading

    /// @notice All about a provider; reverts if the address never registered.
    function providerOf(address provider) external view returns (Provider memory) {
        return registered(provider);
    }

    /// @notice An offer's version and terms; version 0 where there never was one, kind 0 where it was withdrawn.
    function offerOf(address provider, uint32 number) public view returns (uint32 version, Offer memory offer) {
        return (versions[provider][number], offers[provider][number]);
    }

    function registered(address account) internal view returns (Provider storage provider) {
        provider = providers[account];
        if (provider.signingKey == address(0)) revert ProviderUnknown(account);
    }

    /// The key with which a provider takes a lock that ends at `settleBy`, for which its stake stands from now on.
    function engage(address account, uint64 settleBy) internal returns (address signingKey) {
        Provider storage provider = registered(account);
        if (provider.slashed) revert ProviderSlashed(account);
        if (provider.stake < stakeMin) revert StakeTooSmall(stakeMin, provider.stake);
        if (settleBy > provider.busyUntil) provider.busyUntil = settleBy;
        return provider.signingKey;
    }

    /// Takes all stake away, for ever. Returns how much it was.
    function forfeit(address account) internal returns (uint256 amount) {
        Provider storage provider = registered(account);
        if (provider.slashed) revert ProviderSlashed(account);
        amount = uint256(provider.stake) + provider.leaving;
        (provider.slashed, provider.stake, provider.leaving) = (true, 0, 0);
    }

    function set(Provider storage provider, address signingKey, string calldata endpoint) private {
        if (signingKey == address(0)) revert ZeroAddress();
        uint256 length = bytes(endpoint).length;
        if (length > ENDPOINT_BYTES_MAX) revert EndpointTooLong(ENDPOINT_BYTES_MAX, length);
        provider.signingKey = signingKey;
        provider.endpoint = endpoint;
        emit ProviderSet(msg.sender, signingKey, endpoint);
    }

    function stakeMore(Provider storage provider) private {
        if (provider.slashed) revert ProviderSlashed(msg.sender);
        if (msg.value > type(uint128).max) revert AmountTooLarge(msg.value);
        provider.stake += uint128(msg.value);
        emit StakeAdded(msg.sender, msg.value);
    }

    function setOffer(uint32 number, Offer calldata offer) private {
        bool whole = offer.kind != 0 && offer.unitPrice != 0 && offer.modelRoot != 0;
        if (!whole || offer.capMin == 0 || offer.capMin > offer.capMax) revert OfferInvalid();
        offers[msg.sender][number] = offer;
        emit OfferSet(msg.sender, number, ++versions[msg.sender][number], offer);
    }
}
