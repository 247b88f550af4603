//! The log: the segments of a directory, the newest of which is appended to.
//!
//! A file whose write or sync failed is never written again: after a failed sync nobody knows what is on the disk. The records go into
//! a new file, under new numbers, and its header says up to which number they were acknowledged before, because what failed may be on
//! the disk after all.

use std::io::{self, IoSlice};
use std::sync::Arc;

use uuid::Uuid;

use super::cursor::Cursor;
use super::entry::{Encoded, HEADER, Header, seal};
use super::files::{FOLDER, Files};
use super::quarantine;
use super::segment::{About, Segment, is_segment, seal_at};
use crate::table::{RowFormat, Rows};
use crate::values::positions::Run;
use crate::values::when::unix_nanos;

/// The file that has the queue's id.
const IDENTITY: &str = "queue";

/// The file that is written to see whether the disk takes one.
const PROBE: &str = "probe";

/// Ends the name of a file until all of it is on stable storage. Then it is renamed.
const NEW: &str = ".new";

/// The settings of a log.
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
    /// The number after the last record that was acknowledged.
    acknowledged: u64,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Current<File> {
    file: File,
    name: String,
    salt: u64,
    bytes: u64,
}

/// A group that was appended.
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
        find_ends(&files, &mut segments);
        for Segment { name, about, .. } in &segments {
            if let Err(why) = about {
                tracing::error!(segment = name, %why, "a segment of the durable queue cannot be read; it stays as it is");
            }
        }
        let readable = segments.iter().filter(|segment| segment.about.is_ok());
        let run =
            unix_nanos().max(readable.map(|segment| segment.run).max().unwrap_or_default().saturating_add(1));
        Ok((Self { files, settings, id, run, next: 0, current: None, acknowledged: 0 }, segments))
    }

    /// Identifies the queue of the directory.
    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    /// The position of the next record.
    #[cfg(test)]
    pub(super) fn position(&self) -> (Run, u64) {
        (self.run, self.next)
    }

    /// Appends the rows of each request in `group`, and syncs them.
    pub(super) fn append(&mut self, group: &[&Rows]) -> Result<LogAppend, AppendError> {
        if self.current.as_ref().is_some_and(|current| current.bytes >= self.settings.segment_bytes) {
            // A segment without a seal ends where the next one begins.
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
        let (mut at, time) = (first, unix_nanos());
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
        let written = self.files.append(&current.file, &mut parts);
        if let Err(error) = written.and_then(|()| self.files.sync(&current.file)) {
            self.abandon(begun.is_some());
            return Err(error.into());
        }
        // More than the entries where zeros fill up a block.
        let bytes = match self.files.length(&current.file) {
            Ok(length) => length - std::mem::replace(&mut current.bytes, length),
            // The entries are durable. A later failure must not cut them, so the file is complete.
            Err(_) => {
                self.current = None;
                0
            }
        };
        self.acknowledged = self.next;
        Ok(LogAppend { run: self.run, begun, firsts, bytes, time })
    }

    /// Begins a segment with record `first`. Its name and its header are on stable storage before it has an entry.
    fn begin(&mut self, first: u64) -> io::Result<Segment> {
        let about = About {
            queue: self.id,
            run: self.run,
            first,
            created: unix_nanos(),
            // Zeros fill up what was written past the page cache.
            salt: fastrand::u64(1..),
            format: (*self.settings.format).clone(),
            acknowledged: self.acknowledged,
        };
        let (name, header) = (about.name(), about.to_bytes()?);
        let file = create_whole(&self.files, &name, &header)?;
        let (salt, bytes) = (about.salt, header.len() as u64);
        self.current = Some(Current { file, name: name.clone(), salt, bytes });
        let (format, about) = (Some(self.settings.format.clone()), Ok(Arc::new(about)));
        let (run, end, entries) = (self.run, first, bytes);
        Ok(Segment { name, run, first, end, bytes, about, format, entries, is_kept: false })
    }

    /// Never writes the current file again. The records that were not acknowledged may be in it.
    fn abandon(&mut self, is_new: bool) {
        let Some(failed) = self.current.take() else { return };
        // By another descriptor, and without a sync: if this fails as well, the next header says what is not to be read.
        let cut = self.files.open(&failed.name).and_then(|file| self.files.truncate(&file, failed.bytes));
        let tidied = if is_new { self.files.remove(&failed.name) } else { cut };
        if let Err(error) = tidied {
            tracing::debug!(%error, segment = failed.name, "a failed segment could not be cut");
        }
    }

    /// Whether the directory takes a file of `bytes` bytes, which is removed again.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        let written = create_whole(&self.files, PROBE, &vec![0; bytes]);
        written.is_ok() && self.files.remove(PROBE).is_ok()
    }

    /// Ends the current segment.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let seal = seal(current.salt, self.next, unix_nanos() as u64);
        self.files.append(&current.file, &mut [IoSlice::new(&seal)])?;
        self.files.sync(&current.file)
    }
}

