//! The server's log file.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::error::Error;

/// A log larger than this is put aside at the next start.
const LARGE: u64 = 16 << 20;
/// How much of its end is worth repeating in an error.
const TAIL_BYTES: u64 = 8 << 10;
const TAIL_LINES: usize = 12;

/// The log of one run of the server: its part of the file.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    start: u64,
}

impl Log {
    /// Opens the log at `path` for a run that begins now; the file is for the server to write to.
    pub(super) fn open(path: PathBuf) -> Result<(Self, File), Error> {
        if fs::metadata(&path).is_ok_and(|log| log.len() > LARGE) {
            let old = path.with_extension("log.1");
            fs::rename(&path, &old).map_err(Error::io("rename", &path))?;
        }
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        let file = opened.map_err(Error::io("open", &path))?;
        let start = file.metadata().map_err(Error::io("read", &path))?.len();
        Ok((Self { path, start }, file))
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last lines that this run has written.
    pub(super) fn tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.path)?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.start.max(end.saturating_sub(TAIL_BYTES))))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
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
}
