//! How often and how much each key may ask: requests and units a minute, answers at once; and answers at once of all keys.
//!
//! Invariant: nobody waits here; a request is let in or told when to come again. Units are counted when an answer ends, so a key may
//! go below nothing by what was under way, and then waits until it has made that good. Knows nothing of money.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::limits::Limits;
use crate::refusal::Refusal;

/// Keys that are remembered; above it, those with nothing under way are forgotten, and begin with full buckets.
const KEYS_MAX: usize = 10_000;
/// When to come again where only a free place is missing.
const PLACE_RETRY_SECONDS: u32 = 1;

/// A bucket that fills evenly, in a minute from empty to full.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: f64,
    full: f64,
    at: Instant,
}

impl Bucket {
    fn new(full: f64, now: Instant) -> Self {
        Self { level: full, full, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let per_second = self.full / 60.0;
        self.level = self.full.min(self.level + now.duration_since(self.at).as_secs_f64() * per_second);
        self.at = now;
    }

    /// How long until it holds so much.
    fn until(&self, level: f64) -> Duration {
        Duration::try_from_secs_f64(((level - self.level) * 60.0 / self.full).max(0.0))
            .unwrap_or(Duration::MAX)
    }
}

#[derive(Debug)]
struct Key {
    requests: Bucket,
    units: Bucket,
    answers: u32,
}

/// All keys that asked lately.
#[derive(Debug)]
pub(crate) struct Rates {
    keys: Mutex<HashMap<String, Key>>,
    places: Arc<Semaphore>,
    requests_per_minute: f64,
    units_per_minute: f64,
    answers_per_key_max: u32,
}

/// A request that was let in. Dropped, its place is free.
#[derive(Debug)]
pub(crate) struct Turn {
    rates: Arc<Rates>,
    /// `None`: work that is not bounded here, because it was bounded where it was taken.
    key: Option<String>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Rates {
    pub(crate) fn new(limits: &Limits) -> Self {
        // Rates are far below 2^52, where these are exact.
        let units_per_minute = limits.units_per_minute.min(1 << 52) as f64;
        let places = usize::try_from(limits.answers_max).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            keys: Mutex::default(),
            places: Arc::new(Semaphore::new(places)),
            requests_per_minute: limits.requests_per_minute.max(1).into(),
            units_per_minute: units_per_minute.max(1.0),
            answers_per_key_max: limits.answers_per_key_max,
        }
    }

    /// Lets a request of a key in.
    pub(crate) fn enter(self: &Arc<Self>, name: &str, headers: &mut HeaderMap) -> Result<Turn, Refusal> {
        let now = Instant::now();
        let mut keys = self.keys.lock();
        if keys.len() >= KEYS_MAX && !keys.contains_key(name) {
            keys.retain(|_, key| key.answers > 0);
        }
        let key = keys.entry(name.to_owned()).or_insert_with(|| Key {
            requests: Bucket::new(self.requests_per_minute, now),
            units: Bucket::new(self.units_per_minute, now),
            answers: 0,
        });
        key.requests.fill(now);
        key.units.fill(now);
        let entered = self.enter_as(key);
        tell(key, headers);
        let place = entered?;
        Ok(Turn { rates: Arc::clone(self), key: Some(name.to_owned()), _place: Some(place) })
    }

    fn enter_as(&self, key: &mut Key) -> Result<OwnedSemaphorePermit, Refusal> {
        if key.requests.level < 1.0 {
            return Err(Refusal::busy(
                "This key's rate limit of requests is reached.",
                seconds(key.requests.until(1.0)),
            ));
        }
        if key.units.level <= 0.0 {
            return Err(Refusal::busy(
                "This key's rate limit of tokens is reached.",
                seconds(key.units.until(1.0)),
            ));
        }
        if key.answers >= self.answers_per_key_max {
            let message = format!("{} answers are under way for this key, the most at once.", key.answers);
            return Err(Refusal::busy(&message, PLACE_RETRY_SECONDS));
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Refusal::busy("The server is full.", PLACE_RETRY_SECONDS))?;
        key.requests.level -= 1.0;
        key.answers += 1;
        Ok(place)
    }

