//! Browsers: form uploads and cross-origin requests.

use crate::gateway::wire::Answer;
use crate::gateway::world::{Request, Who, World, sign_policy};

pub(crate) fn form(fields: &[(String, String)], file: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend_from_slice(
            format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").as_bytes(),
        );
    }
    body.extend_from_slice(b"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"pic.png\"\r\nContent-Type: image/png\r\n\r\n");
    body.extend_from_slice(file);
    body.extend_from_slice(
        b"\r\n--XX\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nUpload\r\n--XX--\r\n",
    );
    body
}

pub(crate) async fn post(world: &World, bucket: &str, fields: &[(String, String)], file: &[u8]) -> Answer {
    let request = Request::new("POST", &format!("/{bucket}"))
        .header("content-type", "multipart/form-data; boundary=XX")
        .body(&form(fields, file));
    world.send(Who::Nobody, request).await
}

fn fields(conditions: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> =
        more.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    fields.extend(sign_policy(conditions));
    fields
}

#[tokio::test]
async fn forms_upload_what_their_policy_allows() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let conditions = format!(
        "{{\"bucket\":\"{bucket}\"}},[\"starts-with\",\"$key\",\"up/\"],[\"starts-with\",\"$Content-Type\",\"image/\"],[\"content-length-range\",2,300000],[\"eq\",\"$success_action_status\",\"201\"]"
    );
    let good = fields(
        &conditions,
        &[("key", "up/${filename}"), ("Content-Type", "image/png"), ("success_action_status", "201")],
    );
    let file = [b'p'; 200_000];
    let done = post(&world, &bucket, &good, &file).await;
    assert_eq!((done.status, done.element("Key")), (201, Some("up/pic.png")), "{done:?}");
    let got = world.get(Who::Main, &format!("/{bucket}/up/pic.png")).await;
    assert_eq!((got.header("content-type"), got.body.len()), (Some("image/png"), file.len()));
    post(&world, &bucket, &good, b"x").await.fails(400, "EntityTooSmall");
    post(&world, &bucket, &good, &vec![b'x'; 300_001]).await.fails(400, "EntityTooLarge");
    let elsewhere = fields(
        &conditions,
        &[("key", "down/x"), ("Content-Type", "image/png"), ("success_action_status", "201")],
    );
    post(&world, &bucket, &elsewhere, b"xyz").await.fails(403, "AccessDenied");
    let more = fields(
        &conditions,
        &[
            ("key", "up/y"),
            ("Content-Type", "image/png"),
            ("success_action_status", "201"),
            ("acl", "public-read"),
        ],
    );
    post(&world, &bucket, &more, b"xyz").await.fails(403, "AccessDenied");
    let mut forged = good.clone();
    forged
        .iter_mut()
        .filter(|(name, _)| name == "x-amz-signature")
        .for_each(|(_, value)| *value = "0".repeat(64));
    post(&world, &bucket, &forged, b"xyz").await.fails(403, "SignatureDoesNotMatch");
    let anonymous = [("key".to_owned(), "up/z".to_owned())];
    post(&world, &bucket, &anonymous, b"xyz").await.fails(403, "AccessDenied");
    let old = [("key", "k"), ("AWSAccessKeyId", "a"), ("signature", "b"), ("policy", "e30=")]
        .map(|(n, v)| (n.to_owned(), v.to_owned()));
    post(&world, &bucket, &old, b"xyz").await.fails(400, "InvalidRequest");
    let cut = Request::new("POST", &format!("/{bucket}"))
        .header("content-type", "multipart/form-data; boundary=XX")
        .body(b"--XX\r\nContent-Disposition");
    world.send(Who::Nobody, cut).await.fails(400, "MalformedPOSTRequest");
    let keys = world.get(Who::Main, &format!("/{bucket}")).await;
    assert_eq!(keys.text().matches("<Key>").count(), 1, "{}", keys.text());
}

#[tokio::test]
async fn rules_answer_preflights_and_requests() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}/k");
    world.put(&path, b"x").await;
    let preflight = async |origin: &str, method: &str| {
        let request = Request::new("OPTIONS", &path)
            .header("origin", origin)
            .header("access-control-request-method", method);
        world.send(Who::Nobody, request).await
    };
    preflight("https://a.example", "GET").await.fails(403, "AccessForbidden");
    let rules = b"<CORSConfiguration><CORSRule><AllowedOrigin>https://*.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod><ExposeHeader>etag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule></CORSConfiguration>";
    assert_eq!(world.put(&format!("/{bucket}?cors"), rules).await.status, 200);
    let answer = preflight("https://a.example", "GET").await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, Some("https://a.example")),
        "{answer:?}"
    );
    assert_eq!(answer.header("access-control-max-age"), Some("60"));
    preflight("https://a.example", "PUT").await.fails(403, "AccessForbidden");
    preflight("https://a.elsewhere", "GET").await.fails(403, "AccessForbidden");
    world.send(Who::Nobody, Request::new("OPTIONS", &path)).await.fails(400, "InvalidRequest");
    let got = world.send(Who::Main, Request::new("GET", &path).header("origin", "https://b.example")).await;
    assert_eq!(got.header("access-control-allow-origin"), Some("https://b.example"));
    assert_eq!(got.header("access-control-expose-headers"), Some("etag"));
    let refused =
        world.send(Who::Nobody, Request::new("GET", &path).header("origin", "https://b.example")).await;
    assert_eq!(
        (refused.status, refused.header("access-control-allow-origin")),
        (403, Some("https://b.example"))
    );
    let other =
        world.send(Who::Main, Request::new("GET", &path).header("origin", "https://c.elsewhere")).await;
    assert_eq!((other.status, other.header("access-control-allow-origin")), (200, None));
}
