//! The tools of others that read what is in deploy/.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the tree.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A file of the tree.
pub fn file(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

/// The text of a file of the tree.
pub fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A tool by its name or path; `None` where it is not installed, which is said. Under CI all of them are.
pub fn tool(name: impl AsRef<Path>) -> Option<PathBuf> {
    let name = name.as_ref();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        skipped(&format!("{} is not installed; ./dev test installs it", name.display()));
    }
    found
}

/// A tool that `./dev` has built or installed under `target/deploy`.
pub fn own_tool(path: &str) -> Option<PathBuf> {
    tool(file("target/deploy").join(path))
}

/// Whether this is root, which some of what is tested has to be.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped("it takes root");
    }
    root
}

fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Past the capture of a test's output: it is about what was not tested.
    let _ = writeln!(std::io::stderr().lock(), "SKIPPED {test}: {why}");
}

/// Runs a command to its end, which has to be a good one; gives what it printed, errors included.
pub fn run<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = A>) -> String {
    succeeds(Command::new(program).args(arguments))
}

/// The same of a command that is there already.
pub fn succeeds(command: &mut Command) -> String {
    let (good, said) = outcome(command);
    assert!(good, "{command:?}:\n{said}");
    said
}

/// Whether a command ends well, and what it printed.
pub fn outcome(command: &mut Command) -> (bool, String) {
    let output = command.current_dir(ROOT).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
