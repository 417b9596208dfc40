//! AWS's published examples, and what a verifier must refuse.

use super::*;
use http::Request;

const ACCESS: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

struct OneUser;

impl Secrets for OneUser {
    async fn secret(&self, access_key: &str) -> Result<Option<(Arc<UserIdentity>, SecretKey)>, Failure> {
        if access_key != ACCESS {
            return Ok(None);
        }
        let user = UserIdentity {
            id: "0".repeat(64),
            name: "example".into(),
            access_key: access_key.into(),
            root: false,
        };
        Ok(Some((Arc::new(user), SecretKey::new(SECRET.to_owned()))))
    }
}

fn authenticator() -> Authenticator<OneUser> {
    Authenticator::new(OneUser, "us-east-1".into(), Duration::from_secs(900))
}

/// The moment of AWS's examples.
fn then() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_369_353_600).expect("in range")
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> (Parts, Query) {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let (parts, ()) = builder.body(()).expect("request").into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or("")).expect("query");
    (parts, query)
}

async fn verify(
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    now: OffsetDateTime,
) -> Result<Verified, Failure> {
    let (parts, query) = request(method, uri, headers);
    authenticator().verify(&parts, &query, now).await
}

fn authorization(signed: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS}/20130524/us-east-1/s3/aws4_request,SignedHeaders={signed},Signature={signature}"
    )
}

const HOST: (&str, &str) = ("host", "examplebucket.s3.amazonaws.com");
const DATE: (&str, &str) = ("x-amz-date", "20130524T000000Z");

fn code(result: Result<Verified, Failure>) -> String {
    result.map(|_| ()).expect_err("must be refused").code().to_owned()
}

#[tokio::test]
async fn get_object_example() {
    let signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
    let value = authorization("host;range;x-amz-content-sha256;x-amz-date", signature);
    let headers =
        [HOST, DATE, ("range", "bytes=0-9"), ("x-amz-content-sha256", EMPTY), ("authorization", &value)];
    let verified = verify("GET", "/test.txt", &headers, then()).await.expect("AWS's own signature");
    assert_eq!(verified.proof, Proof::Header);
    assert!(matches!(verified.payload, PayloadMode::Sha256(_)));
}

