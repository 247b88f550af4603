//! The log: the segments of a directory, the newest of which is appended to.
//!
//! A file whose write or sync failed is never written again: after a failed sync nobody knows what is on the disk. The records go into
//! a new file, under new numbers, and its header says where the failed one is cut, because what failed may be on the disk after all.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::cursor::Cursor;
use super::entry::{Encoded, HEADER, Header, seal};
use super::files::Files;
use super::quarantine;
use super::segment::{About, Segment, is_segment, seal_at};
use crate::table::{RowFormat, Rows};
use crate::values::positions::Run;

/// The file that has the queue's id.
const IDENTITY: &str = "queue";

/// What a log writes.
#[derive(Clone, Debug)]
pub(in crate::buffer) struct Settings {
    /// From this size on, a segment is complete.
    pub(super) segment_bytes: u64,
    pub(super) format: Arc<RowFormat>,
}

/// The log of one run.
#[derive(Debug)]
pub(in crate::buffer) struct Log<F: Files> {
    files: F,
    settings: Settings,
    id: Uuid,
    run: Run,
    /// The number of the next record.
    next: u64,
    current: Option<Current<F::File>>,
    /// Failed files, and the number before which they are valid.
    cuts: Vec<(String, u64)>,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Current<File> {
    file: File,
    name: String,
    salt: u64,
    bytes: u64,
}

/// What was appended.
#[derive(Debug)]
pub(super) struct LogAppend {
    pub(super) run: Run,
    /// The segment that was begun for it, if one was.
    pub(super) begun: Option<Segment>,
    /// The numbers of the first records, in the order of the group.
    pub(super) firsts: Vec<u64>,
    /// By how much the segment has grown.
    pub(super) bytes: u64,
    /// When, in nanoseconds since 1970.
    pub(super) time: i64,
}

/// Nothing of a group is acknowledged.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    #[error("the file system is full: {0}")]
    Full(io::Error),
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error),
            _ => Self::Io(error),
        }
    }
}

impl<F: Files> Log<F> {
    /// Opens the log for a new run; returns the segments of earlier ones. Torn tails are cut, and damaged ones kept.
    pub(in crate::buffer) fn open(files: F, settings: Settings) -> io::Result<(Self, Vec<Segment>)> {
        let mut segments = find_segments(&files)?;
        let id = identify(&files, &segments)?;
        let latest = segments.iter().map(|segment| segment.run).max().unwrap_or_default();
        let run = now().max(latest + 1);
        find_ends(&files, &mut segments)?;
        Ok((Self { files, settings, id, run, next: 0, current: None, cuts: Vec::new() }, segments))
    }

    /// Identifies the queue of the directory.
    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    /// Appends the rows of each request in `group`, and syncs them.
    pub(super) fn append(&mut self, group: &[&Rows]) -> Result<LogAppend, AppendError> {
        if self.current.as_ref().is_some_and(|current| current.bytes >= self.settings.segment_bytes) {
            // The sync of the next segment's name comes later than this, and a segment without a seal is read through.
            if let Err(error) = self.seal() {
                tracing::warn!(%error, "cannot seal a segment of the durable queue");
            }
        }
        let first = self.next;
        self.next += group.iter().map(|rows| rows.len() as u64).sum::<u64>();
        let begun = match &self.current {
            Some(_) => None,
            None => Some(self.begin(first)?),
        };
        let current = self.current.as_mut().expect("it was begun");
        let (mut at, time) = (first, now());
        let mut firsts = Vec::with_capacity(group.len());
        let encoded: Vec<_> = group
            .iter()
            .map(|rows| {
                let entry = Encoded::of(rows, current.salt, at, time as u64);
                firsts.push(at);
                at += rows.len() as u64;
                entry
            })
            .collect();
        let mut parts: Vec<IoSlice<'_>> = encoded.iter().flat_map(Encoded::parts).collect();
        let written = self
            .files
            .append(&current.file, &mut parts)
            .and_then(|()| self.files.sync(&current.file))
            // The name of a file is not on the disk with its content.
            .and_then(|()| if begun.is_some() { self.files.sync_names() } else { Ok(()) });
        if let Err(error) = written {
            self.abandon(first, begun.is_some());
            return Err(error.into());
        }
        let before = std::mem::replace(&mut current.bytes, self.files.length(&current.file)?);
        let bytes = current.bytes - before;
        if begun.is_some() {
            self.cuts.clear();
        }
        Ok(LogAppend { run: self.run, begun, firsts, bytes, time })
    }

    /// Begins a segment with record `first`. It reaches the disk with the first entries.
    fn begin(&mut self, first: u64) -> io::Result<Segment> {
        let about = About {
            queue: self.id,
            run: self.run,
            first,
            created: now(),
            // Zeros fill up what was written past the page cache.
            salt: fastrand::u64(1..),
            format: (*self.settings.format).clone(),
            cuts: self.cuts.clone(),
        };
        let (name, header) = (about.name(), about.to_bytes()?);
        let file = self.files.create(&name)?;
        let (salt, length) = (about.salt, header.len() as u64);
        let written = self.files.append(&file, &mut [IoSlice::new(&header)]);
        self.current = Some(Current { file, name: name.clone(), salt, bytes: length });
        if let Err(error) = written {
            self.abandon(first, true);
            return Err(error);
        }
        let format = Some(self.settings.format.clone());
        let about = Ok(Arc::new(about));
        Ok(Segment { name, run: self.run, first, end: first, bytes: length, about, format, entries: length })
    }