/// Creates the file `name` with this content. It is there as a whole or not at all.
pub(super) fn create_whole<F: Files>(files: &F, name: &str, content: &[u8]) -> io::Result<F::File> {
    let new = format!("{name}{NEW}");
    // One that an earlier attempt has left.
    let _ = files.remove(&new);
    let file = files.create(&new)?;
    let written = files
        .append(&file, &mut [IoSlice::new(content)])
        .and_then(|()| files.sync(&file))
        .and_then(|()| files.rename(&new, name))
        .and_then(|()| files.sync_names());
    if written.is_err() {
        let _ = files.remove(&new);
    }
    written.map(|()| file)
}

/// Removes a segment. It is gone for good where this succeeds.
pub(super) fn remove<F: Files>(files: &F, segment: &Segment) -> io::Result<()> {
    let removed = if segment.is_kept {
        files.rename(&segment.name, &format!("{FOLDER}/{}", segment.name))
    } else {
        files.remove(&segment.name)
    };
    match removed {
        // An earlier attempt may have failed behind this.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => files.sync_names(),
    }
}

/// The segments of a directory, in order. Their ends are not known yet.
pub(super) fn find_segments<F: Files>(files: &F) -> io::Result<Vec<Segment>> {
    let names = files.list()?;
    for new in names.iter().filter(|name| name.ends_with(NEW)) {
        let _ = files.remove(new);
    }
    let segments = names.iter().filter(|name| is_segment(name));
    let mut segments: Vec<_> = segments.map(|name| Segment::look(files, name)).collect();
    // One of several copies is used: one that can be read, and rather the one that has its own name.
    segments.sort_by_cached_key(|segment| {
        let has_its_name = segment.about.as_ref().is_ok_and(|about| about.name() == segment.name);
        (segment.run, segment.first, segment.about.is_err(), !has_its_name, segment.name.clone())
    });
    segments.dedup_by(|copy, segment| {
        let is_copy = (copy.run, copy.first) == (segment.run, segment.first);
        if is_copy {
            let put_aside = files.rename(&copy.name, &format!("{FOLDER}/{}", copy.name));
            tracing::warn!(segment = segment.name, copy = copy.name, ?put_aside, "a segment is there twice");
        }
        is_copy
    });
    Ok(segments)
}

