//! What lifecycle rules will do, as headers tell it.

use ashlar_objects::lifecycle::Expiry;
use percent_encoding::utf8_percent_encode;

use crate::headers::time::http_date;
use crate::query::UNRESERVED;

/// The value of `x-amz-expiration`.
pub(crate) fn expiration(expiry: &Expiry) -> String {
    let rule = utf8_percent_encode(&expiry.rule, UNRESERVED);
    format!("expiry-date=\"{}\", rule-id=\"{rule}\"", http_date(expiry.at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_objects::types::UnixMillis;

    #[test]
    fn dates_and_rules_are_named() {
        let expiry = Expiry { at: UnixMillis(1_356_220_800_000), rule: "old \"logs\"".into() };
        let shown = expiration(&expiry);
        assert_eq!(shown, "expiry-date=\"Sun, 23 Dec 2012 00:00:00 GMT\", rule-id=\"old%20%22logs%22\"");
    }
}
