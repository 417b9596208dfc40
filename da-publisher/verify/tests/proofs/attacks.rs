//! Good proofs, and every way we know to pass something else for one: each is a test, and each is a vector.

use ashlar_verify::{BlockId, ChainEvidence, ChainKind, Hash, HexBytes, Id, Proof, Slot, header_slot};

use crate::cases::{Case, Outcome, agreeing, cases, older};
use crate::patricia;
use crate::world::{HeaderFields, World, header, levels, other_account, seeded, signer};

const PLAIN: &[(usize, usize, usize)] = &[(0, 0, 40_000)];
const MULTIPART: &[(usize, usize, usize)] = &[(0, 0, 150_000), (2, 0, 20_001)];

fn failed(step: &str) -> Outcome {
    Outcome::failed(step)
}

fn edited(world: &World, edit: impl FnOnce(&mut Proof)) -> Case {
    let mut proof = world.proof(0, 4);
    edit(&mut proof);
    let mut case = Case::of(&world.trust, &proof);
    let entry = world.proof(0, 4).entry.unwrap();
    (case.bucket, case.key, case.version) = (entry.bucket, entry.key, Some(entry.version));
    case
}

/// The parts of the multipart object, with blocks of data, parity and copies.
fn multipart(world: &World) -> Proof {
    let mut proof = world.proof(1, 1);
    let entry = proof.entry.as_mut().unwrap();
    entry.parts = Some(world.multipart.parts.clone());
    let places = [(0, 0, 0), (0, 2, 1), (0, 3, 2), (0, 5, 0), (2, 1, 1)];
    entry.blocks =
        Some(places.map(|(part, shard, block)| world.multipart.block(part, shard, block)).to_vec());
    proof
}

fn with_level(world: &World, kind: ChainKind, evidence: &ChainEvidence) -> Case {
    let mut trust = older(world, 1);
    trust.chain = kind;
    let mut proof = world.proof(1, 0);
    proof.state = Some(world.state(&[1, 2]));
    Case::of(&trust, &proof).with_evidence(evidence)
}

/// A proof in which a node of the batch tree stands for a leaf, with the path that is left above it.
fn inner_node(world: &World, level: usize) -> Case {
    let leaves: Vec<Hash> = world.batches[0].entries.iter().map(|entry| entry.leaf).collect();
    edited(world, |proof| {
        proof.receipt = None;
        let entry = proof.entry.as_mut().unwrap();
        // Salt and record spell what the node was made of; the leaf's own tag makes it another digest.
        let below = &levels(&leaves)[level - 1];
        entry.record = HexBytes([&[0x25], &below[0].0[..], &below[1].0].concat());
        entry.path.drain(..level);
        entry.leaf_index = 0;
    })
}

