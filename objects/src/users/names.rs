//! What user names, access keys and secrets may look like.
//!
//! Names are IAM's alphabet, so that they fit policies, headers and connection strings unescaped. Pure.

use super::{ROOT_NAME, UsersError};

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// An id's length in hex digits: a name may not look like one.
const ID_DIGITS: usize = 64;

/// Accepts a name for a new user: 1 to 64 of `A-Z a-z 0-9 + = , . @ _ -`, not one that means something else.
pub fn check_user_name(name: &str) -> Result<(), UsersError> {
    let refuse = |reason| Err(UsersError::InvalidName { name: name.chars().take(80).collect(), reason });
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte));
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !plain {
        return refuse("1 to 64 of A-Z, a-z, 0-9 and + = , . @ _ - are");
    }
    if name.len() == ID_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return refuse("it looks like a user's id");
    }
    if [ROOT_NAME, "anonymous", "system"].iter().any(|word| word.eq_ignore_ascii_case(name)) {
        return refuse("it is reserved");
    }
    Ok(())
}

/// Accepts an access key: 3 to 128 of `A-Z a-z 0-9 . _ -`.
pub fn check_access_key(access_key: &str) -> Result<(), UsersError> {
    let plain = access_key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if (3..=128).contains(&access_key.len()) && plain {
        return Ok(());
    }
    Err(UsersError::InvalidCredential {
        what: "access key",
        reason: "3 to 128 of A-Z, a-z, 0-9 and . _ - are",
    })
}

/// Accepts a secret: 8 to 128 printable ASCII characters without spaces.
pub fn check_secret(secret: &str) -> Result<(), UsersError> {
    if (8..=128).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let reason = "8 to 128 printable characters without spaces are";
    Err(UsersError::InvalidCredential { what: "secret", reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_iam_and_mean_one_thing() {
        for name in ["a", "Ann", "ann.lee@example.org", "team+data=1,2_3-4"] {
            check_user_name(name).expect(name);
        }
        let id = "0123456789abcdef".repeat(4);
        let long = "x".repeat(65);
        for name in ["", "a b", "a:b", "a/b", "*", "ä", "root", "ROOT", "anonymous", &id, &long, "a\n"] {
            check_user_name(name).expect_err(name);
        }
    }

    #[test]
    fn credentials_survive_headers_and_urls() {
        check_access_key("minioadmin").expect("letters");
        check_access_key("0555b35654ad1656d804").expect("digits");
        for wrong in ["", "ab", "a/b", "a b", "a=b", "ä12", &"x".repeat(129)] {
            check_access_key(wrong).expect_err(wrong);
        }
        check_secret("h7GhxuBLTrlhVUyxSPUKUV8r/2EI4ngqJxD7iBdBYLhwluN30JaT3Q==").expect("a secret");
        for wrong in ["", "short", "with a space", "ends\n12345"] {
            check_secret(wrong).expect_err(wrong);
        }
    }
}
