//! The texts that carry a signature: `Authorization`, the query of a presigned URL, credentials and times.
//!
//! Invariant: parsing borrows and allocates no more than the list of signed headers. A field missing, twice
//! or of the wrong form is an error in S3's words.

use http::HeaderMap;
use time::{Date, Month, OffsetDateTime, Time};

use crate::failure::{Code, Failure};
use crate::query::Query;

/// `<access key>/<yyyymmdd>/<region>/<service>/aws4_request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credential<'a> {
    pub(crate) access_key: &'a str,
    pub(crate) date: &'a str,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

impl<'a> Credential<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_suffix("/aws4_request")?;
        // From the right: an access key may hold a slash.
        let (rest, service) = rest.rsplit_once('/')?;
        let (rest, region) = rest.rsplit_once('/')?;
        let (access_key, date) = rest.rsplit_once('/')?;
        let dated = date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit());
        (dated && !access_key.is_empty()).then_some(Self { access_key, date, region, service })
    }

    pub(crate) fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }
}

/// When a request was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    text: String,
    unix_seconds: i64,
}

impl Moment {
    /// Reads `yyyymmddThhmmssZ`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let framed = bytes.len() == 16 && bytes[8] == b'T' && bytes[15] == b'Z';
        let digits = |range: std::ops::Range<usize>| -> Option<u16> {
            let part = text.get(range)?;
            part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
        };
        let byte = |range| u8::try_from(digits(range)?).ok();
        if !framed {
            return None;
        }
        let month = Month::try_from(byte(4..6)?).ok()?;
        let date = Date::from_calendar_date(i32::from(digits(0..4)?), month, byte(6..8)?).ok()?;
        let time = Time::from_hms(byte(9..11)?, byte(11..13)?, byte(13..15)?).ok()?;
        let unix_seconds = OffsetDateTime::new_utc(date, time).unix_timestamp();
        Some(Self { text: text.to_owned(), unix_seconds })
    }

    /// Reads `x-amz-date`, else `Date`.
    pub(crate) fn of_headers(headers: &HeaderMap) -> Result<Self, Failure> {
        let missing = || {
            Failure::new(Code::AccessDenied, "AWS authentication requires a valid Date or x-amz-date header")
        };
        if let Some(value) = headers.get("x-amz-date") {
            return value.to_str().ok().and_then(Self::parse).ok_or_else(missing);
        }
        let value =
            headers.get(http::header::DATE).and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
        let seconds = crate::headers::time::parse_date(value).ok_or_else(missing)?;
        let iso =
            crate::headers::time::iso_date(ashlar_objects::types::UnixMillis(seconds.saturating_mul(1000)));
        let compact: String =
            iso.split('.').next().unwrap_or("").chars().filter(|c| !matches!(c, '-' | ':')).collect();
        Self::parse(&format!("{compact}Z")).ok_or_else(missing)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn date(&self) -> &str {
        &self.text[..8]
    }

    pub(crate) fn unix_seconds(&self) -> i64 {
        self.unix_seconds
    }
}

/// `Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
#[derive(Debug)]
pub(super) struct Authorization<'a> {
    pub(super) credential: Credential<'a>,
    pub(super) signed_headers: Vec<&'a str>,
    pub(super) signature: &'a str,
}

impl<'a> Authorization<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Failure> {
        let fields = text
            .strip_prefix("AWS4-HMAC-SHA256")
            .ok_or_else(|| malformed("the algorithm is not AWS4-HMAC-SHA256"))?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) =
                field.trim().split_once('=').ok_or_else(|| malformed("a field has no value"))?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(malformed("it has an unknown field")),
            };
            if slot.replace(value).is_some() {
                return Err(malformed("it has a field twice"));
            }
        }
        let credential = credential.ok_or_else(|| malformed("Credential is missing"))?;
        let signed_headers = signed_headers.ok_or_else(|| malformed("SignedHeaders is missing"))?;
        let signature = signature.ok_or_else(|| malformed("Signature is missing"))?;
        Ok(Self {
            credential: Credential::parse(credential).ok_or_else(|| {
                malformed("the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"")
            })?,
            signed_headers: split_headers(signed_headers),
            signature,
        })
    }
}