/// Finds where each segment ends: where its seal says, where a later one says or begins, or after its last whole entry.
pub(super) fn find_ends<F: Files>(files: &F, segments: &mut [Segment]) {
    // The first number behind a segment, and the one before which all is acknowledged, by the later ones of the run.
    let mut later: Option<(Run, u64, u64)> = None;
    for segment in segments.iter_mut().rev() {
        let bound = later.filter(|(run, ..)| *run == segment.run).map(|(_, first, cut)| first.min(cut));
        segment.end = match (&segment.about, bound) {
            (Ok(_), None) => cut_tail(files, segment),
            (Ok(_), Some(bound)) => sealed_end(files, segment).map_or(bound, |sealed| sealed.min(bound)),
            (Err(_), bound) => bound.unwrap_or_default(),
        };
        segment.end = segment.end.max(segment.first);
        let cut = segment.about.as_ref().map_or(u64::MAX, |about| about.acknowledged);
        let cut = later.filter(|(run, ..)| *run == segment.run).map_or(cut, |(.., later)| later.min(cut));
        later = Some((segment.run, segment.first, cut));
    }
}

/// The end by the seal of a segment, if it has one.
fn sealed_end<F: Files>(files: &F, segment: &Segment) -> Option<u64> {
    let mut bytes = [0; HEADER];
    files.read_at(&files.open(&segment.name).ok()?, &mut bytes, seal_at(segment)?).ok()?;
    Header::read(&bytes, segment.salt()).filter(Header::is_seal).map(|seal| seal.first)
}

/// Finds the last whole entry of a segment that was being appended to when its run ended, and cuts what is behind it.
fn cut_tail<F: Files>(files: &F, segment: &mut Segment) -> u64 {
    if let Some(end) = sealed_end(files, segment) {
        return end;
    }
    let mut salvages = false;
    let found = Cursor::open(files, segment).and_then(|mut cursor| {
        let end = cursor.end().or_else(|error| {
            tracing::error!(segment = segment.name, %error, "cannot read all of a segment of the durable queue");
            salvages = true;
            cursor.salvage();
            cursor.end()
        })?;
        Ok((cursor, end))
    });
    let (mut cursor, (end, at, is_sealed)) = match found {
        Ok(found) => found,
        Err(error) => {
            segment.set_aside(&error);
            return segment.first;
        }
    };
    segment.is_kept = salvages;
    if is_sealed || salvages || segment.bytes < at {
        return end;
    }
    let mut cut = || {
        let file = files.open(&segment.name)?;
        // Zeros fill up what was written past the page cache.
        if !cursor.is_blank(at, segment.bytes)? {
            quarantine::keep(files, &file, &segment.name, at..segment.bytes)?;
        }
        if at < segment.bytes {
            files.truncate(&file, at)?;
        }
        files.append(&file, &mut [IoSlice::new(&seal(segment.salt(), end, unix_nanos() as u64))])?;
        files.sync(&file)
    };
    // A directory that cannot be written is read all the same.
    match cut() {
        Ok(()) => segment.bytes = at + HEADER as u64,
        // It is another process's.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
        Err(error) => tracing::warn!(segment = segment.name, %error, "cannot cut a torn segment"),
    }
    end
}

/// The queue's id, for which a new queue gets a file.
fn identify<F: Files>(files: &F, segments: &[Segment]) -> io::Result<Uuid> {
    let known = identity(files, segments);
    let id = known.unwrap_or_else(Uuid::new_v4);
    if named(files) != Some(id)
        && let Err(error) = create_whole(files, IDENTITY, format!("{id}\n").as_bytes())
    {
        // The next start finds it in the segments again.
        known.ok_or(error)?;
    }
    Ok(id)
}

/// The queue's id: as the newest segment has it, because a damaged id would still be one; else as its file has it.
pub(super) fn identity<F: Files>(files: &F, segments: &[Segment]) -> Option<Uuid> {
    let newest = segments.iter().rev().find_map(|segment| segment.about.as_ref().ok());
    newest.map(|about| about.queue).or_else(|| named(files))
}

/// The queue's id as its file has it.
pub(super) fn named<F: Files>(files: &F) -> Option<Uuid> {
    let file = files.open(IDENTITY).ok()?;
    let mut text = [0; 37];
    files.read_at(&file, &mut text, 0).ok()?;
    let text = std::str::from_utf8(&text).ok()?;
    text.strip_suffix('\n')?.parse().ok()
}
