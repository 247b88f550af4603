//! The directory of the durable queue: its file system and its space, how long the disk takes, and the files in it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{StatFs, statfs};

use super::{Finding, Verdict, ok, problem, warning};
use crate::buffer::config::StorageConfig;
use crate::buffer::disk::files::{self, Directory};
use crate::buffer::disk::view;
use crate::values::size::ByteSize;

/// File systems that lose what is written to them, with the reason.
const FLEETING: &[(u64, &str)] = &[(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];

/// File systems on which it is not for this machine to say whether a record is on stable storage.
const REMOTE: &[(u64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x5346_414f, "AFS"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
];

/// The layer of a container that ends with it.
const OVERLAY: u64 = 0x794c_7630;

/// Writes that are measured, and the longest that all may take.
const WRITES: usize = 100;
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest wait for the disk that is fine: no request is answered sooner.
const SLOW: Duration = Duration::from_millis(20);

/// Looks at the durable queue, and reports each finding. A file is written for a moment; nothing else is changed.
pub fn examine_queue(config: &StorageConfig, tell: &mut impl FnMut(Finding)) {
    for (verdict, text) in look(config) {
        tell(Finding { check: "queue", verdict, text });
    }
}

fn look(config: &StorageConfig) -> Vec<(Verdict, String)> {
    let dir = &config.files.directory;
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
    let mut found = match fs::metadata(&dir) {
        Ok(there) if there.is_dir() => match files(&dir) {
            Ok(found) => found,
            Err(error) => return vec![unreadable(&dir, &error)],
        },
        Ok(_) => return vec![problem(format!("{} is not a directory", dir.display()))],
        Err(error) if error.kind() != io::ErrorKind::NotFound => return vec![unreadable(&dir, &error)],
        Err(_) if !config.files.create_directory => {
            let cure = "mount or create it; forebay does not, because create_directory is false";
            return vec![problem(format!("{} does not exist: {cure}", dir.display()))];
        }
        Err(_) => vec![ok(format!("{} does not exist yet; forebay creates it", dir.display()))],
    };
    // The file system that it will be on, if it does not exist yet.
    let place = dir.ancestors().find(|place| place.exists()).unwrap_or(&dir);
    match statfs(place) {
        Ok(stat) => {
            found.push(judge_kind(stat.f_type as u64 & 0xffff_ffff));
            found.push(judge_space(space(&stat), taken(&dir), config));
        }
        Err(error) => found.push(unreadable(place, &error.into())),
    }
    found.push(match measure(place) {
        Ok(times) => judge_times(times, config.files.fsync),
        Err(error) => problem(format!(
            "{} cannot be written: {error}; give it to the user that forebay runs as",
            place.display()
        )),
    });
    found
}

fn unreadable(place: &Path, error: &io::Error) -> (Verdict, String) {
    problem(format!("{} cannot be read: {error}; run this as the user that forebay runs as", place.display()))
}

/// Bytes of a file system: all, and those that are free for forebay.
fn space(stat: &StatFs) -> (u64, u64) {
    let block = stat.f_bsize as u64;
    (stat.f_blocks * block, stat.f_bavail * block)
}

fn judge_kind(kind: u64) -> (Verdict, String) {
    let name_in =
        |list: &[(u64, &'static str)]| list.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name);
    if let Some(name) = name_in(FLEETING) {
        return problem(format!(
            "the file system is {name}, which is memory: a restart of the machine loses all records in it, and they count \
             as memory; set extensions.file_storage.directory to a directory on a disk"
        ));
    }
    if kind == OVERLAY {
        return warning(
            "the file system is the container's own layer, which goes with the container: mount a volume there",
        );
    }
    match name_in(REMOTE) {
        Some(name) => warning(format!(
            "the file system is {name}: whether records survive a power cut, and whether a second forebay is kept out, is up \
             to the server behind it; a local disk or a block device is safer"
        )),
        None => ok("the file system is a local one"),
    }
}

/// `total` and `free` are those of the file system, `taken` is the queue's own, in bytes.
fn judge_space((total, free): (u64, u64), taken: u64, config: &StorageConfig) -> (Verdict, String) {
    let shown = |bytes| ByteSize(bytes).rounded();
    let kept = config.kept_free(total);
    let (room, wanted) = (free.saturating_sub(kept), config.max_size.0.saturating_sub(taken));
    let text = format!("{} of {} are free", shown(free), shown(total));
    let cure = "free some space, or lower";
    if room == 0 {
        let min = config.min_free;
        return problem(format!(
            "{text}, less than min_free ({min}), so that the queue is full: {cure} min_free"
        ));
    }
    if room < wanted {
        return warning(format!(
            "{text}; the queue can take {} more before min_free ({}) is reached, which is less than max_size ({}): {cure} max_size",
            shown(room),
            config.min_free,
            config.max_size,
        ));
    }
    ok(format!("{text}; the queue can take {} more", shown(wanted)))
}

/// The times of writes to a file in `dir`, each until it was on stable storage.
fn measure(dir: &Path) -> io::Result<Vec<Duration>> {
    let path = dir.join(format!("doctor.{}", std::process::id()));
    let measured = OpenOptions::new().write(true).create_new(true).open(&path).and_then(|mut file| {
        let begun = Instant::now();
        let mut times = Vec::with_capacity(WRITES);
        while times.len() < WRITES && begun.elapsed() < PATIENCE {
            let asked = Instant::now();
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
            times.push(asked.elapsed());
        }
        Ok(times)
    });
    // A file of somebody else stays.
    match measured {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        measured => fs::remove_file(&path).and(measured),
    }
}

fn judge_times(mut times: Vec<Duration>, fsync: bool) -> (Verdict, String) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let text = format!("a write takes {} until it is on stable storage, {} at p99", ms(at(50)), ms(at(99)));
    if !fsync {
        return warning(format!(
            "fsync is false: a power cut loses records that were answered OK; with fsync: true {text}"
        ));
    }
    if at(99) > SLOW {
        return warning(format!("{text}; each request waits as long: a faster disk shortens it"));
    }
    ok(text)
}

/// The contents of the queue's directory `dir`, and whether a forebay uses it.
fn files(dir: &Path) -> io::Result<Vec<(Verdict, String)>> {
    let (segments, bytes) = segments(dir)?;
    let user = if Directory::is_in_use(dir) { "a forebay uses it" } else { "no forebay uses it" };
    let text = format!("{}: {segments} segments, {}; {user}", dir.display(), ByteSize(bytes).rounded());
    let mut found = vec![ok(text)];
    let (damaged, bytes) = view::quarantined(dir);
    if damaged > 0 {
        found.push(warning(format!(
            "{damaged} files with {} of damaged records are in {}: the disk may be failing (look at the kernel's log); delete \
             them once nobody needs them",
            ByteSize(bytes).rounded(),
            dir.join(files::FOLDER).display(),
        )));
    }
    Ok(found)
}

/// Bytes of all segments, for the space that the queue has left.
fn taken(dir: &Path) -> u64 {
    segments(dir).unwrap_or_default().1
}

/// The number of segments in `dir`, and their bytes.
fn segments(dir: &Path) -> io::Result<(u64, u64)> {
    let mut sum = (0, 0);
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_one = path.extension().is_some_and(|extension| extension == "segment");
        // A segment may be gone by now.
        if let Some(file) = fs::metadata(&path).ok().filter(|file| is_one && file.is_file()) {
            sum = (sum.0 + 1, sum.1 + file.len());
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::config::FileStorageConfig;

    fn config(directory: &Path) -> StorageConfig {
        let files = FileStorageConfig { directory: directory.to_owned(), ..FileStorageConfig::default() };
        StorageConfig { files, ..StorageConfig::default() }
    }

    /// The finding that says `part`.
    fn saying(found: &[(Verdict, String)], part: &str) -> Verdict {
        let one = found.iter().find(|(_, text)| text.contains(part));
        one.unwrap_or_else(|| panic!("nothing says {part:?}: {found:#?}")).0
    }

    #[test]
    fn memory_is_no_disk_and_a_server_far_away_a_doubtful_one() {
        for (kind, expected, name) in [
            (0x0102_1994, Verdict::Problem, "tmpfs"),
            (0x6969, Verdict::Warning, "NFS"),
            (0xff53_4d42, Verdict::Warning, "CIFS"),
            (0x794c_7630, Verdict::Warning, "mount a volume"),
            (0xef53, Verdict::Ok, "local"),
        ] {
            let (verdict, text) = judge_kind(kind);
            assert_eq!(verdict, expected, "{kind:x}: {text}");
            assert!(text.contains(name), "{kind:x}: {text}");
        }
    }

    #[test]
    fn the_kernel_says_what_memory_is() {
        let shm = Path::new("/dev/shm");
        let kind = statfs(shm).unwrap().f_type as u64 & 0xffff_ffff;
        assert_eq!(judge_kind(kind).0, Verdict::Problem, "{} is {kind:x}", shm.display());
    }

    #[test]
    fn space_is_what_the_file_system_has_beyond_what_stays_free() {
        const GIB: u64 = 1 << 30;
        let config = config(Path::new("q"));
        let judge = |free: u64, taken: u64| judge_space((100 * GIB, free * GIB), taken * GIB, &config);
        assert_eq!(judge(11, 0).0, Verdict::Ok);
        assert_eq!(judge(10, 0).0, Verdict::Warning);
        assert_eq!(judge(10, 1).0, Verdict::Ok, "what is taken already needs no more room");
        let (verdict, text) = judge(3, 0);
        assert!(
            verdict == Verdict::Warning && text.contains("can take 2.0 GiB more before min_free (10%)"),
            "{text}"
        );
        assert_eq!(judge(1, 0).0, Verdict::Problem);
        assert_eq!(judge(1, 10).0, Verdict::Problem, "a queue at its limit has no room at either");
    }

    #[test]
    fn a_slow_disk_and_one_that_is_not_waited_for() {
        let times = |slow: usize| {
            let millis = |slow| Duration::from_millis(if slow { 21 } else { 1 });
            (0..100).map(|at| millis(at >= 100 - slow)).collect::<Vec<_>>()
        };
        assert_eq!(judge_times(times(1), true).0, Verdict::Ok, "one of a hundred");
        let (verdict, text) = judge_times(times(2), true);
        assert!(
            verdict == Verdict::Warning && text.contains("takes 1.0 ms") && text.contains("21.0 ms at p99"),
            "{text}"
        );
        let (verdict, text) = judge_times(times(0), false);
        assert!(
            verdict == Verdict::Warning && text.starts_with("fsync is false: a power cut loses"),
            "{text}"
        );
    }

    #[test]
    fn a_directory_is_looked_at_and_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let queue = dir.path().join("a/queue");
        assert_eq!(saying(&look(&config(&queue)), "does not exist yet"), Verdict::Ok);
        let missing = StorageConfig {
            files: FileStorageConfig { create_directory: false, ..config(&queue).files },
            ..config(&queue)
        };
        assert_eq!(saying(&look(&missing), "create_directory is false"), Verdict::Problem);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is made by looking");

        fs::create_dir_all(queue.join("quarantine")).unwrap();
        for (name, bytes) in [("1.segment", 1024), ("2.segment", 2048), ("state", 4096)] {
            fs::write(queue.join(name), vec![0; bytes]).unwrap();
        }
        let lock = fs::File::create(queue.join("lock")).unwrap();
        let found = look(&config(&queue));
        assert_eq!(saying(&found, "2 segments, 3.0 KiB; no forebay uses it"), Verdict::Ok);
        assert_eq!(found.len(), 4, "nothing is in quarantine: {found:#?}");
        saying(&found, "on stable storage");
        lock.try_lock().unwrap();
        fs::write(queue.join("quarantine/1"), "damaged").unwrap();
        let found = look(&config(&queue));
        saying(&found, "a forebay uses it");
        assert_eq!(saying(&found, "1 files with 7 B of damaged records"), Verdict::Warning);
        assert_eq!(fs::read_dir(&queue).unwrap().count(), 5);

        let file = queue.join("state");
        assert_eq!(look(&config(&file)), [problem(format!("{} is not a directory", file.display()))]);
        let full = look(&config(Path::new("/proc/self/queue")));
        assert_eq!(saying(&full, "/proc/self cannot be written"), Verdict::Problem);
    }
}
