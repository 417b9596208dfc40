//! Listings: pages, markers, tokens, prefixes, and deletions of many.

use crate::gateway::world::{Request, Who, World};

async fn filled(world: &World, keys: &[&str]) -> String {
    let bucket = world.bucket().await;
    for key in keys {
        assert_eq!(world.put(&format!("/{bucket}/{key}"), b"x").await.status, 200);
    }
    bucket
}

fn keys(text: &str, element: &str) -> Vec<String> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    text.split(&open)
        .skip(1)
        .filter_map(|rest| rest.split_once(&close))
        .map(|(key, _)| key.to_owned())
        .collect()
}

#[tokio::test]
async fn pages_by_token_and_by_marker() {
    let world = World::new().await;
    let all = ["a", "b/1", "b/2", "c", "d/1", "e"];
    let bucket = filled(&world, &all).await;
    let list = async |query: &str| world.get(Who::Main, &format!("/{bucket}?{query}")).await;
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let query = if token.is_empty() { String::new() } else { format!("&continuation-token={token}") };
        let page = list(&format!("list-type=2&max-keys=2{query}")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        seen.extend(keys(page.text(), "Key"));
        match page.element("NextContinuationToken") {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, all);
    list(&format!("list-type=2&prefix=b&continuation-token={token}")).await.fails(400, "InvalidArgument");
    list("list-type=2&continuation-token=abc").await.fails(400, "InvalidArgument");

    let page = list("delimiter=%2F&max-keys=3").await;
    assert_eq!(keys(page.text(), "Key"), ["a", "c"]);
    assert_eq!(keys(page.text(), "Prefix")[1..], ["b/"]);
    assert_eq!(page.element("IsTruncated"), Some("true"));
    let next = page.element("NextMarker").expect("a marker").to_owned();
    let rest = list(&format!("delimiter=%2F&marker={next}")).await;
    assert_eq!(
        (keys(rest.text(), "Key"), rest.element("IsTruncated")),
        (vec!["e".to_owned()], Some("false"))
    );
    assert_eq!(keys(rest.text(), "Prefix")[1..], ["d/"]);

    assert_eq!(keys(list("list-type=2&start-after=c").await.text(), "Key"), ["d/1", "e"]);
    let none = list("list-type=2&max-keys=0").await;
    assert_eq!((none.element("KeyCount"), none.element("IsTruncated")), (Some("0"), Some("false")));
    assert_eq!(list("max-keys=5000").await.element("MaxKeys"), Some("1000"));
    for bad in ["max-keys=-1", "max-keys=x", "max-keys=99999999999", "encoding-type=base64"] {
        list(bad).await.fails(400, "InvalidArgument");
    }
    assert!(list("list-type=2").await.element("Owner").is_none());
    assert!(list("list-type=2&fetch-owner=true").await.text().contains(&world.main_id));
}

#[tokio::test]
async fn versions_and_deleting_many() {
    let world = World::new().await;
    let bucket = filled(&world, &["a", "b"]).await;
    let enable = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    world.put(&format!("/{bucket}?versioning"), enable).await;
    world.put(&format!("/{bucket}/a"), b"new").await;
    let document = b"<Delete><Object><Key>b</Key></Object><Object><Key>a</Key><VersionId>null</VersionId></Object><Object><Key>a</Key><VersionId>bad</VersionId></Object></Delete>";
    let deleted =
        world.send(Who::Main, Request::new("POST", &format!("/{bucket}?delete")).body(document)).await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    assert_eq!(deleted.text().matches("<Deleted>").count(), 2, "{}", deleted.text());
    assert_eq!(deleted.element("Code"), Some("InvalidArgument"));
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = world.get(Who::Main, &format!("/{bucket}?versions&max-keys=1{after}")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        seen.extend(keys(page.text(), "Key"));
        let Some(key) = page.element("NextKeyMarker") else { break };
        after = format!("&key-marker={key}");
        if let Some(version) = page.element("NextVersionIdMarker") {
            after.push_str(&format!("&version-id-marker={version}"));
        }
    }
    assert_eq!(seen, ["a", "b", "b"]);
    let orphan = world.get(Who::Main, &format!("/{bucket}?versions&version-id-marker=null")).await;
    orphan.fails(400, "InvalidArgument");
}

#[tokio::test]
async fn buckets() {
    let world = World::new().await;
    let names = [world.bucket().await, world.bucket().await];
    let listed = world.get(Who::Main, "/").await;
    assert!(names.iter().all(|name| listed.text().contains(&format!("<Name>{name}</Name>"))));
    let first = world.get(Who::Main, "/?max-buckets=1").await;
    let token = first.element("ContinuationToken").expect("there is more").to_owned();
    let second = world.get(Who::Main, &format!("/?max-buckets=1&continuation-token={token}")).await;
    assert_ne!(first.element("Name"), second.element("Name"));
    assert!(world.get(Who::Alt, "/").await.element("Name").is_none());
    let location = world.get(Who::Main, &format!("/{}?location", names[0])).await;
    assert_eq!(location.status, 200);
    world
        .send(Who::Alt, Request::new("PUT", &format!("/{}", names[0])))
        .await
        .fails(409, "BucketAlreadyExists");
    world.put(&format!("/{}/k", names[0]), b"x").await;
    world
        .send(Who::Main, Request::new("DELETE", &format!("/{}", names[0])))
        .await
        .fails(409, "BucketNotEmpty");
    assert_eq!(world.send(Who::Main, Request::new("DELETE", &format!("/{}", names[1]))).await.status, 204);
}
