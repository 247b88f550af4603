//! The queue of a directory for commands: read beside a running forebay, or changed where none runs.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::Positions;
use super::cursor::{Cursor, Step};
use super::files::{Directory, DirectoryError, FOLDER};
use super::log::{self, find_ends, find_segments};
use super::segment::{self, Segment, Unreadable};
use super::state::{self, Notes};
use crate::buffer::config::FileStorageConfig;
use crate::table::Rows;

/// The queue of a directory as it was found.
#[derive(Debug)]
pub struct View {
    path: PathBuf,
    files: Directory,
    id: Option<Uuid>,
    notes: Notes,
    segments: Vec<Segment>,
}

/// A part of a segment.
#[derive(Debug)]
pub enum Part<'a> {
    /// Records of one request.
    Rows {
        /// Their segment.
        segment: &'a Segment,
        /// All rows of the request.
        rows: &'a Rows,
        /// Those of the rows that are meant.
        range: Range<usize>,
        /// The number of the first of them.
        first: u64,
        /// When they were written, in nanoseconds since 1970.
        time: u64,
    },
    /// Records that cannot be read.
    Damaged {
        /// Their segment.
        segment: &'a Segment,
        /// The damaged bytes of the file; none if they are missing.
        bytes: Range<u64>,
        /// The numbers of the records.
        numbers: Range<u64>,
    },
    /// Bytes behind the last whole entry: a write that was not complete when forebay ended, and was not acknowledged.
    Torn {
        /// Their segment.
        segment: &'a Segment,
        /// The bytes of the file.
        bytes: Range<u64>,
    },
}

impl View {
    /// Looks at the queue in the directory `path`. Nothing is changed.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        Self::of(path, Directory::shared(path)).map_err(refused(path))
    }

    /// The same with the directory locked, so that records can be dropped. Torn ends are cut, as at forebay's start.
    ///
    /// # Errors
    ///
    /// A forebay uses the directory, or it cannot be written.
    pub fn lock(path: &Path) -> Result<Self, DirectoryError> {
        let directory = path.to_owned();
        let config = FileStorageConfig { directory, create_directory: false, fsync: true };
        Self::of(path, Directory::lock(&config)?).map_err(refused(path))
    }

    fn of(path: &Path, files: Directory) -> io::Result<Self> {
        let mut segments = find_segments(&files)?;
        find_ends(&files, &mut segments);
        // A forebay that runs may remove one at any moment.
        segments.retain(|segment| segment.about != Err(Unreadable::Refused(io::ErrorKind::NotFound)));
        let id = log::identity(&files, &segments);
        let notes = id.map(|id| Notes::read(&files, id, &segment::positions(&segments))).unwrap_or_default();
        Ok(Self { path: path.to_owned(), files, id, notes, segments })
    }

    /// Identifies the queue in the table of lanes; `None` if the directory has none yet.
    pub fn id(&self) -> Option<Uuid> {
        self.id
    }

    /// The segments, in the order of time.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The records that were stored when forebay last said so. PostgreSQL may have more, or have lost some.
    pub fn noted(&self) -> &Positions {
        &self.notes.stored
    }

    /// The records that an operator has dropped.
    pub fn dropped(&self) -> &Positions {
        &self.notes.dropped
    }

    /// Reads all records that are not among the `settled` ones, in order.
    ///
    /// # Errors
    ///
    /// Those of `each`, or a file cannot be read.
    pub fn read<E: From<DirectoryError>>(
        &self,
        settled: &Positions,
        mut each: impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (at, segment) in self.segments.iter().enumerate() {
            let is_last = self.segments.get(at + 1).is_none_or(|next| next.run != segment.run);
            let is_settled = settled.covers(segment.run, segment.first..segment.end);
            if segment.about.is_err() || (is_settled && (segment.first < segment.end || !is_last)) {
                continue;
            }
            let fail = |source| E::from(refused(&self.path)(source));
            let mut cursor = match Cursor::open(&self.files, segment) {
                Ok(cursor) => cursor,
                // Its records were stored meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(fail(error)),
            };
            let mut reading = Reading { segment, is_last, settled, expected: segment.first };
            while let Some(step) = cursor.step().map_err(fail).map(|step| reading.passes(step))? {
                reading.read(step, &mut each)?;
            }
            reading.end(&mut each)?;
        }
        Ok(())
    }

    /// Drops the records `dropped`, and deletes the segments that have no others. With `unreadable`, those that cannot be read are
    /// deleted as well. Returns the number of files deleted.
    ///
    /// # Errors
    ///
    /// A file cannot be written or removed.
    pub fn drop_records(self, dropped: &Positions, unreadable: bool) -> Result<usize, DirectoryError> {
        let path = self.path.clone();
        self.remove(dropped, unreadable).map_err(refused(&path))
    }

    fn remove(self, dropped: &Positions, unreadable: bool) -> io::Result<usize> {
        let Self { files, id, notes, segments, .. } = self;
        let mut all = notes.dropped;
        all.add(dropped);
        let mut has_kept = None;
        let mut gone = Vec::new();
        for segment in segments {
            let is_gone = match segment.about {
                Ok(_) => all.covers(segment.run, segment.first..segment.end),
                Err(_) => unreadable,
            };
            // A header that says where earlier files end stays as long as they do.
            if is_gone && !(has_kept == Some(segment.run) && segment.cuts()) {
                gone.push(segment);
            } else {
                has_kept = Some(segment.run);
            }
        }
        // The note comes first, so that nothing of it is read again if not all files can be removed.
        if let Some(id) = id {
            state::drop_records(&files, id, &all)?;
        }
        gone.iter().try_for_each(|segment| log::remove(&files, segment))?;
        Ok(gone.len())
    }
}

