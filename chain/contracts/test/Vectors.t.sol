// SPDX-License-Identifier: Apache-2.0
// docs/formats/vectors/log.json, made by another implementation, through the contracts: from keys to anchored batches.
//
// Invariant: every value in the file is compared or used; the contracts stand at the file's addresses and chain id.
// Does not know: how the file was made.
pragma solidity 0.8.37;

import {BatchHeader} from "../src/BatchHeader.sol";
import {CommitmentRegistry} from "../src/CommitmentRegistry.sol";
import {DaQuorum} from "../src/DaQuorum.sol";
import {HashToG1} from "../src/bls/HashToG1.sol";
import {IDaVerifier} from "../src/IDaVerifier.sol";
import {Quorum} from "./Quorum.sol";

contract VectorsTest is Quorum {
    string private vectors;
    CommitmentRegistry private registry;
    bytes32 private namespace;

    function setUp() public {
        vm.warp(1_800_000_000);
        vectors = vm.readFile("../../docs/formats/vectors/log.json");
        vm.chainId(number(".chain_id"));
        registry = CommitmentRegistry(account(".registry"));
        vm.etch(address(registry), address(new CommitmentRegistry()).code);
        quorum = DaQuorum(account(".verifier"));
        vm.etch(address(quorum), address(newQuorum()).code);
        // As the constructor leaves it: seconds of an epoch, governor.
        vm.store(address(quorum), bytes32(0), bytes32(uint256(EPOCH_SECONDS) << 128));
        vm.store(address(quorum), bytes32(uint256(1)), bytes32(uint256(uint160(GOVERNOR))));
        same(quorum.epochSeconds(), EPOCH_SECONDS, "layout");
        namespace = word(".namespace");
    }

    function number(string memory key) private view returns (uint256) {
        return vm.parseJsonUint(vectors, key);
    }

    function data(string memory key) private view returns (bytes memory) {
        return unhex(bytes(vm.parseJsonString(vectors, key)));
    }

    function word(string memory key) private view returns (bytes32) {
        bytes memory value = data(key);
        same(value.length, 32, key);
        return bytes32(value);
    }

    function account(string memory key) private view returns (address) {
        return address(bytes20(data(key)));
    }

    function item(string memory list, uint256 i) private pure returns (string memory) {
        return string.concat(list, "[", vm.toString(i), "]");
    }

    function create() private {
        address publisher = account(".publisher");
        vm.prank(account(".creator"));
        same(registry.createNamespace(word(".namespace_salt"), publisher, address(quorum), 1), namespace, "namespace");
    }

    function registerAll() private {
        bytes32[] memory ids = new bytes32[](10);
        uint64[] memory stakes = new uint64[](10);
        for (uint256 i = 0; i < 10; ++i) {
            string memory of_ = item(".signers", i);
            bytes memory key = data(string.concat(of_, ".key"));
            bytes memory message = data(string.concat(of_, ".possession_message"));
            same(key, keyOf(uint256(word(string.concat(of_, ".secret")))), "key");
            same(quorum.possessionMessage(key), message, "message");
            bytes memory hashed = abi.encode(HashToG1.hash(message, POSSESSION_TAG));
            same(hashed, data(string.concat(of_, ".possession_point")), "point");
            ids[i] = quorum.register(key, data(string.concat(of_, ".proof_of_possession")));
            same(ids[i], word(string.concat(of_, ".signer")), "signer");
            stakes[i] = uint64(number(string.concat(of_, ".stake")));
        }
        check(!vm.keyExistsJson(vectors, ".signers[10]"), "all signers");
        vm.prank(GOVERNOR);
        quorum.setStakes(ids, stakes);
        vm.prank(GOVERNOR);
        quorum.rollEpoch();
    }

    function test_the_vectors_are_anchored_from_first_to_last() public {
        create();
        registerAll();
        for (uint256 n = 0; n < 5; ++n) {
            certificate(n);
            string memory batch = item(".batches", n);
            bytes memory header = data(string.concat(batch, ".header"));
            vm.prank(account(".publisher"));
            bytes32 hash = registry.anchor(header, data(string.concat(item(".certificates", n), ".certificate")));
            same(hash, word(string.concat(batch, ".header_hash")), "header hash");
            entries(n, batch, header);
        }
        check(!vm.keyExistsJson(vectors, ".batches[5]"), "all batches");
        storageSlots();
    }

    function certificate(uint256 n) private view {
        string memory of_ = item(".certificates", n);
        uint64 sequence = uint64(number(string.concat(of_, ".sequence")));
        bytes32 hash = word(string.concat(item(".batches", n), ".header_hash"));
        bytes memory encoded = data(string.concat(of_, ".certificate"));
        bytes memory message = data(string.concat(of_, ".message"));
        same(quorum.certificateMessage(namespace, sequence, hash, encoded), message, "message");
        bytes memory hashed = abi.encode(HashToG1.hash(message, SIGNATURE_TAG));
        same(hashed, data(string.concat(of_, ".message_point")), "point");
        uint256 first = n == 2 ? 1 : 0;
        uint256 with = uint256(word(string.concat(item(".signers", first), ".secret")));
        same(sign(with, message, SIGNATURE_TAG), data(string.concat(of_, ".first_signature")), "one signature");
        fields(of_, encoded);
        IDaVerifier.Availability memory what = quorum.verifyCertificate(namespace, sequence, hash, encoded);
        same(what.commitment, word(string.concat(of_, ".fields.commitment")), "commitment");
        same(what.blobLength, number(string.concat(of_, ".fields.blob_length")), "blob length");
        same(what.keepUntil, number(string.concat(of_, ".fields.keep_until")), "keep until");
    }

    function fields(string memory of_, bytes memory encoded) private view {
        Claim memory said = Claim({
            epoch: uint64(number(string.concat(of_, ".fields.epoch"))),
            commitment: word(string.concat(of_, ".fields.commitment")),
            blobLength: uint64(number(string.concat(of_, ".fields.blob_length"))),
            originalRows: uint32(number(string.concat(of_, ".fields.original_rows"))),
            parityRows: uint32(number(string.concat(of_, ".fields.parity_rows"))),
            rowBytes: uint32(number(string.concat(of_, ".fields.row_bytes"))),
            keepUntil: uint64(number(string.concat(of_, ".fields.keep_until")))
        });
        bytes memory expected =
            bytes.concat(unsigned(said), data(string.concat(of_, ".signature")), data(string.concat(of_, ".bitmap")));
        same(encoded, expected, "certificate");
    }

    function entries(uint256 n, string memory batch, bytes memory header) private view {
        uint256 count = number(string.concat(batch, ".fields.entry_count"));
        for (uint32 i = 0; i < count; ++i) {
            string memory of_ = item(string.concat(batch, ".entries"), i);
            bytes32 digest = keccak256(
                bytes.concat(data(string.concat(of_, ".salt")), data(string.concat(of_, ".record")))
            );
            same(digest, word(string.concat(of_, ".record_digest")), "record digest");
            uint64 position = uint64(number(string.concat(of_, ".position")));
            uint32 index = uint32(number(string.concat(of_, ".index")));
            bytes32 leaf = registry.entryLeaf(namespace, position, index, digest);
            same(leaf, word(string.concat(of_, ".leaf")), "leaf");
            bytes memory path = data(item(string.concat(batch, ".paths"), i));
            uint64 sequence = uint64(n + 1);
            check(registry.verifyEntry(namespace, sequence, header, leaf, i, path), "path");
            check(!registry.verifyEntry(namespace, sequence, header, ~leaf, i, path), "leaf");
            check(count == 1 || !registry.verifyEntry(namespace, sequence, header, leaf, i ^ 1, path), "place");
        }
    }

    function storageSlots() private view {
        for (uint256 i = 0; i < 3; ++i) {
            string memory of_ = item(".storage.header_hash_slots", i);
            uint256 sequence = number(string.concat(of_, ".sequence"));
            bytes32 expected = word(string.concat(item(".batches", sequence - 1), ".header_hash"));
            same(vm.load(address(registry), word(string.concat(of_, ".slot"))), expected, "slot");
        }
        uint256 first = uint256(vm.load(address(registry), word(".storage.namespace_slot")));
        same(address(uint160(first)), account(".publisher"), "publisher");
    }

    function test_header_fields_are_where_the_vectors_have_them() public view {
        for (uint256 n = 0; n < 5; ++n) {
            string memory batch = item(".batches", n);
            BatchHeader.Fields memory found = this.decode(data(string.concat(batch, ".header")));
            string memory of_ = string.concat(batch, ".fields");
            same(found.chainId, number(string.concat(of_, ".chain_id")), "chain id");
            same(found.registry, account(string.concat(of_, ".registry")), "registry");
            same(found.namespace, word(string.concat(of_, ".namespace")), "namespace");
            same(found.sequence, number(string.concat(of_, ".sequence")), "sequence");
            same(found.previousHeaderHash, word(string.concat(of_, ".previous_header_hash")), "previous");
            same(found.firstPosition, number(string.concat(of_, ".first_position")), "first");
            same(found.lastPosition, number(string.concat(of_, ".last_position")), "last");
            same(found.entryCount, number(string.concat(of_, ".entry_count")), "count");
            same(found.batchRoot, word(string.concat(of_, ".batch_root")), "batch root");
            same(found.stateRoot, word(string.concat(of_, ".state_root")), "state root");
            same(found.keyEpoch, number(string.concat(of_, ".key_epoch")), "key epoch");
        }
    }

    function decode(bytes calldata header) external pure returns (BatchHeader.Fields memory) {
        return BatchHeader.decode(header);
    }
}
