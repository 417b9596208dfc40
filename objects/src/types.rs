//! The words in which objects speak to its callers: those of the namespace, and conditions and ranges.

pub use ashlar_metadata::namespace::types::*;

/// One entity tag of a condition; `*` is [`TagMatch::Any`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagMatch {
    /// Any existing object.
    Any,
    /// One of these tags, compared as text without quotes.
    OneOf(Vec<String>),
}

/// The conditions of RFC 9110 that a request carries, decided atomically with the operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// `If-Match`.
    pub if_match: Option<TagMatch>,
    /// `If-None-Match`.
    pub if_none_match: Option<TagMatch>,
    /// `If-Modified-Since`, in Unix seconds.
    pub if_modified_since: Option<i64>,
    /// `If-Unmodified-Since`, in Unix seconds.
    pub if_unmodified_since: Option<i64>,
    /// `x-amz-if-match-size` of DELETE.
    pub if_match_size: Option<u64>,
    /// `x-amz-if-match-last-modified-time` of DELETE, in Unix seconds.
    pub if_match_last_modified: Option<i64>,
}

/// A byte range as a client asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `bytes=first-` or `bytes=first-last` (inclusive).
    From {
        /// First byte.
        first: u64,
        /// Last byte, inclusive; past the end means the end.
        last: Option<u64>,
    },
    /// `bytes=-length`: the last `length` bytes.
    Suffix {
        /// How many.
        length: u64,
    },
}
