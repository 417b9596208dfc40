// SPDX-License-Identifier: Apache-2.0
// The quorum: registration, stakes, epochs, snapshots, certificates, and every attack on them that we know of.
//
// Invariant: every error of the quorum is met by a test, with its facts.
// Does not know: the registry.
pragma solidity 0.8.37;

import {Bls12381} from "../src/bls/Bls12381.sol";
import {DaCertificate} from "../src/DaCertificate.sol";
import {DaQuorum} from "../src/DaQuorum.sol";
import {IDaVerifier} from "../src/IDaVerifier.sol";
import {Snapshot} from "../src/Snapshot.sol";
import {Quorum} from "./Quorum.sol";

contract DaQuorumTest is Quorum {
    bytes32 private constant NAMESPACE = "namespace";
    bytes32 private constant HEADER = "header";
    address private constant STRANGER = address(0x57);
    /// A precompile that refuses its input takes all gas that it is given: tests that go on give it no more than this.
    uint256 private constant GAS = 2_000_000;

    function setUp() public {
        vm.warp(1_800_000_000);
        quorum = newQuorum();
        start(quorum, equalStakes(7, 10));
    }

    function verify(bytes memory certificate) private view returns (IDaVerifier.Availability memory) {
        return quorum.verifyCertificate(NAMESPACE, 1, HEADER, certificate);
    }

    function refused(bytes memory certificate, bytes memory reason) private {
        vm.expectRevert(reason);
        quorum.verifyCertificate{gas: GAS}(NAMESPACE, 1, HEADER, certificate);
    }

    function good(uint256 absent) private view returns (bytes memory) {
        return certify(NAMESPACE, 1, HEADER, claim(quorum.epoch()), 7, absent);
    }

    // Construction and roles

    function test_a_quorum_needs_a_governor_and_a_length_of_epochs() public {
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.ZeroArgument.selector));
        new DaQuorum(address(0), 1);
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.ZeroArgument.selector));
        new DaQuorum(GOVERNOR, 0);
        same(quorum.governor(), GOVERNOR, "governor");
        same(quorum.epochSeconds(), EPOCH_SECONDS, "seconds");
        same(quorum.kind(), 1, "kind");
    }

    function test_the_governors_role_moves_in_two_steps() public {
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.NotGovernor.selector, GOVERNOR, address(this)));
        quorum.offerGovernor(address(this));
        vm.prank(GOVERNOR);
        quorum.offerGovernor(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.NotOffered.selector, STRANGER, address(this)));
        quorum.acceptGovernor();
        vm.prank(STRANGER);
        quorum.acceptGovernor();
        same(quorum.governor(), STRANGER, "governor");
        same(quorum.offeredTo(), address(0), "offer");
        vm.prank(GOVERNOR);
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.NotGovernor.selector, STRANGER, GOVERNOR));
        quorum.setStakes(new bytes32[](0), new uint64[](0));
    }

    // Registration

    function test_registration_is_seen_and_done_once() public {
        bytes memory key = keyOf(secret(50));
        vm.expectEmit(true, true, true, true, address(quorum));
        emit DaQuorum.SignerRegistered(keccak256(key), key);
        bytes32 id = register(quorum, secret(50));
        same(id, keccak256(key), "id");
        (bool registered, uint64 stake, uint64 nextStake, uint64 changesAt) = quorum.signerOf(id);
        check(registered && stake == 0 && nextStake == 0 && changesAt == 0, "without stake");
        bytes memory proof = possession(quorum, secret(50));
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.SignerExists.selector, id));
        quorum.register(key, proof);
        (registered,,,) = quorum.signerOf("?");
        check(!registered, "unknown");
    }

    function test_points_of_another_length_are_refused() public {
        bytes memory key = keyOf(secret(50));
        bytes memory proof = possession(quorum, secret(50));
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.PointLength.selector, 256, 255));
        quorum.register(slice(key, 0, 255), proof);
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.PointLength.selector, 256, 288));
        quorum.register(bytes.concat(key, bytes32(0)), proof);
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.PointLength.selector, 128, 96));
        quorum.register(key, slice(proof, 0, 96));
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.PointLength.selector, 128, 160));
        quorum.register(key, bytes.concat(proof, bytes32(0)));
    }

    function test_infinity_is_no_key_and_no_proof() public {
        bytes memory proof = possession(quorum, secret(50));
        bytes memory key = keyOf(secret(50));
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.Infinity.selector));
        quorum.register(new bytes(256), proof);
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.Infinity.selector));
        quorum.register(key, new bytes(128));
    }

    /// x = 2 on the twist: a point that the additions would take.
    function outsideG2() private pure returns (bytes memory) {
        return abi.encode(
            Bls12381.G2({
                x0High: 0,
                x0Low: 2,
                x1High: 0,
                x1Low: 0,
                y0High: 0x18c6b864ae17dc9da64203ffefb96630,
                y0Low: 0x6425a7bc6aeb7c75247438372716284a4173830420cd476ba1a365b95bfcec38,
                y1High: 0x172e93db764a8400a7d5071b6b6f5de0,
                y1Low: 0xda2f0f4a063119abca014006b7c40a2cfe291a1924e65db0d6d0fcfbf3bf3d5c
            })
        );
    }

    function test_a_key_outside_of_the_subgroup_is_refused() public {
        bytes memory outside = outsideG2();
        (bool added,) = address(0x0d).staticcall(bytes.concat(outside, outside));
        check(added, "it is on the curve");
        bytes memory proof = possession(quorum, secret(50));
        vm.expectRevert(abi.encodeWithSelector(Bls12381.PrecompileFailed.selector, Bls12381.G2_MSM));
        quorum.register{gas: GAS}(outside, proof);
        // A good key plus a point outside.
        (, bytes memory mixed) = address(0x0d).staticcall(bytes.concat(outside, keyOf(secret(50))));
        vm.expectRevert(abi.encodeWithSelector(Bls12381.PrecompileFailed.selector, Bls12381.G2_MSM));
        quorum.register{gas: GAS}(mixed, proof);
    }

    function test_what_is_no_point_is_no_key() public {
        bytes memory proof = possession(quorum, secret(50));
        bytes memory key = keyOf(secret(50));
        bytes memory bent = flipped(key, 8 * 255);
        vm.expectRevert(abi.encodeWithSelector(Bls12381.PrecompileFailed.selector, Bls12381.G2_MSM));
        quorum.register{gas: GAS}(bent, proof);
        // x + p is the same element, and no canonical encoding of it.
        Bls12381.G2 memory point = abi.decode(key, (Bls12381.G2));
        unchecked {
            point.x0High += Bls12381.P_HIGH + (point.x0Low + Bls12381.P_LOW < point.x0Low ? 1 : 0);
            point.x0Low += Bls12381.P_LOW;
        }
        bytes memory second = abi.encode(point);
        vm.expectRevert(abi.encodeWithSelector(Bls12381.PrecompileFailed.selector, Bls12381.G2_MSM));
        quorum.register{gas: GAS}(second, proof);
        // Anything in the sixteen bytes that must be zero.
        bent = flipped(key, 0);
        vm.expectRevert(abi.encodeWithSelector(Bls12381.PrecompileFailed.selector, Bls12381.G2_MSM));
        quorum.register{gas: GAS}(bent, proof);
    }

    function test_possession_is_proven_for_this_key_contract_chain_and_tag() public {
        bytes memory key = keyOf(secret(50));
        bytes memory reason = abi.encodeWithSelector(DaQuorum.PossessionNotProven.selector, keccak256(key));
        bytes[] memory proofs = new bytes[](4);
        proofs[0] = possession(quorum, secret(51));
        DaQuorum other = newQuorum();
        proofs[1] = possession(other, secret(50));
        proofs[2] = sign(secret(50), quorum.possessionMessage(key), SIGNATURE_TAG);
        uint64 before = chain();
        vm.chainId(before + 1);
        proofs[3] = possession(quorum, secret(50));
        vm.chainId(before);
        for (uint256 i = 0; i < proofs.length; ++i) {
            vm.expectRevert(reason);
            quorum.register(key, proofs[i]);
        }
        quorum.register(key, possession(quorum, secret(50)));
    }

    function test_the_possession_message_is_domain_chain_contract_key() public view {
        bytes memory key = keyOf(secret(50));
        bytes memory expected = abi.encodePacked("ASHLAR-DA-POP-V1", chain(), address(quorum), key);
        same(quorum.possessionMessage(key), expected, "message");
        same(expected.length, 300, "bytes");
    }

    /// A rogue key: mine minus the others', so that the aggregate would be mine alone. Its secret is not known to anyone who
    /// does not know the others', so possession cannot be shown: every signature at hand fails.
    function test_a_rogue_key_is_not_registered() public {
        bytes memory sum = keyOf(secretWithout(hex"00", 7));
        Bls12381.G2 memory negated = Bls12381.negate(abi.decode(sum, (Bls12381.G2)));
        (, bytes memory rogue) = address(0x0d).staticcall(bytes.concat(keyOf(secret(66)), abi.encode(negated)));
        bytes memory reason = abi.encodeWithSelector(DaQuorum.PossessionNotProven.selector, keccak256(rogue));
        bytes memory mine = sign(secret(66), quorum.possessionMessage(rogue), POSSESSION_TAG);
        vm.expectRevert(reason);
        quorum.register(rogue, mine);
        bytes memory own = possession(quorum, secret(66));
        vm.expectRevert(reason);
        quorum.register(rogue, own);
    }

    // Stakes and epochs

    function test_only_the_governor_gives_stakes_and_only_to_known_signers() public {
        bytes32[] memory ids = new bytes32[](1);
        ids[0] = keccak256(keyOf(secret(0)));
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.NotGovernor.selector, GOVERNOR, address(this)));
        quorum.setStakes(ids, equalStakes(1, 5));
        vm.prank(GOVERNOR);
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.Lengths.selector, 1, 2));
        quorum.setStakes(ids, equalStakes(2, 5));
        ids[0] = "?";
        vm.prank(GOVERNOR);
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.SignerUnknown.selector, bytes32("?")));
        quorum.setStakes(ids, equalStakes(1, 5));
    }

    function setStake(uint256 signer, uint64 stake) private {
        bytes32[] memory ids = new bytes32[](1);
        ids[0] = keccak256(keyOf(secret(signer)));
        vm.prank(GOVERNOR);
        quorum.setStakes(ids, equalStakes(1, stake));
    }

    function total(uint64 epoch) private view returns (uint256 sum, uint256 count) {
        (,,, uint64[] memory stakes) = quorum.membersOf(epoch);
        for (uint256 i = 0; i < stakes.length; ++i) sum += stakes[i];
        count = stakes.length;
    }

    function test_a_change_counts_from_the_next_epoch_but_one() public {
        register(quorum, secret(50));
        setStake(50, 30);
        nextEpoch();
        (uint256 sum, uint256 count) = total(2);
        check(sum == 70 && count == 7, "not in the next");
        nextEpoch();
        (sum, count) = total(3);
        check(sum == 100 && count == 8, "in the one after");
        (sum,) = total(1);
        same(sum, 70, "the first is as it was");
        setStake(50, 0);
        setStake(0, 1);
        nextEpoch();
        (sum,) = total(4);
        same(sum, 100, "not yet");
        nextEpoch();
        (sum, count) = total(5);
        check(sum == 61 && count == 7, "gone, and less");
    }

    function test_a_later_change_takes_the_place_of_one_that_does_not_count_yet() public {
        setStake(0, 1);
        nextEpoch();
        setStake(0, 2);
        nextEpoch();
        (uint256 sum,) = total(3);
        same(sum, 70, "neither");
        nextEpoch();
        (sum,) = total(4);
        same(sum, 62, "the later");
    }

    function test_snapshots_are_shared_while_nothing_changes() public {
        nextEpoch();
        nextEpoch();
        (address first,,,) = quorum.membersOf(1);
        (address third,,,) = quorum.membersOf(3);
        same(first, third, "snapshot");
        check(first.code[0] == 0x00, "code stops at once");
        (bool success,) = first.call("");
        check(success, "it does nothing");
    }

    function test_a_snapshot_holds_keys_stakes_and_their_sum() public view {
        (, bytes memory aggregate, bytes[] memory keys, uint64[] memory stakes) = quorum.membersOf(1);
        same(keys.length, 7, "members");
        for (uint256 i = 0; i < 7; ++i) {
            same(keys[i], keyOf(secret(i)), "key");
            same(stakes[i], 10, "stake");
        }
        same(aggregate, keyOf(secretWithout(hex"00", 7)), "aggregate");
    }

    function test_an_epoch_lasts_and_the_first_is_the_governors() public {
        vm.expectRevert(
            abi.encodeWithSelector(DaQuorum.EpochNotOver.selector, uint256(time()) + EPOCH_SECONDS)
        );
        quorum.rollEpoch();
        vm.warp(time() + EPOCH_SECONDS - 1);
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.EpochNotOver.selector, time() + 1));
        quorum.rollEpoch();
        vm.warp(time() + 1);
        vm.prank(STRANGER);
        same(quorum.rollEpoch(), 2, "anyone");
        same(quorum.epochStartedAt(), time(), "began");
        quorum = new DaQuorum(GOVERNOR, type(uint64).max);
        start(quorum, equalStakes(1, 1));
        vm.expectRevert(
            abi.encodeWithSelector(DaQuorum.EpochNotOver.selector, uint256(time()) + type(uint64).max)
        );
        quorum.rollEpoch();
        DaQuorum fresh = newQuorum();
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.NotGovernor.selector, GOVERNOR, address(this)));
        fresh.rollEpoch();
        vm.prank(GOVERNOR);
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.NoMembers.selector));
        fresh.rollEpoch();
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.EpochStale.selector, uint64(1), uint64(0)));
        fresh.membersOf(1);
    }

    function test_a_quorum_is_never_emptied_and_never_stuck() public {
        for (uint256 i = 0; i < 7; ++i) setStake(i, 0);
        nextEpoch();
        nextEpoch();
        (uint256 sum, uint256 count) = total(3);
        check(sum == 70 && count == 7, "the last members stay");
        verify(good(2));
        register(quorum, secret(50));
        setStake(50, 5);
        setStake(0, 6);
        nextEpoch();
        nextEpoch();
        (sum, count) = total(5);
        check(sum == 11 && count == 2, "until others count");
    }

    function test_a_snapshot_has_room_for_a_hundred_and_twenty() public {
        quorum = newQuorum();
        start(quorum, equalStakes(120, 1));
        (, uint256 count) = total(1);
        same(count, 120, "members");
        verify(certify(NAMESPACE, 1, HEADER, claim(1), 120, 39));
        register(quorum, secret(120));
        bytes32[] memory ids = new bytes32[](1);
        ids[0] = keccak256(keyOf(secret(120)));
        uint64[] memory stakes = equalStakes(1, 1);
        vm.prank(GOVERNOR);
        vm.expectRevert(abi.encodeWithSelector(DaQuorum.TooManyMembers.selector, 120));
        quorum.setStakes(ids, stakes);
    }

    // Certificates

    function test_a_certificate_of_all_and_of_just_enough_counts() public view {
        IDaVerifier.Availability memory what = verify(good(0));
        same(what.commitment, keccak256("commitment"), "commitment");
        same(what.blobLength, 1000, "length");
        same(what.keepUntil, time() + 30 days, "keep until");
        verify(good(1));
        verify(good(2));
    }

    function test_two_thirds_are_not_more_than_two_thirds() public {
        bytes memory certificate = good(3);
        refused(certificate, abi.encodeWithSelector(DaQuorum.QuorumMissed.selector, 40, 70));
        quorum = newQuorum();
        start(quorum, equalStakes(3, 5));
        certificate = certify(NAMESPACE, 1, HEADER, claim(1), 3, 1);
        refused(certificate, abi.encodeWithSelector(DaQuorum.QuorumMissed.selector, 10, 15));
        verify(certify(NAMESPACE, 1, HEADER, claim(1), 3, 0));
    }

    function test_stake_decides_and_not_the_number_of_signers() public {
        quorum = newQuorum();
        uint64[] memory stakes = equalStakes(10, 1);
        stakes[0] = 100;
        start(quorum, stakes);
        verify(certify(NAMESPACE, 1, HEADER, claim(1), 10, 9));
        bytes memory bitmap = hex"8000";
        Claim memory of_ = claim(1);
        bytes memory message = signedMessage(address(quorum), NAMESPACE, 1, HEADER, of_);
        bytes memory signature = sign(secretWithout(bitmap, 10), message, SIGNATURE_TAG);
        refused(
            bytes.concat(unsigned(of_), signature, bitmap),
            abi.encodeWithSelector(DaQuorum.QuorumMissed.selector, 9, 109)
        );
    }

    function test_the_largest_stakes_do_not_overflow() public {
        quorum = newQuorum();
        start(quorum, equalStakes(4, type(uint64).max));
        verify(certify(NAMESPACE, 1, HEADER, claim(1), 4, 1));
        bytes memory certificate = certify(NAMESPACE, 1, HEADER, claim(1), 4, 2);
        uint256 most = type(uint64).max;
        refused(certificate, abi.encodeWithSelector(DaQuorum.QuorumMissed.selector, 2 * most, 4 * most));
    }

    function test_a_certificate_says_nothing_of_another_place() public {
        bytes memory certificate = good(0);
        bytes memory invalid = abi.encodeWithSelector(DaQuorum.SignatureInvalid.selector);
        vm.expectRevert(invalid);
        quorum.verifyCertificate("other", 1, HEADER, certificate);
        vm.expectRevert(invalid);
        quorum.verifyCertificate(NAMESPACE, 2, HEADER, certificate);
        vm.expectRevert(invalid);
        quorum.verifyCertificate(NAMESPACE, 1, "other", certificate);
        uint64 before = chain();
        vm.chainId(before + 1);
        vm.expectRevert(invalid);
        quorum.verifyCertificate(NAMESPACE, 1, HEADER, certificate);
        vm.chainId(before);
        DaQuorum twin = newQuorum();
        start(twin, equalStakes(7, 10));
        vm.expectRevert(invalid);
        twin.verifyCertificate(NAMESPACE, 1, HEADER, certificate);
    }

    /// Every signed field, and the epoch once another epoch exists.
    function test_no_field_of_a_certificate_may_differ() public {
        nextEpoch();
        bytes memory certificate = good(1);
        verify(certificate);
        for (uint256 at_ = 2; at_ < 70; ++at_) {
            bytes memory bent = flipped(certificate, 8 * at_);
            vm.expectRevert();
            quorum.verifyCertificate{gas: GAS}(NAMESPACE, 1, HEADER, bent);
        }
        // Epoch 1 has the very same members: still another message.
        bytes memory other = bytes.concat(certificate);
        other[9] = 0x01;
        refused(other, abi.encodeWithSelector(DaQuorum.SignatureInvalid.selector));
        // And keep-until cannot be stretched.
        other = bytes.concat(certificate);
        other[62] = 0x01;
        refused(other, abi.encodeWithSelector(DaQuorum.SignatureInvalid.selector));
    }

    function test_other_versions_and_lengths_are_refused() public {
        bytes memory certificate = good(0);
        refused("", abi.encodeWithSelector(DaCertificate.CertificateLength.selector, 0));
        refused(slice(certificate, 0, 197), abi.encodeWithSelector(DaCertificate.CertificateLength.selector, 197));
        bytes memory short = slice(certificate, 0, 198);
        refused(short, abi.encodeWithSelector(Snapshot.Bitmap.selector, 7, bytes("")));
        bytes memory long = bytes.concat(certificate, bytes1(0));
        refused(long, abi.encodeWithSelector(Snapshot.Bitmap.selector, 7, bytes(hex"0000")));
        bytes memory other = bytes.concat(certificate);
        other[1] = 0x02;
        refused(other, abi.encodeWithSelector(DaCertificate.CertificateVersion.selector, 2));
    }

    function test_bits_beyond_the_last_member_are_refused() public {
        bytes memory certificate = good(0);
        certificate[198] = 0x01;
        refused(certificate, abi.encodeWithSelector(Snapshot.Bitmap.selector, 7, bytes(hex"01")));
    }

    function test_a_bitmap_cannot_claim_other_signers() public {
        bytes memory invalid = abi.encodeWithSelector(DaQuorum.SignatureInvalid.selector);
        bytes memory certificate = good(1);
        certificate[198] = 0x00;
        refused(certificate, invalid);
        certificate[198] = 0x80;
        refused(certificate, invalid);
        certificate[198] = 0x82;
        refused(certificate, invalid);
    }

    function test_an_old_epoch_counts_for_two_more_and_the_header_can_be_certified_anew() public {
        bytes memory certificate = good(2);
        nextEpoch();
        verify(certificate);
        nextEpoch();
        verify(certificate);
        nextEpoch();
        refused(certificate, abi.encodeWithSelector(DaQuorum.EpochStale.selector, uint64(1), uint64(4)));
        verify(good(2));
        bytes memory ahead = certify(NAMESPACE, 1, HEADER, claim(5), 7, 0);
        refused(ahead, abi.encodeWithSelector(DaQuorum.EpochStale.selector, uint64(5), uint64(4)));
        ahead = certify(NAMESPACE, 1, HEADER, claim(type(uint64).max), 7, 0);
        refused(ahead, abi.encodeWithSelector(DaQuorum.EpochStale.selector, type(uint64).max, uint64(4)));
    }

    function test_epoch_zero_vouches_for_nothing() public {
        bytes memory certificate = certify(NAMESPACE, 1, HEADER, claim(0), 7, 0);
        refused(certificate, abi.encodeWithSelector(DaQuorum.EpochStale.selector, uint64(0), uint64(1)));
    }

    function test_a_promise_that_has_run_out_is_none() public {
        Claim memory of_ = claim(1);
        of_.keepUntil = time();
        bytes memory certificate = certify(NAMESPACE, 1, HEADER, of_, 7, 0);
        refused(
            certificate,
            abi.encodeWithSelector(DaQuorum.KeepUntilPassed.selector, time(), time())
        );
        of_.keepUntil += 1;
        verify(certify(NAMESPACE, 1, HEADER, of_, 7, 0));
    }

    // Forgery

    function withSignature(bytes memory signature) private view returns (bytes memory) {
        return bytes.concat(unsigned(claim(1)), signature, hex"00");
    }

    function test_forged_signatures_are_refused() public {
        bytes memory message = signedMessage(address(quorum), NAMESPACE, 1, HEADER, claim(1));
        bytes memory invalid = abi.encodeWithSelector(DaQuorum.SignatureInvalid.selector);
        refused(withSignature(new bytes(128)), abi.encodeWithSelector(DaQuorum.Infinity.selector));
        refused(withSignature(sign(secret(99), message, SIGNATURE_TAG)), invalid);
        refused(withSignature(sign(secret(0), message, SIGNATURE_TAG)), invalid);
        uint256 all = secretWithout(hex"00", 7);
        // Under the tag for possession, and on the message with nothing else changed.
        refused(withSignature(sign(all, message, POSSESSION_TAG)), invalid);
        refused(withSignature(sign(ORDER - all, message, SIGNATURE_TAG)), invalid);
        refused(withSignature(sign(all, bytes.concat(message, bytes1(0)), SIGNATURE_TAG)), invalid);
        verify(withSignature(sign(all, message, SIGNATURE_TAG)));
    }

    /// (0, −2) has order 3: on the curve, outside of the subgroup. Adding it to a good signature changes nothing in a
    /// pairing that does not check subgroups.
    function test_signatures_outside_of_the_subgroup_are_refused() public {
        bytes memory outside =
            abi.encode(Bls12381.G1(0, 0, Bls12381.P_HIGH, Bls12381.P_LOW - 2));
        bytes memory failed = abi.encodeWithSelector(Bls12381.PrecompileFailed.selector, Bls12381.PAIRING);
        refused(withSignature(outside), failed);
        bytes memory message = signedMessage(address(quorum), NAMESPACE, 1, HEADER, claim(1));
        bytes memory signature = sign(secretWithout(hex"00", 7), message, SIGNATURE_TAG);
        (bool success, bytes memory mixed) = address(0x0b).staticcall(bytes.concat(signature, outside));
        check(success, "addition");
        refused(withSignature(mixed), failed);
        refused(withSignature(flipped(signature, 8 * 127)), failed);
        // One certificate has one encoding: neither x + p nor anything in the zeros.
        refused(withSignature(flipped(signature, 0)), failed);
    }

    /// Members whose keys cancel out: the aggregate is infinity, and so would be the signature on anything.
    function test_keys_that_cancel_out_vouch_for_nothing() public {
        quorum = newQuorum();
        bytes32[] memory ids = new bytes32[](2);
        ids[0] = register(quorum, secret(0));
        ids[1] = register(quorum, ORDER - secret(0));
        vm.prank(GOVERNOR);
        quorum.setStakes(ids, equalStakes(2, 1));
        vm.prank(GOVERNOR);
        quorum.rollEpoch();
        bytes memory certificate = bytes.concat(unsigned(claim(1)), new bytes(128), hex"00");
        refused(certificate, abi.encodeWithSelector(DaQuorum.Infinity.selector));
        certificate = bytes.concat(unsigned(claim(1)), sign(1, "any", SIGNATURE_TAG), hex"00");
        refused(certificate, abi.encodeWithSelector(DaQuorum.Infinity.selector));
    }

    /// Two with the same sum of keys: subtraction meets doubling and infinity.
    function test_sums_that_meet_infinity_on_the_way_are_right() public {
        quorum = newQuorum();
        uint256[] memory secrets = new uint256[](9);
        uint64[] memory stakes = equalStakes(9, 10);
        bytes32[] memory ids = new bytes32[](9);
        for (uint256 i = 0; i < 9; ++i) secrets[i] = secret(i);
        secrets[7] = ORDER - secret(8);
        stakes[7] = stakes[8] = 1;
        for (uint256 i = 0; i < 9; ++i) ids[i] = register(quorum, secrets[i]);
        vm.prank(GOVERNOR);
        quorum.setStakes(ids, stakes);
        vm.prank(GOVERNOR);
        quorum.rollEpoch();
        Claim memory of_ = claim(1);
        bytes memory message = signedMessage(address(quorum), NAMESPACE, 1, HEADER, of_);
        uint256 seven = secretWithout(hex"0180", 7);
        bytes memory signature = sign(seven, message, SIGNATURE_TAG);
        // The two that cancel out are absent, or present: the same signature is right for both.
        verify(bytes.concat(unsigned(of_), signature, hex"0180"));
        verify(bytes.concat(unsigned(of_), signature, hex"0000"));
    }

    function test_the_contract_tells_what_is_signed() public {
        bytes memory certificate = good(1);
        bytes memory expected = signedMessage(address(quorum), NAMESPACE, 1, HEADER, claim(1));
        same(quorum.certificateMessage(NAMESPACE, 1, HEADER, certificate), expected, "message");
        same(expected.length, 180, "bytes");
        vm.expectRevert(abi.encodeWithSelector(DaCertificate.CertificateLength.selector, 3));
        quorum.certificateMessage(NAMESPACE, 1, HEADER, hex"000102");
    }

    function testFuzz_any_set_of_signers_counts_if_and_only_if_it_has_the_stake(
        uint256 bits,
        uint64[] calldata seeds,
        bytes32 namespace,
        uint64 sequence,
        bytes32 headerHash
    ) public {
        uint256 count = 1 + bits % 12;
        uint64[] memory stakes = new uint64[](count);
        uint256 sum = 0;
        uint256 signed = 0;
        bytes memory bitmap = new bytes((count + 7) / 8);
        for (uint256 i = 0; i < count; ++i) {
            stakes[i] = i < seeds.length && seeds[i] != 0 ? seeds[i] : uint64(i + 1);
            sum += stakes[i];
            if (bits >> (i + 8) & 1 == 1) bitmap[i / 8] |= bytes1(uint8(0x80 >> (i % 8)));
            else signed += stakes[i];
        }
        quorum = newQuorum();
        start(quorum, stakes);
        Claim memory of_ = claim(1);
        bytes memory message = signedMessage(address(quorum), namespace, sequence, headerHash, of_);
        uint256 with = secretWithout(bitmap, count);
        bytes memory signature = with == 0 ? new bytes(128) : sign(with, message, SIGNATURE_TAG);
        bytes memory certificate = bytes.concat(unsigned(of_), signature, bitmap);
        if (3 * signed <= 2 * sum) {
            vm.expectRevert(abi.encodeWithSelector(DaQuorum.QuorumMissed.selector, signed, sum));
        }
        quorum.verifyCertificate(namespace, sequence, headerHash, certificate);
    }

    function testFuzz_no_changed_byte_is_accepted(uint256 at_, uint8 with) public {
        bytes memory certificate = good(2);
        at_ = at_ % certificate.length;
        vm.assume(with != 0);
        certificate[at_] = certificate[at_] ^ bytes1(with);
        vm.expectRevert();
        quorum.verifyCertificate{gas: GAS}(NAMESPACE, 1, HEADER, certificate);
    }

    function testFuzz_noise_is_no_certificate(bytes calldata noise) public {
        vm.expectRevert();
        quorum.verifyCertificate(NAMESPACE, 1, HEADER, noise);
    }
}