cases! {
    a_whole_proof_with_its_file: Outcome::committed("header-verified", 1), |world|
        Case::of(&world.trust, &world.proof(0, 0)).with_content(PLAIN);
    a_proof_without_file_and_receipt: Outcome::committed("header-verified", 3), |world| {
        let mut proof = world.proof(2, 0);
        proof.receipt = None;
        Case::of(&world.trust, &proof)
    };
    parts_and_blocks: Outcome::committed("header-verified", 2), |world|
        Case::of(&world.trust, &multipart(world)).with_content(MULTIPART);
    one_part_may_be_listed: Outcome::committed("header-verified", 1), |world| {
        let mut proof = world.proof(0, 0);
        let entry = proof.entry.as_mut().unwrap();
        entry.parts = Some(world.plain.parts.clone());
        entry.blocks = Some(vec![world.plain.block(0, 2, 2), world.plain.block(0, 0, 0)]);
        Case::of(&world.trust, &proof).with_content(PLAIN)
    };
    whichever_version: Outcome::committed("header-verified", 2), |world|
        Case { version: None, ..Case::of(&world.trust, &world.proof(1, 4)) };
    a_delete_marker: Outcome::committed("header-verified", 2), |world|
        Case { operation: "delete-marker", ..Case::of(&world.trust, &world.proof(1, 2)) };
    a_receipt_past_its_deadline_whose_entry_is_there: Outcome::committed("header-verified", 1), |world|
        Case { now: u64::MAX, ..Case::of(&world.trust, &world.proof(0, 3)) };

    two_endpoints_agree: Outcome::committed("rpc-trusted", 2), |world|
        with_level(world, ChainKind::Rpc, &ChainEvidence::endpoints(older_answers(world)));
    one_endpoint_is_not_enough: failed("block"), |world|
        with_level(world, ChainKind::Rpc, &ChainEvidence::endpoints(older_answers(world)[..1].to_vec()));
    one_endpoint_asked_twice_is_one: failed("block"), |world| {
        let answer = older_answers(world).remove(0);
        with_level(world, ChainKind::Rpc, &ChainEvidence::endpoints(vec![answer.clone(), answer]))
    };
    endpoints_disagree: failed("block"), |world| {
        let mut answers = agreeing(world, 3);
        answers[2].block_hash = Hash::from([1; 32]);
        with_level(world, ChainKind::Rpc, &ChainEvidence::endpoints(answers))
    };
    an_endpoint_of_another_chain: failed("block"), |world| {
        let mut answers = older_answers(world);
        answers[1].chain_id += 1;
        with_level(world, ChainKind::Rpc, &ChainEvidence::endpoints(answers))
    };
    endpoints_where_only_pins_count: failed("block"), |world|
        with_level(world, ChainKind::Header, &ChainEvidence::endpoints(agreeing(world, 3)));
    a_pinned_block: Outcome::committed("header-verified", 2), |world|
        with_level(world, ChainKind::Header, &ChainEvidence::pinned(world.block()));
    another_block_pinned: failed("block"), |world|
        with_level(world, ChainKind::Rpc, &ChainEvidence::pinned(BlockId { number: 1_001, ..world.block() }));
    the_embedded_chain: Outcome::committed("self-attested", 2), |world|
        with_level(world, ChainKind::Embedded, &ChainEvidence::endpoints(older_answers(world)[..1].to_vec()));
    the_embedded_chain_is_never_more: Outcome::committed("self-attested", 2), |world|
        with_level(world, ChainKind::Embedded, &ChainEvidence::pinned(world.block()));
    nobody_was_asked: failed("block"), |world|
        with_level(world, ChainKind::Embedded, &ChainEvidence::none());
    an_empty_list_of_endpoints: failed("block"), |world|
        with_level(world, ChainKind::Embedded, &ChainEvidence::endpoints(Vec::new()));
    fetched_state_takes_the_place_of_the_proofs: Outcome::committed("header-verified", 1), |world| {
        let mut proof = world.proof(0, 0);
        proof.state = None;
        Case::of(&world.trust, &proof).with_evidence(&ChainEvidence::none().with_state(world.state(&[1])))
    };
    no_state_at_all: failed("block"), |world| edited(world, |proof| proof.state = None);

    another_key: failed("record"), |world|
        Case { key: "plain".to_owned(), ..edited(world, |_| ()) };
    another_bucket: failed("record"), |world|
        Case { bucket: "other".to_owned(), ..edited(world, |_| ()) };
    another_version: failed("record"), |world|
        Case { version: Some(Id::from(seeded("version 10 0"))), ..edited(world, |_| ()) };
    another_operation: failed("record"), |world|
        Case { operation: "put", ..Case::of(&world.trust, &world.proof(1, 2)) };
    content_for_a_delete_marker: failed("record"), |world| {
        let case = Case::of(&world.trust, &world.proof(1, 2)).with_content(&[]);
        Case { operation: "delete-marker", ..case }
    };
    the_proof_names_what_was_asked_and_its_record_not: failed("record"), |world| {
        let mut proof = world.proof(0, 4);
        proof.entry.as_mut().unwrap().key = "plain".to_owned();
        Case::of(&world.trust, &proof)
    };
    another_namespace: failed("trust"), |world|
        edited(world, |proof| proof.namespace = Hash::from(seeded("other namespace")));
    another_namespace_trusted: failed("trust"), |world| {
        let mut trust = world.trust;
        trust.namespace = Hash::from(seeded("other namespace"));
        Case::of(&trust, &world.proof(0, 4))
    };
    another_chain: failed("trust"), |world| edited(world, |proof| proof.chain_id += 1);
    another_registry: failed("trust"), |world|
        edited(world, |proof| proof.registry = ashlar_verify::Address::from(seeded("other")));

    a_truncated_object: failed("content"), |world|
        Case::of(&world.trust, &world.proof(0, 0)).with_content(&[(0, 0, 39_999)]);
    an_object_with_more: failed("content"), |world|
        Case::of(&world.trust, &world.proof(0, 0)).with_content(&[(0, 0, 40_001)]);
    no_bytes_at_all: failed("content"), |world|
        Case::of(&world.trust, &world.proof(0, 0)).with_content(&[]);
    swapped_chunks: failed("content"), |world| Case::of(&world.trust, &world.proof(0, 0))
        .with_content(&[(0, 16_384, 32_768), (0, 0, 16_384), (0, 32_768, 40_000)]);
    other_bytes: failed("content"), |world|
        Case::of(&world.trust, &world.proof(0, 0)).with_content(&[(1, 0, 40_000)]);
    swapped_parts: failed("content"), |world| Case::of(&world.trust, &multipart(world))
        .with_content(&[(2, 0, 20_001), (0, 0, 150_000)]);
    several_parts_without_their_list: failed("content"), |world|
        Case::of(&world.trust, &world.proof(1, 1)).with_content(MULTIPART);
    a_list_of_other_parts: failed("parts"), |world| {
        let mut proof = multipart(world);
        let parts = proof.entry.as_mut().unwrap().parts.as_mut().unwrap();
        (parts[0].length, parts[1].length) = (parts[0].length - 1, 1);
        Case::of(&world.trust, &proof)
    };
    a_list_of_parts_in_another_order: failed("parts"), |world| {
        let mut proof = multipart(world);
        proof.entry.as_mut().unwrap().parts.as_mut().unwrap().swap(0, 2);
        Case::of(&world.trust, &proof)
    };
    a_block_of_another_object: failed("object"), |world| {
        let mut proof = world.proof(0, 0);
        proof.entry.as_mut().unwrap().blocks = Some(vec![world.multipart.block(2, 0, 0)]);
        Case::of(&world.trust, &proof)
    };
    a_block_of_several_parts_without_their_list: failed("object"), |world| {
        let mut proof = multipart(world);
        proof.entry.as_mut().unwrap().parts = None;
        Case::of(&world.trust, &proof)
    };

    the_node_above_the_leaf_as_leaf: failed("record"), |world| inner_node(world, 1);
    the_node_two_above_the_leaf_as_leaf: failed("record"), |world| inner_node(world, 2);
    the_batch_root_as_leaf: failed("record"), |world| inner_node(world, 3);
    a_path_too_long: failed("batch"), |world|
        edited(world, |proof| proof.entry.as_mut().unwrap().path.push(Hash::ZERO));
    a_path_too_short: failed("batch"), |world|
        edited(world, |proof| { proof.entry.as_mut().unwrap().path.pop(); });
    another_leaf_index: failed("batch"), |world|
        edited(world, |proof| proof.entry.as_mut().unwrap().leaf_index = 5);
    a_leaf_index_past_the_count: failed("batch"), |world|
        edited(world, |proof| proof.entry.as_mut().unwrap().leaf_index = 7);
    another_position: failed("receipt"), |world|
        edited(world, |proof| proof.entry.as_mut().unwrap().position = 11);
    another_position_without_receipt: failed("batch"), |world| edited(world, |proof| {
        proof.receipt = None;
        proof.entry.as_mut().unwrap().position = 11;
    });
    a_wrong_count: failed("state"), |world| edited(world, |proof| {
        // One more leaf: this leaf's path stays as it is, and only the header's hash tells.
        proof.entry.as_mut().unwrap().header.0[121] += 1;
    });
    the_header_of_another_sequence: failed("batch"), |world| edited(world, |proof| {
        proof.receipt = None;
        let entry = proof.entry.as_mut().unwrap();
        (entry.header, entry.position) = (HexBytes(world.batches[1].header.clone()), 23);
        entry.leaf_index = 2;
    });
    a_replayed_header_with_another_sequence: failed("state"), |world| edited(world, |proof| {
        proof.entry.as_mut().unwrap().header.0[69] = 2;
        proof.state = Some(world.state(&[1, 2]));
    });
    a_made_up_header: failed("state"), |world| edited(world, |proof| {
        let entry = proof.entry.as_mut().unwrap();
        let leaf = world.batches[0].entries[4].leaf;
        let fields = HeaderFields {
            namespace: world.trust.namespace, sequence: 2, previous: world.batches[0].hash,
            positions: (12, 12), count: 1, root: leaf,
        };
        entry.header = HexBytes(header(&world.trust, &fields));
        (entry.leaf_index, entry.path) = (0, Vec::new());
        proof.state = Some(world.state(&[2]));
    });
    a_header_of_another_namespace: failed("header"), |world|
        edited(world, |proof| proof.entry.as_mut().unwrap().header.0[40] ^= 1);
    a_header_with_more: failed("header"), |world|
        edited(world, |proof| proof.entry.as_mut().unwrap().header.0.push(0));
    a_header_with_a_state_root: failed("header"), |world|
        edited(world, |proof| proof.entry.as_mut().unwrap().header.0[160] = 1);

    the_slot_of_another_sequence: failed("state"), |world|
        edited(world, |proof| proof.state = Some(world.state(&[2])));
    the_word_of_another_slot: failed("state"), |world| edited(world, |proof| {
        let nodes = world.slot(&header_slot(&world.trust.namespace, 2));
        proof.state.as_mut().unwrap().storage[2].nodes = nodes;
    });
    a_slot_that_is_empty: failed("state"), |world| edited(world, |proof| {
        let slot = header_slot(&world.trust.namespace, 9);
        proof.state.as_mut().unwrap().storage.push(Slot { slot, nodes: world.slot(&slot) });
    });
    a_slot_shown_twice: failed("state"), |world| edited(world, |proof| {
        let storage = &mut proof.state.as_mut().unwrap().storage;
        storage.push(storage[0].clone());
    });
    a_node_left_over: failed("state"), |world| edited(world, |proof| {
        let storage = &mut proof.state.as_mut().unwrap().storage;
        let node = storage[0].nodes[0].clone();
        storage[0].nodes.push(node);
    });
    a_node_missing: failed("state"), |world|
        edited(world, |proof| { proof.state.as_mut().unwrap().storage[1].nodes.pop(); });
    the_account_of_another_contract: failed("contracts"), |world|
        edited(world, |proof| proof.state.as_mut().unwrap().registry_account = world.account(&other_account()));
    other_code_of_the_registry: failed("contracts"), |world| {
        let mut trust = world.trust;
        trust.registry_code_hash = Hash::from(seeded("other code"));
        Case::of(&trust, &world.proof(0, 4))
    };
    other_code_of_the_verifier: failed("contracts"), |world| {
        let mut trust = world.trust;
        trust.verifier_code_hash = Hash::from(seeded("other code"));
        Case::of(&trust, &world.proof(0, 4))
    };
    another_publisher: failed("state"), |world| {
        let mut trust = world.trust;
        trust.publisher = ashlar_verify::Address::from(seeded("other publisher"));
        Case::of(&trust, &world.proof(0, 4))
    };
    state_of_another_block: failed("block"), |world| edited(world, |proof| {
        let header = &mut proof.state.as_mut().unwrap().block_header.0;
        let last = header.len() - 1;
        header[last] ^= 1;
    });
    a_block_header_that_is_none: failed("block"), |world| edited(world, |proof|
        proof.state.as_mut().unwrap().block_header = HexBytes(patricia::list(&[])));

    an_older_block_than_the_checkpoint: failed("checkpoint"), |world| {
        let mut trust = older(world, 1);
        trust.checkpoint.block_number = 1_001;
        Case::of(&trust, &world.proof(0, 4)).with_evidence(&ChainEvidence::endpoints(older_answers(world)))
    };
    another_block_at_the_checkpoint: failed("checkpoint"), |world| {
        let mut trust = older(world, 1);
        trust.checkpoint.block_number = 1_000;
        Case::of(&trust, &world.proof(0, 4)).with_evidence(&ChainEvidence::pinned(world.block()))
    };
    endpoints_without_the_checkpoints_block: failed("checkpoint"), |world| {
        let answers = older_answers(world).into_iter().map(|mut answer| { answer.checkpoint_hash = None; answer });
        Case::of(&older(world, 1), &world.proof(0, 4)).with_evidence(&ChainEvidence::endpoints(answers.collect()))
    };
    a_log_shorter_than_at_the_checkpoint: failed("checkpoint"), |world| {
        let mut trust = older(world, 3);
        trust.checkpoint.sequence = 4;
        Case::of(&trust, &world.proof(0, 4)).with_evidence(&ChainEvidence::endpoints(older_answers(world)))
    };
    another_log_than_at_the_checkpoint: failed("checkpoint"), |world| {
        let mut trust = older(world, 1);
        trust.checkpoint.header_hash = Hash::from([3; 32]);
        Case::of(&trust, &world.proof(0, 4)).with_evidence(&ChainEvidence::endpoints(older_answers(world)))
    };
    a_pin_that_does_not_show_the_checkpoints_sequence: failed("checkpoint"), |world|
        Case::of(&older(world, 2), &world.proof(0, 4)).with_evidence(&ChainEvidence::pinned(world.block()));

    a_receipt_of_another_signer: failed("receipt"), |world| edited(world, |proof| {
        let logged = &world.batches[0].entries[4];
        let place = (logged.position, logged.index);
        proof.receipt = Some(world.receipt_by(&signer("somebody"), 1, place, logged.leaf));
    });
    a_receipt_of_another_entry: failed("receipt"), |world|
        edited(world, |proof| proof.receipt = world.proof(0, 3).receipt);

    an_unknown_field: failed("parse"), |world| {
        let case = edited(world, |_| ());
        Case { proof: case.proof.replacen('{', "{\"note\": \"\",", 1), ..case }
    };
    a_field_twice: failed("parse"), |world| {
        let case = edited(world, |_| ());
        Case { proof: case.proof.replacen('{', "{\"chain_id\": 31337,", 1), ..case }
    };
    null_in_place_of_nothing: failed("parse"), |world| {
        let case = edited(world, |proof| proof.receipt = None);
        Case { proof: case.proof.replacen('{', "{\"receipt\": null,", 1), ..case }
    };
    a_list_in_place_of_an_object: failed("parse"), |world| {
        let mut case = edited(world, |_| ());
        case.evidence = "[\"ashlar-evidence-1\"]".to_owned();
        case
    };
    another_format: failed("parse"), |world| {
        let case = edited(world, |_| ());
        Case { proof: case.proof.replacen("ashlar-proof-1", "ashlar-proof-2", 1), ..case }
    };
    upper_case_digits: failed("parse"), |world| {
        let case = edited(world, |_| ());
        let registry = world.trust.registry.to_string();
        let upper = registry.to_uppercase().replace('X', "x");
        Case { proof: case.proof.replacen(&registry, &upper, 1), ..case }
    };
    a_number_with_a_fraction: failed("parse"), |world| {
        let case = edited(world, |_| ());
        Case { proof: case.proof.replacen("31337", "31337.0", 1), ..case }
    };
    a_name_written_as_an_object: failed("parse"), |world| {
        let case = edited(world, |_| ());
        Case { trust: case.trust.replacen("\"rpc\"", "{\"rpc\": null}", 1), ..case }
    };
    something_after_the_end: failed("parse"), |world| {
        let case = edited(world, |_| ());
        Case { proof: format!("{} x", case.proof), ..case }
    };
}

fn older_answers(world: &World) -> Vec<ashlar_verify::Answer> {
    let mut answers = agreeing(world, 2);
    answers.iter_mut().for_each(|answer| answer.checkpoint_hash = Some(Hash::from([9; 32])));
    answers
}
