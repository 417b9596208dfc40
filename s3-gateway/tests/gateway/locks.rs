//! Object lock over HTTP: its documents and headers, and what it refuses.

use crate::gateway::wire::Answer;
use crate::gateway::world::{Request, Who, World};

const UNTIL: &str = "2140-01-01T00:00:00.000Z";

async fn locked_bucket(world: &World, name: &str) -> String {
    let create = Request::new("PUT", &format!("/{name}")).header("x-amz-bucket-object-lock-enabled", "true");
    assert_eq!(world.send(Who::Main, create).await.status, 200);
    name.into()
}

fn locked(target: &str, mode: &str) -> Request {
    Request::new("PUT", target)
        .body(b"stone")
        .header("x-amz-object-lock-mode", mode)
        .header("x-amz-object-lock-retain-until-date", UNTIL)
}

fn version(answer: &Answer) -> String {
    answer.header("x-amz-version-id").expect("a version").to_owned()
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[tokio::test]
async fn a_locked_version_says_so_and_stays() {
    let world = World::new().await;
    let bucket = locked_bucket(&world, "locked-versions").await;
    let path = format!("/{bucket}/stone");
    let put = world.send(Who::Main, locked(&path, "GOVERNANCE").header("x-amz-object-lock-legal-hold", "ON"));
    let put = put.await;
    assert_eq!(put.status, 200, "{put:?}");
    let of_version = format!("{path}?versionId={}", version(&put));
    for method in ["HEAD", "GET"] {
        let read = world.send(Who::Main, Request::new(method, &path)).await;
        for (name, value) in [("mode", "GOVERNANCE"), ("retain-until-date", UNTIL), ("legal-hold", "ON")] {
            assert_eq!(read.header(&format!("x-amz-object-lock-{name}")), Some(value), "{method} {name}");
        }
    }
    let bypass = || Request::new("DELETE", &of_version).header("x-amz-bypass-governance-retention", "true");
    world.send(Who::Main, bypass()).await.fails(403, "AccessDenied");
    let off = b"<LegalHold><Status>OFF</Status></LegalHold>";
    assert_eq!(world.put(&format!("{path}?legal-hold"), off).await.status, 200);
    let hold = text(&world.get(Who::Main, &format!("{path}?legal-hold")).await);
    assert!(hold.contains("<Status>OFF</Status>"), "{hold}");
    world.send(Who::Main, Request::new("DELETE", &of_version)).await.fails(403, "AccessDenied");
    let marker = world.send(Who::Main, Request::new("DELETE", &path)).await;
    assert_eq!((marker.status, marker.header("x-amz-delete-marker")), (204, Some("true")));
    let document =
        format!("<Delete><Object><Key>stone</Key><VersionId>{}</VersionId></Object></Delete>", version(&put));
    let many = |bypass: &str| {
        let digest = "x-amz-checksum-crc32";
        let sum = base64_crc32(document.as_bytes());
        Request::new("POST", &format!("/{bucket}?delete"))
            .body(document.as_bytes())
            .header(digest, &sum)
            .header("x-amz-bypass-governance-retention", bypass)
    };
    let refused = text(&world.send(Who::Main, many("false")).await);
    assert!(refused.contains("<Code>AccessDenied</Code>"), "{refused}");
    let removed = text(&world.send(Who::Main, many("true")).await);
    assert!(removed.contains("<Deleted>"), "{removed}");
}

fn base64_crc32(bytes: &[u8]) -> String {
    use base64::Engine;
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes);
    let sum = u32::try_from(sum).expect("32 bits");
    base64::engine::general_purpose::STANDARD.encode(sum.to_be_bytes())
}

