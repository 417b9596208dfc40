//! What one execution reads: locations, each resolved to pinned objects at one moment.
//!
//! Invariant: all locations of one call are resolved in one snapshot, authorised as listings and GETs are.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ashlar_objects::Store;
use ashlar_objects::access::RequestContext;
use ashlar_objects::pinning::{Moment, PageRequest, PinRequest, PinnedObject};
use ashlar_objects::types::ObjectKey;
use object_store::path::Path;

use parking_lot::Mutex;

use super::format::Format;
use super::lease::HeldLease;
use super::pinned_store::path_of;
use crate::error::{SqlError, SqlState};
use crate::location::{Keys, Location};

/// Most objects of a location that one statement replaces or removes. Each takes about 500 bytes while it runs.
const PINNED_OBJECTS_MAX: usize = 200_000;
/// Objects of a location that are pinned before a statement runs; further ones follow page by page.
const FIRST_OBJECTS_MAX: usize = 1_024;

/// Locations with their objects, under one lease.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    pub(crate) lease: Arc<HeldLease>,
    by_location: HashMap<Location, Arc<[PinnedObject]>>,
    /// Locations that have more, and after which key.
    following: HashMap<Location, Following>,
    source: Source,
    texts: Texts,
    open: Open,
}

/// After which key a location goes on.
#[derive(Clone, Debug)]
pub(crate) struct Following(ObjectKey);

/// What pages are pinned with.
#[derive(Clone)]
struct Source {
    store: Store,
    cx: Arc<RequestContext>,
    moment: Moment,
    /// What a transaction changed: its own objects are on the first page, and what it removed is on none.
    left_out: Option<Arc<IsLeftOut>>,
}

type IsLeftOut = dyn Fn(&PinnedObject) -> bool + Send + Sync;

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("moment", &self.moment).finish_non_exhaustive()
    }
}

/// Objects of pages that are being read, with how many scans read each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Open(Arc<Mutex<HashMap<Path, (PinnedObject, usize)>>>);

impl Open {
    /// The object of a path.
    pub(crate) fn get(&self, path: &Path) -> Option<PinnedObject> {
        self.0.lock().get(path).map(|(object, _)| object.clone())
    }
}

/// A page that is being read.
pub(crate) struct OpenPage {
    objects: Vec<PinnedObject>,
    open: Open,
}

impl OpenPage {
    /// Its objects.
    pub(crate) fn objects(&self) -> &[PinnedObject] {
        &self.objects
    }
}

impl Drop for OpenPage {
    fn drop(&mut self) {
        let mut open = self.open.0.lock();
        for path in self.objects.iter().map(path_of) {
            if let Entry::Occupied(mut entry) = open.entry(path) {
                entry.get_mut().1 -= 1;
                if entry.get().1 == 0 {
                    entry.remove();
                }
            }
        }
    }
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
    /// Resolves locations at a moment, each to all of its objects.
    pub(crate) async fn resolve(
        store: &Store,
        cx: &Arc<RequestContext>,
        lease: Arc<HeldLease>,
        moment: &Moment,
        locations: Vec<Location>,
    ) -> Result<Self, SqlError> {
        Self::resolve_up_to(PINNED_OBJECTS_MAX, store, cx, lease, moment, locations).await.and_then(|pins| {
            match pins.following.is_empty() {
                true => Ok(pins),
                false => Err(SqlError::new(
                    SqlState::ProgramLimitExceeded,
                    format!("more than {PINNED_OBJECTS_MAX} objects would be changed at once"),
                )),
            }
        })
    }

    /// The same, each location to its first objects; the others follow as they are asked for.
    pub(crate) async fn resolve_first(
        store: &Store,
        cx: &Arc<RequestContext>,
        lease: Arc<HeldLease>,
        moment: &Moment,
        locations: Vec<Location>,
    ) -> Result<Self, SqlError> {
        Self::resolve_up_to(FIRST_OBJECTS_MAX, store, cx, lease, moment, locations).await
    }

    async fn resolve_up_to(
        objects_max: usize,
        store: &Store,
        cx: &Arc<RequestContext>,
        lease: Arc<HeldLease>,
        moment: &Moment,
        locations: Vec<Location>,
    ) -> Result<Self, SqlError> {
        let source =
            Source { store: store.clone(), cx: Arc::clone(cx), moment: moment.clone(), left_out: None };
        let mut pins = Self {
            lease,
            by_location: HashMap::new(),
            following: HashMap::new(),
            source,
            texts: Texts::default(),
            open: Open::default(),
        };
        for location in locations {
            let (objects, following) = pins.source.pin(&location, None, objects_max).await?;
            if let Some(following) = following {
                pins.following.insert(location.clone(), following);
            }
            pins.by_location.insert(location, objects.into());
        }
        Ok(pins)
    }

    /// Where a location goes on after the objects that [`Pins::of`] has; `None`: these are all.
    pub(crate) fn following(&self, location: &Location) -> Option<Following> {
        self.following.get(location).cloned()
    }

    /// The next objects of a location, and where it goes on after them.
    pub(crate) async fn page(
        &self,
        location: &Location,
        following: Following,
        objects_max: usize,
    ) -> Result<(Vec<PinnedObject>, Option<Following>), SqlError> {
        self.source.pin(location, Some(&following.0), objects_max).await
    }

    /// Lets the objects of a page be read as long as the answer lives.
    pub(crate) fn open(&self, objects: Vec<PinnedObject>) -> OpenPage {
        let mut open = self.open.0.lock();
        for object in &objects {
            open.entry(path_of(object)).or_insert_with(|| (object.clone(), 0)).1 += 1;
        }
        drop(open);
        OpenPage { objects, open: self.open.clone() }
    }

    /// Objects of pages that are being read.
    pub(crate) fn open_pages(&self) -> &Open {
        &self.open
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
        is_removed: impl Fn(&PinnedObject) -> bool + Send + Sync + 'static,
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
        let names: HashSet<_> =
            staged.iter().map(|object| (object.bucket.clone(), object.key.clone())).collect();
        let replaced =
            move |object: &PinnedObject| names.contains(&(object.bucket.clone(), object.key.clone()));
        self.source.left_out = Some(Arc::new(move |object| is_removed(object) || replaced(object)));
        self
    }
}

impl Source {
    async fn pin(
        &self,
        location: &Location,
        after: Option<&ObjectKey>,
        objects_max: usize,
    ) -> Result<(Vec<PinnedObject>, Option<Following>), SqlError> {
        let failed = |e| of_pin(location, &e);
        if let Keys::One(key) = &location.keys {
            let request = [PinRequest::Object(location.bucket.clone(), key.clone())];
            let pinned = self.store.pin_all(&self.cx, &self.moment, &request, 1).await.map_err(failed)?;
            return Ok((pinned.into_iter().flatten().collect(), None));
        }
        let wanted = |key: &str| location.wants(key);
        let page =
            PageRequest { bucket: &location.bucket, prefix: location.prefix(), after, wanted: &wanted };
        let (mut objects, following) =
            self.store.pin_page(&self.cx, &self.moment, page, objects_max).await.map_err(failed)?;
        if let Some(left_out) = &self.left_out {
            objects.retain(|object| !left_out(object));
        }
        Ok((objects, following.map(Following)))
    }
}

fn of_pin(location: &Location, error: &ashlar_objects::Error) -> SqlError {
    let failed = SqlError::of_store(&location.to_string(), error);
    match (error, &location.keys) {
        (ashlar_objects::Error::NoSuchKey, Keys::One(_)) => {
            failed.hint(format!("a folder ends with a slash: '{location}/'"))
        }
        _ => failed,
    }
}
