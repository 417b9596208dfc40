//! The promise to publish: on every answer that changed something, and on no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ashlar_objects::log::{Durability, DurableWhen, LogHalted, Publishing, ReceiptIssuer};
use ashlar_objects::testing::{TestStore, request_of};
use ashlar_objects::types::BucketName;
use ashlar_s3_gateway::Limits;

use crate::gateway::wire::Answer;
use crate::gateway::world::{Request, Who, World};

struct Issuer;

impl ReceiptIssuer for Issuer {
    fn issue(&self, position: u64, index: u32, record: &[u8]) -> Option<Arc<str>> {
        Some(Arc::from(format!("{position}-{index}-op{}", record[1])))
    }
}

#[derive(Default)]
struct Halting(AtomicBool);

#[async_trait::async_trait]
impl Durability for Halting {
    async fn reached(&self, _position: u64, _level: DurableWhen) -> Result<(), LogHalted> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(LogHalted { reason: "the chain is gone".to_owned() }),
            false => Ok(()),
        }
    }

    fn covered(&self) -> u64 {
        u64::MAX
    }
}

async fn store(durability: Arc<Halting>) -> TestStore {
    let durable_wait = Duration::from_millis(50);
    let publishing =
        Publishing { receipts: Some(Arc::new(Issuer)), durability: Some(durability), durable_wait };
    TestStore::publishing(publishing).await
}

/// The operation that the answer's receipt is of.
fn operation(answer: &Answer) -> Option<&str> {
    answer.header("x-ashlar-receipt").and_then(|receipt| receipt.rsplit('-').next())
}

