//! Small bodies that are read whole (XML, policies, form fields), and the room they may take together.
//!
//! Invariant: what is held of bodies under way is reserved first, and those who did not sign share a small room of
//! their own: however many they are, those who did have theirs. A body without room waits, for a bounded time.

use std::time::Duration;

use ashlar_objects::access::Principal;
use ashlar_objects::requests::BodyError;
use ashlar_objects::types::ChecksumAlgorithm;
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::auth::PayloadMode;
use crate::config::Limits;
use crate::failure::{Code, Failure};
use crate::headers::checksums;
use crate::payload::Unread;

/// Bytes of one share of the room.
const SHARE_BYTES: usize = 1024;

/// The room for all such bodies.
pub(crate) struct Documents {
    of_users: Semaphore,
    of_strangers: Semaphore,
    user_bytes_max: usize,
    stranger_bytes_max: usize,
    wait: Duration,
}

impl Documents {
    pub(crate) fn new(limits: &Limits) -> Self {
        let room = |bytes: usize| Semaphore::new(bytes.div_ceil(SHARE_BYTES));
        Self {
            of_users: room(limits.documents_bytes_max),
            of_strangers: room(limits.stranger_documents_bytes_max),
            user_bytes_max: limits.document_bytes_max,
            stranger_bytes_max: limits.stranger_document_bytes_max,
            wait: limits.document_wait,
        }
    }

    /// Where a body of this sender is read.
    pub(crate) fn room(&self, principal: &Principal) -> Room<'_> {
        let (budget, bytes_max) = match principal {
            Principal::Anonymous => (&self.of_strangers, self.stranger_bytes_max),
            Principal::User(_) | Principal::System => (&self.of_users, self.user_bytes_max),
        };
        Room { budget, bytes_max, wait: self.wait, deadline: None, held: None }
    }
}

/// Room taken by one body, given back when it is dropped.
pub(crate) struct Room<'d> {
    budget: &'d Semaphore,
    bytes_max: usize,
    wait: Duration,
    /// When its waiting is over; set by the first time that it has to.
    deadline: Option<Instant>,
    held: Option<SemaphorePermit<'d>>,
}

impl Room<'_> {
    /// Makes it room for `bytes` in all, waiting if it must.
    pub(crate) async fn grow_to(&mut self, bytes: usize) -> Result<(), Failure> {
        let held = self.held.as_ref().map_or(0, SemaphorePermit::num_permits);
        let missing = bytes.div_ceil(SHARE_BYTES).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let more = match self.budget.try_acquire_many(missing) {
            Ok(more) => more,
            Err(_) => {
                let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + self.wait);
                let waited = timeout_at(deadline, self.budget.acquire_many(missing)).await;
                waited.ok().and_then(Result::ok).ok_or_else(|| {
                    Failure::new(
                        Code::SlowDown,
                        "Please reduce your request rate: too many request documents are being read.",
                    )
                })?
            }
        };
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

/// A small body in memory, with its room.
pub(crate) struct Document<'d> {
    pub(crate) bytes: Bytes,
    _room: Option<Room<'d>>,
}

impl Document<'_> {
    /// No body at all.
    pub(crate) fn none() -> Self {
        Self { bytes: Bytes::new(), _room: None }
    }
}

impl Unread {
    /// The whole of a small body, digests that the client gave checked.
    ///
    /// `of_document`: whether `x-amz-checksum-*` speaks of this body. That of CompleteMultipartUpload speaks of
    /// the object.
    pub(crate) async fn into_document<'d>(
        self,
        headers: &HeaderMap,
        of_document: bool,
        mut room: Room<'d>,
    ) -> Result<Document<'d>, Failure> {
        use futures::StreamExt;
        let bytes_max = room.bytes_max;
        let too_long = || {
            Failure::new(Code::MaxMessageLengthExceeded, "Your request was too big.")
                .element("MaxMessageLengthBytes", bytes_max.to_string())
        };
        let content_sha256 = match self.mode {
            PayloadMode::Sha256(digest) => Some(digest),
            PayloadMode::Plain | PayloadMode::Chunked(_) => None,
        };
        let (mut body, length, trailers) = self.open(headers)?;
        if length.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > bytes_max)) {
            return Err(too_long());
        }
        let mut whole = Vec::new();
        let mut first: Option<Bytes> = None;
        while let Some(data) = body.next().await {
            let data = data?;
            let bytes = whole.len() + first.as_ref().map_or(0, Bytes::len) + data.len();
            if bytes > bytes_max {
                return Err(too_long());
            }
            room.grow_to(bytes).await?;
            match first.take() {
                None if whole.is_empty() => first = Some(data),
                None => whole.extend_from_slice(&data),
                Some(earlier) => {
                    whole.reserve(earlier.len() + data.len());
                    whole.extend_from_slice(&earlier);
                    whole.extend_from_slice(&data);
                }
            }
        }
        // Most documents come in one frame and are not copied.
        let bytes = first.unwrap_or_else(|| Bytes::from(whole));
        if let Some(expected) = content_sha256
            && checksums::digest(ChecksumAlgorithm::Sha256, &bytes) != expected
        {
            return Err(BodyError::ContentSha256Mismatch.into());
        }
        checksums::verify_md5(headers, &bytes)?;
        if of_document {
            checksums::verify_document(headers, &bytes)?;
        }
        if let Some(trailers) = trailers.lock().take() {
            checksums::verify_document(&trailers, &bytes)?;
        }
        Ok(Document { bytes, _room: Some(room) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Documents {
        let limits =
            Limits { stranger_documents_bytes_max: 4096, documents_bytes_max: 4096, ..Limits::default() };
        Documents::new(&limits)
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_wait_for_each_other_and_keep_nobody_else_waiting() {
        let documents = documents();
        let mut all = documents.room(&Principal::Anonymous);
        for bytes in 1..=4096 {
            all.grow_to(bytes).await.expect("room, however small the pieces");
        }
        let begun = Instant::now();
        let mut late = documents.room(&Principal::Anonymous);
        assert_eq!(late.grow_to(1).await.expect_err("no room").code(), "SlowDown");
        assert_eq!(begun.elapsed(), Limits::default().document_wait);
        documents.room(&Principal::System).grow_to(4096).await.expect("room of its own");
        let mut waiting = documents.room(&Principal::Anonymous);
        let (got, ()) = tokio::join!(waiting.grow_to(4096), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(all);
        });
        got.expect("it was given back");
    }
}
