//! Policies: what reads, what is refused, when conditions hold, what is public, and what hostile ones cost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::access::{ObjectAccess, RequestContext, UserIdentity};
use crate::types::{Tags, UnixMillis, VersionId};

const BUCKET: &str = "logs";

fn statement(members: Value) -> Value {
    let mut out = json!({
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::logs/*",
    });
    for (name, value) in members.as_object().expect("members") {
        match value {
            Value::Null => drop(out.as_object_mut().expect("an object").remove(name)),
            value => out[name] = value.clone(),
        }
    }
    out
}

fn document(members: Value) -> String {
    json!({"Version": "2012-10-17", "Statement": [statement(members)]}).to_string()
}

fn parse(json: &str) -> Result<Policy, PolicyError> {
    Policy::parse(json, BUCKET)
}

#[test]
fn policies_of_every_usual_shape_are_read() {
    let shapes = [
        json!({}),
        json!({"Sid": "Allow Public Access to All Objects"}),
        json!({"Principal": {"AWS": "*"}}),
        json!({"Principal": {"AWS": ["ann", "arn:aws:iam::s3tenant1:root", "arn:aws:iam::123456789012:user/ann"]}}),
        json!({"Principal": {"AWS": "arn:aws:iam:::user/ann"}}),
        json!({"Principal": {"CanonicalUser": "0123456789abcdef"}}),
        json!({"Principal": {"Service": "logging.s3.amazonaws.com"}}),
        json!({"Effect": "Deny", "Principal": null, "NotPrincipal": {"AWS": "ann"}}),
        json!({"Action": "*"}),
        json!({"Action": ["s3:*", "S3:getobject", "s3:Get*", "s3:?etObject"]}),
        json!({"Action": null, "NotAction": "s3:DeleteObject"}),
        json!({"Resource": ["arn:aws:s3:::logs", "arn:aws:s3:::logs/*"]}),
        json!({"Resource": ["arn:aws:s3:::*", "arn:aws:s3:::*/*", "*"]}),
        json!({"Resource": null, "NotResource": "arn:aws:s3:::logs/private/*"}),
        json!({"Resource": "arn:aws:s3:::logs/home/${aws:username}/*"}),
        json!({"Condition": {"StringLikeIfExists": {"aws:Referer": "http://www.example.com/*"}}}),
        json!({"Condition": {"Bool": {"aws:SecureTransport": true}, "NumericLessThan": {"s3:max-keys": 10}}}),
        json!({"Condition": {"Null": {"s3:x-amz-server-side-encryption": "true"}}}),
        json!({"Condition": {"ForAllValues:StringLike": {"s3:RequestObjectTagKeys": ["a", "b*"]}}}),
        json!({"Condition": {"StringEquals": {"s3:ExistingObjectTag/security": "public"}}}),
    ];
    for shape in shapes {
        parse(&document(shape.clone())).unwrap_or_else(|error| panic!("{shape}: {error}"));
    }
    let single = json!({"Id": "one", "Statement": statement(json!({}))}).to_string();
    parse(&single).expect("a single statement without version");
}

#[test]
fn what_is_not_understood_is_refused_with_its_reason() {
    let statements = [
        (json!({"Effect": "allow"}), "Effect"),
        (json!({"Effect": null}), "Effect"),
        (json!({"Principal": null}), "Principal"),
        (json!({"Principal": "ann"}), "'ann'"),
        (json!({"Principal": []}), "principal"),
        (json!({"Principal": {}}), "nobody"),
        (json!({"Principal": {"AWS": []}}), "empty"),
        (json!({"Principal": {"AWS": "arn:aws:iam::*:user/ann"}}), "arn:aws:iam::*:user/ann"),
        (json!({"Principal": {"AWS": "ann*"}}), "ann*"),
        (json!({"Principal": {"AWS": "arn:aws:sts::1:assumed-role/x"}}), "assumed-role"),
        (json!({"Principal": {"Federated": "x"}}), "Federated"),
        (json!({"NotPrincipal": "*"}), "beside"),
        (json!({"Principal": null, "NotPrincipal": {"AWS": "ann"}}), "NotPrincipal"),
        (json!({"Action": null}), "Action"),
        (json!({"Action": []}), "empty"),
        (json!({"Action": "s3:GetObjekt"}), "s3:GetObjekt"),
        (json!({"Action": "s3:Foo*"}), "s3:Foo*"),
        (json!({"Action": "ec2:*"}), "ec2:*"),
        (json!({"Action": 7}), "'7'"),
        (json!({"NotAction": "s3:GetObject"}), "beside"),
        (json!({"Resource": null}), "Resource"),
        (json!({"Resource": "arn:aws:s3:::other/*"}), "other"),
        (json!({"Resource": "arn:aws:s3:::logs2"}), "logs2"),
        (json!({"Resource": "logs/*"}), "logs/*"),
        (json!({"Resource": "arn:aws:s3:::"}), "arn:aws:s3:::"),
        (json!({"Resource": "arn:aws:s3:::logs/${aws:nothing}"}), "aws:nothing"),
        (json!({"Resource": {"a": 1}}), "an object"),
        (json!({"Conditions": {}}), "Conditions"),
        (json!({"Condition": []}), "a list"),
        (json!({"Condition": {"StringSounds": {"s3:prefix": "a"}}}), "StringSounds"),
        (json!({"Condition": {"stringEquals": {"s3:prefix": "a"}}}), "stringEquals"),
        (json!({"Condition": {"ArnLike": {"aws:SourceArn": "a"}}}), "aws:SourceArn"),
        (json!({"Condition": {"ForSomeValues:StringEquals": {"s3:prefix": "a"}}}), "ForSomeValues"),
        (json!({"Condition": {"NullIfExists": {"s3:prefix": "true"}}}), "NullIfExists"),
        (json!({"Condition": {"StringEquals": {"aws:SourceVpce": "vpce-1"}}}), "aws:SourceVpce"),
        (json!({"Condition": {"StringEquals": {"s3:ExistingObjectTag/": "x"}}}), "s3:ExistingObjectTag/"),
        (json!({"Condition": {"StringEquals": {"s3:RequestObjectTagKeys": "x"}}}), "ForAllValues"),
        (json!({"Condition": {"StringEquals": {"s3:prefix": []}}}), "empty"),
        (json!({"Condition": {"StringEquals": {"s3:prefix": {"a": 1}}}}), "an object"),
        (json!({"Condition": {"NumericEquals": {"s3:max-keys": "ten"}}}), "'ten'"),
        (json!({"Condition": {"NumericEquals": {"s3:max-keys": "inf"}}}), "'inf'"),
        (json!({"Condition": {"DateLessThan": {"aws:CurrentTime": "soon"}}}), "'soon'"),
        (json!({"Condition": {"Bool": {"aws:SecureTransport": "yes"}}}), "'yes'"),
        (json!({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/40"}}}), "10.0.0.0/40"),
    ];
    for (members, needle) in statements {
        let error = parse(&document(members.clone())).expect_err(&members.to_string());
        assert!(error.reason.contains(needle), "{members}: {error}");
    }
    let whole = [
        "",
        "null",
        "[]",
        "{}",
        r#"{"Statement": []}"#,
        r#"{"Statement": "x"}"#,
        r#"{"Version": "2020-01-01", "Statement": []}"#,
        r#"{"Version": 2012, "Statement": []}"#,
        r#"{"Statement": [], "Extra": 1}"#,
        r#"{"Statement": [{"Effect": "Allow", "Effect": "Deny"}]}"#,
        "{\"Statement\": [1]}",
    ];
    for text in whole {
        parse(text).expect_err(text);
    }
    let same =
        json!({"Statement": [statement(json!({"Sid": "a"})), statement(json!({"Sid": "a"}))]}).to_string();
    assert!(parse(&same).expect_err("one Sid twice").reason.contains("'a'"));
    let twice = r#"{"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*",
        "Condition": {"StringEquals": {"s3:prefix": "a"}, "StringEquals": {"s3:prefix": "b"}}}]}"#;
    assert!(parse(twice).expect_err("one operator twice").reason.contains("twice"));
}

struct Request {
    context: RequestContext,
    key: &'static str,
    tags: Tags,
    request_tags: Tags,
    version: Option<VersionId>,
    now: i64,
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    Tags(
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
    )
}

fn request() -> Request {
    let user = UserIdentity { id: "1d".repeat(32), name: "ann".into(), access_key: "AK".into(), root: false };
    Request {
        context: RequestContext {
            principal: Principal::User(user.into()),
            request_id: "r".into(),
            source_ip: Some("10.1.2.3".parse().expect("an address")),
            secure_transport: true,
            user_agent: Some("aws-cli/2".into()),
            referer: None,
            keys: vec![
                ("s3:prefix", "home/ann/".into()),
                ("s3:max-keys", "100".into()),
                ("s3:x-amz-acl", "public-read".into()),
                ("s3:x-amz-copy-source", "src/public/foo".into()),
            ],
        },
        key: "a/b",
        tags: tags(&[("security", "public")]),
        request_tags: tags(&[("team", "x"), ("cost", "y")]),
        version: Some(VersionId::Null),
        now: 1_767_268_800_000, // 2026-01-01T12:00:00Z
    }
}

fn holds(condition: &Value, request: &Request) -> bool {
    let policy =
        parse(&document(json!({"Condition": condition}))).unwrap_or_else(|e| panic!("{condition}: {e}"));
    let object = ObjectAccess {
        key: request.key,
        owner: None,
        acl: None,
        tags: Some(&request.tags),
        version: request.version,
    };
    let access = Access {
        request: &request.context,
        action: Action::GetObject,
        bucket: None,
        object: Some(object),
        request_tags: Some(&request.request_tags),
        now: UnixMillis(request.now),
    };
    policy.judge(&Question::of(&access, BUCKET)) == Verdict::Allow
}

#[test]
fn conditions_hold_as_in_iam() {
    let cases = [
        (json!({"StringEquals": {"s3:prefix": "home/ann/"}}), true),
        (json!({"StringEquals": {"S3:Prefix": ["x", "home/ann/"]}}), true),
        (json!({"StringEquals": {"s3:prefix": "home/${aws:username}/"}}), true),
        (json!({"StringEquals": {"s3:prefix": "home/*"}}), false),
        (json!({"StringNotEquals": {"s3:prefix": ["x", "home/ann/"]}}), false),
        (json!({"StringNotEquals": {"s3:prefix": ["x", "y"]}}), true),
        (json!({"StringEqualsIgnoreCase": {"s3:prefix": "HOME/ANN/"}}), true),
        (json!({"StringNotEqualsIgnoreCase": {"s3:prefix": "HOME/ANN/"}}), false),
        (json!({"StringLike": {"s3:prefix": "home/*"}}), true),
        (json!({"StringLike": {"s3:x-amz-acl": "public*"}}), true),
        (json!({"StringNotLike": {"s3:prefix": "home/*"}}), false),
        (json!({"StringLike": {"s3:x-amz-copy-source": "src/public/*"}}), true),
        (json!({"StringEquals": {"aws:username": "ann", "aws:userid": "1d".repeat(32)}}), true),
        (json!({"StringEquals": {"aws:username": "ann", "aws:PrincipalType": "Anonymous"}}), false),
        (json!({"StringLike": {"aws:UserAgent": "aws-cli/*"}}), true),
        (json!({"StringEquals": {"s3:VersionId": "null"}}), true),
        // What the request lacks fails a plain operator, passes a negated one and passes IfExists.
        (json!({"StringLike": {"aws:Referer": "*"}}), false),
        (json!({"StringNotLike": {"aws:Referer": "*"}}), true),
        (json!({"StringLikeIfExists": {"aws:Referer": "http://a/*"}}), true),
        (json!({"StringLikeIfExists": {"aws:UserAgent": "other"}}), false),
        (json!({"Null": {"aws:Referer": "true"}}), true),
        (json!({"Null": {"aws:Referer": false}}), false),
        (json!({"Null": {"s3:prefix": "false"}}), true),
        (json!({"NumericLessThanEquals": {"s3:max-keys": "100"}}), true),
        (json!({"NumericLessThan": {"s3:max-keys": 100}}), false),
        (json!({"NumericGreaterThan": {"s3:max-keys": [1000, 99.5]}}), true),
        (json!({"NumericEquals": {"s3:max-keys": "1e2"}}), true),
        (json!({"NumericNotEquals": {"s3:max-keys": 100}}), false),
        (json!({"NumericEquals": {"s3:prefix": 100}}), false),
        (json!({"DateGreaterThan": {"aws:CurrentTime": "2026-01-01T11:59:59Z"}}), true),
        (json!({"DateGreaterThanEquals": {"aws:CurrentTime": "2026-01-01T13:00:00+01:00"}}), true),
        (json!({"DateLessThan": {"aws:CurrentTime": "2026-01-01"}}), false),
        (json!({"DateLessThan": {"aws:EpochTime": "1767268801"}}), true),
        (json!({"NumericGreaterThanEquals": {"aws:EpochTime": "1767268800"}}), true),
        (json!({"Bool": {"aws:SecureTransport": "True"}}), true),
        (json!({"Bool": {"aws:SecureTransport": false}}), false),
        (json!({"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "10.0.0.0/8"]}}), true),
        (json!({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), false),
        (json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/32"}}), false),
        (json!({"IpAddress": {"aws:UserAgent": "10.0.0.0/8"}}), false),
        (json!({"StringEquals": {"s3:ExistingObjectTag/security": "public"}}), true),
        (json!({"StringEquals": {"s3:ExistingObjectTag/Security": "public"}}), false),
        (json!({"StringEquals": {"s3:RequestObjectTag/team": "x"}}), true),
        (json!({"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["team", "cost", "z"]}}), true),
        (json!({"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["team"]}}), false),
        (json!({"ForAnyValue:StringLike": {"s3:RequestObjectTagKeys": "te*"}}), true),
        (json!({"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": "z"}}), false),
        (json!({"ForAnyValue:StringNotEquals": {"s3:RequestObjectTagKeys": "team"}}), true),
        (json!({"ForAllValues:StringNotEquals": {"s3:RequestObjectTagKeys": "team"}}), false),
        (json!({"ForAllValues:StringEquals": {"aws:Referer": "x"}}), true),
        (json!({"ForAnyValue:StringNotEquals": {"aws:Referer": "x"}}), false),
    ];
    for (condition, expected) in cases {
        assert_eq!(holds(&condition, &request()), expected, "{condition}");
    }
    let mut nobody = request();
    nobody.context.principal = Principal::Anonymous;
    nobody.context.source_ip = None;
    assert!(holds(
        &json!({"StringEquals": {"aws:PrincipalType": "Anonymous", "aws:userid": "anonymous"}}),
        &nobody
    ));
    assert!(!holds(&json!({"StringEquals": {"aws:username": "${aws:username}"}}), &nobody));
    assert!(!holds(&json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}), &nobody));
    let mut mapped = request();
    mapped.context.source_ip = Some("::ffff:10.1.2.3".parse().expect("an address"));
    assert!(holds(&json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), &mapped));
}

#[test]
fn public_is_what_aws_calls_public() {
    let cases = [
        (json!({}), true),
        (json!({"Principal": {"AWS": "*"}}), true),
        (json!({"Principal": {"AWS": ["ann", "*"]}}), true),
        (json!({"Principal": {"AWS": "arn:aws:iam::s3tenant1:root"}}), false),
        (json!({"Effect": "Deny"}), false),
        (json!({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/32"}}}), false),
        (json!({"Condition": {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "0.0.0.0/1"]}}}), true),
        (json!({"Condition": {"IpAddress": {"aws:SourceIp": "2001::/16"}}}), true),
        (json!({"Condition": {"IpAddressIfExists": {"aws:SourceIp": "10.0.0.0/8"}}}), true),
        (json!({"Condition": {"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}), true),
        (json!({"Condition": {"StringEquals": {"aws:userid": "abc"}}}), false),
        (json!({"Condition": {"StringEquals": {"aws:userid": "anonymous"}}}), true),
        (json!({"Condition": {"StringEqualsIgnoreCase": {"aws:userid": ["abc", "Anonymous"]}}}), true),
        (json!({"Condition": {"StringLike": {"aws:username": "a*"}}}), true),
        (json!({"Condition": {"StringEquals": {"aws:Referer": "x"}}}), true),
    ];
    for (members, expected) in cases {
        let policy = parse(&document(members.clone())).unwrap_or_else(|e| panic!("{members}: {e}"));
        assert_eq!(policy.is_public(), expected, "{members}");
    }
}

/// Within 20 KiB a policy must not cost more than its length says.
#[test]
fn hostile_policies_are_refused_or_cheap() {
    let deep = format!("{}{}", "[".repeat(POLICY_BYTES_MAX / 2), "]".repeat(POLICY_BYTES_MAX / 2));
    parse(&deep).expect_err("nested too deep");
    let deep = format!(r#"{{"Statement": {}1{}}}"#, r#"{"a":"#.repeat(4000), "}".repeat(4000));
    parse(&deep).expect_err("nested too deep");
    assert!(parse(&" ".repeat(POLICY_BYTES_MAX + 1)).expect_err("too long").reason.contains("20480"));

    let begun = Instant::now();
    let fill = |member: &str, item: &str| {
        let items = vec![item; (POLICY_BYTES_MAX - 300) / (item.len() + 3)];
        let members = json!({"Effect": "Deny", "Condition": {"StringEquals": {"aws:username": "nobody"}}});
        let mut statement = statement(members);
        match member {
            "AWS" => statement["Principal"] = json!({"AWS": items}),
            "aws:UserAgent" => statement["Condition"] = json!({"StringNotLike": {"aws:UserAgent": items}}),
            member => statement[member] = json!(items),
        }
        json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
    };
    let stars = format!("arn:aws:s3:::logs/{}b", "*a".repeat(2000));
    let masks = format!("arn:aws:s3:::logs/*{}b*", "?a".repeat(400));
    let policies = [
        fill("Action", "*"),
        fill("Action", "s3:*t*"),
        fill("Resource", "arn:aws:s3:::*"),
        fill("Resource", &stars),
        fill("Resource", &masks),
        fill("Resource", "arn:aws:s3:::logs/${aws:username}*${aws:username}*?b"),
        fill("AWS", "somebody"),
        fill("aws:UserAgent", "*?a?*a*?b"),
    ];
    let mut hostile = request();
    let key: &'static str = Box::leak("a".repeat(1024).into_boxed_str());
    hostile.key = key;
    hostile.context.user_agent = Some("a".repeat(8192).into());
    for policy in &policies {
        assert!(policy.len() <= POLICY_BYTES_MAX, "{} bytes", policy.len());
        let policy = parse(policy).expect("it is a policy");
        let object =
            ObjectAccess { key, owner: None, acl: None, tags: Some(&hostile.tags), version: hostile.version };
        let access = Access {
            request: &hostile.context,
            action: Action::GetObject,
            bucket: None,
            object: Some(object),
            request_tags: None,
            now: UnixMillis(0),
        };
        for _ in 0..20 {
            let _ = policy.judge(&Question::of(&access, BUCKET));
        }
    }
    // 160 judgements and 8 readings; naive matching of one would take longer than the machine lives.
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}

const EVERYTHING: &str = include_str!("../../../fuzz/seeds/policy/conditions.json");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// A policy that uses everything, with pieces taken out, doubled and replaced: it is read or refused, and
    /// judged without a panic. (Coverage-guided in `objects/fuzz`.)
    #[test]
    fn broken_policies_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(vec![
            "", "\"", "{", "}", "[", "]", ",", "*", "?", "${", "'", "Not", "IfExists", "ForAllValues:", "a", "1", "/",
            "s3:", "\u{e9}", "null", "true", ":",
        ])), 1..4),
        key in "[a/x?]{1,9}",
    ) {
        let mut text: Vec<char> = EVERYTHING.trim_end().chars().collect();
        for (at, taken, put) in edits {
            let at = at.index(text.len());
            let end = (at + taken).min(text.len());
            text.splice(at..end, put.chars());
        }
        let Ok(policy) = parse(&text.into_iter().collect::<String>()) else { return Ok(()) };
        let request = request();
        let object = ObjectAccess { key: &key, owner: None, acl: None, tags: Some(&request.tags), version: None };
        for action in [Action::GetObject, Action::ListBucket] {
            let access = Access {
                request: &request.context,
                action,
                bucket: None,
                object: Some(object),
                request_tags: Some(&request.request_tags),
                now: UnixMillis(request.now),
            };
            let _ = (policy.judge(&Question::of(&access, BUCKET)), policy.is_public());
        }
    }
}

#[test]
fn the_policy_that_uses_everything_is_read() {
    parse(EVERYTHING).expect("the fuzzer begins with a policy");
}

#[test]
fn messages_quote_little_of_what_is_foreign() {
    let long = "x\u{7}".repeat(5000);
    let error = parse(&document(json!({"Action": long}))).expect_err("no such action");
    assert!(error.reason.chars().count() < 200 && !error.reason.contains('\u{7}'), "{error}");
}