#[tokio::test]
async fn every_answer_that_changed_something_has_a_receipt() {
    let world = World::on(store(Arc::default()).await, Limits::default()).await;
    let main = async |request: Request| {
        let answer = world.send(Who::Main, request).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
        answer
    };
    let create = Request::new("PUT", "/receipts").header("x-amz-bucket-object-lock-enabled", "true");
    assert_eq!(operation(&main(create).await), Some("op4"));
    let (bucket, key) = ("/receipts", "/receipts/stone");
    let put = |target: &str, body: &str| Request::new("PUT", target).body(body.as_bytes());

    let first = main(put(key, "stone")).await;
    assert_eq!(operation(&first), Some("op1"));
    let copy = put("/receipts/copy", "").header("x-amz-copy-source", "/receipts/stone");
    assert_eq!(operation(&main(copy).await), Some("op1"));
    let tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let hold = "<LegalHold><Status>OFF</Status></LegalHold>";
    let until = "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2140-01-01T00:00:00.000Z</RetainUntilDate></Retention>";
    for (query, body) in [("tagging", tagging), ("legal-hold", hold), ("retention", until)] {
        let changed = main(put(&format!("{key}?{query}"), body)).await;
        assert_eq!(operation(&changed), Some("op1"), "{query}");
    }
    let acl = put(&format!("{key}?acl"), "").header("x-amz-acl", "public-read");
    assert_eq!(operation(&main(acl).await), Some("op1"));
    let untagged = main(Request::new("DELETE", &format!("{key}?tagging"))).await;
    assert_eq!(operation(&untagged), Some("op1"));

    let cors = "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin>\
        </CORSRule></CORSConfiguration>";
    let rules = "<LifecycleConfiguration><Rule><Status>Enabled</Status><Filter/><Expiration><Days>9</Days>\
        </Expiration></Rule></LifecycleConfiguration>";
    let policy = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Deny\",\"Principal\":\"*\",\
        \"Action\":\"s3:GetObject\",\"Resource\":\"arn:aws:s3:::receipts/none\"}]}";
    let block = "<PublicAccessBlockConfiguration><BlockPublicAcls>false</BlockPublicAcls>\
        </PublicAccessBlockConfiguration>";
    let ownership = "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule>\
        </OwnershipControls>";
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let locks =
        "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
    let documents = [
        ("tagging", tagging, true),
        ("cors", cors, true),
        ("lifecycle", rules, true),
        ("policy", policy, true),
        ("publicAccessBlock", block, true),
        ("ownershipControls", ownership, true),
        ("versioning", versioning, false),
        ("object-lock", locks, false),
    ];
    for (query, body, may_go) in documents {
        let target = format!("{bucket}?{query}");
        assert_eq!(operation(&main(put(&target, body)).await), Some("op4"), "{query}");
        let read = main(Request::new("GET", &target)).await;
        assert_eq!(operation(&read), None, "a read of {query}");
        if may_go {
            assert_eq!(operation(&main(Request::new("DELETE", &target)).await), Some("op4"), "{query}");
        }
    }

    let upload = main(Request::new("POST", "/receipts/wall?uploads")).await;
    assert_eq!(operation(&upload), None, "an upload in progress is in no log");
    let text = String::from_utf8_lossy(&upload.body).into_owned();
    let id =
        text.split("<UploadId>").nth(1).and_then(|rest| rest.split('<').next()).expect("an id").to_owned();
    let part = main(put(&format!("/receipts/wall?partNumber=1&uploadId={id}"), "one part")).await;
    assert_eq!(operation(&part), None);
    let etag = part.header("etag").expect("an entity tag").trim_matches('"');
    let body = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    );
    let complete = Request::new("POST", &format!("/receipts/wall?uploadId={id}")).body(body.as_bytes());
    assert_eq!(operation(&main(complete).await), Some("op1"));

    for method in ["GET", "HEAD"] {
        let read = main(Request::new(method, key)).await;
        assert_eq!(operation(&read), None);
        for root in ["x-ashlar-object-root", "x-ashlar-content-root"] {
            assert_eq!(read.header(root), first.header(root), "{method} {root}");
            assert!(read.header(root).is_some(), "{method} {root}");
        }
    }
    assert_eq!(operation(&main(Request::new("DELETE", key)).await), Some("op2"));
    let many = Request::new("POST", &format!("{bucket}?delete")).body(
        b"<Delete><Quiet>true</Quiet><Object><Key>copy</Key></Object><Object><Key>wall</Key></Object></Delete>",
    );
    let many = main(many).await;
    assert_eq!(operation(&many), Some("op2"));
    assert_eq!(operation(&world.get(Who::Alt, "/receipts/none").await), None);
}

#[tokio::test]
async fn a_write_that_is_not_durable_enough_says_that_it_is_stored() {
    let durability = Arc::<Halting>::default();
    let test = store(Arc::clone(&durability)).await;
    let inner = test.store.clone();
    let world = World::on(test, Limits::default()).await;
    let bucket = world.bucket().await;
    let name = BucketName::new(&bucket).expect("a name");
    inner.set_durable_when(&request_of("root", true), &name, DurableWhen::Anchored).await.expect("set");
    let path = format!("/{bucket}/stone");
    assert_eq!(world.put(&path, b"anchored").await.status, 200);
    durability.0.store(true, Ordering::Relaxed);
    let late = world.put(&path, b"stored").await;
    assert_eq!((late.status, operation(&late)), (503, Some("op1")), "{late:?}");
    assert!(late.header("retry-after").is_some());
    let text = String::from_utf8_lossy(&late.body).into_owned();
    assert!(text.contains("<Code>SlowDown</Code>") && text.contains("is stored"), "{text}");
    assert_eq!(world.get(Who::Main, &path).await.body, b"stored");
    let many = Request::new("POST", &format!("/{bucket}?delete"))
        .body(b"<Delete><Object><Key>stone</Key></Object></Delete>");
    let many = world.send(Who::Main, many).await;
    assert_eq!((many.status, operation(&many)), (200, Some("op3")), "{many:?}");
    assert!(String::from_utf8_lossy(&many.body).contains("SlowDown"));
    assert_eq!(world.get(Who::Main, &path).await.status, 404);
}