/// A presigned URL's query.
#[derive(Debug)]
pub(super) struct Presigned<'a> {
    pub(super) credential: Credential<'a>,
    pub(super) moment: Moment,
    pub(super) expires_seconds: i64,
    pub(super) signed_headers: Vec<&'a str>,
    pub(super) signature: &'a str,
}

impl<'a> Presigned<'a> {
    pub(super) fn parse(query: &'a Query) -> Result<Self, Failure> {
        let field = |name: &'static str| {
            query.get(name).ok_or_else(|| {
                malformed_query(
                    "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
                     X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters",
                )
            })
        };
        if field("X-Amz-Algorithm")? != "AWS4-HMAC-SHA256" {
            return Err(malformed_query("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
        }
        Ok(Self {
            credential: Credential::parse(field("X-Amz-Credential")?).ok_or_else(|| {
                malformed_query("the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"")
            })?,
            moment: Moment::parse(field("X-Amz-Date")?)
                .ok_or_else(|| malformed_query("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""))?,
            expires_seconds: field("X-Amz-Expires")?
                .parse()
                .map_err(|_| malformed_query("X-Amz-Expires should be a number"))?,
            signed_headers: split_headers(field("X-Amz-SignedHeaders")?),
            signature: field("X-Amz-Signature")?,
        })
    }
}

/// Names in the order that SigV4 canonicalises them.
fn split_headers(text: &str) -> Vec<&str> {
    let mut names: Vec<&str> = text.split(';').filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

pub(super) fn malformed(why: &str) -> Failure {
    Failure::new(Code::AuthorizationHeaderMalformed, format!("The authorization header is malformed; {why}."))
}

pub(super) fn malformed_query(why: &str) -> Failure {
    Failure::new(
        Code::AuthorizationQueryParametersError,
        format!("Error parsing the query parameters; {why}."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_from_the_right() {
        let text = "AK/with/slash/20130524/us-east-1/s3/aws4_request";
        let credential = Credential::parse(text).expect("credential");
        assert_eq!(credential.access_key, "AK/with/slash");
        assert_eq!(credential.scope(), "20130524/us-east-1/s3/aws4_request");
        for bad in [
            "",
            "AK/20130524/us-east-1/s3",
            "AK/2013/us-east-1/s3/aws4_request",
            "/20130524/r/s3/aws4_request",
        ] {
            assert_eq!(Credential::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn moments_are_read_strictly() {
        let moment = Moment::parse("20130524T000000Z").expect("moment");
        assert_eq!((moment.unix_seconds(), moment.date()), (1_369_353_600, "20130524"));
        for bad in [
            "20130524T000000",
            "2013-05-24T00:00:00Z",
            "20131324T000000Z",
            "20130524T250000Z",
            "+0130524T000000Z",
        ] {
            assert_eq!(Moment::parse(bad), None, "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("date", "Fri, 24 May 2013 00:00:00 GMT".parse().expect("value"));
        assert_eq!(Moment::of_headers(&headers).expect("moment"), moment);
    }

    #[test]
    fn headers_of_all_spacings_are_read_and_broken_ones_refused() {
        for text in [
            "AWS4-HMAC-SHA256 Credential=A/20130524/r/s3/aws4_request,SignedHeaders=x;host,Signature=ab",
            "AWS4-HMAC-SHA256  Credential=A/20130524/r/s3/aws4_request, SignedHeaders=host;x ,  Signature=ab",
        ] {
            let read = Authorization::parse(text).expect(text);
            assert_eq!((read.signed_headers, read.signature), (vec!["host", "x"], "ab"));
        }
        for bad in [
            "AWS4-HMAC-SHA256",
            "AWS4-HMAC-SHA256 Credential=A/20130524/r/s3/aws4_request,SignedHeaders=host",
            "AWS4-HMAC-SHA256 Credential=A,SignedHeaders=host,Signature=ab",
            "AWS4-HMAC-SHA256 Signature=a,Signature=b,SignedHeaders=host",
        ] {
            assert_eq!(Authorization::parse(bad).expect_err(bad).code(), "AuthorizationHeaderMalformed");
        }
    }
}
