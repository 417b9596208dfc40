//! Checksums of a multipart object from those of its parts.

use sha2::Digest as _;

use crate::error::Error;
use crate::types::{Checksum, ChecksumAlgorithm, ChecksumType};

fn crc(algorithm: ChecksumAlgorithm) -> Option<crc_fast::CrcAlgorithm> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Some(crc_fast::CrcAlgorithm::Crc32IsoHdlc),
        ChecksumAlgorithm::Crc32c => Some(crc_fast::CrcAlgorithm::Crc32Iscsi),
        ChecksumAlgorithm::Crc64Nvme => Some(crc_fast::CrcAlgorithm::Crc64Nvme),
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => None,
    }
}

fn crc_bytes(algorithm: ChecksumAlgorithm, value: u64) -> Vec<u8> {
    value.to_be_bytes()[8 - algorithm.value_bytes()..].to_vec()
}

fn crc_value(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// The checksum over the parts' checksums.
pub(crate) fn composite(algorithm: ChecksumAlgorithm, parts: &[(&[u8], u64)]) -> Checksum {
    let all: Vec<u8> = parts.iter().flat_map(|(value, _)| value.iter().copied()).collect();
    let value = match (crc(algorithm), algorithm) {
        (Some(crc), _) => crc_bytes(algorithm, crc_fast::checksum(crc, &all)),
        (None, ChecksumAlgorithm::Sha1) => sha1::Sha1::digest(&all).to_vec(),
        (None, _) => sha2::Sha256::digest(&all).to_vec(),
    };
    Checksum { algorithm, kind: ChecksumType::Composite, value, parts: u32::try_from(parts.len()).ok() }
}

/// The checksum over all bytes, from those over the parts (value, length in bytes).
pub(crate) fn combine(algorithm: ChecksumAlgorithm, parts: &[(&[u8], u64)]) -> Result<Checksum, Error> {
    let crc = crc(algorithm).ok_or_else(|| Error::InvalidRequest {
        reason: "a full-object checksum of a multipart upload is a CRC".into(),
    })?;
    let mut parts = parts.iter();
    let first = parts.next().map_or(0, |(value, _)| crc_value(value));
    let value = parts
        .fold(first, |all, (value, length)| crc_fast::checksum_combine(crc, all, crc_value(value), *length));
    Ok(Checksum {
        algorithm,
        kind: ChecksumType::FullObject,
        value: crc_bytes(algorithm, value),
        parts: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combined_crcs_are_those_of_all_bytes() {
        let text = b"squared stones, laid without mortar";
        for algorithm in [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32c, ChecksumAlgorithm::Crc64Nvme] {
            let of = |bytes: &[u8]| {
                crc_bytes(algorithm, crc_fast::checksum(crc(algorithm).expect("a CRC"), bytes))
            };
            let pieces = [&text[..7], &text[7..8], &text[8..]];
            let values: Vec<_> = pieces.iter().map(|piece| of(piece)).collect();
            let parts: Vec<_> =
                values.iter().zip(pieces).map(|(value, piece)| (&value[..], piece.len() as u64)).collect();
            assert_eq!(combine(algorithm, &parts).expect("a CRC").value, of(text), "{algorithm:?}");
        }
    }
}
