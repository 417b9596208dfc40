//! API keys, which keys a user has, and what each has spent.
//!
//! A key's secret is 256 random bits and stands here as a digest alone; the digest's first bytes are the key's id, so that
//! a secret leads to its row without a second one. What a key has spent is a row of its own, because it changes often and
//! nothing else of the key ever does. Does not know what may be done with a key, nor what a unit of spending is.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamespaceRow;
use super::keys::{KeyReader, KeyWriter, Tag};
use super::types::UnixMillis;

const BY_ID: u8 = 0;
const SPENT: u8 = 1;
const OF_USER: u8 = 2;

/// One API key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyRow {
    /// What its owner calls it.
    pub name: String,
    /// Digest of its secret.
    pub digest: [u8; 32],
    /// Its user's id.
    pub user: String,
    /// Its user's name, which never changes.
    pub user_name: String,
    /// Whether its user is root, which never changes.
    pub root: bool,
    /// When it was made.
    pub created: UnixMillis,
    /// From when on it is nothing any more.
    pub expires: Option<UnixMillis>,
    /// Names of the routes that it opens; `None`: all.
    pub routes: Option<BTreeSet<String>>,
    /// Names or content roots of the models that it may ask; `None`: all.
    pub models: Option<BTreeSet<String>>,
    /// The most that it may spend, in wei.
    pub spend_cap: Option<u128>,
}

impl std::fmt::Debug for ApiKeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeyRow")
            .field("name", &self.name)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl NamespaceRow for ApiKeyRow {
    const KIND: &'static str = "API key";
}

/// What a key has spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeySpendRow {
    /// In wei, with what gateways have taken out to spend.
    pub spent: u128,
}

impl NamespaceRow for ApiKeySpendRow {
    const KIND: &'static str = "API key's spending";
}

/// A user's API keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserApiKeysRow {
    /// Their ids, oldest first; few, by a limit above.
    pub ids: Vec<String>,
}

impl NamespaceRow for UserApiKeysRow {
    const KIND: &'static str = "user's API keys";
}

/// Key of an API key's row.
pub fn key(id: &str) -> Bytes {
    KeyWriter::new(Tag::ApiKey).byte(BY_ID).text(id).finish()
}

/// Where all API keys start.
pub fn prefix() -> Bytes {
    KeyWriter::new(Tag::ApiKey).byte(BY_ID).finish()
}

/// The id in an API key row's key.
pub fn id_of(key: &[u8]) -> Option<String> {
    let mut reader = KeyReader::new(key, Tag::ApiKey)?;
    let kind = reader.byte()?;
    let id = reader.text()?;
    reader.end()?;
    (kind == BY_ID).then_some(id)
}

/// Key of what an API key has spent.
pub fn spend_key(id: &str) -> Bytes {
    KeyWriter::new(Tag::ApiKey).byte(SPENT).text(id).finish()
}

/// Key of the list of a user's API keys.
pub fn of_user_key(user: &str) -> Bytes {
    KeyWriter::new(Tag::ApiKey).byte(OF_USER).text(user).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_kinds_do_not_mix() {
        assert_eq!(id_of(&key("0a1b")).as_deref(), Some("0a1b"));
        assert_eq!((id_of(&spend_key("0a1b")), id_of(&of_user_key("0a1b"))), (None, None));
        assert!(key("x").starts_with(&prefix()) && !spend_key("x").starts_with(&prefix()));
    }

    #[test]
    fn rows_read_back_and_do_not_show_digests() {
        let row = ApiKeyRow {
            name: "ci".into(),
            digest: [201; 32],
            user: "id".into(),
            user_name: "ann".into(),
            root: false,
            created: UnixMillis(7),
            expires: Some(UnixMillis(9)),
            routes: Some(BTreeSet::from(["chat".into()])),
            models: None,
            spend_cap: Some(u128::MAX),
        };
        assert_eq!(ApiKeyRow::decode(&row.encode()).expect("own row"), row);
        assert!(!format!("{row:?}").contains("201"));
        let spent = ApiKeySpendRow { spent: 1 << 90 };
        assert_eq!(ApiKeySpendRow::decode(&spent.encode()).expect("own row"), spent);
    }
}
