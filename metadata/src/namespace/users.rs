//! Users by id, their names, and access keys.
//!
//! A user's id is assigned once and never reused: it is what owners and grants name. A name leads to an id
//! and is unique whatever its letter case. A secret stands in an access key's row only sealed; what seals it
//! is not known here. An access key's row repeats what a signed request needs of its user, so that checking
//! a signature reads one row; neither name nor root ever changes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamespaceRow;
use super::keys::{KeyReader, KeyWriter, Tag};
use super::types::UnixMillis;

const BY_ID: u8 = 0;
const BY_NAME: u8 = 1;
const CHANGED: u8 = 2;

/// Whether a user may own more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserState {
    /// He may.
    Active,
    /// Removal looks whether he owns buckets; he can make none.
    Removing,
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// Unique name, as it was given.
    pub name: String,
    /// Root may do everything.
    pub root: bool,
    /// When it was made.
    pub created: UnixMillis,
    /// Whether he may own more.
    pub state: UserState,
    /// His access keys; few, by a limit above.
    pub access_keys: Vec<String>,
}

impl NamespaceRow for UserRow {
    const KIND: &'static str = "user";
}

/// Key of a user.
pub fn key(id: &str) -> Bytes {
    KeyWriter::new(Tag::User).byte(BY_ID).text(id).finish()
}

/// Key of an empty row that is written whenever a user is added or removed: its version tells when that was.
pub fn changed_key() -> Bytes {
    KeyWriter::new(Tag::User).byte(CHANGED).finish()
}

/// Where everything about users starts but their access keys.
pub fn prefix() -> Bytes {
    KeyWriter::new(Tag::User).finish()
}

/// The id in a user's key.
pub fn id_of(key: &[u8]) -> Option<String> {
    let mut reader = KeyReader::new(key, Tag::User)?;
    let kind = reader.byte()?;
    let id = reader.text()?;
    reader.end()?;
    (kind == BY_ID).then_some(id)
}

/// Whose name it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNameRow {
    /// The user's id.
    pub id: String,
}

impl NamespaceRow for UserNameRow {
    const KIND: &'static str = "user name";
}

/// Key of a user's name; letter case does not matter.
pub fn name_key(name: &str) -> Bytes {
    KeyWriter::new(Tag::User).byte(BY_NAME).text(&name.to_lowercase()).finish()
}

/// Where all names start, in the order of their lower case.
pub fn names_prefix() -> Bytes {
    KeyWriter::new(Tag::User).byte(BY_NAME).finish()
}

/// The name, in lower case, in a name's key.
pub fn name_of(key: &[u8]) -> Option<String> {
    let mut reader = KeyReader::new(key, Tag::User)?;
    let kind = reader.byte()?;
    let name = reader.text()?;
    reader.end()?;
    (kind == BY_NAME).then_some(name)
}

/// Where an access key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessKeyOrigin {
    /// Given at start-up, or made at the first: another one given later takes its place.
    Bootstrap,
    /// Added since.
    Added,
}

/// One access key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeyRow {
    /// Its user's id.
    pub user: String,
    /// Its user's name.
    pub name: String,
    /// Whether its user is root.
    pub root: bool,
    /// When it was made.
    pub created: UnixMillis,
    /// Where it comes from.
    pub origin: AccessKeyOrigin,
    /// The secret, sealed.
    pub sealed_secret: Vec<u8>,
}

impl std::fmt::Debug for AccessKeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKeyRow")
            .field("user", &self.user)
            .field("name", &self.name)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl NamespaceRow for AccessKeyRow {
    const KIND: &'static str = "access key";
}

/// Key of an access key's row.
pub fn access_key_key(access_key: &str) -> Bytes {
    KeyWriter::new(Tag::AccessKey).text(access_key).finish()
}

/// Where all access keys start.
pub fn access_keys_prefix() -> Bytes {
    KeyWriter::new(Tag::AccessKey).finish()
}

/// The access key in an access key row's key.
pub fn access_key_of(key: &[u8]) -> Option<String> {
    let mut reader = KeyReader::new(key, Tag::AccessKey)?;
    let access_key = reader.text()?;
    reader.end()?;
    Some(access_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_kinds_do_not_mix() {
        assert_eq!(name_of(&name_key("Ann@Example.org")).as_deref(), Some("ann@example.org"));
        assert_eq!(name_key("ANN"), name_key("ann"));
        assert_eq!(name_of(&key("ann")), None);
        assert_eq!((id_of(&key("1a")).as_deref(), id_of(&name_key("ann"))), (Some("1a"), None));
        assert!(name_key("ann").starts_with(&names_prefix()) && !key("ann").starts_with(&names_prefix()));
        assert_eq!(access_key_of(&access_key_key("AKIA")).as_deref(), Some("AKIA"));
        assert_eq!(access_key_of(&name_key("AKIA")), None);
    }

    #[test]
    fn rows_read_back_and_do_not_show_what_is_sealed() {
        let row = AccessKeyRow {
            user: "id".into(),
            name: "ann".into(),
            root: false,
            created: UnixMillis(7),
            origin: AccessKeyOrigin::Added,
            sealed_secret: vec![201; 40],
        };
        assert_eq!(AccessKeyRow::decode(&row.encode()).expect("own row"), row);
        assert!(!format!("{row:?}").contains("201"));
        assert!(AccessKeyRow::decode(&[]).is_err() && AccessKeyRow::decode(&[9, 1]).is_err());
    }
}
