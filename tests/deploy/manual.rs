//! The manual pages in deploy/man are made from the command line's definition.

use std::collections::BTreeMap;
use std::fs;

use forebay::cli;
use tempfile::TempDir;

use crate::tools::file;

/// Scenario: the pages are made anew. Guarantee: they are those of the tree. After a change of the command line:
/// `FOREBAY_REGENERATE=1 cargo test --test deploy the_manual_is_current`.
#[test]
fn the_manual_is_current() {
    let dir = TempDir::new().unwrap();
    clap_mangen::generate_to(cli::definition().disable_help_subcommand(true), dir.path()).unwrap();
    let (made, kept) = (pages(dir.path()), file("deploy/man"));
    if std::env::var_os("FOREBAY_REGENERATE").is_some() {
        fs::remove_dir_all(&kept).unwrap();
        fs::create_dir(&kept).unwrap();
        made.iter().for_each(|(name, text)| fs::write(kept.join(name), text).unwrap());
    }
    let kept = pages(&kept);
    assert_eq!(made.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
    for (name, text) in &made {
        assert_eq!(*text, kept[name], "{name}: FOREBAY_REGENERATE=1 makes it anew");
    }
    let main = &made["forebay.1"];
    for part in ["Exit status:", "LOG_BUFFER_MAX_ENTRIES", "forebay\\-health(1)"] {
        assert!(main.contains(part), "{part:?} is not in:\n{main}");
    }
}

fn pages(dir: &std::path::Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}
