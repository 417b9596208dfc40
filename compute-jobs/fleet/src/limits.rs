//! Every bound of the link in one place: what a peer can make the other hold, and how long it can make it wait.
//!
//! Invariant: memory of a link is at most [`LINK_WINDOW_BYTES`] and, for each of its requests, one frame and a few
//! pieces, whatever the other side does. The numbers are those of docs/formats/link.md. Knows nothing of what is sent.

use std::time::Duration;

/// Links whose handshake is not done, at a gateway; more are refused at once.
pub const HANDSHAKES_MAX: usize = 32;
/// How long a handshake may take, with what the chain is asked for it.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Providers that a gateway is linked with.
pub const PROVIDERS_MAX: usize = 1_024;
/// Requests at a time on a link, whatever a provider says it can do.
pub const REQUESTS_MAX: u32 = 256;
/// An ask with all of its texts, encoded.
pub const ASK_BYTES_MAX: usize = 4 << 20;
/// A frame from gateway to provider: an ask and what stands around it.
pub const UP_FRAME_BYTES_MAX: usize = ASK_BYTES_MAX + 1_024;
/// A frame from provider to gateway.
pub const DOWN_FRAME_BYTES_MAX: usize = 1 << 20;
/// What may be under way of one request in one direction.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// What may be under way of a link in one direction.
pub const LINK_WINDOW_BYTES: u32 = 4 << 20;
/// A frame of HTTP/2.
pub const HTTP2_FRAME_BYTES_MAX: u32 = 32 << 10;
/// Headers of a request or an answer.
pub const HEADER_BYTES_MAX: u32 = 8 << 10;
/// What a side keeps of a request that the other does not read.
pub const SEND_BUFFER_BYTES_MAX: usize = 256 << 10;
/// Frames of one request that wait to be sent.
pub const FRAMES_WAITING_MAX: usize = 4;
/// A side that hears nothing for so long asks whether the other is there.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);
/// No answer to that for so long ends the link, and with it every request on it.
pub const PING_MAX: Duration = Duration::from_secs(10);
/// A request says what it wants within this time.
pub const FIRST_FRAME_MAX: Duration = Duration::from_secs(10);
/// A provider that works without having something to tell says so this often.
pub const ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// A provider waits so long for the voucher of a request that it answered.
pub const VOUCHER_WAIT_MAX: Duration = Duration::from_secs(20);
/// A gateway waits so long for the receipt of a voucher, and for the end of work that it stopped.
pub const RECEIPT_WAIT_MAX: Duration = Duration::from_secs(20);
/// A client that takes no piece of its answer for so long has left.
pub const SLOW_CALLER_MAX: Duration = Duration::from_secs(60);

/// Models in a description.
pub const MODELS_MAX: usize = 64;
/// Devices in a description.
pub const DEVICES_MAX: usize = 64;
/// Messages, texts or rows of an ask.
pub const TEXTS_MAX: usize = 4_096;
/// Labels of an ask.
pub const LABELS_MAX: usize = 256;
/// Stop sequences of an ask.
pub const STOPS_MAX: usize = 16;
/// Likely tokens in the place of one.
pub const LIKELIEST_MAX: usize = 32;
/// Tokens with log-probabilities in one frame.
pub const LIKELIHOODS_MAX: usize = 4_096;
/// Bytes of a reason or a name.
pub const REASON_BYTES_MAX: usize = 512;

/// Locks under which a provider works at a time; one more is refused until one has ended.
pub const LOCKS_MAX: usize = 256;
/// Of these, locks of one buyer.
pub const LOCKS_OF_A_BUYER_MAX: usize = 16;
/// Places (shards of jobs, and lanes for requests of their own) that are begun under one lock; its book is written whole.
pub const PLACES_MAX: usize = 4_096;
/// Providers on which a request is tried.
pub const ATTEMPTS_MAX: usize = 3;
/// Providers whose reputation is remembered; of more, those that were heard of longest ago are forgotten.
pub const REPUTATIONS_MAX: usize = 16_384;

/// A text within [`REASON_BYTES_MAX`], cut where a character ends.
pub(crate) fn short(text: impl std::fmt::Display) -> String {
    let mut text = text.to_string();
    let end = (0..=REASON_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}
