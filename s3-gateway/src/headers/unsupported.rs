//! Headers that ask for what Ashlar does not do, and would be a false success if they were ignored.
//!
//! Invariant: a request with one of these is refused before anything is read or written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method};
use md5::Digest;

use crate::failure::{Code, Failure};
use crate::headers::text;

/// Name (or prefix, ending in `-`) of each header and what it asks for.
const REFUSED: [(&str, &str); 8] = [
    ("x-amz-server-side-encryption-customer-", "Server-side encryption with customer keys (SSE-C)"),
    (
        "x-amz-copy-source-server-side-encryption-customer-",
        "Server-side encryption with customer keys (SSE-C)",
    ),
    ("x-amz-server-side-encryption-aws-kms-key-id", "Server-side encryption with KMS"),
    ("x-amz-server-side-encryption-context", "Server-side encryption with KMS"),
    ("x-amz-server-side-encryption-bucket-key-enabled", "Server-side encryption with KMS"),
    ("x-amz-server-side-encryption", "Server-side encryption"),
    ("x-amz-write-offset-bytes", "Appending to objects"),
    ("x-amz-rename-source", "Renaming objects"),
];

/// Encryptions that S3 knows.
const ENCRYPTIONS: [&str; 3] = ["AES256", "aws:kms", "aws:kms:dsse"];

/// What S3 itself refuses about encryption, so that a contradiction is named and not only what is missing.
fn check_encryption(method: &Method, headers: &HeaderMap) -> Result<(), Failure> {
    let invalid = |why: &'static str| Err(Failure::argument("x-amz-server-side-encryption", why));
    let asked = text(headers, "x-amz-server-side-encryption")?;
    let customer = text(headers, "x-amz-server-side-encryption-customer-algorithm")?;
    let key = text(headers, "x-amz-server-side-encryption-customer-key")?;
    let key_md5 = text(headers, "x-amz-server-side-encryption-customer-key-md5")?;
    if method == Method::GET || method == Method::HEAD {
        // Nothing stored here is encrypted for a client, and a read that says so does not know its object.
        if asked.is_some() {
            return invalid("x-amz-server-side-encryption header is not supported for this operation.");
        }
        if customer.is_some() || key.is_some() || key_md5.is_some() {
            return Err(Failure::new(
                Code::InvalidRequest,
                "The encryption parameters are not applicable to this object.",
            ));
        }
        return Ok(());
    }
    if asked.is_some() && (customer.is_some() || key.is_some()) {
        return invalid(
            "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
        );
    }
    if asked.is_some_and(|asked| !ENCRYPTIONS.contains(&asked)) {
        return invalid("The encryption method specified is not supported");
    }
    let kms_key = headers.contains_key("x-amz-server-side-encryption-aws-kms-key-id");
    if kms_key && !asked.is_some_and(|asked| asked.starts_with("aws:kms")) {
        return invalid("A KMS key is named, and the encryption method is not aws:kms.");
    }
    if customer.is_none() && (key.is_some() || key_md5.is_some()) {
        return invalid(
            "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm.",
        );
    }
    if let (Some(key), Some(key_md5)) = (key, key_md5)
        && STANDARD.decode(key).ok().map(|key| STANDARD.encode(md5::Md5::digest(key))).as_deref()
            != Some(key_md5)
    {
        return invalid("The calculated MD5 hash of the key did not match the hash that was provided.");
    }
    Ok(())
}

/// Refuses a request that asks for such.
pub(crate) fn refuse(method: &Method, headers: &HeaderMap) -> Result<(), Failure> {
    if headers.keys().any(|name| name.as_str().starts_with("x-amz-server-side-encryption")) {
        check_encryption(method, headers)?;
    }
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
            refuse(&Method::PUT, &headers)
        };
        for (name, value) in [
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-write-offset-bytes", "0"),
        ] {
            assert_eq!(one(name, value).expect_err(name).code(), "NotImplemented");
        }
        for (name, value) in
            [("x-amz-object-lock-mode", "GOVERNANCE"), ("x-amz-meta-write-offset-bytes", "x")]
        {
            one(name, value).expect(name);
        }
    }

    #[test]
    fn contradictions_about_encryption_are_named() {
        const KEY: &str = "pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs=";
        let sse = "x-amz-server-side-encryption";
        let algorithm = "x-amz-server-side-encryption-customer-algorithm";
        let key = "x-amz-server-side-encryption-customer-key";
        let md5 = "x-amz-server-side-encryption-customer-key-md5";
        let kms = "x-amz-server-side-encryption-aws-kms-key-id";
        let code = |method: &Method, pairs: &[(&'static str, &str)]| {
            let headers =
                pairs.iter().map(|(n, v)| (n.parse().expect("name"), v.parse().expect("value"))).collect();
            refuse(method, &headers).expect_err("refused").code().to_owned()
        };
        for pairs in [
            &[(sse, "AES256"), (algorithm, "AES256")][..],
            &[(sse, "AES256"), (kms, "k")],
            &[(sse, "aes:kms")],
            &[(kms, "k")],
            &[(key, KEY)],
            &[(algorithm, "AES256"), (key, KEY), (md5, "AAAAAAAAAAAAAAAAAAAAAA==")],
        ] {
            assert_eq!(code(&Method::PUT, pairs), "InvalidArgument", "{pairs:?}");
        }
        let right = [(algorithm, "AES256"), (key, KEY), (md5, "DWygnHRtgiJ77HCm+1rvHw==")];
        assert_eq!(code(&Method::PUT, &right), "NotImplemented");
        assert_eq!(code(&Method::GET, &right), "InvalidRequest");
        assert_eq!(code(&Method::GET, &[(sse, "aws:kms")]), "InvalidArgument");
    }
}
