//! Promises left out, in every way a log can leave one out, and claims of it that do not hold.

use ashlar_verify::{Absence, Hash, HexBytes, Opening};

use crate::cases::{Case, Outcome, cases};
use crate::world::{BLOCK_TIME, NOW, World, record, seeded, signer};

fn nothing() -> Absence {
    Absence { opening: None, header: None, previous_header: None, left: None, right: None }
}

fn header(world: &World, batch: usize) -> Option<HexBytes> {
    Some(HexBytes(world.batches[batch].header.clone()))
}

/// A promise of a put of `bucket/plain` at a place; with what opens it.
fn promise(world: &World, place: (u64, u32)) -> (String, Opening) {
    let record = record(1, seeded::<16>("promised").into(), ("bucket", "plain"), Some(&world.plain));
    let salt = Hash::from(seeded("promised salt"));
    let leaf = world.leaf(place, &salt, &record);
    (world.receipt(place.0, place.1, leaf), Opening { record: HexBytes(record), salt })
}

fn case(world: &World, place: (u64, u32), sequences: &[u64], absence: Absence) -> Case {
    let (receipt, opening) = promise(world, place);
    let absence = Absence { opening: Some(opening), ..absence };
    Case::of(&world.trust, &world.absence(receipt, absence, sequences))
}

/// Between two leaves of batch 1.
fn between(world: &World, place: (u64, u32), left: usize, right: usize) -> Case {
    let (left, right) = (Some(world.neighbour(0, left)), Some(world.neighbour(0, right)));
    case(world, place, &[1], Absence { header: header(world, 0), left, right, ..nothing() })
}

fn failed(step: &str) -> Outcome {
    Outcome::failed(step)
}

