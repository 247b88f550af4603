//! A disk for tests, which keeps what was synced and what was not, so that it can be cut off at any call, and fail at any.
//!
//! A cut leaves each sector that was not synced as it was, as it should be, or as zeros; each length of a file between the ones that
//! it had; and each change of a name done or undone. A sync that fails loses sectors for good, although later ones succeed: that is
//! how operating systems behave.

mod content;

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;

use super::files::{ALIGNMENT, FOLDER, Files, Space};
use content::{Content, SECTOR};

/// A disk with one directory. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Simulated(Arc<Mutex<Disk>>);

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Create,
    Open,
    Append,
    Sync,
    Read,
    Truncate,
    Remove,
    Rename,
    SyncNames,
    List,
}

/// A call that fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) call: Call,
    pub(super) error: io::ErrorKind,
    /// The number of calls of the kind before it.
    pub(super) after: u64,
    /// All later ones fail as well.
    pub(super) for_good: bool,
}

/// The contents of the disk and of the operating system's memory.
#[derive(Clone, Debug)]
struct Disk {
    random: Rng,
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    /// Changes of names since they were synced.
    changes: Vec<Change>,
    calls: u64,
    cut: Option<u64>,
    faults: Vec<Fault>,
    /// Offsets that cannot be read, by the name of the file.
    bad: Vec<(String, usize)>,
    total: u64,
    syncs: u64,
    sync_time: Duration,
    pads: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Add(String, usize),
    Remove(String),
    Move(String, String, usize),
}

impl Simulated {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            random: Rng::with_seed(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            changes: Vec::new(),
            calls: 0,
            cut: None,
            faults: Vec::new(),
            bad: Vec::new(),
            total: 1 << 40,
            syncs: 0,
            sync_time: Duration::ZERO,
            pads: false,
        })))
    }

    /// From now on some appends are filled up with zeros, as those past a page cache are.
    pub(super) fn pad(&self) {
        self.disk().pads = true;
    }

    /// The power fails at the call with this number from now on.
    pub(super) fn cut_at(&self, call: u64) {
        let mut disk = self.disk();
        disk.cut = Some(disk.calls + call);
    }

    /// Whether the power has failed.
    pub(super) fn is_off(&self) -> bool {
        let disk = self.disk();
        disk.cut.is_some_and(|cut| disk.calls > cut)
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.disk().faults.push(fault);
    }

    /// Ends all failures.
    pub(super) fn mend(&self) {
        let mut disk = self.disk();
        disk.faults.clear();
        disk.bad.clear();
    }

    /// The sector of the file `name` at the offset `at` cannot be read.
    pub(super) fn spoil(&self, name: &str, at: usize) {
        self.disk().bad.push((name.to_owned(), at / SECTOR * SECTOR));
    }

    /// The file system has so many bytes, and nothing else is in it.
    pub(super) fn set_total(&self, total: u64) {
        self.disk().total = total;
    }

    /// The longest that a sync takes.
    pub(super) fn set_sync_time(&self, time: Duration) {
        self.disk().sync_time = time;
    }

    /// The disk after a cut now, by chance.
    pub(super) fn after_cut(&self) -> Self {
        self.with(|disk| {
            let mut random = disk.random.fork();
            let mut names = disk.synced_names.clone();
            let in_order = random.bool().then(|| random.usize(0..=disk.changes.len()));
            for (at, change) in disk.changes.iter().enumerate() {
                if in_order.map_or_else(|| random.bool(), |done| at < done) {
                    change.apply(&mut names);
                }
            }
            disk.files.iter_mut().for_each(|file| file.now = file.after_cut(&mut random));
            names
        })
    }

    /// The disk after a cut now that leaves nothing but what was synced.
    pub(super) fn after_worst_cut(&self) -> Self {
        self.with(|disk| {
            disk.files.iter_mut().for_each(|file| file.now.clone_from(&file.synced));
            disk.synced_names.clone()
        })
    }

    /// A copy without failures, whose files and names are all synced, after `change` has returned its names.
    fn with(&self, change: impl FnOnce(&mut Disk) -> BTreeMap<String, usize>) -> Self {
        let mut disk = self.disk().clone();
        self.disk().random.u64(..);
        let names = change(&mut disk);
        for file in &mut disk.files {
            *file = Content::synced(std::mem::take(&mut file.now));
        }
        disk.synced_names.clone_from(&names);
        disk.names = names;
        disk.changes.clear();
        (disk.calls, disk.cut, disk.sync_time) = (0, None, Duration::ZERO);
        disk.faults.clear();
        disk.bad.clear();
        Self(Arc::new(Mutex::new(disk)))
    }

    /// A copy of it as it is.
    pub(super) fn copy(&self) -> Self {
        self.with(|disk| disk.names.clone())
    }

    /// All names, those in the folder as well.
    pub(super) fn names(&self) -> Vec<String> {
        self.disk().names.keys().cloned().collect()
    }

    pub(super) fn content(&self, name: &str) -> Vec<u8> {
        let disk = self.disk();
        disk.files[disk.names[name]].now.clone()
    }

    /// Gives the file `name`, which may not exist, this content.
    pub(super) fn put(&self, name: &str, content: Vec<u8>) {
        let mut disk = self.disk();
        let id = disk.files.len();
        disk.files.push(Content::synced(content));
        disk.names.insert(name.to_owned(), id);
        disk.synced_names.insert(name.to_owned(), id);
    }

    /// Whether a file that a cut leaves has these bytes.
    pub(super) fn has_synced(&self, bytes: &[u8]) -> bool {
        let disk = self.disk();
        let mut files = disk.synced_names.values().map(|id| &disk.files[*id].synced);
        files.any(|content| memchr::memmem::find(content, bytes).is_some())
    }

    /// The number of calls so far.
    pub(super) fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// The number of syncs so far.
    pub(super) fn syncs(&self) -> u64 {
        self.disk().syncs
    }

    /// Flips a bit of an open file, on the disk and in memory.
    pub(super) fn flip(&self, file: usize, at: usize) {
        let file = &mut self.disk().files[file];
        file.now[at] ^= 1;
        file.synced[at] ^= 1;
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// The disk for a call, which may fail: then `half` is done to it by chance, if it may be done in part.
    fn call(&self, call: Call, half: impl FnOnce(&mut Disk)) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.disk();
        let number = disk.calls;
        disk.calls += 1;
        if let Some(cut) = disk.cut.filter(|cut| number >= *cut) {
            if number == cut && disk.random.bool() {
                half(&mut disk);
            }
            return Err(io::Error::other("the power has failed"));
        }
        let mut error = None;
        for fault in disk.faults.iter_mut().filter(|fault| fault.call == call) {
            match fault.after {
                0 => error = Some(fault.error),
                _ => fault.after -= 1,
            }
        }
        let Some(error) = error else { return Ok(disk) };
        disk.faults.retain(|fault| fault.call != call || fault.after > 0 || fault.for_good);
        half(&mut disk);
        Err(error.into())
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Add(name, id) => drop(names.insert(name.clone(), *id)),
            Self::Remove(name) => drop(names.remove(name)),
            Self::Move(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
        }
    }
}

