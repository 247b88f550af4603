//! A segment of the durable queue with any damage: it costs what it touches, and no more memory than the file has.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use allocation_counter::measure;
use forebay::buffer::disk::files::{Files, Space};
use forebay::buffer::disk::whole::{Whole, read_whole, write_whole};
use forebay::otlp::Limits;
use forebay::table::partition::Width;
use forebay::table::{Rows, Space as Memory, Transcoder};

/// The requests of the queue that is damaged.
pub const REQUESTS: u64 = 6;
/// Both copies of the header of its segment.
const HEADERS: usize = 8192;
const ENTRY: usize = 48;
/// The largest file that is tried.
const LARGEST: usize = 1 << 20;
/// What is allocated besides: the bytes that are read at once, and names.
const BESIDES: u64 = 2 << 20;

type File = Arc<Mutex<Vec<u8>>>;

/// A directory in memory.
#[derive(Clone, Debug, Default)]
struct InMemory(Arc<Mutex<BTreeMap<String, File>>>);

/// A change of the segment. Numbers are taken modulo what there is.
#[derive(Debug)]
enum Change<'a> {
    Write(usize, &'a [u8]),
    Cut(usize),
    Add(&'a [u8]),
    /// Copies from one place over another.
    Copy(usize, usize, usize),
    /// Makes the checksums of a header right, and of what follows it.
    Seal(usize),
}

/// The queue that is damaged.
struct Queue {
    files: BTreeMap<String, Vec<u8>>,
    /// The name of its segment.
    segment: String,
    /// Where its entries begin, and where the last one ends.
    entries: Vec<usize>,
}

static QUEUE: LazyLock<Queue> = LazyLock::new(|| {
    // The salt is drawn by chance, and inputs have to mean the same each time.
    fastrand::seed(1);
    let files = InMemory::default();
    let requests: Vec<Rows> = (1..=REQUESTS as usize).map(rows).collect();
    write_whole(files.clone(), &requests.iter().collect::<Vec<_>>()).expect("memory does not fail");
    let contents = files.contents();
    let name = contents.keys().find(|name| name.ends_with(".segment")).expect("it has a segment").clone();
    let content = &contents[&name];
    let salt = &content[HEADERS..HEADERS + 8];
    let mut entries: Vec<_> =
        (HEADERS..content.len() - 8).filter(|at| &content[*at..*at + 8] == salt).collect();
    entries.push(content.len());
    Queue { segment: name, entries, files: contents }
});

/// The rows of a request of so many records.
fn rows(records: usize) -> Rows {
    let field = |number: u8, value: &[u8]| {
        // None has 2^14 bytes.
        let length = [value.len() as u8 | 0x80, (value.len() >> 7) as u8];
        [&[number << 3 | 2][..], &length, value].concat()
    };
    let body = |at: usize| field(1, format!("record {at} of {records}").as_bytes());
    let record = |at: usize| field(2, &[vec![2 << 3, 9], field(5, &body(at))].concat());
    let records: Vec<u8> = (0..records).flat_map(record).collect();
    let request = field(1, &field(2, &records));
    let transcoder = Transcoder::new(Width::Day, None, Limits::default());
    transcoder.transcode(&request, usize::MAX, 1, &mut Memory::unlimited()).expect("it is a request").rows
}

/// Damages the segment as `data` says, and reads it as a start does. Gives the number of requests that are read.
pub fn check(data: &[u8]) -> u64 {
    let Queue { files: contents, segment: name, entries } = &*QUEUE;
    let mut content = contents[name].clone();
    let mut touched = vec![false; content.len()];
    let changes = changes(data);
    for change in &changes {
        change.apply(&mut content, &mut touched);
    }
    let untouched = entries
        .windows(2)
        .filter(|entry| entry[1] <= content.len() && !touched[entry[0]..entry[1]].contains(&true));
    let header_is_whole = !touched[..HEADERS / 2].contains(&true) && content.len() >= HEADERS;
    // An entry with wrong numbers hides others.
    let is_honest = !changes.iter().any(|change| matches!(change, Change::Seal(_) | Change::Copy(..)));
    let untouched = if header_is_whole && is_honest { untouched.count() as u64 } else { 0 };
    let files = InMemory::of(contents);
    files.put(name, content.clone());
    let mut whole = Whole::default();
    let taken = measure(|| whole = read_whole(&files).expect("it always starts"));
    let most = 8 * content.len() as u64 + BESIDES;
    assert!(taken.bytes_max <= most, "{} bytes were allocated for {}", taken.bytes_max, content.len());
    assert!(whole.bytes <= content.len() as u64, "{whole:?}");
    assert!(whole.requests >= untouched, "{whole:?}, {untouched} are whole");
    let after = files.contents();
    let kept: usize =
        after.iter().filter(|(name, _)| name.starts_with("quarantine/")).map(|(_, of)| of.len()).sum();
    assert!(kept <= 2 * content.len(), "{kept} bytes were put aside");
    assert!(after.contains_key(name), "nothing is deleted");
    // Another start reads the same.
    assert_eq!(read_whole(&files).expect("it always starts"), whole);
    whole.requests
}

/// Each has a byte that says what it is, two numbers of two bytes, and as many bytes as the second says.
fn changes(data: &[u8]) -> Vec<Change<'_>> {
    let (mut changes, mut rest) = (Vec::new(), data);
    while let Some(([kind, at @ .., low, high], after)) = rest.split_first_chunk::<5>() {
        let at = usize::from(u16::from_le_bytes(*at));
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let bytes = &after[..length.min(after.len())];
        let (change, used) = match kind % 5 {
            0 => (Change::Write(at, bytes), bytes.len()),
            1 => (Change::Cut(at), 0),
            2 => (Change::Add(bytes), bytes.len()),
            3 => (Change::Copy(at, length, usize::from(*kind) * 8), 0),
            _ => (Change::Seal(at), 0),
        };
        changes.push(change);
        rest = &after[used..];
    }
    changes
}

