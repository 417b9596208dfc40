//! Good proofs with one byte changed: every byte of every field, and both verifiers refuse.

use serde_json::{Value, json};

use crate::cases::{Case, Outcome};
use crate::vectors::second_verifier_agrees;
use crate::world::World;

/// How many mutations the second verifier, which is slow, judges too.
const SAMPLE: usize = 250;

/// A small generator whose seed is all its state.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let digest = blake3::hash(&self.0.to_be_bytes());
        let word = u64::from_be_bytes(digest.as_bytes()[..8].try_into().unwrap());
        usize::try_from(word % u64::try_from(bound).unwrap()).unwrap()
    }
}

/// Every text or number of a file, by the way to it.
fn fields(value: &Value, way: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(name, value)| fields(value, &format!("{way}/{name}"), found))
        }
        Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(index, value)| fields(value, &format!("{way}/{index}"), found));
        }
        _ => found.push(way.to_owned()),
    }
}

/// All changes of one byte of a text, or of a number by one.
fn changes(value: &Value, random: &mut Random) -> Vec<Value> {
    match value {
        Value::Number(number) => {
            let number = number.as_u64().unwrap();
            [number.checked_add(1), number.checked_sub(1)].into_iter().flatten().map(|n| json!(n)).collect()
        }
        Value::String(text) if text.starts_with("0x") => {
            let change = |at: usize, flip: u8| {
                let mut bytes = text.clone().into_bytes();
                let pair = std::str::from_utf8(&bytes[2 + 2 * at..4 + 2 * at]).unwrap();
                let byte = u8::from_str_radix(pair, 16).unwrap() ^ flip;
                bytes[2 + 2 * at..4 + 2 * at].copy_from_slice(format!("{byte:02x}").as_bytes());
                json!(String::from_utf8(bytes).unwrap())
            };
            let bytes = text.len() / 2 - 1;
            (0..bytes).map(|at| change(at, u8::try_from(1 + random.below(255)).unwrap())).collect()
        }
        Value::String(text) => {
            let change = |at: usize, to: u8| {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = to;
                String::from_utf8(bytes).ok().map(|text| json!(text))
            };
            (0..text.len())
                .flat_map(|at| {
                    let other = if text.as_bytes()[at] == b'A' { b'B' } else { b'A' };
                    [change(at, other), change(at, b'!')]
                })
                .flatten()
                .collect()
        }
        other => panic!("no file has {other}"),
    }
}

#[test]
fn no_byte_of_a_good_proof_may_change() {
    let seed = std::env::var("ASHLAR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_secs()
    });
    println!("ASHLAR_SEED={seed}");
    let mut random = Random(seed);
    let world = World::new();
    let mut with_blocks = world.proof(1, 1);
    let entry = with_blocks.entry.as_mut().unwrap();
    entry.parts = Some(world.multipart.parts.clone());
    entry.blocks = Some(vec![world.multipart.block(2, 0, 1)]);
    let mut mutations = Vec::new();
    for proof in [world.proof(0, 0), with_blocks] {
        let good = Case::of(&world.trust, &proof);
        assert_eq!(good.judge().verdict, "committed");
        let file: Value = serde_json::from_str(&good.proof).unwrap();
        let mut ways = Vec::new();
        fields(&file, "", &mut ways);
        for way in ways {
            let all = changes(file.pointer(&way).unwrap(), &mut random);
            let shown = random.below(all.len().max(1));
            for (number, change) in all.into_iter().enumerate() {
                let mut changed = file.clone();
                *changed.pointer_mut(&way).unwrap() = change;
                let case = Case { proof: changed.to_string(), ..good.clone() };
                let outcome = case.judge();
                assert_eq!(outcome.verdict, "failed", "seed {seed}, {way}, change {number}");
                mutations.push((number == shown, case, outcome, format!("{way}, change {number}")));
            }
        }
    }
    println!("{} mutations refused", mutations.len());
    // One of every field, and others by chance.
    let mut sample: Vec<Value> = Vec::new();
    let of = |(_, case, outcome, name): &(bool, Case, Outcome, String)| case.to_json(name, outcome);
    sample.extend(mutations.iter().filter(|mutation| mutation.0).map(of));
    while sample.len() < SAMPLE {
        sample.push(of(&mutations[random.below(mutations.len())]));
    }
    let file = std::env::temp_dir().join(format!("ashlar-proof-mutations-{}.json", std::process::id()));
    std::fs::write(&file, json!({ "cases": sample }).to_string()).unwrap();
    second_verifier_agrees(&file);
    std::fs::remove_file(&file).unwrap();
}