    /// Never writes the current file again. What it has from record `first` on was not acknowledged.
    fn abandon(&mut self, first: u64, is_new: bool) {
        let Some(failed) = self.current.take() else { return };
        // By another descriptor, and without a sync: if this fails as well, the cut in the next header holds.
        let tidied = if is_new {
            self.files.remove(&failed.name)
        } else {
            self.files.open(&failed.name).and_then(|file| self.files.truncate(&file, failed.bytes))
        };
        if let Err(error) = tidied {
            tracing::debug!(%error, segment = failed.name, "a failed segment could not be cut");
        }
        self.cuts.push((failed.name, first));
    }

    /// Ends the current segment.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let seal = seal(current.salt, self.next, now() as u64);
        self.files.append(&current.file, &mut [IoSlice::new(&seal)])?;
        self.files.sync(&current.file)
    }
}

/// Removes a segment.
pub(super) fn remove<F: Files>(files: &F, segment: &Segment) -> io::Result<()> {
    files.remove(&segment.name)?;
    files.sync_names()
}

/// The segments of a directory, in order. Their ends are not known yet.
pub(super) fn find_segments<F: Files>(files: &F) -> io::Result<Vec<Segment>> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut names = files.list()?;
    names.retain(|name| is_segment(name));
    names.sort();
    for name in names {
        match Segment::look(files, &name) {
            Ok(segment) => segments.push(segment),
            Err(error) => {
                tracing::warn!(segment = name, %error, "cannot read a segment of the durable queue")
            }
        }
    }
    segments.sort_by_key(|segment| (segment.run, segment.first));
    // Of copies under two names, one is read.
    segments.dedup_by(|copy, segment| {
        let is_copy = (copy.run, copy.first) == (segment.run, segment.first);
        if is_copy {
            tracing::warn!(segment = segment.name, copy = copy.name, "a segment is there twice");
        }
        is_copy
    });
    for Segment { name, about, .. } in &segments {
        if let Err(why) = about {
            tracing::error!(segment = name, %why, "a segment of the durable queue cannot be read; it stays as it is");
        }
    }
    Ok(segments)
}

/// Finds where each segment ends: where it was cut, where its seal says, where the next one begins, or after its last whole entry.
pub(super) fn find_ends<F: Files>(files: &F, segments: &mut [Segment]) -> io::Result<()> {
    let all = segments.iter().filter_map(|segment| segment.about.as_ref().ok());
    let cuts: Vec<_> = all.flat_map(|about| about.cuts.clone()).collect();
    for at in 0..segments.len() {
        let next = segments.get(at + 1).filter(|next| next.run == segments[at].run).map(|next| next.first);
        let segment = &mut segments[at];
        if segment.about.is_err() {
            segment.end = next.unwrap_or(segment.first);
            continue;
        }
        let cut = cuts.iter().find(|(name, _)| *name == segment.name).map(|(_, cut)| *cut);
        segment.end = match cut.or(sealed_end(files, segment)?).or(next) {
            Some(end) => end,
            None => cut_tail(files, segment)?,
        };
    }
    Ok(())
}

/// The end by the seal of a segment, if it has one.
fn sealed_end<F: Files>(files: &F, segment: &Segment) -> io::Result<Option<u64>> {
    let Some(at) = seal_at(segment) else { return Ok(None) };
    let mut bytes = [0; HEADER];
    files.read_at(&files.open(&segment.name)?, &mut bytes, at)?;
    Ok(Header::read(&bytes, segment.salt()).filter(Header::is_seal).map(|seal| seal.first))
}

/// Finds the last whole entry of a segment that was being appended to when its run ended, and cuts what is behind it.
fn cut_tail<F: Files>(files: &F, segment: &mut Segment) -> io::Result<u64> {
    let mut cursor = Cursor::open(files, segment)?;
    let (end, at, is_sealed) = cursor.end()?;
    let is_blank = cursor.is_blank(at, segment.bytes)?;
    if is_sealed {
        return Ok(end);
    }
    let cut = || {
        let file = files.open(&segment.name)?;
        if at < segment.bytes {
            if !is_blank {
                quarantine::keep(files, &file, &segment.name, at..segment.bytes)?;
            }
            files.truncate(&file, at)?;
        }
        files.append(&file, &mut [IoSlice::new(&seal(segment.salt(), end, now() as u64))])?;
        files.sync(&file)
    };
    // A directory that cannot be written is read all the same.
    match cut() {
        Ok(()) => segment.bytes = at + HEADER as u64,
        Err(error) => tracing::warn!(segment = segment.name, %error, "cannot cut a torn segment"),
    }
    Ok(end)
}

/// The queue's id: as the newest segment has it, because a damaged id would still be one; else from its file; else a new one.
fn identify<F: Files>(files: &F, segments: &[Segment]) -> io::Result<Uuid> {
    let named = identity(files);
    let known =
        segments.iter().rev().find_map(|segment| segment.about.as_ref().ok()).map(|about| about.queue);
    let id = known.or(named).unwrap_or_else(Uuid::new_v4);
    if named == Some(id) {
        return Ok(id);
    }
    let new = format!("{IDENTITY}.new");
    let _ = files.remove(&new);
    let file = files.create(&new)?;
    files.append(&file, &mut [IoSlice::new(format!("{id}\n").as_bytes())])?;
    files.sync(&file)?;
    files.rename(&new, IDENTITY)?;
    files.sync_names()?;
    Ok(id)
}

/// The queue's id as its file has it.
pub(super) fn identity<F: Files>(files: &F) -> Option<Uuid> {
    let file = files.open(IDENTITY).ok()?;
    let mut text = [0; 37];
    files.read_at(&file, &mut text, 0).ok()?;
    let text = std::str::from_utf8(&text).ok()?;
    text.strip_suffix('\n')?.parse().ok()
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