    /// A turn that counts for no key.
    pub(crate) fn aside(self: &Arc<Self>) -> Turn {
        Turn { rates: Arc::clone(self), key: None, _place: None }
    }
}

impl Turn {
    /// Counts units of an answer that ended.
    pub(crate) fn count(&self, units: u64) {
        let Some(name) = &self.key else { return };
        if let Some(key) = self.rates.keys.lock().get_mut(name) {
            key.units.fill(Instant::now());
            key.units.level -= units.min(1 << 52) as f64;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(name) = &self.key else { return };
        if let Some(key) = self.rates.keys.lock().get_mut(name) {
            key.answers = key.answers.saturating_sub(1);
        }
    }
}

/// Whole seconds to wait, rounded up.
fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_secs().saturating_add(1)).unwrap_or(u32::MAX)
}

/// The headers that OpenAI's clients know.
fn tell(key: &Key, headers: &mut HeaderMap) {
    for (kind, bucket) in [("requests", &key.requests), ("tokens", &key.units)] {
        let values = [
            ("limit", format!("{:.0}", bucket.full)),
            ("remaining", format!("{:.0}", bucket.level.max(0.0).floor())),
            ("reset", span(bucket.until(bucket.full))),
        ];
        for (what, value) in values {
            let name = HeaderName::try_from(format!("x-ratelimit-{what}-{kind}"));
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
    }
}

/// A time as OpenAI writes it: `120ms`, `7.66s`, `1m30s`.
fn span(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1_000 => format!("{millis}ms"),
        millis @ 1_000..60_000 => format!("{}.{:02}s", millis / 1_000, millis % 1_000 / 10),
        millis => format!("{}m{}s", millis / 60_000, millis % 60_000 / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(requests_per_minute: u32, units_per_minute: u64) -> Arc<Rates> {
        let limits = Limits {
            requests_per_minute,
            units_per_minute,
            answers_per_key_max: 2,
            answers_max: 3,
            ..Limits::default()
        };
        Arc::new(Rates::new(&limits))
    }

    #[tokio::test(start_paused = true)]
    async fn requests_come_evenly_and_headers_say_so() {
        let rates = rates(60, 1_000);
        let mut headers = HeaderMap::new();
        for left in (0..60).rev() {
            drop(rates.enter("a", &mut headers).unwrap());
            assert_eq!(headers["x-ratelimit-remaining-requests"], left.to_string());
        }
        assert_eq!(headers["x-ratelimit-limit-requests"], "60");
        assert_eq!(headers["x-ratelimit-reset-requests"], "1m0s");
        let refused = rates.enter("a", &mut headers).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.retry_after_seconds), (429, Some(2)));
        drop(rates.enter("b", &mut headers).unwrap());
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(rates.enter("a", &mut headers).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn units_are_made_good() {
        let rates = rates(600, 60);
        let mut headers = HeaderMap::new();
        rates.enter("a", &mut headers).unwrap().count(90);
        let refused = rates.enter("a", &mut headers).unwrap_err();
        assert_eq!(refused.retry_after_seconds, Some(32));
        assert_eq!(headers["x-ratelimit-remaining-tokens"], "0");
        tokio::time::advance(Duration::from_secs(32)).await;
        drop(rates.enter("a", &mut headers).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_few_and_come_back() {
        let rates = rates(600, 1_000);
        let mut headers = HeaderMap::new();
        let one = rates.enter("a", &mut headers).unwrap();
        let _two = rates.enter("a", &mut headers).unwrap();
        assert_eq!(rates.enter("a", &mut headers).unwrap_err().retry_after_seconds, Some(1));
        let _three = rates.enter("b", &mut headers).unwrap();
        assert!(rates.enter("c", &mut headers).unwrap_err().message.contains("full"));
        drop(one);
        drop(rates.enter("a", &mut headers).unwrap());
    }

    #[test]
    fn times_are_written_as_clients_read_them() {
        let of = |millis| span(Duration::from_millis(millis));
        assert_eq!([of(0), of(120), of(7_660), of(90_000)], ["0ms", "120ms", "7.66s", "1m30s"]);
    }
}
