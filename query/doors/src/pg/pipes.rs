//! The two halves of a connection: messages in, bytes out, both bounded.
//!
//! Invariant: no room is made for a message that is longer than it may be; what a client does not read waits in
//! a buffer of fixed size while the query behind it waits too, and not for ever.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::frontend::{Malformed, Message, Opening};

/// Longest opening message, as PostgreSQL has it.
const OPENING_BYTES_MAX: usize = 10_000;
/// What is read ahead of a message's end, and while a statement runs.
const AHEAD_BYTES_MAX: usize = 64 << 10;
/// What waits to be written before the client is waited for.
const WAITING_BYTES_MAX: usize = 64 << 10;
/// Room that is kept between statements.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// Why nothing more comes or goes.
#[derive(Debug, thiserror::Error)]
pub(super) enum Gone {
    #[error("the client closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Failed(#[from] std::io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("a message of {bytes} bytes is longer than the {max} that are allowed")]
    TooLong { bytes: usize, max: usize },
    #[error("the client does not read")]
    Stalled,
    #[error("the server stops")]
    Stopping,
    #[error("{0}")]
    Refused(&'static str),
}

/// Messages of the client.
pub(super) struct Inbox {
    from: Box<dyn AsyncRead + Send + Unpin>,
    buffer: BytesMut,
    message_bytes_max: usize,
}

impl Inbox {
    pub(super) fn new(from: Box<dyn AsyncRead + Send + Unpin>, message_bytes_max: usize) -> Self {
        Self { from, buffer: BytesMut::new(), message_bytes_max }
    }

    /// What it reads from. Bytes that were read ahead are lost: see [`Inbox::is_empty`].
    pub(super) fn into_inner(self) -> Box<dyn AsyncRead + Send + Unpin> {
        self.from
    }

    /// Whether all bytes that came were read as messages: before TLS there must be none.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The opening message. Cancel-safe.
    pub(super) async fn opening(&mut self) -> Result<Opening, Gone> {
        self.fill(4).await?;
        let length = length(&self.buffer[..4]);
        self.check(length, OPENING_BYTES_MAX)?;
        self.fill(length).await?;
        let mut message = self.buffer.split_to(length).freeze();
        message.advance(4);
        Ok(Opening::parse(message)?)
    }

    /// The next message, `bytes_max` long at most. Cancel-safe.
    pub(super) async fn message_within(&mut self, bytes_max: usize) -> Result<Message, Gone> {
        self.fill(5).await?;
        let kind = self.buffer[0];
        let length = length(&self.buffer[1..5]);
        self.check(length, bytes_max)?;
        self.fill(length + 1).await?;
        let mut message = self.buffer.split_to(length + 1).freeze();
        message.advance(5);
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
        Ok(Message::parse(kind, message)?)
    }

    /// The next message. Cancel-safe.
    pub(super) async fn message(&mut self) -> Result<Message, Gone> {
        self.message_within(self.message_bytes_max).await
    }

    /// Returns when the client is gone, and not before; reads ahead to find out. Cancel-safe.
    pub(super) async fn gone(&mut self) -> Gone {
        loop {
            if self.buffer.len() >= AHEAD_BYTES_MAX {
                return std::future::pending().await;
            }
            match self.from.read_buf(&mut self.buffer).await {
                Ok(0) => return Gone::Closed,
                Ok(_) => {}
                Err(error) => return error.into(),
            }
        }
    }

    fn check(&self, length: usize, max: usize) -> Result<(), Gone> {
        match length {
            0..4 => Err(Malformed("a message is shorter than its length").into()),
            bytes if bytes > max => Err(Gone::TooLong { bytes, max }),
            _ => Ok(()),
        }
    }

    /// Reads until there are so many bytes. Room grows with what has come, not with what was announced.
    async fn fill(&mut self, bytes: usize) -> Result<(), Gone> {
        while self.buffer.len() < bytes {
            self.buffer.reserve((bytes - self.buffer.len()).min(AHEAD_BYTES_MAX));
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Err(Gone::Closed);
            }
        }
        Ok(())
    }
}

fn length(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// Bytes for the client.
pub(super) struct Outbox {
    to: Box<dyn AsyncWrite + Send + Unpin>,
    /// What waits to be written.
    pub(super) buffer: BytesMut,
    stall_max: Duration,
}

impl Outbox {
    pub(super) fn new(to: Box<dyn AsyncWrite + Send + Unpin>, stall_max: Duration) -> Self {
        Self { to, buffer: BytesMut::new(), stall_max }
    }

    /// Waits for the client when enough is waiting for him.
    pub(super) async fn relieve(&mut self) -> Result<(), Gone> {
        if self.buffer.len() < WAITING_BYTES_MAX {
            return Ok(());
        }
        self.write().await
    }

    /// Sends what is waiting.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        self.write().await?;
        match tokio::time::timeout(self.stall_max, self.to.flush()).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Gone::Stalled),
        }
    }

    async fn write(&mut self) -> Result<(), Gone> {
        while !self.buffer.is_empty() {
            match tokio::time::timeout(self.stall_max, self.to.write_buf(&mut self.buffer)).await {
                Err(_) => return Err(Gone::Stalled),
                Ok(Ok(0)) => return Err(Gone::Closed),
                Ok(written) => written?,
            };
        }
        if self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
        Ok(())
    }

    /// Sends what is waiting and closes, as far as it goes.
    pub(super) async fn close(mut self) {
        let ended = async {
            self.flush().await?;
            Ok::<_, Gone>(self.to.shutdown().await?)
        };
        if let Err(error) = ended.await {
            tracing::debug!(target: "ashlar_sql", %error, "a connection did not end as it should");
        }
    }
}
