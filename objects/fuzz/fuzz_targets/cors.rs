//! Foreign CORS rules, and a browser that asks whatever was accepted.
#![no_main]

use ashlar_objects::cors::{CorsRule, actual, preflight, validate};
use libfuzzer_sys::fuzz_target;

// The rules, then origin, method and headers, each after a NUL: so that plain rules are a seed.
fuzz_target!(|input: &[u8]| {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let mut fields = input.split('\0');
    let mut field = |default| fields.next().unwrap_or(default);
    let (rules, origin, method, headers) =
        (field("[]"), field("http://a.example.org"), field("GET"), field("x-amz-a"));
    let Ok(rules) = serde_json::from_str::<Vec<CorsRule>>(rules) else { return };
    if validate(&rules).is_err() {
        return;
    }
    for answer in [preflight(&rules, origin, method, Some(headers)), actual(&rules, origin, method)]
        .into_iter()
        .flatten()
    {
        assert!(answer.allow_origin == "*" || answer.allow_origin == origin);
        assert!(answer.allow_origin != "*" || !answer.allow_credentials);
        assert!(answer.allow_methods.iter().any(|own| own == method));
    }
});
