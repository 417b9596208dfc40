//! Where the lifecycle worker stands, so that a restart goes on and does not begin again.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamespaceRow;
use super::keys::{KeyWriter, Tag};

/// How far a pass over all buckets has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassRow {
    /// The bucket under way; those whose names sort before it are done.
    pub bucket: String,
    /// Keys of it that sort before this one are done.
    pub key: String,
}

impl NamespaceRow for PassRow {
    const KIND: &'static str = "lifecycle pass";
}

/// Key of the pass under way; there is no row between passes.
pub fn pass_key() -> Bytes {
    KeyWriter::new(Tag::LifecyclePass).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn passes_read_back(bucket in "\\PC{0,12}", key in "\\PC{0,40}") {
            let row = PassRow { bucket, key };
            prop_assert_eq!(PassRow::decode(&row.encode()).unwrap(), row);
        }
    }
}
