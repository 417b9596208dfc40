//! `x-amz-checksum-*`, `Content-MD5`, `x-amz-content-sha256` and their names in XML.
//!
//! Invariant: a value that is not base64 of its algorithm's length is an error here, so `objects` compares
//! bytes of equal length. At most one algorithm a request. Deliberately computes nothing of object bodies.

use ashlar_objects::types::{Checksum, ChecksumAlgorithm, ChecksumType};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::failure::{Code, Failure};
use crate::headers::text;

/// Every algorithm with its header and its name in headers and XML.
pub(crate) const ALGORITHMS: [(ChecksumAlgorithm, &str, &str); 5] = [
    (ChecksumAlgorithm::Crc32, "x-amz-checksum-crc32", "CRC32"),
    (ChecksumAlgorithm::Crc32c, "x-amz-checksum-crc32c", "CRC32C"),
    (ChecksumAlgorithm::Crc64Nvme, "x-amz-checksum-crc64nvme", "CRC64NVME"),
    (ChecksumAlgorithm::Sha1, "x-amz-checksum-sha1", "SHA1"),
    (ChecksumAlgorithm::Sha256, "x-amz-checksum-sha256", "SHA256"),
];

/// What a write says of its checksum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The algorithm, with the value where a header carries it.
    pub(crate) checksum: Option<(ChecksumAlgorithm, Option<Vec<u8>>)>,
    /// Whether the value is announced for the trailer.
    pub(crate) in_trailer: bool,
}

/// Name in headers and XML.
pub(crate) fn name(algorithm: ChecksumAlgorithm) -> &'static str {
    ALGORITHMS.iter().find(|entry| entry.0 == algorithm).map_or("", |entry| entry.2)
}

/// Reads an algorithm's name.
pub(crate) fn algorithm(text: &str) -> Result<ChecksumAlgorithm, Failure> {
    ALGORITHMS.iter().find(|entry| entry.2.eq_ignore_ascii_case(text)).map(|entry| entry.0).ok_or_else(|| {
        Failure::new(
            Code::InvalidRequest,
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, \
             CRC32C, CRC64NVME, SHA1, SHA256]",
        )
    })
}

/// Reads an algorithm from its header's name.
pub(crate) fn of_header(name: &str) -> Option<ChecksumAlgorithm> {
    ALGORITHMS.iter().find(|entry| entry.1.eq_ignore_ascii_case(name)).map(|entry| entry.0)
}

/// `COMPOSITE` or `FULL_OBJECT`.
pub(crate) fn kind(text: &str) -> Result<ChecksumType, Failure> {
    match text.to_ascii_uppercase().as_str() {
        "COMPOSITE" => Ok(ChecksumType::Composite),
        "FULL_OBJECT" => Ok(ChecksumType::FullObject),
        _ => Err(Failure::new(Code::InvalidRequest, "Value for x-amz-checksum-type header is invalid.")),
    }
}

/// Name of a type.
pub(crate) fn kind_name(kind: ChecksumType) -> &'static str {
    match kind {
        ChecksumType::Composite => "COMPOSITE",
        ChecksumType::FullObject => "FULL_OBJECT",
    }
}

/// Reads a value; a composite one may end in `-<parts>`, which is dropped.
pub(crate) fn value(algorithm: ChecksumAlgorithm, text: &str) -> Result<Vec<u8>, Failure> {
    let digest = text.trim().split_once('-').map_or(text.trim(), |(digest, _)| digest);
    STANDARD.decode(digest).ok().filter(|value| value.len() == algorithm.value_bytes()).ok_or_else(|| {
        let header = ALGORITHMS.iter().find(|entry| entry.0 == algorithm).map_or("", |entry| entry.1);
        Failure::new(Code::BadDigest, format!("Value for {header} header is invalid."))
    })
}

/// What a request with a body says of its checksum.
pub(crate) fn asked(headers: &HeaderMap) -> Result<Asked, Failure> {
    let mut found: Option<(ChecksumAlgorithm, Vec<u8>)> = None;
    for (algorithm, header, _) in ALGORITHMS {
        if let Some(given) = text(headers, header)? {
            if found.is_some() {
                return Err(Failure::new(
                    Code::InvalidRequest,
                    "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
                ));
            }
            found = Some((algorithm, value(algorithm, given)?));
        }
    }
    let announced = named(headers)?;
    if let Some((algorithm, value)) = found {
        if announced.is_some_and(|announced| announced != algorithm) {
            return Err(Failure::new(
                Code::InvalidRequest,
                "Value for x-amz-sdk-checksum-algorithm header is invalid: it names another checksum.",
            ));
        }
        return Ok(Asked { checksum: Some((algorithm, Some(value))), in_trailer: false });
    }
    if let Some(algorithm) = trailer(headers)? {
        return Ok(Asked { checksum: Some((algorithm, None)), in_trailer: true });
    }
    Ok(Asked { checksum: announced.map(|algorithm| (algorithm, None)), in_trailer: false })
}

