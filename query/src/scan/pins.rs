//! What one execution reads: locations, each resolved to pinned objects at one moment.
//!
//! Invariant: all locations of one call are resolved in one snapshot, authorised as listings and GETs are.

use std::collections::HashMap;
use std::sync::Arc;

use ashlar_objects::Store;
use ashlar_objects::access::RequestContext;
use ashlar_objects::pinning::{Moment, PinRequest, PinnedObject};

use parking_lot::Mutex;

use super::format::Format;
use super::lease::HeldLease;
use crate::error::SqlError;
use crate::location::{Keys, Location};

/// Most objects that one statement reads. Each takes about 500 bytes while it runs.
pub(crate) const PINNED_OBJECTS_MAX: usize = 200_000;

/// Locations with their objects, under one lease.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    pub(crate) lease: Arc<HeldLease>,
    by_location: HashMap<Location, Arc<[PinnedObject]>>,
    texts: Texts,
}

/// How the text files of an execution are read: format and rows of a batch, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts(Arc<Mutex<Vec<(Format, usize)>>>);

impl Texts {
    /// The number under which files are read so.
    pub(crate) fn put(&self, format: &Format, batch_rows: usize) -> usize {
        let mut all = self.0.lock();
        all.push((format.clone(), batch_rows));
        all.len() - 1
    }

    /// How files of a number are read.
    pub(crate) fn get(&self, number: usize) -> Option<(Format, usize)> {
        self.0.lock().get(number).cloned()
    }
}

impl Pins {
    /// Resolves locations at a moment.
    pub(crate) async fn resolve(
        store: &Store,
        cx: &RequestContext,
        lease: Arc<HeldLease>,
        moment: &Moment,
        locations: Vec<Location>,
    ) -> Result<Self, SqlError> {
        let wanted: Vec<_> = locations.iter().map(|location| |key: &str| location.wants(key)).collect();
        let requests: Vec<_> =
            locations.iter().zip(&wanted).map(|(at, wanted)| request(at, wanted)).collect();
        let named = match &locations[..] {
            [one] => one.to_string(),
            _ => "one of the locations".to_owned(),
        };
        let pinned = store.pin_all(cx, moment, &requests, PINNED_OBJECTS_MAX).await;
        let pinned = pinned.map_err(|e| of_pin(&named, &locations, &e))?;
        drop(requests);
        drop(wanted);
        let by_location = locations.into_iter().zip(pinned.into_iter().map(Arc::from)).collect();
        Ok(Self { lease, by_location, texts: Texts::default() })
    }

    /// The objects of a location; `None` if it was not resolved.
    pub(crate) fn of(&self, location: &Location) -> Option<Arc<[PinnedObject]>> {
        self.by_location.get(location).map(Arc::clone)
    }

    /// How its text files are read.
    pub(crate) fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Every object.
    pub(crate) fn all(&self) -> impl Iterator<Item = &PinnedObject> {
        self.by_location.values().flat_map(|objects| objects.iter())
    }

    /// The same with locations at which nothing was.
    pub(crate) fn and_none_at(mut self, locations: Vec<Location>) -> Self {
        self.by_location.extend(locations.into_iter().map(|location| (location, Arc::from([]))));
        self
    }

    /// The same with what a transaction wrote and without what it removed.
    pub(crate) fn changed(
        mut self,
        staged: &[PinnedObject],
        is_removed: impl Fn(&PinnedObject) -> bool,
    ) -> Self {
        for (location, objects) in &mut self.by_location {
            let written = staged
                .iter()
                .filter(|object| object.bucket == location.bucket)
                .filter(|object| object.key.as_str().starts_with(location.prefix()))
                .filter(|object| location.wants(object.key.as_str()));
            let written: Vec<PinnedObject> = written.cloned().collect();
            let kept = objects.iter().filter(|object| {
                !is_removed(object) && !written.iter().any(|written| written.key == object.key)
            });
            let mut all: Vec<PinnedObject> = kept.cloned().collect();
            all.extend(written);
            *objects = all.into();
        }
        self
    }
}

fn request<'a>(location: &Location, wanted: &'a (dyn Fn(&str) -> bool + Send + Sync)) -> PinRequest<'a> {
    match &location.keys {
        Keys::One(key) => PinRequest::Object(location.bucket.clone(), key.clone()),
        Keys::Below(_) | Keys::Matching(_) => PinRequest::Prefix {
            bucket: location.bucket.clone(),
            prefix: location.prefix().to_owned(),
            wanted,
        },
    }
}

fn of_pin(named: &str, locations: &[Location], error: &ashlar_objects::Error) -> SqlError {
    let failed = SqlError::of_store(named, error);
    match (error, locations) {
        (ashlar_objects::Error::NoSuchKey, [Location { keys: Keys::One(_), .. }]) => {
            failed.hint(format!("a folder ends with a slash: '{named}/'"))
        }
        _ => failed,
    }
}
