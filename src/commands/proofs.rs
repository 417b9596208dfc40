//! `ashlar proof` and `ashlar verify`: a proof as a file, and the check of it that trusts no server.
//!
//! Invariant: what is trusted comes from the trust file alone, which is never fetched. Standard output carries one
//! verdict, and the exit status says it too.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use ashlar_verify::{
    BlockId, ChainEvidence, Id, Level, Proof, Report, Request, Trust, Verdict, verify as check,
};

use super::{segment, show};
use crate::api::answers::Sample;
use crate::api::sequence_of;
use crate::client::Client;
use crate::command_line::{DaCommand, ServerAddress, VerifyFlags};
use crate::evidence;
use crate::output::print;

/// Largest trust or proof file that is read, in bytes.
const FILE_BYTES_MAX: u64 = ashlar_verify::FILE_BYTES_MAX as u64;

/// `s3://bucket/key`.
pub(crate) struct S3Path {
    pub(crate) bucket: String,
    pub(crate) key: String,
}

impl std::str::FromStr for S3Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
        match parts {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            _ => Err(format!("'{text}' is no object; write it like s3://bucket/key")),
        }
    }
}

/// `ashlar proof s3://b/k`
pub(crate) async fn proof(
    server: &ServerAddress,
    object: &S3Path,
    version: Option<&str>,
    receipt: Option<&str>,
) -> anyhow::Result<()> {
    let proof = fetch(server, object, version, receipt).await?;
    print(&format!("{}\n", proof.to_json()))
}

/// `ashlar da …`
pub(crate) async fn da(server: &ServerAddress, command: &DaCommand) -> anyhow::Result<()> {
    let DaCommand::Sample { sequence, rows } = command;
    let sequence = sequence.map(|sequence| format!("&sequence={sequence}")).unwrap_or_default();
    let sample = Client::new(server)?.get::<Sample>(&format!("/api/da/sample?rows={rows}{sequence}")).await?;
    show(server, &sample, |sample| {
        let Sample { sequence, asked, served, bits } = sample;
        match served == asked {
            true => format!(
                "batch {sequence}: all {asked} rows asked for were served and are right; that too little is \
                 available to you to get it back has a chance of at most 2^-{bits:.0}\n"
            ),
            false => format!("batch {sequence}: {served} of {asked} rows were served\n"),
        }
    })?;
    ensure!(sample.served == sample.asked, "batch {} is not fully served to you", sample.sequence);
    Ok(())
}

async fn fetch(
    server: &ServerAddress,
    object: &S3Path,
    version: Option<&str>,
    receipt: Option<&str>,
) -> anyhow::Result<Proof> {
    let mut path = format!("/api/proofs/{}?key={}", segment(&object.bucket), segment(&object.key));
    for (name, value) in [("version-id", version), ("receipt", receipt)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", segment(value)));
        }
    }
    Client::new(server)?.get::<Proof>(&path).await
}

/// `ashlar verify s3://b/k`
pub(crate) async fn verify(flags: &VerifyFlags) -> anyhow::Result<ExitCode> {
    let object: S3Path = flags.object.parse().map_err(anyhow::Error::msg)?;
    let trust = read(&flags.trust).with_context(|| {
        format!(
            "a verifier needs a trust file, which comes from whom you trust and never from the server; \
             name it with --trust (`ashlar up` leaves its own as {} in the data directory)",
            "trust.json"
        )
    })?;
    let trust = Trust::parse(&trust).with_context(|| format!("reading {}", flags.trust.display()))?;
    let proof = match &flags.proof {
        Some(path) => Proof::parse(&read(path)?).with_context(|| format!("reading {}", path.display()))?,
        None => fetch(&flags.server, &object, flags.version_id.as_deref(), flags.receipt.as_deref()).await?,
    };
    let sequence = sequence_of(&proof);
    let evidence = match &flags.pin {
        Some(pin) => ChainEvidence::pinned(parse_pin(pin)?),
        None => evidence::gather(&flags.chain_rpc, &trust, sequence).await?,
    };
    let version = flags.version_id.as_deref().map(parse_version).transpose()?;
    let mut content = flags.file.as_deref().map(open).transpose()?;
    let now_ms = ashlar_objects::clock::Clock::System.now().0;
    let request = Request {
        version,
        content: content.as_mut().map(|content| content as &mut dyn Read),
        ..Request::put(&object.bucket, &object.key, u64::try_from(now_ms)?)
    };
    let mut report = Report::default();
    let verdict = check(request, &trust, &proof, &evidence, &mut report);
    if flags.server.json {
        print(&format!("{:#}\n", report.to_json(&verdict)))?;
    } else {
        print(&told(&report, &verdict))?;
    }
    Ok(ExitCode::from(verdict.exit_code()))
}