#[tokio::test]
async fn put_object_example() {
    let signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
    let value = authorization("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", signature);
    let headers = [
        HOST,
        DATE,
        ("date", "Fri, 24 May 2013 00:00:00 GMT"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"),
        ("authorization", &value),
    ];
    verify("PUT", "/test$file.text", &headers, then()).await.expect("AWS's own signature");
}

#[tokio::test]
async fn lifecycle_and_list_examples() {
    for (uri, signature) in [
        ("/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("/?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ] {
        let value = authorization("host;x-amz-content-sha256;x-amz-date", signature);
        let headers = [HOST, DATE, ("x-amz-content-sha256", EMPTY), ("authorization", &value)];
        verify("GET", uri, &headers, then()).await.expect("AWS's own signature");
    }
}

const PRESIGNED: &str = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";

#[tokio::test]
async fn presigned_example_and_its_life() {
    let verified = verify("GET", PRESIGNED, &[HOST], then()).await.expect("AWS's own signature");
    assert_eq!(verified.proof, Proof::Query);
    let day = time::Duration::seconds(86_400);
    verify("GET", PRESIGNED, &[HOST], then() + day).await.expect("the last second");
    let late = then() + day + time::Duration::SECOND;
    assert_eq!(code(verify("GET", PRESIGNED, &[HOST], late).await), "AccessDenied");
    let early = then() - time::Duration::seconds(901);
    assert_eq!(code(verify("GET", PRESIGNED, &[HOST], early).await), "AccessDenied");
    let long = PRESIGNED.replace("Expires=86400", "Expires=604801");
    assert_eq!(code(verify("GET", &long, &[HOST], then()).await), "AuthorizationQueryParametersError");
    let changed = PRESIGNED.replace("test.txt", "tess.txt");
    assert_eq!(code(verify("GET", &changed, &[HOST], then()).await), "SignatureDoesNotMatch");
    let smuggled = [HOST, ("x-amz-acl", "public-read")];
    assert_eq!(code(verify("GET", PRESIGNED, &smuggled, then()).await), "AccessDenied");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let good = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
    let signed = "host;range;x-amz-content-sha256;x-amz-date";
    let base = |value: &str| {
        vec![
            (HOST.0, HOST.1.to_owned()),
            (DATE.0, DATE.1.to_owned()),
            ("range", "bytes=0-9".to_owned()),
            ("x-amz-content-sha256", EMPTY.to_owned()),
            ("authorization", value.to_owned()),
        ]
    };
    let run = async |headers: Vec<(&str, String)>, now: OffsetDateTime| {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        code(verify("GET", "/test.txt", &headers, now).await)
    };
    let value = authorization(signed, good);
    assert_eq!(run(base(&value), then() + time::Duration::seconds(901)).await, "RequestTimeTooSkewed");
    assert_eq!(run(base(&value), then() - time::Duration::seconds(901)).await, "RequestTimeTooSkewed");
    let flipped = authorization(signed, &good.replace("f0e8", "f0e9"));
    assert_eq!(run(base(&flipped), then()).await, "SignatureDoesNotMatch");
    assert_eq!(run(base(&authorization(signed, "short")), then()).await, "SignatureDoesNotMatch");
    assert_eq!(run(base(&value.replace("AKIAIOS", "AKIAIOT")), then()).await, "InvalidAccessKeyId");
    assert_eq!(
        run(base(&value.replace("us-east-1", "us-east-2")), then()).await,
        "AuthorizationHeaderMalformed"
    );
    assert_eq!(run(base(&value.replace("/s3/", "/sts/")), then()).await, "AuthorizationHeaderMalformed");
    assert_eq!(
        run(base(&value.replace("20130524/", "20130525/")), then()).await,
        "AuthorizationHeaderMalformed"
    );
    assert_eq!(run(base("AWS AKIAIOSFODNN7EXAMPLE:c2ln"), then()).await, "InvalidRequest");
    assert_eq!(run(base("Basic dXNlcjpwYXNz"), then()).await, "InvalidArgument");
    let mut token = base(&value);
    token.push(("x-amz-security-token", "t".into()));
    assert_eq!(run(token, then()).await, "InvalidToken");
    let mut unsigned = base(&value);
    unsigned.push(("x-amz-acl", "public-read".into()));
    assert_eq!(run(unsigned, then()).await, "AccessDenied");
    let mut no_digest = base(&value);
    no_digest.remove(3);
    assert_eq!(run(no_digest, then()).await, "InvalidRequest");
    let query = verify("GET", "/k?AWSAccessKeyId=a&Signature=b&Expires=1", &[HOST], then()).await;
    assert_eq!(code(query), "InvalidRequest");
}

#[tokio::test]
async fn nobody_is_anonymous() {
    for headers in [&[HOST][..], &[HOST, ("authorization", "")]] {
        let verified = verify("GET", "/k", headers, then()).await.expect("anonymous");
        assert_eq!(verified.principal, Principal::Anonymous);
    }
}

/// AWS's example of a streamed upload: seed, two chunks and the last empty one.
#[tokio::test]
async fn chunk_signatures_example() {
    let signature = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    let value = authorization(
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
        signature,
    );
    let headers = [
        ("host", "s3.amazonaws.com"),
        DATE,
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("content-length", "66824"),
        ("authorization", &value),
    ];
    let uri = "/examplebucket/chunkObject.txt";
    let verified = verify("PUT", uri, &headers, then()).await.expect("AWS's own signature");
    let PayloadMode::Chunked(Some(mut signer)) = verified.payload else { panic!("a signed stream") };
    for (length, signature) in [
        (65_536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (1_024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ] {
        signer.update(&vec![b'a'; length]);
        signer.finish_chunk(signature).expect("AWS's own signature");
    }
    signer.update(b"more");
    assert!(signer.finish_chunk("b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9").is_err());
}

/// AWS's example of a form upload's policy.
#[tokio::test]
async fn policy_signature_example() {
    let policy = "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9";
    let signature = "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e";
    let credential = format!("{ACCESS}/20151229/us-east-1/s3/aws4_request");
    let now = OffsetDateTime::from_unix_timestamp(1_451_347_200).expect("in range");
    let check = async |policy: &str| {
        authenticator().verify_policy(policy, &credential, "20151229T000000Z", signature, now).await
    };
    assert!(matches!(check(policy).await, Ok(Principal::User(_))));
    assert_eq!(check(&policy[1..]).await.expect_err("changed").code(), "SignatureDoesNotMatch");
}
