//! Users and their access keys.

mod secret;

use std::sync::Arc;

pub use secret::SecretKey;

use crate::access::UserIdentity;

/// Users and access keys, over the metadata store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Users {}

/// Why something about users was not done.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {}

impl Users {
    /// The user and the secret of an access key, `None` where there is no such key. Cached.
    pub async fn secret_for_access_key(
        &self,
        access_key: &str,
    ) -> Result<Option<(Arc<UserIdentity>, SecretKey)>, UsersError> {
        let _ = access_key;
        Ok(None)
    }
}
