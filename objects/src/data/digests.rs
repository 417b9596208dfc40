//! The digests of a body: what the store needs, what the client asked for, and what it promised.
//!
//! Each byte passes once. Promised digests (Content-MD5, the signed SHA-256) are compared here, before
//! anything can become visible; a checksum is only computed, since its promise may come in a trailer.

use ashlar_chunker::{ContentHasher, ContentRoot};
use md5_many::Md5State;
use sha2::Digest as _;

use crate::error::Error;
use crate::types::ChecksumAlgorithm;

/// What to compute besides the content root.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DigestRequest {
    /// MD5, the entity tag. Costs most of all where a body is alone: 2 ms a MiB.
    pub(crate) md5: bool,
    /// A checksum to keep.
    pub(crate) checksum: Option<ChecksumAlgorithm>,
    /// MD5 that the body must have.
    pub(crate) content_md5: Option<[u8; 16]>,
    /// SHA-256 that the body must have.
    pub(crate) content_sha256: Option<[u8; 32]>,
}

/// The digests of a whole body.
#[derive(Clone, Debug)]
pub(crate) struct DigestValues {
    pub(crate) content: ContentRoot,
    /// All zero when it was not asked for.
    pub(crate) md5: [u8; 16],
    /// Raw and big-endian.
    pub(crate) checksum: Option<Vec<u8>>,
}

/// Digests of the bytes so far.
pub(crate) struct Digests {
    request: DigestRequest,
    content: ContentHasher,
    md5: Option<Md5State>,
    crc: Option<crc_fast::Digest>,
    sha1: Option<sha1::Sha1>,
    sha256: Option<sha2::Sha256>,
}

impl Digests {
    pub(crate) fn new(request: DigestRequest) -> Box<Self> {
        use crc_fast::CrcAlgorithm;
        let crc = match request.checksum {
            Some(ChecksumAlgorithm::Crc32) => Some(CrcAlgorithm::Crc32IsoHdlc),
            Some(ChecksumAlgorithm::Crc32c) => Some(CrcAlgorithm::Crc32Iscsi),
            Some(ChecksumAlgorithm::Crc64Nvme) => Some(CrcAlgorithm::Crc64Nvme),
            Some(ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256) | None => None,
        };
        let is = |algorithm| request.checksum == Some(algorithm);
        Box::new(Self {
            content: ContentHasher::new(),
            md5: (request.md5 || request.content_md5.is_some()).then(Md5State::new),
            crc: crc.map(crc_fast::Digest::new),
            sha1: is(ChecksumAlgorithm::Sha1).then(sha1::Sha1::new),
            sha256: (is(ChecksumAlgorithm::Sha256) || request.content_sha256.is_some())
                .then(sha2::Sha256::new),
            request,
        })
    }

    /// Takes the MD5 out, if there is one, so that it can be computed beside those of other bodies:
    /// [`Digests::update`] does without it until it is put back.
    pub(crate) fn take_md5(&mut self) -> Option<Md5State> {
        self.md5.take()
    }

    /// Puts back what was taken.
    pub(crate) fn put_md5(&mut self, md5: Option<Md5State>) {
        self.md5 = md5;
    }

    /// Appends bytes to all of them.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.content.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        if let Some(crc) = &mut self.crc {
            crc.update(bytes);
        }
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
    }

    /// Ends them, and compares those that were promised.
    pub(crate) fn finish(self) -> Result<DigestValues, Error> {
        let md5: [u8; 16] = self.md5.map(|md5| md5.finalize()).unwrap_or_default();
        if self.request.content_md5.is_some_and(|promised| promised != md5) {
            return Err(Error::ContentMd5Mismatch);
        }
        let sha256: Option<[u8; 32]> = self.sha256.map(|sha256| sha256.finalize().into());
        if self.request.content_sha256.is_some_and(|promised| Some(promised) != sha256) {
            return Err(Error::ContentSha256Mismatch);
        }
        let crc = self.crc.map(|crc| crc.finalize().to_be_bytes());
        let checksum = self.request.checksum.and_then(|algorithm| match algorithm {
            ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => crc.map(|crc| crc[4..].to_vec()),
            ChecksumAlgorithm::Crc64Nvme => crc.map(|crc| crc.to_vec()),
            ChecksumAlgorithm::Sha1 => self.sha1.map(|sha1| sha1.finalize().to_vec()),
            ChecksumAlgorithm::Sha256 => sha256.map(|sha256| sha256.to_vec()),
        });
        Ok(DigestValues { content: self.content.finish(), md5, checksum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(algorithm: ChecksumAlgorithm) -> String {
        let mut digests = Digests::new(DigestRequest { checksum: Some(algorithm), ..Default::default() });
        digests.update(b"12345");
        digests.update(b"6789");
        hex::encode(digests.finish().unwrap().checksum.unwrap())
    }

    #[test]
    fn checksums_have_their_published_check_values() {
        assert_eq!(checksum(ChecksumAlgorithm::Crc32), "cbf43926");
        assert_eq!(checksum(ChecksumAlgorithm::Crc32c), "e3069283");
        assert_eq!(checksum(ChecksumAlgorithm::Crc64Nvme), "ae8b14860a799888");
        assert_eq!(checksum(ChecksumAlgorithm::Sha1), "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
        let sha256 = "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";
        assert_eq!(checksum(ChecksumAlgorithm::Sha256), sha256);
    }

    #[test]
    fn promises_are_compared() {
        let md5 = hex::decode("25f9e794323b453885f5181f1b624d0b").unwrap().try_into().unwrap();
        for (content_md5, content_sha256, kept) in
            [(Some(md5), None, true), (Some([0; 16]), None, false), (None, Some([0; 32]), false)]
        {
            let mut digests =
                Digests::new(DigestRequest { content_md5, content_sha256, ..Default::default() });
            digests.update(b"123456789");
            assert_eq!(digests.finish().is_ok(), kept);
        }
    }
}