/// The number of files with damaged bytes that were put aside in the directory `path`, and their bytes.
pub fn quarantined(path: &Path) -> (u64, u64) {
    let files = fs::read_dir(path.join(FOLDER)).into_iter().flatten().flatten();
    let lengths = files.filter_map(|file| Some(file.metadata().ok()?.len()));
    lengths.fold((0, 0), |(files, bytes), length| (files + 1, bytes + length))
}

fn refused(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    move |source| DirectoryError::Refused { directory: path.to_owned(), source }
}

/// A segment as far as it is read.
struct Reading<'a> {
    segment: &'a Segment,
    /// It is the last one of its run.
    is_last: bool,
    settled: &'a Positions,
    /// The number of the next record.
    expected: u64,
}

impl Reading<'_> {
    /// `step`, if it is not behind the end.
    fn passes(&self, step: Step) -> Option<Step> {
        let end = self.segment.end;
        let is_within = match step {
            Step::Entry { first, .. } => first < end,
            Step::Damaged { next: None, .. } => self.expected < end || self.is_last,
            Step::Damaged { .. } => self.expected < end,
            Step::End => false,
        };
        is_within.then_some(step)
    }

    fn read<E>(&mut self, step: Step, each: &mut impl FnMut(Part<'_>) -> Result<(), E>) -> Result<(), E> {
        let (segment, expected) = (self.segment, self.expected);
        match step {
            Step::Entry { first, time, rows } => {
                self.miss(first, 0..0, each)?;
                let end = segment.end.min(first + rows.len() as u64);
                while let Some(numbers) = self.settled.gap(segment.run, self.expected..end) {
                    let range = (numbers.start - first) as usize..(numbers.end - first) as usize;
                    each(Part::Rows { segment, rows: &rows, range, first: numbers.start, time })?;
                    self.expected = numbers.end;
                }
                self.expected = self.expected.max(end);
                Ok(())
            }
            Step::Damaged { bytes, next: None } if expected >= segment.end => {
                each(Part::Torn { segment, bytes })
            }
            Step::Damaged { bytes, next: Some(next) } if next <= expected => {
                each(Part::Damaged { segment, bytes, numbers: expected..expected })
            }
            Step::Damaged { bytes, next } => self.miss(next.unwrap_or(u64::MAX), bytes, each),
            Step::End => Ok(()),
        }
    }

    /// The records below `next` are not there, or are in damaged `bytes`.
    fn miss<E>(
        &mut self,
        next: u64,
        bytes: Range<u64>,
        each: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (segment, numbers) = (self.segment, self.expected..next.min(self.segment.end));
        self.expected = self.expected.max(numbers.end);
        match self.settled.gap(segment.run, numbers) {
            Some(numbers) => each(Part::Damaged { segment, bytes, numbers }),
            None => Ok(()),
        }
    }

    fn end<E>(&mut self, each: &mut impl FnMut(Part<'_>) -> Result<(), E>) -> Result<(), E> {
        self.miss(u64::MAX, 0..0, each)
    }
}