impl Disk {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn id(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Files for Simulated {
    type File = usize;

    fn create(&self, name: &str) -> io::Result<usize> {
        let mut disk = self.call(Call::Create, |_| {})?;
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = disk.files.len();
        disk.files.push(Content::default());
        disk.change(Change::Add(name.to_owned(), id));
        Ok(id)
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        self.call(Call::Open, |_| {})?.id(name)
    }

    fn append(&self, file: &usize, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        let pads = {
            let mut disk = self.disk();
            let length = disk.files[*file].now.len();
            (disk.pads && disk.random.bool()).then(|| length.next_multiple_of(ALIGNMENT) - length)
        };
        bytes.resize(pads.unwrap_or_default(), 0);
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        if let Some(before) = pads {
            bytes.resize(before + (bytes.len() - before).next_multiple_of(ALIGNMENT), 0);
        }
        let half = |disk: &mut Disk| {
            let some = disk.random.usize(0..=bytes.len());
            disk.files[*file].append(&bytes[..some]);
        };
        self.call(Call::Append, half)?.files[*file].append(&bytes);
        Ok(())
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        let time = {
            let mut disk = self.disk();
            disk.syncs += 1;
            let most = disk.sync_time.as_micros() as u64;
            Duration::from_micros(disk.random.u64(0..=most))
        };
        if !time.is_zero() {
            std::thread::sleep(time);
        }
        let half = |disk: &mut Disk| {
            let mut random = disk.random.fork();
            disk.files[*file].fail_to_sync(&mut random);
        };
        self.call(Call::Sync, half)?.files[*file].sync();
        Ok(())
    }

    fn read_at(&self, file: &usize, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let disk = self.call(Call::Read, |_| {})?;
        let content = &disk.files[*file].now;
        let from = (at as usize).min(content.len());
        let until = (from + buffer.len()).min(content.len());
        let is_bad = |(name, bad): &(String, usize)| {
            disk.names.get(name) == Some(file) && *bad < until && bad + SECTOR > from && from < until
        };
        if disk.bad.iter().any(is_bad) {
            return Err(io::Error::other("the sector cannot be read"));
        }
        buffer[..until - from].copy_from_slice(&content[from..until]);
        Ok(until - from)
    }

    fn length(&self, file: &usize) -> io::Result<u64> {
        Ok(self.call(Call::Read, |_| {})?.files[*file].now.len() as u64)
    }

    fn truncate(&self, file: &usize, length: u64) -> io::Result<()> {
        let half = |disk: &mut Disk| disk.files[*file].truncate(length as usize);
        self.call(Call::Truncate, half)?.files[*file].truncate(length as usize);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.call(Call::Remove, |_| {})?;
        disk.id(name)?;
        disk.change(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.call(Call::Rename, |_| {})?;
        let id = disk.id(from)?;
        disk.change(Change::Move(from.to_owned(), to.to_owned(), id));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut disk = self.call(Call::SyncNames, |_| {})?;
        disk.synced_names = disk.names.clone();
        disk.changes.clear();
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let disk = self.call(Call::List, |_| {})?;
        Ok(disk.names.keys().filter(|name| !name.starts_with(FOLDER)).cloned().collect())
    }

    fn space(&self) -> io::Result<Space> {
        let disk = self.disk();
        let taken: usize = disk.names.values().map(|id| disk.files[*id].now.len()).sum();
        Ok(Space { free: disk.total.saturating_sub(taken as u64), total: disk.total })
    }
}