cases! {
    left_out_between_neighbours: Outcome::broken("header-verified", 1), |world| between(world, (13, 0), 4, 5);
    left_out_within_a_commit: Outcome::broken("header-verified", 1), |world| between(world, (11, 1), 1, 2);
    left_out_before_the_first_leaf: Outcome::broken("header-verified", 2), |world| {
        // Commit 20 has an entry 0, so only an entry of another number can be missing after it.
        let (left, right) = (Some(world.neighbour(1, 0)), Some(world.neighbour(1, 1)));
        case(world, (20, 1), &[2], Absence { header: header(world, 1), left, right, ..nothing() })
    };
    left_out_after_the_last_leaf: Outcome::broken("header-verified", 1), |world| {
        let left = Some(world.neighbour(0, 6));
        case(world, (14, 2), &[1], Absence { header: header(world, 0), left, ..nothing() })
    };
    another_entry_stands_there: Outcome::broken("header-verified", 1), |world| {
        let right = Some(world.neighbour(0, 3));
        case(world, (12, 1), &[1], Absence { header: header(world, 0), right, ..nothing() })
    };
    left_out_between_batches: Outcome::broken("header-verified", 2), |world| {
        let (header, previous_header) = (header(world, 1), header(world, 0));
        case(world, (17, 0), &[2], Absence { header, previous_header, ..nothing() })
    };
    left_out_before_the_log_began: Outcome::broken("header-verified", 1), |world|
        case(world, (9, 0), &[1], Absence { header: header(world, 0), ..nothing() });
    the_log_stands_still: Outcome::broken("header-verified", 3), |world| case(world, (41, 0), &[], nothing());
    a_promise_that_is_not_opened: Outcome::broken("header-verified", 1), |world| {
        let (left, right) = (Some(world.neighbour(0, 4)), Some(world.neighbour(0, 5)));
        let absence = Absence { header: header(world, 0), left, right, ..nothing() };
        Case::of(&world.trust, &world.absence(promise(world, (13, 0)).0, absence, &[1]))
    };

    not_due_yet: failed("promise"), |world|
        Case { now: (BLOCK_TIME - 10) * 1_000 - 1, ..between(world, (13, 0), 4, 5) };
    neighbours_that_are_none: failed("promise"), |world| between(world, (13, 0), 3, 5);
    neighbours_the_wrong_way_round: failed("promise"), |world| between(world, (13, 0), 5, 4);
    neighbours_of_another_place: failed("promise"), |world| between(world, (12, 3), 3, 4);
    neighbours_before_the_place: failed("promise"), |world| between(world, (13, 0), 1, 2);
    neighbours_after_the_place: failed("promise"), |world| between(world, (11, 1), 4, 5);
    only_one_neighbour: failed("promise"), |world| {
        let left = Some(world.neighbour(0, 4));
        case(world, (13, 0), &[1], Absence { header: header(world, 0), left, ..nothing() })
    };
    no_neighbours: failed("promise"), |world|
        case(world, (13, 0), &[1], Absence { header: header(world, 0), ..nothing() });
    a_neighbour_that_is_not_in_the_batch: failed("promise"), |world| {
        let (mut left, right) = (world.neighbour(0, 4), Some(world.neighbour(0, 5)));
        left.record_digest = Hash::from([5; 32]);
        case(world, (13, 0), &[1], Absence { header: header(world, 0), left: Some(left), right, ..nothing() })
    };
    the_promised_entry_is_there: failed("promise"), |world| {
        let logged = &world.batches[0].entries[3];
        let receipt = world.receipt(logged.position, logged.index, logged.leaf);
        let right = Some(world.neighbour(0, 3));
        let absence = Absence { header: header(world, 0), right, ..nothing() };
        Case::of(&world.trust, &world.absence(receipt, absence, &[1]))
    };
    the_promised_entry_hidden_between_its_neighbours: failed("promise"), |world| {
        let logged = &world.batches[0].entries[3];
        let receipt = world.receipt(logged.position, logged.index, logged.leaf);
        let (left, right) = (Some(world.neighbour(0, 2)), Some(world.neighbour(0, 4)));
        let absence = Absence { header: header(world, 0), left, right, ..nothing() };
        Case::of(&world.trust, &world.absence(receipt, absence, &[1]))
    };
    a_batch_that_ends_before_the_place: failed("promise"), |world| {
        let left = Some(world.neighbour(0, 6));
        case(world, (15, 0), &[1], Absence { header: header(world, 0), left, ..nothing() })
    };
    a_gap_without_the_batch_before: failed("promise"), |world|
        case(world, (17, 0), &[2], Absence { header: header(world, 1), ..nothing() });
    a_gap_that_skips_a_batch: failed("promise"), |world| {
        let (header, previous_header) = (header(world, 2), header(world, 0));
        case(world, (23, 0), &[3], Absence { header, previous_header, ..nothing() })
    };
    a_gap_that_is_none: failed("promise"), |world| {
        let (header, previous_header) = (header(world, 1), header(world, 0));
        case(world, (14, 5), &[2], Absence { header, previous_header, ..nothing() })
    };
    a_header_that_is_not_anchored: failed("state"), |world| {
        let mut case = case(world, (9, 0), &[1], Absence { header: header(world, 0), ..nothing() });
        let text = hex(&world.batches[0].header);
        case.proof = case.proof.replace(&text, &format!("{}8", &text[..text.len() - 1]));
        case
    };
    the_log_goes_on: failed("promise"), |world| case(world, (39, 0), &[], nothing());
    the_log_stood_still_before_the_deadline: failed("promise"), |world| {
        let (_, opening) = promise(world, (41, 0));
        let leaf = world.leaf((41, 0), &opening.salt, &opening.record.0);
        let receipt = world.receipt_by(&signer("receipts"), BLOCK_TIME * 1_000 + 1, (41, 0), leaf);
        Case { now: NOW, ..Case::of(&world.trust, &world.absence(receipt, nothing(), &[])) }
    };
    a_promise_of_somebody_else: failed("receipt"), |world| {
        let leaf = Hash::from([1; 32]);
        let receipt = world.receipt_by(&signer("somebody"), 1, (41, 0), leaf);
        Case::of(&world.trust, &world.absence(receipt, nothing(), &[]))
    };
    a_promise_opened_as_another: failed("record"), |world| {
        let (receipt, mut opening) = promise(world, (41, 0));
        opening.salt = Hash::from([1; 32]);
        let absence = Absence { opening: Some(opening), ..nothing() };
        Case::of(&world.trust, &world.absence(receipt, absence, &[]))
    };
    a_promise_of_another_key: failed("record"), |world|
        Case { key: "other".to_owned(), ..case(world, (41, 0), &[], nothing()) };
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
