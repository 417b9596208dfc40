//! What keeps a version from being removed: a retention period, a legal hold.
//!
//! A row that can be locked says nothing of locks in its own body; a lock follows it as a second one, in a
//! format of its own. So rows written before there were locks read as unlocked, and unlocked rows are
//! written as they ever were.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::types::UnixMillis;
use super::{ROW_FORMAT, RowError};

/// Format byte of a row that a lock follows.
const LOCKED_FORMAT: u8 = 2;

/// Who may end a retention period early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetentionMode {
    /// Those with a right of their own.
    Governance,
    /// Nobody.
    Compliance,
}

/// A version is kept until a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Who may end it early.
    pub mode: RetentionMode,
    /// The first moment at which the version may be removed.
    pub until: UnixMillis,
}

/// The lock of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Its retention period, where it has one.
    pub retention: Option<Retention>,
    /// Whether it is held; `None` where that was never said.
    pub legal_hold: Option<bool>,
}

impl Lock {
    /// Whether nothing was ever said about a lock.
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// The bytes of a row and its lock.
pub(super) fn encode<R: Serialize>(row: &R, lock: &Lock) -> Bytes {
    const INFALLIBLE: &str = "encoding plain data into memory cannot fail";
    let mut out = Vec::with_capacity(128);
    out.push(if lock.is_unset() { ROW_FORMAT } else { LOCKED_FORMAT });
    let mut out = postcard::to_extend(row, out).expect(INFALLIBLE);
    if !lock.is_unset() {
        out = postcard::to_extend(lock, out).expect(INFALLIBLE);
    }
    Bytes::from(out)
}

/// Reads a row and its lock; answers what follows them, too.
pub(super) fn decode<'b, R: DeserializeOwned>(
    kind: &'static str,
    bytes: &'b [u8],
) -> Result<(R, Lock, &'b [u8]), RowError> {
    let bad = |reason: String| RowError { kind, reason };
    let unread = |error: postcard::Error| bad(error.to_string());
    match bytes.split_first() {
        Some((&ROW_FORMAT, body)) => {
            let (row, rest) = postcard::take_from_bytes(body).map_err(unread)?;
            Ok((row, Lock::default(), rest))
        }
        Some((&LOCKED_FORMAT, body)) => {
            let (row, rest) = postcard::take_from_bytes(body).map_err(unread)?;
            let (lock, rest) = postcard::take_from_bytes(rest).map_err(unread)?;
            Ok((row, lock, rest))
        }
        Some((format, _)) => Err(bad(format!("format {format} is unknown"))),
        None => Err(bad("it is empty".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::NamespaceRow;
    use crate::namespace::types::{Attributes, Tags, VersionId};
    use crate::namespace::uploads::UploadRow;
    use crate::namespace::versions::{LogPlace, VersionRow};
    use proptest::prelude::*;

    /// A version's row as it was before there were locks.
    #[derive(Serialize)]
    struct OldVersionRow {
        id: VersionId,
        modified: UnixMillis,
        owner: String,
        object: Option<()>,
    }

    fn locks() -> impl Strategy<Value = Lock> {
        let modes = prop_oneof![Just(RetentionMode::Governance), Just(RetentionMode::Compliance)];
        let retention =
            (modes, any::<i64>()).prop_map(|(mode, until)| Retention { mode, until: UnixMillis(until) });
        (proptest::option::of(retention), any::<Option<bool>>())
            .prop_map(|(retention, legal_hold)| Lock { retention, legal_hold })
    }

    proptest! {
        #[test]
        fn locked_and_unlocked_rows_read_back(
            id: u128, modified: i64, owner in "\\PC{0,12}", lock in locks(), place: Option<u32>,
        ) {
            let (modified, object) = (UnixMillis(modified), None);
            let log = place.map(|index| LogPlace { index });
            let row = VersionRow { id: VersionId::Id(id), modified, owner: owner.clone(), object, lock, log };
            prop_assert_eq!(VersionRow::decode(&row.encode()).unwrap(), row);
            let (attributes, tags) = (Attributes::default(), Tags::default());
            let (acl, checksum, initiator) = (None, None, None);
            let upload =
                UploadRow { owner, initiated: modified, attributes, tags, acl, checksum, lock, initiator };
            prop_assert_eq!(UploadRow::decode(&upload.encode()).unwrap(), upload);
        }

        #[test]
        fn rows_from_before_locks_read_and_are_written_alike(id: u128, modified: i64, owner in "\\PC{0,12}") {
            let (id, modified) = (VersionId::Id(id), UnixMillis(modified));
            let old = OldVersionRow { id, modified, owner: owner.clone(), object: None };
            let bytes = postcard::to_extend(&old, vec![ROW_FORMAT]).unwrap();
            let row = VersionRow::decode(&bytes).unwrap();
            let (lock, log) = (Lock::default(), None);
            prop_assert_eq!(&row, &VersionRow { id, modified, owner, object: None, lock, log });
            prop_assert_eq!(&row.encode()[..], &bytes[..]);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = VersionRow::decode(&bytes);
            let _ = UploadRow::decode(&bytes);
        }
    }
}