fn told(report: &Report, verdict: &Verdict) -> String {
    let mut text = String::new();
    for (step, ok, detail) in &report.steps {
        text.push_str(&format!("{} {:<10} {detail}\n", if *ok { "ok    " } else { "FAILED" }, step.name()));
    }
    let level = match verdict.level() {
        Some(Level::SelfAttested) => {
            "self-attested: the operator's own chain, which shows corruption and rewinds, not a lying operator"
        }
        Some(Level::RpcTrusted) => "RPC-trusted: the endpoints that you named agree",
        Some(Level::HeaderVerified) => "header-verified: under the block hash that you pinned",
        None => "",
    };
    match verdict {
        Verdict::Committed(committed) => {
            text.push_str(&format!("\ncommitted at sequence {} ({level})\n", committed.sequence));
            if !committed.content_checked {
                text.push_str("no bytes were compared; name them with --file\n");
            }
        }
        Verdict::PromisedNotInLog(_) => {
            text.push_str(&format!("\npromised but not in the log ({level})\n"));
        }
        Verdict::Failed(failed) => {
            text.push_str(&format!("\nNOT verified: {} failed: {}\n", failed.step, failed.reason));
        }
    }
    text
}

fn open(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= FILE_BYTES_MAX, "{} is too large", path.display());
    Ok(bytes)
}

/// `NUMBER:HASH`
fn parse_pin(text: &str) -> anyhow::Result<BlockId> {
    let parsed = text.split_once(':').and_then(|(number, hash)| {
        let mut bytes = [0; 32];
        hex::decode_to_slice(hash.strip_prefix("0x").unwrap_or(hash), &mut bytes).ok()?;
        Some(BlockId { number: number.parse().ok()?, hash: bytes.into() })
    });
    parsed.with_context(|| format!("'{text}' is no block; write it like 123:0x…"))
}

/// A version id as S3 shows it.
fn parse_version(text: &str) -> anyhow::Result<Id> {
    if text == "null" {
        return Ok(Id::ZERO);
    }
    let mut bytes = [0; 16];
    if hex::decode_to_slice(text, &mut bytes).is_err() {
        bail!("'{text}' is no version id; it has 32 hexadecimal digits, or is null");
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_versions_and_pins_are_read_strictly() {
        let path: S3Path = "s3://b/a/k ü".parse().ok().unwrap();
        assert_eq!((path.bucket.as_str(), path.key.as_str()), ("b", "a/k ü"));
        for bad in ["b/k", "s3://b", "s3:///k", "s3://b/"] {
            assert!(bad.parse::<S3Path>().is_err(), "{bad}");
        }
        assert_eq!(parse_version("null").unwrap(), Id::ZERO);
        assert!(parse_version("12").is_err());
        let pin = parse_pin(&format!("7:0x{}", "ab".repeat(32))).unwrap();
        assert_eq!((pin.number, pin.hash.0), (7, [0xab; 32]));
        for bad in ["7", "x:00", "7:00"] {
            assert!(parse_pin(bad).is_err(), "{bad}");
        }
    }
}