#[tokio::test]
async fn rules_of_a_bucket_are_kept_and_given_to_new_versions() {
    let world = World::new().await;
    let bucket = locked_bucket(&world, "locked-rules").await;
    let target = format!("/{bucket}?object-lock");
    let rules = |retention: &str| {
        format!(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>\
             <Rule><DefaultRetention>{retention}</DefaultRetention></Rule></ObjectLockConfiguration>"
        )
    };
    let good = rules("<Mode>COMPLIANCE</Mode><Days>2</Days>");
    assert_eq!(world.put(&target, good.as_bytes()).await.status, 200);
    let shown = text(&world.get(Who::Main, &target).await);
    assert!(shown.contains("<Days>2</Days><Mode>COMPLIANCE</Mode>"), "{shown}");
    world.put(&format!("/{bucket}/stone"), b"stone").await;
    let head = world.send(Who::Main, Request::new("HEAD", &format!("/{bucket}/stone"))).await;
    assert_eq!(head.header("x-amz-object-lock-mode"), Some("COMPLIANCE"));
    for (retention, code) in [
        ("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>", "MalformedXML"),
        ("<Mode>GOVERNANCE</Mode>", "MalformedXML"),
        ("<Mode>governance</Mode><Days>1</Days>", "MalformedXML"),
        ("<Mode>GOVERNANCE</Mode><Days>0</Days>", "InvalidRetentionPeriod"),
        ("<Mode>GOVERNANCE</Mode><Years>-1</Years>", "InvalidRetentionPeriod"),
    ] {
        world.put(&target, rules(retention).as_bytes()).await.fails(400, code);
    }
    let suspended = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    world.put(&format!("/{bucket}?versioning"), suspended).await.fails(409, "InvalidBucketState");
}

#[tokio::test]
async fn retention_is_shown_changed_and_refused_by_document() {
    let world = World::new().await;
    let bucket = locked_bucket(&world, "locked-retention").await;
    let path = format!("/{bucket}/stone");
    world.put(&path, b"stone").await;
    let target = format!("{path}?retention");
    world.get(Who::Main, &target).await.fails(404, "NoSuchObjectLockConfiguration");
    world.get(Who::Main, &format!("{path}?legal-hold")).await.fails(404, "NoSuchObjectLockConfiguration");
    let retention = |mode: &str, year: u32| {
        format!(
            "<Retention><Mode>{mode}</Mode><RetainUntilDate>{year}-01-01T00:00:00Z</RetainUntilDate></Retention>"
        )
    };
    world.put(&target, retention("governance", 2140).as_bytes()).await.fails(400, "MalformedXML");
    world.put(&target, retention("GOVERNANCE", 2001).as_bytes()).await.fails(400, "InvalidArgument");
    assert_eq!(world.put(&target, retention("GOVERNANCE", 2140).as_bytes()).await.status, 200);
    let shown = text(&world.get(Who::Main, &target).await);
    assert!(shown.contains("<Mode>GOVERNANCE</Mode>") && shown.contains("2140-01-01T00:00:00"), "{shown}");
    world.put(&target, retention("GOVERNANCE", 2139).as_bytes()).await.fails(403, "AccessDenied");
    let none = Request::new("PUT", &target)
        .body(b"<Retention/>")
        .header("x-amz-bypass-governance-retention", "true");
    assert_eq!(world.send(Who::Main, none).await.status, 200);
    world.get(Who::Main, &target).await.fails(404, "NoSuchObjectLockConfiguration");
}

#[tokio::test]
async fn buckets_without_lock_take_none() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let path = format!("/{bucket}/stone");
    world.send(Who::Main, locked(&path, "GOVERNANCE")).await.fails(400, "InvalidRequest");
    world.put(&path, b"stone").await;
    world.get(Who::Main, &format!("{path}?retention")).await.fails(400, "InvalidRequest");
    world.get(Who::Main, &format!("{path}?legal-hold")).await.fails(400, "InvalidRequest");
    world
        .get(Who::Main, &format!("/{bucket}?object-lock"))
        .await
        .fails(404, "ObjectLockConfigurationNotFoundError");
    let rules =
        b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
    world.put(&format!("/{bucket}?object-lock"), rules).await.fails(409, "InvalidBucketState");
    let head = world.send(Who::Main, Request::new("HEAD", &path)).await;
    assert_eq!(head.header("x-amz-object-lock-mode"), None);
}
