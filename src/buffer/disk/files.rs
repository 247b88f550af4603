//! The file layer: everything that the durable queue asks of a directory.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;

use crate::buffer::config::FileStorageConfig;

/// A directory of files.
pub trait Files: Clone + Send + Sync + fmt::Debug + 'static {
    /// An open file.
    type File: Send + Sync + fmt::Debug;

    /// Creates a file, which must not exist.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Appends `parts`, in as few writes as possible; perhaps with zeros before and behind them, up to the next multiple of
    /// 4 KiB.
    fn append(&self, file: &Self::File, parts: &mut [IoSlice<'_>]) -> io::Result<()>;
    /// Returns when everything written to the file is on stable storage.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Reads up to the length of `buffer` from the offset `at`; fewer bytes only at the end of the file.
    fn read_at(&self, file: &Self::File, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// The length of the file, in bytes.
    fn length(&self, file: &Self::File) -> io::Result<u64>;
    /// Cuts the file after `length` bytes.
    fn truncate(&self, file: &Self::File, length: u64) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Renames a file, over another one if there is one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Returns when all names that were created, removed or changed are on stable storage.
    fn sync_names(&self) -> io::Result<()>;
    /// The names of the files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// The space of the file system.
    fn space(&self) -> io::Result<Space>;
}

/// The space of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The bytes that an unprivileged process may still write.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// A directory of the operating system, locked for this process.
#[derive(Clone, Debug)]
pub struct Directory {
    path: Arc<PathBuf>,
    /// `false` leaves it to the operating system when files reach stable storage.
    fsync: bool,
    /// Holds the lock.
    lock: Option<Arc<File>>,
}

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It is another forebay's.
    #[error("{} belongs to another forebay that is running; give each one a directory of its own", .0.display())]
    Locked(PathBuf),
    /// The operating system refuses it.
    #[error("cannot use {} for the durable queue: {source}", directory.display())]
    Refused {
        /// The directory.
        directory: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// An open file of a [`Directory`].
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    /// A created file past the page cache, for large writes: half the time of the processor, and half the wait. Not every file
    /// system has it.
    writing: Option<Mutex<Direct>>,
    /// The same of a file that was there, for large reads.
    reading: Option<File>,
}

/// A file past the page cache, and the memory that it is written from.
#[derive(Debug)]
struct Direct {
    file: File,
    memory: Vec<u8>,
}

/// How often a locked directory is tried again, and the time between.
const LOOKS: usize = 10;
const LOOK: Duration = Duration::from_millis(20);
/// The name of the locked file.
const LOCK: &str = "lock";
/// Offset, memory and length of a direct write are multiples of this.
pub(super) const ALIGNMENT: usize = 4096;
/// The least bytes for which it pays to pass the page cache: a write is filled up to a multiple of the alignment.
const LARGE: usize = 64 << 10;
/// The folder of bytes that were put aside.
pub const FOLDER: &str = "quarantine";

impl Directory {
    /// Locks the configured directory, and creates it first if that is configured.
    ///
    /// # Errors
    ///
    /// Another process has locked it, or it cannot be created or written.
    pub fn lock(config: &FileStorageConfig) -> Result<Self, DirectoryError> {
        let FileStorageConfig { directory: path, create_directory, fsync } = config;
        let refused = |source| DirectoryError::Refused { directory: path.clone(), source };
        if *create_directory && !path.exists() {
            create_directory_at(path, *fsync).map_err(refused)?;
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.map_err(refused)?;
        match take(&lock, || thread::sleep(LOOK)) {
            Ok(()) => Ok(Self { path: Arc::new(path.clone()), fsync: *fsync, lock: Some(Arc::new(lock)) }),
            Err(TryLockError::WouldBlock) => Err(DirectoryError::Locked(path.clone())),
            Err(TryLockError::Error(source)) => Err(refused(source)),
        }
    }

    /// The directory as it is, perhaps in use by another process, for reading.
    pub fn shared(path: &Path) -> Self {
        Self { path: Arc::new(path.to_owned()), fsync: true, lock: None }
    }

    /// Whether another process has locked the directory.
    pub fn is_in_use(path: &Path) -> bool {
        let lock = File::open(path.join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Whether it is locked for this process.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// A shared directory may be another process's.
    fn may_change(&self) -> io::Result<()> {
        if self.is_locked() { Ok(()) } else { Err(io::ErrorKind::ReadOnlyFilesystem.into()) }
    }

    fn make_folder_of(&self, name: &str) -> io::Result<()> {
        self.may_change()?;
        if name.starts_with(FOLDER) { fs::create_dir_all(self.path.join(FOLDER)) } else { Ok(()) }
    }
}

/// Takes the lock. A command that looks whether it is taken has one of its own for a moment, so that this is tried again.
fn take(lock: &File, mut wait: impl FnMut()) -> Result<(), TryLockError> {
    for _ in 0..LOOKS {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => wait(),
            taken => return taken,
        }
    }
    lock.try_lock()
}

impl Direct {
    /// Writes `parts` at the offset `at`, filled up with zeros.
    fn write(&mut self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let padded = length.next_multiple_of(ALIGNMENT);
        self.memory.clear();
        self.memory.reserve(padded + ALIGNMENT);
        let offset = self.memory.as_ptr().align_offset(ALIGNMENT);
        self.memory.resize(offset, 0);
        parts.iter().for_each(|part| self.memory.extend_from_slice(part));
        self.memory.resize(offset + padded, 0);
        self.file.write_all_at(&self.memory[offset..], at)
    }
}

/// Opens a file past the page cache, if the file system can do that.
fn past_cache(options: &mut OpenOptions, path: &Path) -> Option<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
    options.custom_flags(flags).open(path).ok()
}

/// Creates a directory, and those above it that are missing. All of their names are on stable storage then.
fn create_directory_at(path: &Path, fsync: bool) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|above| !above.exists()).collect();
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    DirBuilder::new().mode(0o700).create(path)?;
    for above in missing.into_iter().filter_map(Path::parent).filter(|_| fsync) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

impl Files for Directory {
    type File = OpenFile;

    fn create(&self, name: &str) -> io::Result<OpenFile> {
        self.make_folder_of(name)?;
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(&path)?;
        let direct = past_cache(OpenOptions::new().write(true), &path);
        let writing = direct.map(|file| Mutex::new(Direct { file, memory: Vec::new() }));
        Ok(OpenFile { file, writing, reading: None })
    }

    fn open(&self, name: &str) -> io::Result<OpenFile> {
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).append(self.is_locked()).open(&path)?;
        Ok(OpenFile { file, writing: None, reading: past_cache(OpenOptions::new().read(true), &path) })
    }

    fn append(&self, open: &OpenFile, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut file = &open.file;
        if let Some(direct) =
            open.writing.as_ref().filter(|_| parts.iter().map(|part| part.len()).sum::<usize>() >= LARGE)
        {
            let at = file.metadata()?.len().next_multiple_of(ALIGNMENT as u64);
            return direct.lock().unwrap_or_else(PoisonError::into_inner).write(parts, at);
        }

        /// The most parts of one write that POSIX systems take.
        const IOV_MAX: usize = 1024;
        while !parts.is_empty() {
            let most = parts.len().min(IOV_MAX);
            match file.write_vectored(&parts[..most]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&self, file: &OpenFile) -> io::Result<()> {
        if self.fsync { file.file.sync_data() } else { Ok(()) }
    }

    fn read_at(&self, open: &OpenFile, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let is_aligned = buffer.as_ptr().align_offset(ALIGNMENT) == 0
            && [buffer.len() as u64, at].into_iter().all(|place| place % ALIGNMENT as u64 == 0);
        if let Some(file) = open.reading.as_ref().filter(|_| is_aligned && buffer.len() >= LARGE)
            && let Ok(read) = file.read_at(buffer, at)
            && (read == buffer.len() || at + read as u64 == file.metadata()?.len())
        {
            return Ok(read);
        }
        let mut read = 0;
        while read < buffer.len() {
            match open.file.read_at(&mut buffer[read..], at + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn length(&self, file: &OpenFile) -> io::Result<u64> {
        Ok(file.file.metadata()?.len())
    }

    fn truncate(&self, file: &OpenFile, length: u64) -> io::Result<()> {
        file.file.set_len(length)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.may_change()?;
        fs::remove_file(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.make_folder_of(to)?;
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_names(&self) -> io::Result<()> {
        if self.fsync {
            for folder in [self.path.to_path_buf(), self.path.join(FOLDER)] {
                match File::open(folder) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    opened => opened?.sync_all()?,
                }
            }
        }
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&*self.path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn space(&self) -> io::Result<Space> {
        let found = rustix::fs::statvfs(&*self.path)?;
        Ok(Space { free: found.f_bavail * found.f_frsize, total: found.f_blocks * found.f_frsize })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_missing_directory_is_created_with_those_above_it_and_is_its_owners_alone() {
        let above = tempfile::tempdir().unwrap();
        let directory = above.path().join("a/b/queue");
        let config = FileStorageConfig { directory: directory.clone(), create_directory: true, fsync: true };
        let files = Directory::lock(&config).unwrap();
        assert!(files.is_locked());
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        drop(files);
        assert!(Directory::lock(&config).is_ok(), "it is there now");
    }

    #[test]
    fn a_command_that_looks_keeps_no_forebay_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().to_owned();
        let config = FileStorageConfig { directory, ..FileStorageConfig::default() };
        drop(Directory::lock(&config).unwrap());
        let open = || File::open(dir.path().join(LOCK)).unwrap();
        let mut looking = Some(open());
        looking.as_ref().unwrap().lock_shared().unwrap();
        assert!(take(&open(), || drop(looking.take())).is_ok());
        let running = Directory::lock(&config).unwrap();
        assert!(Directory::is_in_use(dir.path()));
        assert!(matches!(Directory::lock(&config), Err(DirectoryError::Locked(_))));
        drop(running);
    }

    /// Reads past the page cache end in blocks, files anywhere.
    #[test]
    fn an_aligned_read_gives_what_is_in_the_file_wherever_that_ends() {
        let dir = tempfile::tempdir().unwrap();
        let config = FileStorageConfig { directory: dir.path().to_owned(), ..FileStorageConfig::default() };
        let files = Directory::lock(&config).unwrap();
        let content: Vec<u8> = (0..3 * LARGE).map(|at| (at % 251) as u8).collect();
        for length in [0, 1, ALIGNMENT - 1, LARGE - 1, LARGE, LARGE + 1, 2 * LARGE + ALIGNMENT, 3 * LARGE] {
            let name = format!("{length}");
            let file = files.create(&name).unwrap();
            // In small writes, which are not filled up.
            content[..length].chunks(1000).for_each(|part| {
                files.append(&file, &mut [IoSlice::new(part)]).unwrap();
            });
            let file = files.open(&name).unwrap();
            let mut memory = vec![0; 2 * LARGE + ALIGNMENT];
            let start = memory.as_ptr().align_offset(ALIGNMENT);
            for (at, wanted) in [(0, 2 * LARGE), (LARGE, LARGE), (ALIGNMENT, LARGE), (0, ALIGNMENT)] {
                let buffer = &mut memory[start..start + wanted];
                let read = files.read_at(&file, buffer, at as u64).unwrap();
                let expected = &content[at.min(length)..(at + wanted).min(length)];
                assert_eq!((read, &buffer[..read]), (expected.len(), expected), "{length} bytes, from {at}");
            }
        }
    }
}
