//! Limits on what clients store beside bytes: user metadata and tags.

use crate::error::Error;
use crate::types::{Attributes, Tags, USER_METADATA_BYTES_MAX};

/// Most tags of an object.
pub(crate) const OBJECT_TAGS_MAX: usize = 10;
/// Longest tag key, in characters.
const TAG_KEY_CHARACTERS_MAX: usize = 128;
/// Longest tag value, in characters.
const TAG_VALUE_CHARACTERS_MAX: usize = 256;

/// Refuses too many or too long tags.
pub(crate) fn check_tags(tags: &Tags, count_max: usize) -> Result<(), Error> {
    let invalid = |reason: String| Error::InvalidTag { reason };
    if tags.0.len() > count_max {
        return Err(invalid(format!("{} tags are over the limit of {count_max}", tags.0.len())));
    }
    for (key, value) in &tags.0 {
        if key.is_empty() || key.chars().count() > TAG_KEY_CHARACTERS_MAX {
            return Err(invalid(format!("a tag's key has 1 to {TAG_KEY_CHARACTERS_MAX} characters")));
        }
        if value.chars().count() > TAG_VALUE_CHARACTERS_MAX {
            return Err(invalid(format!("a tag's value has at most {TAG_VALUE_CHARACTERS_MAX} characters")));
        }
    }
    Ok(())
}

/// Refuses user metadata over the limit.
pub(crate) fn check_attributes(attributes: &Attributes) -> Result<(), Error> {
    let bytes: usize = attributes.user.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > USER_METADATA_BYTES_MAX {
        return Err(Error::MetadataTooLarge { limit: USER_METADATA_BYTES_MAX });
    }
    Ok(())
}
