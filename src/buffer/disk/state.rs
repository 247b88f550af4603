//! Notes in the directory itself: which records are stored, and which an operator has dropped.
//!
//! PostgreSQL alone knows which records are stored. The note of them is a hint for commands and gauges until it has answered; nothing
//! is skipped or deleted because of it. Two files take turns, so that the older one is whole while the newer one is written. Neither
//! is synced, because the reader must not wait for the disk: after a power cut the hint may be missing.
//!
//! The note of dropped records counts: they are not read any more. A damaged note is none.
//!
//! A note is magic, generation (8 bytes), the queue's id (16 bytes), a number of bytes (4), the checksum of the rest (4 bytes), and as
//! many bytes of positions, as [`Positions::to_numbers`] has them (8 bytes each). Numbers are little-endian; zeros may follow.

use std::io::{self, IoSlice};

use uuid::Uuid;

use super::Positions;
use super::files::Files;
use super::log::create_whole;

const MAGIC: &[u8; 8] = b"FORBYPOS";
/// The bytes before the positions, and those of them before the checksum.
const PREFIX: usize = 40;
const CHECKED: usize = 36;
/// The names of the files that say which records are stored.
const STORED: [&str; 2] = ["state.0", "state.1"];
/// The name of the file that says which records were dropped.
const DROPPED: &str = "dropped";

/// The notes of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// Records that were stored at some time.
    pub(super) stored: Positions,
    /// Records of its segments that an operator has dropped.
    pub(super) dropped: Positions,
}

/// Writes the note of stored records.
#[derive(Debug)]
pub(super) struct State {
    queue: Uuid,
    generation: u64,
    written: Option<Positions>,
}

impl Notes {
    /// The notes on the queue with this id, whose segments have the records `present`.
    pub(super) fn read<F: Files>(files: &F, queue: Uuid, present: &Positions) -> Self {
        let stored = newest(files, queue).map_or_else(Positions::default, |(_, stored)| stored);
        let (mut dropped, mut others) = (present.clone(), present.clone());
        if let Some((_, noted)) = read(files, DROPPED, queue) {
            others.subtract(&noted);
        }
        dropped.subtract(&others);
        Self { stored, dropped }
    }
}

impl State {
    /// For the queue with this id.
    pub(super) fn new(queue: Uuid) -> Self {
        Self { queue, generation: 0, written: None }
    }

    /// Notes that the records `stored` are stored, if that is news.
    pub(super) fn write<F: Files>(&mut self, files: &F, stored: Positions) -> io::Result<()> {
        if self.written.as_ref() == Some(&stored) {
            return Ok(());
        }
        if self.generation == 0 {
            self.generation = newest(files, self.queue).map_or(0, |(generation, _)| generation);
        }
        self.generation += 1;
        let name = STORED[self.generation as usize % STORED.len()];
        let _ = files.remove(name);
        let file = files.create(name)?;
        files.append(&file, &mut [IoSlice::new(&to_bytes(self.generation, self.queue, &stored))])?;
        self.written = Some(stored);
        Ok(())
    }
}

/// Notes on stable storage that the records `dropped` were dropped.
pub(super) fn drop_records<F: Files>(files: &F, queue: Uuid, dropped: &Positions) -> io::Result<()> {
    create_whole(files, DROPPED, &to_bytes(0, queue, dropped)).map(drop)
}

fn newest<F: Files>(files: &F, queue: Uuid) -> Option<(u64, Positions)> {
    STORED.iter().filter_map(|name| read(files, name, queue)).max_by_key(|(generation, _)| *generation)
}

fn to_bytes(generation: u64, queue: Uuid, positions: &Positions) -> Vec<u8> {
    let numbers: Vec<u8> = positions.to_numbers().into_iter().flat_map(i64::to_le_bytes).collect();
    let length = (numbers.len() as u32).to_le_bytes();
    let prefix = [&MAGIC[..], &generation.to_le_bytes(), queue.as_bytes(), &length].concat();
    let checksum = checksum(&prefix, &numbers).to_le_bytes();
    [&prefix[..], &checksum, &numbers].concat()
}

