//! Patterns against a matcher that tries everything, and against time.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const READING: Reading = Reading { variables: true, wildcards: true };

struct Name(&'static str);

impl Lookup for Name {
    fn value(&self, key: &Key) -> Option<Cow<'_, str>> {
        (*key == Key::UserName).then_some(Cow::Borrowed(self.0))
    }
}

fn naive(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|taken| naive(rest, &text[taken..])),
        Some(('?', rest)) => !text.is_empty() && naive(rest, &text[1..]),
        Some((own, rest)) => text.first() == Some(own) && naive(rest, &text[1..]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn wildcards_agree_with_trying_everything(pattern in "[ab?*ä]{0,9}", text in "[abä]{0,12}") {
        let own = Pattern::parse(&pattern, READING).expect("no variables");
        let expected = naive(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>());
        prop_assert_eq!(own.matches_plain(&text), expected);
    }

    #[test]
    fn long_stretches_agree_with_trying_everything(
        head in "[ab]{0,3}", mask in "[a?]{60,140}", text in "[a]{0,70}b?[a]{60,150}b?[a]{0,80}",
    ) {
        let pattern = format!("*{head}{mask}*b?");
        let own = Pattern::parse(&pattern, READING).expect("no variables");
        let mask_chars: Vec<char> = format!("{head}{mask}").chars().collect();
        let chars: Vec<char> = text.chars().collect();
        let fits = |at: usize| {
            chars.len() >= at + mask_chars.len()
                && mask_chars.iter().zip(&chars[at..]).all(|(own, found)| *own == '?' || own == found)
        };
        let ends = (0..chars.len()).filter(|at| fits(*at)).map(|at| at + mask_chars.len()).min();
        let expected = chars.len() >= 2
            && chars[chars.len() - 2] == 'b'
            && ends.is_some_and(|end| end <= chars.len() - 2);
        prop_assert_eq!(own.matches_plain(&text), expected);
    }

    #[test]
    fn what_matches_inside_a_bucket_could_name_it(pattern in "[ab/*?]{0,8}", key in "[ab/]{1,4}") {
        let own = Pattern::parse(&pattern, READING).expect("no variables");
        if own.matches_plain("aba") || own.matches_plain(&format!("aba/{key}")) {
            prop_assert!(own.could_name("aba"));
        }
    }

    #[test]
    fn foreign_text_never_panics(text in "[${}*?,' a:/ä]{0,20}", value in "[a*?ä]{0,8}") {
        for variables in [false, true] {
            for wildcards in [false, true] {
                if let Ok(own) = Pattern::parse(&text, Reading { variables, wildcards }) {
                    let _ = (own.matches(&value, &Name("x")), own.expand(&Name("x")), own.could_name(&value));
                }
            }
        }
    }
}

#[test]
fn variables_are_text_and_never_wildcards() {
    let own = Pattern::parse("home/${aws:username}/*", READING).expect("a pattern");
    assert!(own.matches("home/ann/x", &Name("ann")));
    assert!(!own.matches("home/bob/x", &Name("ann")));
    assert!(!own.matches("home/bob/x", &Name("*")));
    assert!(own.matches("home/*/x", &Name("*")));
    assert!(!own.matches("home//x", &Nothing), "a variable without value matches nothing");
    let own = Pattern::parse("${aws:username, 'all'}${*}${?}${$}", READING).expect("a pattern");
    assert!(own.matches("all*?$", &Nothing));
    assert!(own.matches("ann*?$", &Name("ann")));
    assert!(!own.matches("ann*x$", &Name("ann")));
}

#[test]
fn old_policies_have_no_variables() {
    let own = Pattern::parse("${aws:username}", Reading { variables: false, wildcards: true }).expect("text");
    assert!(own.matches("${aws:username}", &Name("ann")));
}

#[test]
fn broken_variables_are_refused() {
    for wrong in
        ["${aws:username", "${}", "${aws:nobody}", "${aws:username, all}", "${s3:RequestObjectTagKeys}"]
    {
        Pattern::parse(wrong, READING).expect_err(wrong);
    }
}

#[test]
fn patterns_that_could_not_lie_in_a_bucket_are_known() {
    for (pattern, expected) in [
        ("logs", true),
        ("logs/*", true),
        ("*", true),
        ("lo*", true),
        ("l?gs/x", true),
        ("*/*", true),
        ("${aws:username}/x", true),
        ("logs2", false),
        ("log", false),
        ("other/*", false),
        ("*x", true),
        ("logsx/*", false),
        ("", false),
    ] {
        let own = Pattern::parse(pattern, READING).expect("a pattern");
        assert_eq!(own.could_name("logs"), expected, "{pattern}");
    }
}

/// Stars make naive matchers exponential and stretches with `?` make them quadratic.
#[test]
fn hostile_patterns_take_no_time() {
    let text = "a".repeat(1024);
    let stars = "*a".repeat(10 * 1024 - 1) + "*b";
    let masked = format!("*{}b*", "a?".repeat(500));
    let many = format!("{}b", "*a?a?a?a?".repeat(2000));
    let begun = Instant::now();
    for pattern in [&stars, &masked, &many] {
        let own = Pattern::parse(pattern, READING).expect("a pattern");
        for _ in 0..100 {
            assert!(!own.matches_plain(&text));
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "300 matches took {:?}", begun.elapsed());
}
