//! Lifecycle configuration over HTTP, and what answers tell of it.

use crate::gateway::world::{Request, Who, World};

fn rules(rules: &str) -> String {
    format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>")
}

fn rule(inner: &str) -> String {
    rules(&format!("<Rule><ID>r</ID><Status>Enabled</Status>{inner}</Rule>"))
}

#[tokio::test]
async fn rules_come_back_as_they_were_put() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let target = format!("/{bucket}?lifecycle");
    world.get(Who::Main, &target).await.fails(404, "NoSuchLifecycleConfiguration");
    let document = rules(
        "<Rule><ID>a</ID><Prefix>old/</Prefix><Status>Disabled</Status>\
         <Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration></Rule>\
         <Rule><Filter><And><Prefix>p</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>\
         <ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And></Filter><Status>Enabled</Status>\
         <NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays>\
         <NewerNoncurrentVersions>2</NewerNoncurrentVersions></NoncurrentVersionExpiration></Rule>\
         <Rule><ID>c</ID><Filter/><Status>Enabled</Status>\
         <AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>",
    );
    let put = world.put(&target, document.as_bytes()).await;
    assert_eq!(put.status, 200, "{put:?}");
    let shown = world.get(Who::Main, &target).await;
    let shown = String::from_utf8_lossy(&shown.body);
    for part in [
        "<ID>a</ID>",
        "<Prefix>old/</Prefix><Status>Disabled</Status>",
        "<Date>2030-01-01T00:00:00",
        "<ObjectSizeGreaterThan>5</ObjectSizeGreaterThan>",
        "<Key>k</Key><Value>v</Value>",
        "<NewerNoncurrentVersions>2</NewerNoncurrentVersions><NoncurrentDays>3</NoncurrentDays>",
        "<DaysAfterInitiation>7</DaysAfterInitiation>",
        "<Filter><Prefix></Prefix></Filter>",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert_eq!(shown.matches("<ID>").count(), 3, "a rule without an id is given one");
    assert_eq!(world.send(Who::Main, Request::new("DELETE", &target)).await.status, 204);
    world.get(Who::Main, &target).await.fails(404, "NoSuchLifecycleConfiguration");
    world.get(Who::Alt, &target).await.fails(403, "AccessDenied");
}

#[tokio::test]
async fn what_s3_refuses_is_refused() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let target = format!("/{bucket}?lifecycle");
    let days = "<Expiration><Days>1</Days></Expiration>";
    for (document, code) in [
        (rules(""), "MalformedXML"),
        (rules(&format!("<Rule><Prefix>a</Prefix><Status>enabled</Status>{days}</Rule>")), "MalformedXML"),
        (rule(&format!("<Prefix>a</Prefix><Filter/>{days}")), "MalformedXML"),
        (rule("<Filter/>"), "InvalidRequest"),
        (rule("<Filter/><Expiration><Days>0</Days></Expiration>"), "InvalidArgument"),
        (rule("<Filter/><Expiration><Days>-1</Days></Expiration>"), "InvalidArgument"),
        (rule("<Filter/><Expiration><Date>2030-01-01T01:00:00Z</Date></Expiration>"), "InvalidArgument"),
        (rule("<Filter/><Expiration><Date>20300101</Date></Expiration>"), "MalformedXML"),
        (
            rule(
                "<Filter/><Expiration><Days>1</Days><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
            ),
            "MalformedXML",
        ),
        (
            rule("<Filter/><Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>"),
            "InvalidStorageClass",
        ),
        (
            rule(&format!("<Filter><ObjectSizeGreaterThan>-1</ObjectSizeGreaterThan></Filter>{days}")),
            "InvalidArgument",
        ),
        (
            rules(&format!(
                "<Rule><ID>{}</ID><Filter/><Status>Enabled</Status>{days}</Rule>",
                "a".repeat(256)
            )),
            "InvalidArgument",
        ),
    ] {
        world.put(&target, document.as_bytes()).await.fails(400, code);
    }
    world.get(Who::Main, &target).await.fails(404, "NoSuchLifecycleConfiguration");
}

#[tokio::test]
async fn answers_tell_when_objects_expire() {
    let world = World::new().await;
    let bucket = world.bucket().await;
    let tagged =
        "<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter><Expiration><Days>1</Days></Expiration>";
    world.put(&format!("/{bucket}?lifecycle"), rule(tagged).as_bytes()).await;
    let path = format!("/{bucket}/stone");
    let plain = world.put(&path, b"stone").await;
    assert_eq!(plain.header("x-amz-expiration"), None);
    let put = Request::new("PUT", &path).body(b"stone").header("x-amz-tagging", "k=v");
    let put = world.send(Who::Main, put).await;
    let told = put.header("x-amz-expiration").expect("an expiration").to_owned();
    assert!(told.starts_with("expiry-date=\"") && told.ends_with("00:00:00 GMT\", rule-id=\"r\""), "{told}");
    for method in ["GET", "HEAD"] {
        let read = world.send(Who::Main, Request::new(method, &path)).await;
        assert_eq!(read.header("x-amz-expiration"), Some(told.as_str()));
    }
    world.send(Who::Main, Request::new("DELETE", &format!("{path}?tagging"))).await;
    let read = world.send(Who::Main, Request::new("HEAD", &path)).await;
    assert_eq!(read.header("x-amz-expiration"), None);
}
