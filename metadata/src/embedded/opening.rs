//! Opening, second half: every location is brought to the end of the chosen history, then all begin a new
//! epoch together.
//!
//! Invariant: no location joins the new epoch before it holds, in groups or in a durable base, everything up
//! to the epoch's first group; and the epoch's first group is durable everywhere before a commit is taken.
//! Deliberately leaves choosing the history to `recovery`.

use std::io;
use std::path::Path;

use ashlar_disk::OpenMode;

use super::Options;
use super::checkpoint::{CheckpointWriter, FrameBuilder, checkpoint_name};
use super::group::{GroupBuilder, JournalPoint, StoreId};
use super::location::{self, JournalLocation, JournalWriter, WriterStart, is_unfinished};
use super::recovery::{History, OpenError, Recovered, recover};
use super::rows::{Rows, RowsError, View};
use super::scan::{Condition, Scan, scan};
use super::stats::LocationStats;
use super::superblock::{CheckpointRef, LOCATIONS_MAX, LocationId};

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether the store was empty.
    pub is_new: bool,
    /// Whether the first location's rows were rebuilt from a checkpoint or from the journal's beginning.
    pub rebuilt: bool,
    /// Commits replayed from the journal.
    pub replayed_commits: u64,
    /// Folders that were brought up to date: they were new, damaged, or missed commits.
    pub caught_up: Vec<String>,
    /// Folders that cannot be used until the store is reopened, with the reason.
    pub out: Vec<(String, String)>,
    /// Locations that took part last time and were not among those given. If this store went on without
    /// one of *those* earlier, only they know; so give all of them wherever they still exist.
    pub missing_members: usize,
    /// Everything out of order that was found, in words.
    pub notes: Vec<String>,
}

/// A store ready to take commits.
pub(crate) struct Opened {
    pub(crate) store: StoreId,
    pub(crate) rows: Rows,
    pub(crate) view: View,
    pub(crate) epoch: u64,
    pub(crate) writers: Vec<(JournalWriter, LocationStats)>,
    pub(crate) absent: Vec<(usize, LocationStats)>,
    /// The first location's name; `None` when it could not be used for the journal.
    pub(crate) first: Option<LocationId>,
    /// The others.
    pub(crate) replicas: Vec<Replica>,
    pub(crate) report: OpenReport,
    pub(crate) checkpoint_bytes: u64,
}

/// A location that keeps checkpoints.
#[derive(Clone)]
pub(crate) struct Replica {
    pub(crate) id: LocationId,
    pub(crate) location: JournalLocation,
    /// The checkpoint that its superblock names.
    pub(crate) checkpoint: Option<CheckpointRef>,
}

struct Joining {
    index: usize,
    writer: JournalWriter,
    checkpoint: Option<CheckpointRef>,
    location: JournalLocation,
}

/// Opens the store that lies in `locations`, the first of which holds the rows.
pub(crate) fn open(locations: &[JournalLocation], options: &Options) -> Result<Opened, OpenError> {
    let Some(first) = locations.first().filter(|_| locations.len() <= LOCATIONS_MAX) else {
        return Err(OpenError::LocationCount { locations: locations.len() });
    };
    let mut report = OpenReport::default();
    let (scans, indexes) = scan_all(locations, &mut report)?;
    let new_store = options.may_make.then(|| StoreId(rand::random()));
    let recovered = recover(&scans, first, options.cache_bytes, new_store)?;
    let Recovered { store, rows, end, history, rebuilt, replayed_commits, notes } = recovered;
    report.is_new = end.sequence == 0;
    report.rebuilt = rebuilt;
    report.replayed_commits = replayed_commits;
    report.notes = notes;
    let known = |scan: &Scan| scan.superblock.as_ref().map(|superblock| superblock.epoch);
    let epoch = 1 + scans.iter().filter_map(known).max().unwrap_or(0).max(end.epoch);
    report.missing_members = missing_members(&scans);

    let mut joining = Vec::new();
    let bases = plan_bases(&scans, &indexes, &history, store, &end);
    let mut plans = Vec::new();
    for (scan_index, base) in bases.into_iter().enumerate() {
        plans.push(
            base.and_then(|base| Some(Plan { groups: history.missing(scan_index, base, &scans)?, base })),
        );
    }
    for ((scan, index), plan) in scans.into_iter().zip(indexes).zip(plans) {
        let location = scan.location.clone();
        let dir = location.dir.display().to_string();
        let is_behind =
            scan.condition != Condition::Whole || plan.as_ref().is_none_or(|plan| !plan.groups.is_empty());
        let joined = join_one(scan, plan, &rows, store, end, options);
        match joined {
            Ok((writer, checkpoint)) => {
                if is_behind && !report.is_new {
                    report.caught_up.push(dir);
                }
                joining.push(Joining { index, writer, checkpoint, location });
            }
            Err(cause) => report.out.push((dir, cause)),
        }
    }
    begin_epoch(&mut joining, &end, epoch, &mut report);
    if joining.len() < options.locations_min.max(1) {
        let (usable, given, min) = (joining.len(), locations.len(), options.locations_min.max(1));
        return Err(OpenError::TooFewLocations { usable, given, min });
    }
    let mark = GroupBuilder::new(&end, epoch).finish();
    let view = rows.view(mark.header.after)?;
    finish(joining, locations, store, rows, view, epoch, report, &end)
}

