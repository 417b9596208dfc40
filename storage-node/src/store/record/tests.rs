//! Every codec of the log round-trips, and notices damage and foreign generations.

use super::*;
use ashlar_chunker::{BlobId, SessionId, ShardIndex};
use proptest::prelude::*;

fn id() -> impl Strategy<Value = ShardId> {
    any::<(u64, u64, u32, u8)>().prop_map(|(session, counter, index, shard)| {
        BlobId { session: SessionId(session), counter }.chunk(index).shard(ShardIndex(shard))
    })
}

fn header() -> impl Strategy<Value = RecordHeader> {
    let kind = prop_oneof![
        Just(RecordKind::Inline),
        any::<(u32, u32)>().prop_map(|(segment, page)| RecordKind::Extent { segment, page }),
        Just(RecordKind::Tombstone),
        Just(RecordKind::Fence),
    ];
    (kind, id(), 0..3000u32, 0..3000u32, any::<u64>()).prop_map(
        |(kind, id, shard_bytes, footer_bytes, token)| RecordHeader {
            kind,
            id,
            shard_bytes,
            footer_bytes,
            token: FencingToken(token),
        },
    )
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    damaged[bit / 8] ^= 1 << (bit % 8);
    damaged
}

proptest! {
    #[test]
    fn records_round_trip(header in header(), seed: u64, bit: prop::sample::Index) {
        let generation = Generation(seed);
        let body = vec![seed.to_be_bytes()[0]; usize::try_from(header.body_bytes()).unwrap()];
        let (left, right) = body.split_at(body.len() / 3);
        let record = [&header.encode(generation, [left, right])[..], &body].concat();
        prop_assert_eq!(RecordHeader::decode(&record, generation), Some(header));
        prop_assert_eq!(RecordHeader::decode_unchecked(&record), Some(header));
        prop_assert_eq!(RecordHeader::decode(&record, Generation(!seed)), None);
        prop_assert_eq!(RecordHeader::decode(&flipped(&record, bit.index(record.len() * 8)), generation), None);
        prop_assert_eq!(RecordHeader::decode(&record[..record.len() - 1], generation), None);
    }

    #[test]
    fn groups_files_and_seals_round_trip(a: u64, b: u64, c: u32, d: u32, bit: prop::sample::Index) {
        let generation = Generation(a);
        let group = GroupHeader { number: b, body_bytes: c, records: d };
        let bytes = group.encode(generation);
        prop_assert_eq!(GroupHeader::decode(&bytes, generation), Some(group));
        prop_assert_eq!(GroupHeader::decode(&bytes, Generation(!a)), None);
        prop_assert_eq!(GroupHeader::decode(&flipped(&bytes, bit.index(bytes.len() * 8)), generation), None);

        let (node, uuid, token) = (NodeId(c), DiskUuid([bytes[5]; 16]), FencingToken(b));
        let file = FileHeader { node, uuid, sequence: b, generation, token };
        let bytes = file.encode();
        prop_assert_eq!(FileHeader::decode(&bytes), Some(file));
        prop_assert_eq!(FileHeader::decode(&flipped(&bytes, bit.index(bytes.len() * 8))), None);

        let seal = Seal::new(&[], d, token, generation);
        let bytes = seal.encode(generation);
        prop_assert_eq!(Seal::decode(&bytes, generation), Some(seal));
        prop_assert_eq!(Seal::decode(&flipped(&bytes, bit.index(bytes.len() * 8)), generation), None);
        prop_assert_eq!(Seal::decode(&bytes, Generation(!a)), None);
    }

    #[test]
    fn summaries_round_trip(headers in prop::collection::vec((header(), any::<u32>()), 0..50), seed: u64) {
        let entries: Vec<_> =
            headers.into_iter().map(|(header, offset)| SummaryEntry { header, offset }).collect();
        let mut summary = Vec::new();
        entries.iter().for_each(|entry| entry.encode_into(&mut summary));
        let generation = Generation(seed);
        let seal = Seal::new(&summary, 0, FencingToken(0), generation);
        prop_assert_eq!(seal.summary_bytes(), u64::try_from(summary.len()).unwrap());
        prop_assert_eq!(seal.decode_summary(&summary, generation), Some(entries));
        summary.push(0);
        prop_assert_eq!(seal.decode_summary(&summary, generation), None);
    }

    #[test]
    fn footers_round_trip(id in id(), footer in prop::collection::vec(any::<u8>(), 0..500), bit: prop::sample::Index) {
        let footer_bytes = u32::try_from(footer.len()).unwrap();
        let header = FooterHeader { id, shard_bytes: 77, footer_bytes };
        let bytes = [&header.encode(&footer)[..], &footer].concat();
        prop_assert_eq!(FooterHeader::decode(&bytes), Some(header));
        prop_assert_eq!(FooterHeader::decode(&flipped(&bytes, bit.index(bytes.len() * 8))), None);
        prop_assert_eq!(FooterHeader::decode(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), seed: u64) {
        let generation = Generation(seed);
        prop_assert_eq!(FileHeader::decode(&bytes), None);
        prop_assert_eq!(GroupHeader::decode(&bytes, generation), None);
        prop_assert_eq!(RecordHeader::decode(&bytes, generation), None);
        prop_assert_eq!(Seal::decode(&bytes, generation), None);
        prop_assert_eq!(FooterHeader::decode(&bytes), None);
    }
}

/// The vectors at the end of `docs/formats/shard.md`.
#[test]
fn vectors_are_those_of_the_format_document() {
    let generation = Generation(0x0102_0304_0506_0708);
    let (node, uuid, token) = (NodeId(3), DiskUuid([7; 16]), FencingToken(9));
    let id = BlobId { session: SessionId(1), counter: 0x0203 }.chunk(4).shard(ShardIndex(5));
    let inline = RecordHeader {
        kind: RecordKind::Inline,
        id,
        shard_bytes: 3,
        footer_bytes: 2,
        token: FencingToken::default(),
    };
    let extent = RecordHeader { kind: RecordKind::Extent { segment: 7, page: 8 }, ..inline };
    let tombstone =
        RecordHeader { kind: RecordKind::Tombstone, shard_bytes: 0, footer_bytes: 0, token, ..inline };
    let inline_bytes = [&inline.encode(generation, [&b"abc"[..], b"de"])[..], b"abcde"].concat();
    let group = GroupHeader { number: 6, body_bytes: 61, records: 1 };
    let mut summary = Vec::new();
    SummaryEntry { header: inline, offset: 4120 }.encode_into(&mut summary);
    let footer = FooterHeader { id, shard_bytes: 3, footer_bytes: 2 };
    let vectors = [
        ("superblock", super::super::superblock::Superblock { node, uuid }.encode().to_vec()),
        ("log header", FileHeader { node, uuid, sequence: 2, generation, token }.encode().to_vec()),
        ("group mark", group.encode(generation).to_vec()),
        ("inline record", inline_bytes),
        ("extent record, segment 7, page 8", extent.encode(generation, []).to_vec()),
        ("tombstone", tombstone.encode(generation, []).to_vec()),
        (
            "seal, groups end at 8192",
            Seal::new(&summary, 8192, token, generation).encode(generation).to_vec(),
        ),
        ("summary entry, offset 4120", summary),
        ("footer", [&footer.encode(b"de")[..], b"de"].concat()),
    ];
    let document = include_str!("../../../../docs/formats/shard.md");
    for (name, bytes) in vectors {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(document.contains(&format!("| {name} | `{hex}` |")), "| {name} | `{hex}` |");
    }
}