/// The algorithm named by `x-amz-sdk-checksum-algorithm` or `x-amz-checksum-algorithm`.
pub(crate) fn named(headers: &HeaderMap) -> Result<Option<ChecksumAlgorithm>, Failure> {
    for header in ["x-amz-checksum-algorithm", "x-amz-sdk-checksum-algorithm"] {
        if let Some(name) = text(headers, header)? {
            return algorithm(name).map(Some);
        }
    }
    Ok(None)
}

/// The checksum announced in `x-amz-trailer`.
fn trailer(headers: &HeaderMap) -> Result<Option<ChecksumAlgorithm>, Failure> {
    let Some(names) = text(headers, "x-amz-trailer")? else { return Ok(None) };
    let mut found = None;
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let algorithm = of_header(name).ok_or_else(|| {
            Failure::new(
                Code::InvalidRequest,
                "The value specified in the x-amz-trailer header is not supported",
            )
        })?;
        if found.replace(algorithm).is_some() {
            return Err(Failure::new(
                Code::InvalidRequest,
                "Expecting a single x-amz-checksum- header in x-amz-trailer.",
            ));
        }
    }
    Ok(found)
}

/// `Content-MD5`.
pub(crate) fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, Failure> {
    let Some(value) = headers.get("content-md5") else { return Ok(None) };
    STANDARD
        .decode(value.as_bytes().trim_ascii())
        .ok()
        .and_then(|digest| <[u8; 16]>::try_from(digest).ok())
        .map(Some)
        .ok_or_else(|| Failure::new(Code::InvalidDigest, "The Content-MD5 you specified is not valid."))
}

/// Writes an object's checksum into an answer's headers.
pub(crate) fn put(headers: &mut HeaderMap, checksum: &Checksum) {
    let entry =
        ALGORITHMS.iter().find(|entry| entry.0 == checksum.algorithm).expect("every algorithm is listed");
    let value = HeaderValue::try_from(checksum.text()).expect("base64 is a header value");
    headers.insert(HeaderName::from_static(entry.1), value);
    headers.insert("x-amz-checksum-type", HeaderValue::from_static(kind_name(checksum.kind)));
}

/// The five checksum fields of an s3s type from one checksum.
macro_rules! set_checksum {
    ($target:expr, $checksum:expr) => {
        if let Some(checksum) = $checksum {
            let text = Some(checksum.text());
            match checksum.algorithm {
                ashlar_objects::types::ChecksumAlgorithm::Crc32 => $target.checksum_crc32 = text,
                ashlar_objects::types::ChecksumAlgorithm::Crc32c => $target.checksum_crc32c = text,
                ashlar_objects::types::ChecksumAlgorithm::Crc64Nvme => $target.checksum_crc64nvme = text,
                ashlar_objects::types::ChecksumAlgorithm::Sha1 => $target.checksum_sha1 = text,
                ashlar_objects::types::ChecksumAlgorithm::Sha256 => $target.checksum_sha256 = text,
            }
        }
    };
}
pub(crate) use set_checksum;

/// The one checksum that an s3s type carries, raw.
macro_rules! get_checksum {
    ($source:expr) => {{
        use ashlar_objects::types::ChecksumAlgorithm as A;
        let given = [
            (A::Crc32, $source.checksum_crc32.as_deref()),
            (A::Crc32c, $source.checksum_crc32c.as_deref()),
            (A::Crc64Nvme, $source.checksum_crc64nvme.as_deref()),
            (A::Sha1, $source.checksum_sha1.as_deref()),
            (A::Sha256, $source.checksum_sha256.as_deref()),
        ];
        given
            .into_iter()
            .find_map(|(algorithm, text)| text.map(|text| (algorithm, text)))
            .map(|(algorithm, text)| {
                crate::headers::checksums::value(algorithm, text).map(|value| (algorithm, value))
            })
            .transpose()
    }};
}
pub(crate) use get_checksum;

/// Checks the `Content-MD5` of a body that was read whole.
pub(crate) fn verify_md5(headers: &HeaderMap, body: &[u8]) -> Result<(), Failure> {
    use md5::Digest;
    if let Some(md5) = content_md5(headers)?
        && md5 != <[u8; 16]>::from(md5::Md5::digest(body))
    {
        return Err(ashlar_objects::error::Error::ContentMd5Mismatch.into());
    }
    Ok(())
}

