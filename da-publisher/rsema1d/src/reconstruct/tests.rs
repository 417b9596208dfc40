//! Any K rows; liars of every kind.

use super::*;
use crate::encode::{Encoded, commit, encode};
use crate::fingerprint::Points;
use crate::opening::{Opening, RowError, RowProof};
use crate::shape::{Profile, Shape};
use proptest::prelude::*;

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn opening(encoded: &Encoded) -> CheckedOpening {
    let bytes = encoded.opening().to_bytes();
    Opening::from_bytes(&bytes).unwrap().check(encoded.commitment()).unwrap()
}

fn checked(encoded: &Encoded, index: u32) -> Result<CheckedRow, RowError> {
    opening(encoded).check_row(encoded.row(index).unwrap())
}

/// All K + N rows of a blob, as the encoder makes them.
fn honest_rows(encoded: &Encoded) -> Vec<Bytes> {
    (0..encoded.shape().rows()).map(|index| encoded.row(index).unwrap().row).collect()
}

#[test]
fn every_set_of_four_rows_gives_the_blob() {
    let blob = Bytes::from(noise(1000, 1));
    let encoded = encode(Profile::Small, blob.clone()).unwrap();
    let opening = opening(&encoded);
    let rows: Vec<CheckedRow> = (0..16).map(|index| checked(&encoded, index).unwrap()).collect();
    let mut sets = 0;
    for set in (0..1u32 << 16).filter(|set| set.count_ones() == 4) {
        let chosen: Vec<CheckedRow> =
            (0..16).filter(|bit| set >> bit & 1 == 1).map(|bit: u32| rows[index(bit)].clone()).collect();
        assert_eq!(reconstruct(&opening, &chosen).unwrap(), blob, "rows {set:016b}");
        sets += 1;
    }
    assert_eq!(sets, 1820);
}

#[test]
fn repeated_rows_count_once() {
    let encoded = encode(Profile::Small, Bytes::from(noise(1000, 1))).unwrap();
    let rows: Vec<CheckedRow> = [0, 5, 9, 5, 9, 0].iter().map(|i| checked(&encoded, *i).unwrap()).collect();
    let error = reconstruct(&opening(&encoded), &rows).unwrap_err();
    assert_eq!(error, ReconstructError::TooFew { rows: 3, needed: 4 });
}

#[test]
fn rows_of_another_blob_are_refused() {
    let [one, other] = [1, 2].map(|seed| encode(Profile::Small, Bytes::from(noise(1000, seed))).unwrap());
    let mut rows: Vec<CheckedRow> = (0..3).map(|index| checked(&one, index).unwrap()).collect();
    rows.push(checked(&other, 3).unwrap());
    let error = reconstruct(&opening(&one), &rows).unwrap_err();
    assert_eq!(error, ReconstructError::Foreign { index: 3, expected: one.commitment() });
}

/// One row is not what the code makes of the others, whichever it is: its holder refuses it if it is parity or
/// if it is original (then the others' fingerprints do not fit), and no four rows give bytes.
#[test]
fn an_encoder_that_lies_about_one_row_is_found_out_by_everybody() {
    let honest = encode(Profile::Small, Bytes::from(noise(5000, 3))).unwrap();
    for lie in 0..16 {
        let mut rows = honest_rows(&honest);
        let mut changed = rows[lie].to_vec();
        changed[7] ^= 1;
        rows[lie] = changed.into();
        let lying = commit(honest.shape(), rows, 4);
        let passing: Vec<CheckedRow> = (0..16).filter_map(|index| checked(&lying, index).ok()).collect();
        if lie >= 4 {
            assert_eq!(
                checked(&lying, u32::try_from(lie).unwrap()).unwrap_err(),
                RowError::Fingerprint { index: u32::try_from(lie).unwrap() }
            );
            assert_eq!(passing.len(), 15);
        } else {
            // The fingerprints are those of the changed original rows, so every parity row contradicts them.
            assert_eq!(passing.len(), 4, "only the original rows pass");
        }
        let error = reconstruct(&opening(&lying), &passing).unwrap_err();
        assert_eq!(error, ReconstructError::NoCodeWord { commitment: lying.commitment() });
    }
}

/// A liar that does not take the fingerprints of what it committed to, but of the code word that it changed a row
/// of: the changed row is refused, original or parity, all others pass, and no four of them give bytes.
#[test]
fn a_liar_that_fakes_fingerprints_only_moves_the_contradiction() {
    let honest = encode(Profile::Small, Bytes::from(noise(5000, 9))).unwrap();
    let originals: Vec<Bytes> = honest_rows(&honest).into_iter().take(4).collect();
    for lie in 0..16u32 {
        let mut rows = honest_rows(&honest);
        rows[index(lie)] = rows[index(lie)].iter().map(|byte| byte ^ 0x11).collect::<Vec<u8>>().into();
        let lying = commit(honest.shape(), rows, 4);
        let points = Points::draw(lying.shape(), &lying.opening().row_root());
        let fingerprints = originals.iter().map(|row| points.fingerprint(row)).collect();
        let faked = Opening::new(lying.shape(), lying.opening().row_root(), fingerprints);
        let commitment = faked.commitment();
        let opening = faked.check(commitment).unwrap();
        let check = |row: u32| opening.check_row(lying.row(row).unwrap());
        assert_eq!(check(lie).unwrap_err(), RowError::Fingerprint { index: lie });
        let passing: Vec<CheckedRow> = (0..16).filter_map(|row| check(row).ok()).collect();
        assert_eq!(passing.len(), 15, "row {lie}");
        for four in passing.windows(4) {
            let error = reconstruct(&opening, four).unwrap_err();
            assert_eq!(error, ReconstructError::NoCodeWord { commitment });
        }
    }
}

