//! Headers that ask for what Ashlar does not do, and would be a false success if they were ignored.
//!
//! Invariant: a request with one of these is refused before anything is read or written.

use http::HeaderMap;

use crate::failure::Failure;

/// Name (or prefix, ending in `-`) of each header and what it asks for.
const REFUSED: [(&str, &str); 11] = [
    ("x-amz-server-side-encryption-customer-", "Server-side encryption with customer keys (SSE-C)"),
    (
        "x-amz-copy-source-server-side-encryption-customer-",
        "Server-side encryption with customer keys (SSE-C)",
    ),
    ("x-amz-server-side-encryption-aws-kms-key-id", "Server-side encryption with KMS"),
    ("x-amz-server-side-encryption-context", "Server-side encryption with KMS"),
    ("x-amz-server-side-encryption-bucket-key-enabled", "Server-side encryption with KMS"),
    ("x-amz-server-side-encryption", "Server-side encryption"),
    ("x-amz-object-lock-mode", "Object lock"),
    ("x-amz-object-lock-retain-until-date", "Object lock"),
    ("x-amz-object-lock-legal-hold", "Object lock"),
    ("x-amz-write-offset-bytes", "Appending to objects"),
    ("x-amz-rename-source", "Renaming objects"),
];

/// Refuses a request that asks for such.
pub(crate) fn refuse(headers: &HeaderMap) -> Result<(), Failure> {
    for name in headers.keys() {
        let name = name.as_str();
        if !name.starts_with("x-amz-") {
            continue;
        }
        let found = REFUSED.iter().find(|(refused, _)| {
            if refused.ends_with('-') { name.starts_with(refused) } else { name == *refused }
        });
        if let Some((_, what)) = found {
            return Err(Failure::not_implemented(what).element("Header", name));
        }
    }
    let locked = headers.get("x-amz-bucket-object-lock-enabled");
    if locked.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")) {
        return Err(Failure::not_implemented("Object lock"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_and_let_through() {
        let one = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("value"));
            refuse(&headers)
        };
        for (name, value) in [
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-bucket-object-lock-enabled", "true"),
        ] {
            assert_eq!(one(name, value).expect_err(name).code(), "NotImplemented");
        }
        for (name, value) in
            [("x-amz-bucket-object-lock-enabled", "false"), ("x-amz-meta-object-lock-mode", "x")]
        {
            one(name, value).expect(name);
        }
    }
}
