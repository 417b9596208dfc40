//! Bucket policies.

/// Longest policy, in bytes, as in S3.
pub const POLICY_BYTES_MAX: usize = 20 * 1024;

/// A bucket policy that was read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {}

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PolicyError {
    /// What is wrong.
    pub reason: String,
}
