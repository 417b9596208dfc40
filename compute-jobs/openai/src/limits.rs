//! Every bound of the face, named.

use std::time::Duration;

/// How much of everything there may be. Defaults suit one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest body of a request in JSON, in bytes; above it the answer is 413 before the body is read.
    pub body_bytes_max: usize,
    /// Bodies in JSON that are held at once, in bytes, over all clients.
    pub bodies_bytes_max: usize,
    /// How long a client may take to send a body in JSON, and between two pieces of a file.
    pub body_wait: Duration,
    /// Answers under way, over all keys.
    pub answers_max: u32,
    /// Answers under way of one key.
    pub answers_per_key_max: u32,
    /// Requests of one key in a minute.
    pub requests_per_minute: u32,
    /// Units of one key in a minute, of requests and answers together.
    pub units_per_minute: u64,
    /// Most units of one answer.
    pub answer_units_max: u64,
    /// Most choices of one request.
    pub choices_max: u32,
    /// Most messages of a conversation.
    pub messages_max: usize,
    /// Most texts of a request for embeddings.
    pub texts_max: usize,
    /// How long a provider may be silent within an answer.
    pub piece_wait: Duration,
    /// After how long a silent stream is kept alive by a comment.
    pub keep_alive: Duration,
    /// Largest file, in bytes.
    pub file_bytes_max: u64,
    /// Most files of a list.
    pub files_listed_max: usize,
    /// Most lines of a batch.
    pub batch_lines_max: u64,
    /// Longest line of a file of lines, in bytes.
    pub line_bytes_max: usize,
    /// Most models of one batch.
    pub batch_models_max: usize,
    /// Lines of one batch that are answered at once.
    pub batch_lines_at_once: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 8 << 20,
            bodies_bytes_max: 128 << 20,
            body_wait: Duration::from_secs(60),
            answers_max: 256,
            answers_per_key_max: 32,
            requests_per_minute: 3_000,
            units_per_minute: 5_000_000,
            answer_units_max: 16_384,
            choices_max: 16,
            messages_max: 4_096,
            texts_max: 2_048,
            piece_wait: Duration::from_secs(120),
            keep_alive: Duration::from_secs(10),
            file_bytes_max: 512 << 20,
            files_listed_max: 10_000,
            batch_lines_max: 50_000,
            line_bytes_max: 1 << 20,
            batch_models_max: 16,
            batch_lines_at_once: 4,
        }
    }
}
