//! A case: files as text, a question, and what the verifier answers; the form of the vectors.

use std::io::Cursor;

use ashlar_verify::{
    Answer, ChainEvidence, Hash, Id, Operation, Proof, Report, Request, Trust, Verdict, verify,
};
use serde_json::{Value, json};

use crate::world::{CHAIN_ID, NOW, World, content};

/// Pieces of the seeded content: seed, from, to.
pub type Pieces = Vec<(usize, usize, usize)>;

#[derive(Clone, Debug)]
pub struct Case {
    pub trust: String,
    pub proof: String,
    pub evidence: String,
    pub operation: &'static str,
    pub bucket: String,
    pub key: String,
    pub version: Option<Id>,
    pub now: u64,
    pub content: Option<Pieces>,
}

/// What both verifiers must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: &'static str,
    pub level: Option<String>,
    pub sequence: Option<u64>,
    pub failed_step: Option<String>,
}

impl Outcome {
    pub fn failed(step: &str) -> Self {
        Self { verdict: "failed", level: None, sequence: None, failed_step: Some(step.to_owned()) }
    }

    pub fn committed(level: &str, sequence: u64) -> Self {
        Self {
            verdict: "committed",
            level: Some(level.to_owned()),
            sequence: Some(sequence),
            failed_step: None,
        }
    }

    pub fn broken(level: &str, sequence: u64) -> Self {
        Self { verdict: "promised-not-in-log", ..Self::committed(level, sequence) }
    }
}

impl Case {
    /// Asks for what the proof is of; the trust file's checkpoint vouches for the block.
    pub fn of(trust: &Trust, proof: &Proof) -> Self {
        let names = proof.entry.as_ref();
        Self {
            trust: trust.to_json(),
            proof: proof.to_json(),
            evidence: ChainEvidence::none().to_json(),
            operation: "put",
            bucket: names.map_or("bucket".to_owned(), |entry| entry.bucket.clone()),
            key: names.map_or("plain".to_owned(), |entry| entry.key.clone()),
            version: names.map(|entry| entry.version),
            now: NOW,
            content: None,
        }
    }

    pub fn with_content(mut self, pieces: &[(usize, usize, usize)]) -> Self {
        self.content = Some(pieces.to_vec());
        self
    }

    pub fn with_evidence(mut self, evidence: &ChainEvidence) -> Self {
        self.evidence = evidence.to_json();
        self
    }

    pub fn judge(&self) -> Outcome {
        let parsed = (|| {
            let trust = Trust::parse(self.trust.as_bytes())?;
            let proof = Proof::parse(self.proof.as_bytes())?;
            Ok::<_, ashlar_verify::ParseError>((
                trust,
                proof,
                ChainEvidence::parse(self.evidence.as_bytes())?,
            ))
        })();
        let Ok((trust, proof, evidence)) = parsed else {
            return Outcome::failed("parse");
        };
        let bytes = self.content.as_ref().map(|pieces| {
            pieces.iter().flat_map(|(seed, from, to)| content(*seed, *from..*to)).collect::<Vec<u8>>()
        });
        let mut bytes = bytes.map(Cursor::new);
        let request = Request {
            bucket: &self.bucket,
            key: &self.key,
            version: self.version,
            operation: match self.operation {
                "put" => Operation::Put,
                "delete-marker" => Operation::DeleteMarker,
                other => panic!("no case is about {other}"),
            },
            content: bytes.as_mut().map(|bytes| bytes as &mut dyn std::io::Read),
            now_ms: self.now,
        };
        let mut report = Report::default();
        let verdict = verify(request, &trust, &proof, &evidence, &mut report);
        let json = report.to_json(&verdict);
        // Told is what happened: every step held but perhaps the last.
        let (last, before) = report.steps.split_last().unwrap();
        assert!(before.iter().all(|(_, ok, _)| *ok));
        assert_eq!(last.1, !matches!(verdict, Verdict::Failed(_)));
        Outcome {
            verdict: verdict.name(),
            level: json["level"].as_str().map(str::to_owned),
            sequence: json["sequence"].as_u64(),
            failed_step: json["failed_step"].as_str().map(str::to_owned),
        }
    }

    /// A put, as a vector file has it.
    pub fn from_json(case: &Value) -> Self {
        let text = |name: &str| case[name].as_str().unwrap().to_owned();
        assert_eq!(case["operation"], "put");
        Self {
            trust: text("trust"),
            proof: text("proof"),
            evidence: text("evidence"),
            operation: "put",
            bucket: text("bucket"),
            key: text("key"),
            version: serde_json::from_value(case["version"].clone()).unwrap(),
            now: case["now"].as_u64().unwrap(),
            content: serde_json::from_value(case["content"].clone()).unwrap(),
        }
    }

    pub fn to_json(&self, name: &str, expect: &Outcome) -> Value {
        json!({
            "name": name,
            "trust": self.trust, "proof": self.proof, "evidence": self.evidence,
            "operation": self.operation, "bucket": self.bucket, "key": self.key,
            "version": self.version, "now": self.now, "content": self.content,
            "expect": {
                "verdict": expect.verdict, "level": expect.level,
                "sequence": expect.sequence, "failed_step": expect.failed_step,
            },
        })
    }
}

/// What `count` endpoints say that all have the world's block and checkpoint.
pub fn agreeing(world: &World, count: usize) -> Vec<Answer> {
    let answer = |number| Answer {
        endpoint: format!("https://endpoint-{number}.example"),
        chain_id: CHAIN_ID,
        block_hash: world.block().hash,
        checkpoint_hash: Some(world.trust.checkpoint.block_hash),
    };
    (0..count).map(answer).collect()
}

/// A trust file whose checkpoint is an older block, with the log as it was then.
pub fn older(world: &World, sequence: u64) -> Trust {
    let mut trust = world.trust;
    trust.checkpoint.block_number = 900;
    trust.checkpoint.block_hash = Hash::from([9; 32]);
    trust.checkpoint.sequence = sequence;
    trust.checkpoint.header_hash = match sequence.checked_sub(1) {
        Some(batch) => world.batches[usize::try_from(batch).unwrap()].hash,
        None => Hash::ZERO,
    };
    trust
}

/// Cases with names, as tests and as vectors: `name: outcome, |world| case;`.
macro_rules! cases {
    ($($name:ident: $expect:expr, |$world:ident| $case:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let $world = &$crate::world::World::new();
                let case: $crate::cases::Case = $case;
                assert_eq!(case.judge(), $expect);
            }
        )*

        pub fn all(world_of_all: &$crate::world::World) -> Vec<(&'static str, $crate::cases::Case, $crate::cases::Outcome)> {
            vec![$((stringify!($name), { let $world = world_of_all; $case }, $expect)),*]
        }
    };
}
pub(crate) use cases;
