//! The fuzz targets' seeds, which are regression tests: what must hold for any input holds for each of them.

use std::fs;
use std::path::Path;
use std::time::Duration;

#[allow(unreachable_pub, reason = "it is a library for the fuzz targets")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

/// What `check` gives for each seed of `target`.
fn replay<T>(target: &str, check: impl Fn(&[u8]) -> T) -> Vec<T> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let seeds = fs::read_dir(folder).expect("there is a corpus").map(|entry| entry.expect("a seed").path());
    let given = seeds.map(|path| {
        // The last one named is the one that failed.
        eprintln!("{}", path.display());
        check(&fs::read(path).expect("a seed can be read"))
    });
    given.collect()
}

#[test]
fn request() {
    let rows = replay("request", fuzz::request::check);
    assert!(rows.contains(&0) && rows.iter().sum::<usize>() >= 50, "{rows:?}");
}

/// An unoptimised build is slower than the bound that the fuzz target has.
#[test]
fn cost() {
    let rows = replay("cost", |data| fuzz::cost::check(data, Duration::from_micros(20)));
    assert!(rows.contains(&0) && rows.iter().sum::<usize>() >= 10_000, "{rows:?}");
}

#[test]
fn json() {
    let replaced = replay("json", fuzz::json::check);
    assert!(replaced.contains(&0) && replaced.iter().sum::<u64>() >= 20, "{replaced:?}");
}

#[test]
fn otlp_json() {
    let rows = replay("otlp_json", fuzz::otlp_json::check);
    assert!(rows.contains(&0) && rows.iter().sum::<usize>() >= 15, "{rows:?}");
}

#[test]
fn queue() {
    let read = replay("queue", fuzz::queue::check);
    assert!(read.contains(&0) && read.contains(&fuzz::queue::REQUESTS), "{read:?}");
}

#[test]
fn config() {
    let understood = replay("config", fuzz::config::check);
    let count = |verdict| understood.iter().filter(|given| **given == verdict).count();
    assert!(count(true) >= 5 && count(false) >= 5, "{understood:?}");
}