/// Checks the checksums that a client gave of a body that was read whole.
pub(crate) fn verify_document(headers: &HeaderMap, body: &[u8]) -> Result<(), Failure> {
    for (algorithm, header, _) in ALGORITHMS {
        if let Some(given) = text(headers, header)?
            && value(algorithm, given)? != digest(algorithm, body)
        {
            return Err(ashlar_objects::error::Error::ChecksumMismatch { algorithm }.into());
        }
    }
    Ok(())
}

/// The checksum of a small body.
pub(crate) fn digest(algorithm: ChecksumAlgorithm, body: &[u8]) -> Vec<u8> {
    use crc_fast::CrcAlgorithm;
    use sha2::Digest;
    let crc32 = |algorithm| {
        let value = u32::try_from(crc_fast::checksum(algorithm, body)).expect("a CRC-32 has 32 bits");
        value.to_be_bytes().to_vec()
    };
    match algorithm {
        ChecksumAlgorithm::Crc32 => crc32(CrcAlgorithm::Crc32IsoHdlc),
        ChecksumAlgorithm::Crc32c => crc32(CrcAlgorithm::Crc32Iscsi),
        ChecksumAlgorithm::Crc64Nvme => {
            crc_fast::checksum(CrcAlgorithm::Crc64Nvme, body).to_be_bytes().to_vec()
        }
        ChecksumAlgorithm::Sha1 => sha1::Sha1::digest(body).to_vec(),
        ChecksumAlgorithm::Sha256 => sha2::Sha256::digest(body).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("name"), value.parse().expect("value")))
            .collect()
    }

    #[test]
    fn known_answers() {
        // The check values of the catalogue of parametrised CRCs for "123456789".
        assert_eq!(hex::encode(digest(ChecksumAlgorithm::Crc32, b"123456789")), "cbf43926");
        assert_eq!(hex::encode(digest(ChecksumAlgorithm::Crc32c, b"123456789")), "e3069283");
        assert_eq!(hex::encode(digest(ChecksumAlgorithm::Crc64Nvme, b"123456789")), "ae8b14860a799888");
    }

    #[test]
    fn one_checksum_by_header_or_trailer() {
        let by_header = asked(&headers(&[("x-amz-checksum-crc32", "y/Q5Jg==")])).expect("asked");
        let value = vec![0xcb, 0xf4, 0x39, 0x26];
        assert_eq!(by_header.checksum, Some((ChecksumAlgorithm::Crc32, Some(value))));
        let by_trailer = asked(&headers(&[("x-amz-trailer", "x-amz-checksum-crc64nvme")])).expect("asked");
        assert_eq!(by_trailer.checksum, Some((ChecksumAlgorithm::Crc64Nvme, None)));
        assert!(by_trailer.in_trailer);
        let by_name = asked(&headers(&[("x-amz-sdk-checksum-algorithm", "sha256")])).expect("asked");
        assert_eq!(by_name.checksum, Some((ChecksumAlgorithm::Sha256, None)));
        assert_eq!(asked(&HeaderMap::new()).expect("asked"), Asked::default());
    }

    #[test]
    fn contradictions_and_bad_values_are_refused() {
        for bad in [
            &[("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-checksum-sha1", "9+T6ppErqL+NpyMcWI0IMfKzyno=")]
                [..],
            &[("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-sdk-checksum-algorithm", "CRC32C")],
            &[("x-amz-sdk-checksum-algorithm", "MD4")],
            &[("x-amz-trailer", "x-amz-meta-surprise")],
            &[("x-amz-trailer", "x-amz-checksum-crc32,x-amz-checksum-crc32c")],
        ] {
            assert_eq!(asked(&headers(bad)).expect_err("bad").code(), "InvalidRequest", "{bad:?}");
        }
        for bad in ["y/Q5Jg==x", "y/Q5", "bad"] {
            let given = headers(&[("x-amz-checksum-crc32", bad)]);
            assert_eq!(asked(&given).expect_err(bad).code(), "BadDigest");
        }
        assert_eq!(
            content_md5(&headers(&[("content-md5", "abc")])).expect_err("bad").code(),
            "InvalidDigest"
        );
    }

    #[test]
    fn documents_are_checked() {
        let good =
            headers(&[("x-amz-checksum-crc32", "y/Q5Jg=="), ("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==")]);
        verify_document(&good, b"123456789").expect("right checksum");
        verify_md5(&good, b"123456789").expect("right digest");
        assert_eq!(verify_md5(&good, b"123456780").expect_err("wrong").code(), "BadDigest");
        assert_eq!(verify_document(&good, b"123456780").expect_err("wrong").code(), "BadDigest");
    }
}