impl Change<'_> {
    fn apply(&self, content: &mut Vec<u8>, touched: &mut Vec<bool>) {
        match *self {
            Self::Write(at, bytes) => write(content, touched, at, bytes),
            Self::Cut(at) => {
                content.truncate(at);
                touched.iter_mut().skip(at).for_each(|touched| *touched = true);
            }
            Self::Add(bytes) => content.extend_from_slice(&bytes[..bytes.len().min(LARGEST - content.len())]),
            Self::Copy(from, to, length) => {
                let from = from.min(content.len());
                let bytes = content[from..(from + length).min(content.len())].to_vec();
                write(content, touched, to, &bytes);
            }
            Self::Seal(at) => {
                let word =
                    |at: usize| content[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
                if at + ENTRY > content.len() {
                    return;
                }
                let payload = content
                    .len()
                    .min(at + ENTRY + (word(at + 28) as usize).saturating_add(word(at + 32) as usize));
                let checksum = crc32fast::hash(&content[at + ENTRY..payload]);
                write(content, touched, at + 40, &checksum.to_le_bytes());
                let checksum = crc32fast::hash(&content[at..at + 44]);
                write(content, touched, at + 44, &checksum.to_le_bytes());
            }
        }
        touched.resize(content.len().max(touched.len()), true);
    }
}

fn write(content: &mut [u8], touched: &mut [bool], at: usize, bytes: &[u8]) {
    for (at, byte) in (at..content.len()).zip(bytes) {
        touched[at] |= content[at] != *byte;
        content[at] = *byte;
    }
}

impl InMemory {
    fn of(contents: &BTreeMap<String, Vec<u8>>) -> Self {
        let files = Self::default();
        contents.iter().for_each(|(name, content)| files.put(name, content.clone()));
        files
    }

    fn put(&self, name: &str, content: Vec<u8>) {
        self.names().insert(name.to_owned(), Arc::new(Mutex::new(content)));
    }

    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.names().iter().map(|(name, file)| (name.clone(), lock(file).clone())).collect()
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, File>> {
        self.0.lock().expect("nobody panics with it")
    }
}

fn lock(file: &File) -> MutexGuard<'_, Vec<u8>> {
    file.lock().expect("nobody panics with it")
}

impl Files for InMemory {
    type File = File;

    fn create(&self, name: &str) -> io::Result<File> {
        let file = File::default();
        self.names().insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        self.names().get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn append(&self, file: &File, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        parts.iter().for_each(|part| lock(file).extend_from_slice(part));
        Ok(())
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let file = lock(file);
        let from = file.len().min(at as usize);
        let read = buffer.len().min(file.len() - from);
        buffer[..read].copy_from_slice(&file[from..from + read]);
        Ok(read)
    }

    fn length(&self, file: &File) -> io::Result<u64> {
        Ok(lock(file).len() as u64)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        lock(file).truncate(length as usize);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.names().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.open(from)?;
        let mut names = self.names();
        names.remove(from);
        names.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names().keys().filter(|name| !name.contains('/')).cloned().collect())
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space { free: 1 << 40, total: 1 << 40 })
    }
}
