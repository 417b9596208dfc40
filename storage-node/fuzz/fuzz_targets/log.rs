//! Bytes found in a log file: records, groups, seals, and the scan of a whole file, whose marks and check
//! sums are made valid often enough that the fuzzer gets past them.
#![no_main]

use arbitrary::Arbitrary;
use ashlar_chunker::ShardId;
use ashlar_storage_node::FencingToken;
use ashlar_storage_node::format::{Generation, GroupHeader, RecordHeader, RecordKind, Seal, fuzz_scan};
use libfuzzer_sys::fuzz_target;

const PAGE: usize = 4096;

#[derive(Arbitrary, Debug)]
struct Record<'a> {
    kind: u8,
    id: [u8; 21],
    shard: &'a [u8],
    footer: &'a [u8],
    place: (u32, u32),
    token: u64,
}

#[derive(Arbitrary, Debug)]
struct Group<'a> {
    number: Option<u64>,
    claimed_bytes: Option<u32>,
    claimed_records: Option<u32>,
    records: Vec<Record<'a>>,
    skipped_pages: u8,
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    generation: u64,
    groups: Vec<Group<'a>>,
    flips: Vec<(u16, u8)>,
    raw: &'a [u8],
}

fn encode(record: &Record<'_>, generation: Generation) -> Vec<u8> {
    let kind = match record.kind % 4 {
        0 => RecordKind::Inline,
        1 => RecordKind::Extent { segment: record.place.0, page: record.place.1 },
        2 => RecordKind::Tombstone,
        _ => RecordKind::Fence,
    };
    let header = RecordHeader {
        kind,
        id: ShardId::decode(record.id),
        shard_bytes: u32::try_from(record.shard.len()).expect("small"),
        footer_bytes: u32::try_from(record.footer.len()).expect("small"),
        token: FencingToken(record.token),
    };
    let body = if kind == RecordKind::Inline { [record.shard, record.footer].concat() } else { Vec::new() };
    let bytes = [&header.encode(generation, [&body[..]])[..], &body].concat();
    assert_eq!(RecordHeader::decode(&bytes, generation), Some(header));
    bytes
}

fuzz_target!(|input: Input<'_>| {
    let generation = Generation(input.generation);
    let mut file = vec![0; PAGE];
    let mut records = 0;
    for (number, group) in (0u64..).zip(&input.groups) {
        let body: Vec<u8> = group.records.iter().flat_map(|record| encode(record, generation)).collect();
        let header = GroupHeader {
            number: group.number.unwrap_or(number),
            body_bytes: group.claimed_bytes.unwrap_or(u32::try_from(body.len()).expect("small")),
            records: group.claimed_records.unwrap_or(u32::try_from(group.records.len()).expect("small")),
        };
        records += group.records.len();
        file.extend_from_slice(&header.encode(generation));
        file.extend_from_slice(&body);
        file.resize(file.len().next_multiple_of(PAGE) + usize::from(group.skipped_pages % 3) * PAGE, 0);
    }
    let valid = input.groups.iter().all(|group| {
        (group.number, group.claimed_bytes, group.claimed_records, group.skipped_pages % 3)
            == (None, None, None, 0)
    });
    if valid {
        assert_eq!(fuzz_scan(&file, generation), records);
    }
    for (at, bit) in input.flips {
        if let Some(byte) = file.get_mut(usize::from(at)) {
            *byte ^= 1 << (bit % 8);
        }
    }
    fuzz_scan(&file, generation);
    fuzz_scan(input.raw, generation);
    if let Some(seal) = Seal::decode(input.raw, generation) {
        let _ = seal.decode_summary(&file, generation);
    }
    let _ = RecordHeader::decode(input.raw, generation);
    let _ = GroupHeader::decode(input.raw, generation);
});
