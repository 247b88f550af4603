//! The server's log file.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::own;

/// A log larger than this is put aside at the next start.
const LARGE: u64 = 16 << 20;
/// How much of its end is worth repeating in an error.
const TAIL_BYTES: u64 = 8 << 10;
const TAIL_LINES: usize = 12;

/// The log of one run of the server: its part of the file.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    start: u64,
}

impl Log {
    /// Opens the log at `path` for a new run; the server writes to the returned file. It is private, because PostgreSQL writes
    /// refused rows into it.
    pub(super) fn open(path: PathBuf) -> Result<(Self, File), Error> {
        let old = path.with_extension("log.1");
        if let Ok(older) = own::open(&old, OpenOptions::new().read(true)) {
            keep_private(&older, &old)?;
        }
        let mut file = append_to(&path)?;
        if length(&file, &path)? > LARGE {
            fs::rename(&path, &old).map_err(Error::io("rename", &path))?;
            file = append_to(&path)?;
        }
        let start = length(&file, &path)?;
        let output = file.try_clone().map_err(Error::io("open", &path))?;
        Ok((Self { path, file, start }, output))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last lines that this run has written.
    pub(super) fn tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let end = self.file.metadata()?.len();
            let start = self.start.max(end.saturating_sub(TAIL_BYTES));
            let mut bytes = vec![0; end.saturating_sub(start) as usize];
            self.file.read_exact_at(&mut bytes, start)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_else(|cause| format!("(unreadable: {cause})"));
        let lines: Vec<&str> = text.lines().collect();
        match lines.len() {
            0 => "(nothing)".to_owned(),
            count => lines[count.saturating_sub(TAIL_LINES)..].join("\n"),
        }
    }
}

fn append_to(path: &Path) -> Result<File, Error> {
    let opened = own::open(path, OpenOptions::new().create(true).append(true).read(true));
    let file = opened.map_err(Error::io("open", path))?;
    keep_private(&file, path)?;
    Ok(file)
}

/// Makes the file private: an older version left it readable for everybody.
fn keep_private(file: &File, path: &Path) -> Result<(), Error> {
    file.set_permissions(Permissions::from_mode(0o600)).map_err(Error::io("change the mode of", path))
}

fn length(file: &File, path: &Path) -> Result<u64, Error> {
    Ok(file.metadata().map_err(Error::io("read", path))?.len())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_tail_is_this_runs_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postgresql.log");
        fs::write(&path, "an earlier run\n").unwrap();
        let (log, mut file) = Log::open(path).unwrap();
        assert_eq!(log.tail(), "(nothing)");
        for line in 1..=20 {
            writeln!(file, "line {line}").unwrap();
        }
        let tail = log.tail();
        assert!(tail.starts_with("line 9\n") && tail.ends_with("line 20"), "{tail}");
    }

    #[test]
    fn a_large_log_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postgresql.log");
        File::create(&path).unwrap().set_len(LARGE + 1).unwrap();
        Log::open(path.clone()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert_eq!(fs::metadata(dir.path().join("postgresql.log.1")).unwrap().len(), LARGE + 1);
    }

    #[test]
    fn rows_in_a_log_are_read_by_forebays_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postgresql.log");
        let files = [path.clone(), dir.path().join("postgresql.log.1")];
        for file in &files {
            fs::write(file, "Failing row contains (...)\n").unwrap();
            fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
        }
        Log::open(path).unwrap();
        for file in &files {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        }
    }
}