/// Scans every location; the first must work, the others may be out.
fn scan_all(
    locations: &[JournalLocation],
    report: &mut OpenReport,
) -> Result<(Vec<Scan>, Vec<usize>), OpenError> {
    let (mut scans, mut indexes) = (Vec::new(), Vec::new());
    for (index, location) in locations.iter().enumerate() {
        let dir = location.dir.display().to_string();
        match scan(location) {
            Ok(scan) => {
                scans.push(scan);
                indexes.push(index);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(OpenError::InUse { dir }),
            Err(error) if index == 0 => return Err(OpenError::Io { dir, cause: error.to_string() }),
            Err(error) => report.out.push((dir, error.to_string())),
        }
    }
    Ok((scans, indexes))
}

fn missing_members(scans: &[Scan]) -> usize {
    let superblocks = || scans.iter().filter_map(|scan| scan.superblock.as_ref());
    let Some(latest) = superblocks().max_by_key(|superblock| superblock.epoch) else { return 0 };
    let present = |member: &LocationId| superblocks().any(|superblock| superblock.location == *member);
    latest.members.iter().filter(|member| !present(member)).count()
}

/// How a location gets to the end without a new checkpoint.
struct Plan {
    /// Its durable base.
    base: u64,
    /// What it lacks after that.
    groups: Vec<super::group::Group>,
}

/// The group up to which each location has a durable base that the history vouches for; `None` where it has
/// none and the journal does not reach back to the beginning.
fn plan_bases(
    scans: &[Scan],
    indexes: &[usize],
    history: &History,
    store: StoreId,
    end: &JournalPoint,
) -> Vec<Option<u64>> {
    let base = |(scan, index): (&Scan, &usize)| {
        if *index == 0 {
            // The rows were made durable at the end of the history before this is asked.
            return Some(end.sequence);
        }
        let checkpoint = scan.superblock.as_ref().and_then(|superblock| superblock.checkpoint);
        let usable = checkpoint.filter(|checkpoint| {
            let path = scan.location.dir.join(checkpoint_name(checkpoint.point.sequence));
            scan.condition == Condition::Whole
                && history.contains_checkpoint(checkpoint)
                && scan.location.disk.open(&path, OpenMode::Existing).and_then(|file| file.len()).ok()
                    == Some(checkpoint.bytes)
        });
        match usable {
            Some(checkpoint) => Some(checkpoint.point.sequence),
            None => history.begins_at_genesis(store).then_some(0),
        }
    };
    scans.iter().zip(indexes).map(base).collect()
}

/// Brings one location to the end: by the groups it misses, or by a checkpoint where those are gone.
fn join_one(
    scan: Scan,
    plan: Option<Plan>,
    rows: &Rows,
    store: StoreId,
    end: JournalPoint,
    options: &Options,
) -> Result<(JournalWriter, Option<CheckpointRef>), String> {
    let started = (|| -> Result<_, JoinError> {
        let first_segment = scan.next_segment();
        let JournalLocation { disk, dir } = scan.location.clone();
        let needs_checkpoint = plan.is_none();
        let anew = scan.condition != Condition::Whole || needs_checkpoint;
        // Only a base that the plan builds on stays: anything else would be trusted by the next truncation.
        let mut superblock = scan.superblock.clone().filter(|_| !anew);
        if let Some(superblock) = &mut superblock {
            let base = plan.as_ref().map(|plan| plan.base);
            superblock.checkpoint = superblock.checkpoint.filter(|named| Some(named.point.sequence) == base);
        }
        let kept = superblock.as_ref().and_then(|superblock| superblock.checkpoint);
        let kept = kept.map(|named| checkpoint_name(named.point.sequence));
        location::clear(&*disk, &dir, |name| {
            let is_stale = name.starts_with("checkpoint-") && kept.as_deref() != Some(Path::new(name));
            !anew && !is_unfinished(name) && !is_stale
        })?;
        let full = if anew { Vec::new() } else { scan.full_segments() };
        let base = plan.as_ref().map_or(0, |plan| plan.base);
        // What a killed process left in the page cache alone counts from now on, so it is made durable first.
        for segment in scan.segments.iter().filter(|segment| !anew && segment.last_sequence() > base) {
            segment.file.sync_data()?;
        }
        let start = WriterStart {
            location: scan.location.clone(),
            lock: scan.lock,
            store,
            superblock,
            full,
            base,
            first_segment,
            segment_bytes: options.segment_bytes,
        };
        let mut writer = JournalWriter::start(start, LocationId(rand::random()))?;
        let checkpoint = if needs_checkpoint {
            let mut writer = CheckpointWriter::create(disk, &dir, store, end)?;
            write_rows(&rows.view(end)?, |frame| writer.push(frame).map_err(JoinError::from))?;
            Some(writer.finish()?)
        } else {
            None
        };
        for group in plan.iter().flat_map(|plan| &plan.groups) {
            writer.append(group)?;
        }
        Ok((writer, checkpoint))
    })();
    started.map_err(|error| error.to_string())
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the rows do not read: {0}")]
    Rows(#[from] RowsError),
}

/// Hands every row of a view to `push`, in frames.
pub(crate) fn write_rows<E: From<RowsError>>(
    view: &View,
    mut push: impl FnMut(&super::checkpoint::Frame) -> Result<(), E>,
) -> Result<(), E> {
    let mut frame = FrameBuilder::default();
    view.visit(|key, stored| {
        if frame.push(key, stored) {
            push(&frame.take())?;
        }
        Ok::<(), E>(())
    })?;
    if frame.is_empty() { Ok(()) } else { push(&frame.take()) }
}

/// Writes all superblocks, then the epoch's first group; whoever fails is out, and the rest know it.
fn begin_epoch(joining: &mut Vec<Joining>, end: &JournalPoint, epoch: u64, report: &mut OpenReport) {
    let mark = GroupBuilder::new(end, epoch).finish();
    let mut checkpoints_pending = true;
    loop {
        let members: Vec<LocationId> = joining.iter().map(|joining| joining.writer.id()).collect();
        let before = joining.len();
        joining.retain_mut(|joining| {
            let checkpoint = joining.checkpoint.filter(|_| checkpoints_pending);
            let written = joining.writer.join(epoch, &members, checkpoint);
            keep_or_report(written, &joining.location, report)
        });
        checkpoints_pending = false;
        if joining.len() == before {
            break;
        }
    }
    let before_mark = joining.len();
    joining.retain_mut(|joining| {
        // The next segment is taken from the disk at once, so that a full one is no obstacle later.
        let marked = joining.writer.append(&mark).and_then(|()| joining.writer.prepare(0));
        keep_or_report(marked, &joining.location, report)
    });
    let members: Vec<LocationId> = joining.iter().map(|joining| joining.writer.id()).collect();
    if members.len() < before_mark {
        joining.retain_mut(|joining| {
            keep_or_report(joining.writer.set_members(&members), &joining.location, report)
        });
    }
}

fn keep_or_report(written: io::Result<()>, location: &JournalLocation, report: &mut OpenReport) -> bool {
    if let Err(error) = &written {
        report.out.push((location.dir.display().to_string(), error.to_string()));
    }
    written.is_ok()
}

#[expect(clippy::too_many_arguments, reason = "the parts of one value that are made in one place")]
fn finish(
    joining: Vec<Joining>,
    locations: &[JournalLocation],
    store: StoreId,
    rows: Rows,
    view: View,
    epoch: u64,
    report: OpenReport,
    end: &JournalPoint,
) -> Result<Opened, OpenError> {
    let mut opened = Opened {
        store,
        rows,
        view,
        epoch,
        writers: Vec::new(),
        absent: Vec::new(),
        first: None,
        replicas: Vec::new(),
        report,
        checkpoint_bytes: 0,
    };
    let joined: Vec<usize> = joining.iter().map(|joining| joining.index).collect();
    for Joining { index, mut writer, checkpoint, location } in joining {
        let dir = location.dir.display().to_string();
        let io = |error: io::Error| OpenError::Io { dir: dir.clone(), cause: error.to_string() };
        let mut base = None;
        if index == 0 {
            opened.first = Some(writer.id());
            writer.truncate(end.sequence).map_err(io)?;
            base = Some(end.position);
        } else {
            let named = checkpoint.or(writer.checkpoint());
            if let Some(named) = named {
                writer.truncate(named.point.sequence).map_err(io)?;
                opened.checkpoint_bytes = opened.checkpoint_bytes.max(named.bytes);
                base = Some(named.point.position);
            }
            opened.replicas.push(Replica { id: writer.id(), location, checkpoint: named });
        }
        let journal_bytes = writer.journal_bytes();
        let base = base.unwrap_or_default();
        opened.writers.push((writer, LocationStats { dir, journal_bytes, base, ..LocationStats::default() }));
    }
    for (index, location) in locations.iter().enumerate().filter(|(index, _)| !joined.contains(index)) {
        let dir = location.dir.display().to_string();
        let out = opened.report.out.iter().find(|(out, _)| *out == dir).map(|(_, cause)| cause.clone());
        opened.absent.push((index, LocationStats { dir, out, ..LocationStats::default() }));
    }
    Ok(opened)
}