fn read<F: Files>(files: &F, name: &str, queue: Uuid) -> Option<(u64, Positions)> {
    let file = files.open(name).ok()?;
    let mut bytes = vec![0; usize::try_from(files.length(&file).ok()?).ok()?];
    let read = files.read_at(&file, &mut bytes, 0).ok()?;
    let (prefix, numbers) = bytes[..read].split_first_chunk::<PREFIX>()?;
    let word = |at: usize| prefix[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
    let numbers = numbers.get(..word(32) as usize)?;
    let is_whole = word(CHECKED) == checksum(&prefix[..CHECKED], numbers)
        && prefix.starts_with(MAGIC)
        && prefix[16..32] == *queue.as_bytes();
    let generation = u64::from_le_bytes(*prefix[MAGIC.len()..].first_chunk()?);
    let numbers: Vec<_> =
        numbers.as_chunks().0.iter().map(|number: &[u8; 8]| i64::from_le_bytes(*number)).collect();
    is_whole.then(|| (generation, Positions::from_numbers(&numbers)))
}

fn checksum(prefix: &[u8], numbers: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(prefix);
    checksum.update(numbers);
    checksum.finalize()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::buffer::config::FileStorageConfig;
    use crate::buffer::disk::files::Directory;

    const QUEUE: Uuid = Uuid::from_u128(7);

    fn positions(end: u64) -> Positions {
        Positions::from_numbers(&[5, 0, end as i64, 6, 10, 20])
    }

    fn directory(path: &std::path::Path) -> Directory {
        let config = FileStorageConfig { directory: path.to_owned(), ..FileStorageConfig::default() };
        Directory::lock(&config).unwrap()
    }

    #[test]
    fn the_newest_whole_note_counts_wherever_the_last_one_is_cut_or_flipped() {
        let dir = tempfile::tempdir().unwrap();
        let files = directory(dir.path());
        let stored = || Notes::read(&files, QUEUE, &Positions::default()).stored;
        assert_eq!(stored(), Positions::default());
        let mut state = State::new(QUEUE);
        for end in [1, 2, 3] {
            state.write(&files, positions(end)).unwrap();
            assert_eq!(stored(), positions(end));
        }
        let newest = dir.path().join("state.1");
        let whole = fs::read(&newest).unwrap();
        for length in 0..whole.len() {
            fs::write(&newest, &whole[..length]).unwrap();
            assert_eq!(stored(), positions(2), "cut at {length}");
            let mut flipped = whole.clone();
            flipped[length] ^= 1;
            fs::write(&newest, flipped).unwrap();
            assert_eq!(stored(), positions(2), "flipped at {length}");
        }
        fs::remove_file(&newest).unwrap();
        assert_eq!(stored(), positions(2));
        fs::write(&newest, &whole).unwrap();
        assert_eq!(
            Notes::read(&files, Uuid::from_u128(8), &Positions::default()).stored,
            Positions::default()
        );
    }

    #[test]
    fn a_new_run_goes_on_with_the_older_note() {
        let dir = tempfile::tempdir().unwrap();
        let files = directory(dir.path());
        State::new(QUEUE).write(&files, positions(1)).unwrap();
        let before = fs::read(dir.path().join("state.1")).unwrap();
        let mut state = State::new(QUEUE);
        state.write(&files, positions(2)).unwrap();
        assert_eq!(fs::read(dir.path().join("state.1")).unwrap(), before, "the newest one is left alone");
        assert_eq!(Notes::read(&files, QUEUE, &Positions::default()).stored, positions(2));
        fs::remove_file(dir.path().join("state.0")).unwrap();
        state.write(&files, positions(2)).unwrap();
        assert!(!dir.path().join("state.0").exists(), "it is no news");
    }

    #[test]
    fn a_long_note_is_read_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let files = directory(dir.path());
        let mut many = Positions::default();
        (0..10_000).for_each(|number| many.insert(5, 2 * number..2 * number + 1));
        State::new(QUEUE).write(&files, many.clone()).unwrap();
        assert_eq!(Notes::read(&files, QUEUE, &Positions::default()).stored, many);
    }

    #[test]
    fn of_the_dropped_records_those_of_segments_count() {
        let dir = tempfile::tempdir().unwrap();
        let files = directory(dir.path());
        let present = Positions::from_numbers(&[5, 0, 10, 6, 15, 40]);
        let dropped = || Notes::read(&files, QUEUE, &present).dropped;
        assert_eq!(dropped(), Positions::default());
        drop_records(&files, QUEUE, &positions(4)).unwrap();
        assert_eq!(dropped().to_numbers(), [5, 0, 4, 6, 15, 20]);
        drop_records(&files, QUEUE, &positions(100)).unwrap();
        assert_eq!(dropped().to_numbers(), [5, 0, 10, 6, 15, 20]);
    }
}
