//! Cuts at every call, with and without failures before them: what was acknowledged is read, byte for byte, in order and once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use fastrand::Rng;

use super::super::log::{Log, remove};
use super::super::segment::Segment;
use super::super::simulated::{Call, Fault, Simulated};
use super::{Key, for_each_seed, read, samples, seeds, settings};

/// The requests to the log, and its answers.
#[derive(Default)]
struct Model {
    requests: u64,
    /// The request and its sample, for each attempt to append it.
    attempts: BTreeMap<Key, (u64, usize)>,
    acknowledged: BTreeMap<u64, Key>,
    /// The removal of these was begun, so that they may be there or not.
    removing: BTreeSet<Key>,
    removed: BTreeSet<Key>,
}

/// A log and what is known of its segments.
struct Life {
    log: Log<Simulated>,
    segments: Vec<Segment>,
}

const CALLS: [Call; 7] =
    [Call::Create, Call::Append, Call::Sync, Call::Truncate, Call::Remove, Call::Rename, Call::SyncNames];

#[test]
fn what_was_acknowledged_survives_each_cut() {
    for_each_seed(seeds(5_000), |seed| {
        assert!(std::panic::catch_unwind(|| lives(seed)).is_ok(), "seed {seed}");
    });
}

/// Some lives of a log, each of which ends by a cut.
fn lives(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let mut disk = Simulated::new(seed);
    let mut model = Model::default();
    let with_faults = random.bool();
    let segment_bytes = random.u64(8000..20_000);
    if random.bool() {
        disk.pad();
    }
    for _ in 0..random.u8(1..4) {
        let most = if random.bool() { 100 } else { 25 };
        disk.cut_at(random.u64(0..most));
        if with_faults {
            fail(&disk, &mut random);
        }
        live(&disk, segment_bytes, &mut random, &mut model, with_faults);
        disk = if random.u8(0..4) == 0 { disk.after_worst_cut() } else { disk.after_cut() };
    }
    let (log, segments) = Log::open(disk.clone(), settings(segment_bytes)).expect("it always starts");
    check(&model, &disk, &segments);
    drop(log);
    let again = Log::open(disk.clone(), settings(segment_bytes)).unwrap().1;
    assert_eq!(read(&disk, &segments), read(&disk, &again), "each start reads the same");
}

fn fail(disk: &Simulated, random: &mut Rng) {
    for _ in 0..random.u8(0..3) {
        let error = if random.bool() { ErrorKind::StorageFull } else { ErrorKind::Other };
        let (call, after) = (CALLS[random.usize(0..CALLS.len())], random.u64(0..12));
        disk.fail(Fault { call, error, after, for_good: random.u8(0..4) == 0 });
    }
}

fn live(disk: &Simulated, segment_bytes: u64, random: &mut Rng, model: &mut Model, with_faults: bool) {
    let is_expected = || assert!(with_faults || disk.is_off(), "nothing fails without a cause");
    let start = |model: &mut Model| match Log::open(disk.clone(), settings(segment_bytes)) {
        Ok((log, segments)) => Some(Life { log, segments }),
        Err(_) => {
            assert!(disk.is_off() || (with_faults && model.acknowledged.is_empty()), "it always starts");
            None
        }
    };
    let Some(mut life) = start(model) else { return };
    let mut retry = Vec::new();
    while !disk.is_off() {
        match random.u8(0..12) {
            0 => {
                let _ = life.log.seal().inspect_err(|_| is_expected());
                let Some(next) = start(model) else { return };
                (life, retry) = (next, Vec::new());
            }
            1 => {
                let Some(next) = start(model) else { return };
                (life, retry) = (next, Vec::new());
            }
            2 | 3 => life.remove_first(disk, model, &is_expected),
            4 => disk.mend(),
            _ => {
                let group =
                    if retry.is_empty() { model.requests(random) } else { std::mem::take(&mut retry) };
                if !life.append(&group, model) {
                    is_expected();
                    retry = group;
                }
            }
        }
    }
}

impl Model {
    fn requests(&mut self, random: &mut Rng) -> Vec<(u64, usize)> {
        let group = 0..random.u64(1..5);
        let requests = group.map(|at| (self.requests + at, random.usize(0..samples().len())));
        let requests: Vec<_> = requests.collect();
        self.requests += requests.len() as u64;
        requests
    }
}

impl Life {
    fn append(&mut self, group: &[(u64, usize)], model: &mut Model) -> bool {
        let rows: Vec<_> = group.iter().map(|(_, sample)| &samples()[*sample].rows).collect();
        let (run, mut number) = self.log.position();
        for (request, rows) in group.iter().zip(&rows) {
            assert!(model.attempts.insert((run, number), *request).is_none(), "a number is used twice");
            number += rows.len() as u64;
        }
        let Ok(appended) = self.log.append(&rows) else { return false };
        self.segments.extend(appended.begun);
        for ((request, _), first) in group.iter().zip(appended.firsts) {
            let key = (appended.run, first);
            assert_eq!(model.attempts[&key].0, *request);
            model.acknowledged.insert(*request, key);
        }
        self.segments.last_mut().unwrap().end = self.log.position().1;
        true
    }

    /// Removes the first segment that is complete.
    fn remove_first(&mut self, disk: &Simulated, model: &mut Model, is_expected: &impl Fn()) {
        if self.segments.len() < 2 {
            return;
        }
        let segment = &self.segments[0];
        let of_it = (segment.run, segment.first)..(segment.run, segment.end.max(segment.first));
        let keys: Vec<_> = model.attempts.range(of_it).map(|(key, _)| *key).collect();
        model.removing.extend(&keys);
        match remove(disk, segment) {
            Ok(()) => {
                model.removed.extend(&keys);
                self.segments.remove(0);
            }
            Err(_) => is_expected(),
        }
    }
}

/// After a cut, `segments` were found.
fn check(model: &Model, disk: &Simulated, segments: &[Segment]) {
    for segment in segments {
        assert!(segment.about.is_ok(), "{:?}", segment.about);
    }
    let read = read(disk, segments);
    assert!(read.requests.is_sorted_by(|(a, _), (b, _)| a < b), "in order, and once");
    let mut found = BTreeSet::new();
    for (key, sample) in &read.requests {
        let (request, expected) = model.attempts[key];
        assert_eq!(*sample, expected);
        assert!(found.insert(request), "a request is read once, however often it was tried");
        assert!(!model.removed.contains(key), "what was removed does not come back");
    }
    for (request, key) in &model.acknowledged {
        assert!(found.contains(request) || model.removing.contains(key), "{key:?} was acknowledged");
    }
}