/// Two blobs in one tree: rows of one pass or rows of the other, never K of each.
#[test]
fn two_blobs_under_one_commitment_never_both_decode() {
    let [one, other] = [4, 5].map(|seed| encode(Profile::Small, Bytes::from(noise(4096, seed))).unwrap());
    let mixed: Vec<Bytes> =
        honest_rows(&one).into_iter().take(8).chain(honest_rows(&other).into_iter().skip(8)).collect();
    let lying = commit(one.shape(), mixed, 4);
    let passing: Vec<u32> = (0..16).filter(|index| checked(&lying, *index).is_ok()).collect();
    assert_eq!(passing, (0..8).collect::<Vec<_>>());
    let rows: Vec<CheckedRow> = passing.iter().map(|index| checked(&lying, *index).unwrap()).collect();
    let error = reconstruct(&opening(&lying), &rows).unwrap_err();
    assert_eq!(error, ReconstructError::NoCodeWord { commitment: lying.commitment() });
}

#[test]
fn padding_that_is_not_zero_is_a_lie() {
    let shape = Shape::new(Profile::Small, 200).unwrap();
    let rows: Vec<Bytes> = noise(256, 6).chunks(64).map(Bytes::copy_from_slice).collect();
    let lying = encode_rows(shape, rows);
    let rows: Vec<CheckedRow> = (6..10).map(|index| checked(&lying, index).unwrap()).collect();
    let error = reconstruct(&opening(&lying), &rows).unwrap_err();
    assert_eq!(error, ReconstructError::Padding { commitment: lying.commitment() });
}

#[test]
fn openings_of_other_lengths_shapes_and_commitments_are_refused() {
    let encoded = encode(Profile::Small, Bytes::from(noise(1000, 7))).unwrap();
    let bytes = encoded.opening().to_bytes();
    assert_eq!(bytes.len(), 21 + 32 + 64);
    for len in 0..bytes.len() {
        assert!(Opening::from_bytes(&bytes[..len]).is_err(), "{len} bytes");
    }
    assert!(Opening::from_bytes(&[bytes.clone(), vec![0; 16]].concat()).is_err());
    for bit in 0..bytes.len() * 8 {
        let mut other = bytes.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        let opened = Opening::from_bytes(&other).and_then(|other| other.check(encoded.commitment()));
        assert!(opened.is_err(), "bit {bit}");
    }
}

#[test]
fn any_changed_bit_of_a_row_or_its_path_is_refused() {
    let encoded = encode(Profile::Small, Bytes::from(noise(250, 8))).unwrap();
    let opening = opening(&encoded);
    for index in 0..16 {
        let proof = encoded.row(index).unwrap();
        let bytes = Bytes::from([proof.head(), proof.row.to_vec()].concat());
        assert_eq!(RowProof::from_bytes(encoded.shape(), &bytes).unwrap(), proof);
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.to_vec();
            other[bit / 8] ^= 1 << (bit % 8);
            let read = RowProof::from_bytes(encoded.shape(), &other.into()).unwrap();
            assert!(opening.check_row(read).is_err(), "row {index}, bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(RowProof::from_bytes(encoded.shape(), &bytes.slice(..len)).is_err());
        }
        let longer = RowProof { row: [proof.row.to_vec(), vec![0; 64]].concat().into(), ..proof.clone() };
        assert_eq!(opening.check_row(longer).unwrap_err(), RowError::Length { index });
        let mut path = proof.path.clone();
        path.push([0; 32]);
        assert_eq!(
            opening.check_row(RowProof { path, ..proof.clone() }).unwrap_err(),
            RowError::Length { index }
        );
        let elsewhere = RowProof { index: 16 + index, ..proof };
        assert_eq!(opening.check_row(elsewhere).unwrap_err(), RowError::Index { index: 16 + index });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn blobs_round_trip(len in 1..70_000usize, seed: u64, skip in 0..12u32, large: bool) {
        let (profile, first) = if large { (Profile::Large, 64 * skip) } else { (Profile::Small, skip) };
        let blob = Bytes::from(noise(len, seed));
        let encoded = encode(profile, blob.clone()).unwrap();
        let opening = opening(&encoded);
        let rows: Vec<CheckedRow> = (first..first + profile.original_rows())
            .map(|index| opening.check_row(encoded.row(index).unwrap()).unwrap())
            .collect();
        prop_assert_eq!(reconstruct(&opening, &rows).unwrap(), blob);
    }

    /// Garbage in any rows: whoever holds K + 1 passing rows holds rows of one code word.
    #[test]
    fn rows_that_pass_agree(seed: u64, lies in proptest::collection::btree_set(0..16usize, 1..12)) {
        let honest = encode(Profile::Small, Bytes::from(noise(1024, seed))).unwrap();
        let mut rows = honest_rows(&honest);
        for lie in &lies {
            rows[*lie] = noise(256, seed ^ u64::try_from(*lie).unwrap() ^ 0xabcd).into();
        }
        let lying = commit(honest.shape(), rows, 4);
        let passing: Vec<usize> = (0..16).filter(|i| checked(&lying, u32::try_from(*i).unwrap()).is_ok()).collect();
        let originals_are_honest = lies.iter().all(|lie| *lie >= 4);
        let expected: Vec<usize> = if originals_are_honest {
            (0..16).filter(|index| !lies.contains(index)).collect()
        } else {
            (0..4).collect()
        };
        prop_assert_eq!(passing, expected);
    }
}
