//! What rules are refused, and what of a key they end and when.

use proptest::prelude::*;

use super::check::check;
use super::*;
use crate::error::Error;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn rule(scope: RuleScope, expiration: Option<Expiration>) -> LifecycleRule {
    LifecycleRule {
        id: "rule".into(),
        enabled: true,
        scope,
        expiration,
        noncurrent: None,
        abort_uploads_after_days: None,
    }
}

fn prefixed(prefix: &str) -> RuleScope {
    RuleScope::Prefix(prefix.into())
}

fn filtered(outer: RuleConditions, inner: Option<RuleConditions>) -> RuleScope {
    RuleScope::Filter(RuleFilter { outer, inner })
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    Tags(pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
}

fn tagged(pairs: &[(&str, &str)]) -> RuleConditions {
    let tags = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    RuleConditions { tags, ..RuleConditions::default() }
}

#[test]
fn days_of_the_calendar_end_at_midnight_and_others_do_not() {
    // 15 January 2014, 10:30, and three days: the 19th, 0:00, as S3's guide has it.
    let written = UnixMillis(1_389_781_800_000);
    assert_eq!(LifecycleDay::CALENDAR.after(written, 3), UnixMillis(1_390_089_600_000));
    assert_eq!(LifecycleDay::CALENDAR.after(UnixMillis(1_390_089_600_000), 1), UnixMillis(1_390_176_000_000));
    assert_eq!(LifecycleDay::of_seconds(10).after(written, 3), UnixMillis(written.0 + 30_000));
    assert_eq!(LifecycleDay::of_seconds(86_400), LifecycleDay::CALENDAR);
}

#[test]
fn everything_a_filter_names_must_hold() {
    let sized = |larger, smaller| RuleConditions {
        larger_than: larger,
        smaller_than: smaller,
        ..RuleConditions::default()
    };
    let found = tags(&[("a", "1"), ("b", "2")]);
    let subject = |length| Subject { key: "logs/x", object: Some((length, &found)) };
    let marker = Subject { key: "logs/x", object: None };
    for (scope, length, covers) in [
        (prefixed("logs/"), 5, true),
        (prefixed("log/"), 5, false),
        (filtered(RuleConditions::default(), None), 5, true),
        (filtered(tagged(&[("a", "1")]), None), 5, true),
        (filtered(tagged(&[("a", "2")]), None), 5, false),
        (filtered(RuleConditions::default(), Some(tagged(&[("a", "1"), ("b", "2")]))), 5, true),
        (filtered(RuleConditions::default(), Some(tagged(&[("a", "1"), ("c", "2")]))), 5, false),
        (filtered(tagged(&[("a", "1")]), Some(tagged(&[("c", "3")]))), 5, false),
        (filtered(sized(Some(5), None), None), 5, false),
        (filtered(sized(Some(4), Some(6)), None), 5, true),
        (filtered(sized(None, Some(5)), None), 5, false),
    ] {
        assert_eq!(scope.covers(&subject(length)), covers, "{scope:?}");
    }
    assert!(prefixed("logs/").covers(&marker));
    assert!(!filtered(tagged(&[("a", "1")]), None).covers(&marker));
    assert!(!filtered(sized(None, Some(5)), None).covers(&marker));
}

#[test]
fn refused_rules_are_refused_for_what_they_are() {
    let days = Some(Expiration::Days(1));
    let good = || rule(prefixed(""), days);
    let code = |rules: &[LifecycleRule]| match check(rules) {
        Ok(()) => "good",
        Err(Error::MalformedConfiguration { .. }) => "malformed",
        Err(Error::InvalidArgument { name, .. }) => name,
        Err(Error::InvalidRequest { .. }) => "request",
        Err(Error::InvalidTag { .. }) => "tag",
        Err(other) => panic!("{other}"),
    };
    let noncurrent = |days, keep_newest| LifecycleRule {
        noncurrent: Some(NoncurrentExpiration { days, keep_newest }),
        ..rule(prefixed(""), None)
    };
    let uploads = |scope, days| LifecycleRule { abort_uploads_after_days: Some(days), ..rule(scope, None) };
    let many =
        |count: usize| (0..count).map(|n| LifecycleRule { id: n.to_string(), ..good() }).collect::<Vec<_>>();
    let nameless = LifecycleRule { id: String::new(), ..good() };
    let by_tag = filtered(tagged(&[("a", "1")]), None);
    let size = |larger, smaller| {
        let outer = RuleConditions {
            larger_than: Some(larger),
            smaller_than: Some(smaller),
            ..RuleConditions::default()
        };
        filtered(outer, None)
    };
    let midnight = Some(Expiration::Date(UnixMillis(1_390_089_600_000)));
    for (rules, expected) in [
        (vec![], "malformed"),
        (many(1_000), "good"),
        (many(1_001), "request"),
        (vec![good(), good()], "ID"),
        (vec![nameless.clone(), nameless], "good"),
        (vec![LifecycleRule { id: "ü".repeat(255), ..good() }], "good"),
        (vec![LifecycleRule { id: "a".repeat(256), ..good() }], "ID"),
        (vec![rule(prefixed(""), None)], "request"),
        (vec![rule(prefixed(&"p".repeat(1_025)), days)], "request"),
        (vec![rule(prefixed(""), Some(Expiration::Days(0)))], "Days"),
        (vec![rule(prefixed(""), midnight)], "good"),
        (vec![rule(prefixed(""), Some(Expiration::Date(UnixMillis(1))))], "Date"),
        (vec![rule(by_tag.clone(), Some(Expiration::ExpiredMarker(true)))], "request"),
        (vec![rule(by_tag.clone(), days)], "good"),
        (vec![rule(filtered(tagged(&[("a", "1"), ("a", "2")]), None), days)], "request"),
        (vec![rule(filtered(tagged(&[("", "1")]), None), days)], "tag"),
        (vec![rule(size(5, 6), days)], "good"),
        (vec![rule(size(5, 5), days)], "request"),
        (vec![noncurrent(1, Some(100))], "good"),
        (vec![noncurrent(0, None)], "NoncurrentDays"),
        (vec![noncurrent(1, Some(0))], "NewerNoncurrentVersions"),
        (vec![noncurrent(1, Some(101))], "NewerNoncurrentVersions"),
        (vec![uploads(prefixed("a"), 1)], "good"),
        (vec![uploads(prefixed("a"), 0)], "DaysAfterInitiation"),
        (vec![uploads(by_tag, 1)], "request"),
        (vec![uploads(size(1, 3), 1)], "request"),
    ] {
        assert_eq!(code(&rules), expected, "{:?}", rules.first());
    }
}

#[test]
fn the_earliest_rule_is_shown() {
    let mut rules = [
        rule(prefixed("a/"), Some(Expiration::Days(9))),
        rule(prefixed("a/"), Some(Expiration::Days(2))),
        rule(prefixed("b/"), Some(Expiration::Days(1))),
        rule(prefixed(""), Some(Expiration::ExpiredMarker(true))),
    ];
    rules[1].id = "soon".into();
    let none = Tags::default();
    let subject = Subject { key: "a/x", object: Some((1, &none)) };
    let at = LifecycleDay::CALENDAR.after(NOW, 2);
    assert_eq!(expiry(&rules, &subject, NOW), Some(Expiry { at, rule: "soon".into() }));
    rules.iter_mut().for_each(|rule| rule.enabled = false);
    assert_eq!(expiry(&rules, &subject, NOW), None);
}

#[test]
fn markers_go_only_when_they_are_alone() {
    let marker = Subject { key: "x", object: None };
    let (day, alone, beside) =
        (LifecycleDay::of_seconds(10), Place::Newest { alone: true }, Place::Newest { alone: false });
    let due = |expiration, age: i64, place| {
        let modified = UnixMillis(NOW.0 - age * 1000);
        is_due(&[rule(prefixed(""), Some(expiration))], day, NOW, &marker, modified, place)
    };
    assert!(due(Expiration::ExpiredMarker(true), 0, alone));
    assert!(!due(Expiration::ExpiredMarker(false), 90, alone));
    assert!(!due(Expiration::ExpiredMarker(true), 90, beside));
    assert!(due(Expiration::Days(1), 10, alone));
    assert!(!due(Expiration::Days(1), 9, alone));
    assert!(!due(Expiration::Days(1), 90, beside));
}

proptest! {
    #[test]
    fn noncurrent_versions_go_by_age_and_count(age in 0i64..40, days in 1u32..4, newer in 0u32..4, keep in 1u32..4) {
        let found = Tags::default();
        let subject = Subject { key: "x", object: Some((1, &found)) };
        let place = Place::Noncurrent { since: UnixMillis(NOW.0 - age * 1000), newer };
        let mut rules = [rule(prefixed(""), None)];
        let day = LifecycleDay::of_seconds(10);
        for keep_newest in [None, Some(keep)] {
            rules[0].noncurrent = Some(NoncurrentExpiration { days, keep_newest });
            let old = age >= i64::from(days) * 10;
            let expected = old && keep_newest.is_none_or(|keep| newer >= keep);
            prop_assert_eq!(is_due(&rules, day, NOW, &subject, NOW, place), expected);
        }
    }

    #[test]
    fn walks_cover_what_rules_do_and_nothing_twice(
        beginnings in proptest::collection::vec("[ab]{0,3}", 1..6), key in "[ab]{0,4}",
    ) {
        let rules: Vec<_> =
            beginnings.iter().map(|text| rule(prefixed(text), Some(Expiration::Days(1)))).collect();
        let subject = Subject { key: &key, object: None };
        let walks = prefixes(&rules, |_| true);
        let walked = walks.iter().filter(|prefix| key.starts_with(**prefix)).count();
        prop_assert_eq!(walked, usize::from(rules.iter().any(|rule| rule.covers(&subject))));
    }

    #[test]
    fn rules_are_stored_and_read_alike(
        days in any::<u32>(), date in any::<i64>(), prefix in "\\PC{0,9}", larger in any::<Option<u64>>(), enabled: bool,
    ) {
        let conditions = RuleConditions {
            prefix: Some(prefix.clone()),
            larger_than: larger,
            ..tagged(&[("k", "v")])
        };
        for (scope, expiration) in [
            (prefixed(&prefix), Expiration::Days(days)),
            (filtered(conditions.clone(), None), Expiration::Date(UnixMillis(date))),
            (filtered(RuleConditions::default(), Some(conditions)), Expiration::ExpiredMarker(enabled)),
        ] {
            let rules = vec![LifecycleRule { enabled, ..rule(scope, Some(expiration)) }];
            let text = serde_json::to_string(&rules).unwrap();
            prop_assert_eq!(serde_json::from_str::<Vec<LifecycleRule>>(&text).unwrap(), rules);
        }
    }
}
