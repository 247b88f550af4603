//! Failures of the operating system, once and for good, at each kind of call.

use std::io::ErrorKind;

use super::super::log::{AppendError, Log};
use super::super::segment::Unreadable;
use super::super::simulated::{Call, Fault, Simulated};
use super::{append, open, read, samples, settings};

/// More than the requests of these tests have, so that one segment has them all.
const LARGE: u64 = 1 << 30;
const WRITES: [Call; 4] = [Call::Append, Call::Sync, Call::Rename, Call::SyncNames];

fn fault(call: Call, error: ErrorKind, for_good: bool) -> Fault {
    Fault { call, error, after: 0, for_good }
}

#[test]
fn a_failed_group_is_written_again_under_new_numbers_and_read_once() {
    for (call, error) in [Call::Append, Call::Sync]
        .into_iter()
        .flat_map(|call| [ErrorKind::Other, ErrorKind::StorageFull].map(|error| (call, error)))
    {
        for seed in 0..200 {
            let disk = Simulated::new(seed);
            let (mut log, _) = open(&disk, LARGE);
            let first = append(&mut log, &[3, 4]);
            let (run, failed) = log.position();
            disk.fail(fault(call, error, false));
            let (one, two) = (&samples()[5].rows, &samples()[6].rows);
            let refused = log.append(&[one, two]).unwrap_err();
            assert_eq!(matches!(refused, AppendError::Full(_)), error == ErrorKind::StorageFull);
            let again = log.append(&[one, two]).unwrap();
            let begun = again.begun.expect("the failed file is not written again");
            assert_eq!(begun.first, failed + (one.len() + two.len()) as u64, "numbers are not used again");
            let third = append(&mut log, &[7]);
            let expected = vec![
                (first[0], 3),
                (first[1], 4),
                ((run, again.firsts[0]), 5),
                ((run, again.firsts[1]), 6),
                (third[0], 7),
            ];
            for disk in [disk.copy(), disk.after_cut(), disk.after_worst_cut()] {
                assert_eq!(read(&disk, &open(&disk, LARGE).1).requests, expected, "{call:?}, seed {seed}");
            }
        }
    }
}

#[test]
fn a_file_whose_length_cannot_be_read_is_never_cut() {
    let disk = Simulated::new(1);
    let (mut log, _) = open(&disk, LARGE);
    let first = append(&mut log, &[1]);
    disk.fail(fault(Call::Read, ErrorKind::Other, false));
    let second = append(&mut log, &[2]);
    disk.fail(fault(Call::Sync, ErrorKind::Other, false));
    log.append(&[&samples()[4].rows]).unwrap_err();
    let third = append(&mut log, &[3]);
    for disk in [disk.copy(), disk.after_worst_cut()] {
        let requests = read(&disk, &open(&disk, LARGE).1).requests;
        assert_eq!(requests, [(first[0], 1), (second[0], 2), (third[0], 3)]);
    }
}

#[test]
fn nothing_is_acknowledged_while_a_kind_of_call_fails_and_all_is_well_after_it() {
    for (call, error) in [Call::Create, Call::Append, Call::Sync, Call::Rename, Call::SyncNames]
        .into_iter()
        .flat_map(|call| [ErrorKind::Other, ErrorKind::StorageFull].map(|error| (call, error)))
    {
        let disk = Simulated::new(1);
        let (mut log, _) = open(&disk, 1);
        let before = append(&mut log, &[1]);
        disk.fail(fault(call, error, true));
        for _ in 0..300 {
            let (_, number) = log.position();
            log.append(&[&samples()[2].rows]).unwrap_err();
            assert!(log.position().1 > number, "numbers are not used again");
        }
        disk.mend();
        let after = append(&mut log, &[2]);
        for disk in [disk.copy(), disk.after_cut(), disk.after_worst_cut()] {
            let (_, segments) = open(&disk, LARGE);
            assert_eq!(read(&disk, &segments).requests, [(before[0], 1), (after[0], 2)], "{call:?}");
            let entries: Vec<_> = segments.iter().map(|segment| segment.entries).collect();
            assert!(entries.iter().all(|bytes| *bytes == entries[0]), "headers stay as small as they were");
        }
    }
}

#[test]
fn failed_files_do_not_stay_while_the_disk_is_full() {
    let disk = Simulated::new(1);
    let (mut log, _) = open(&disk, LARGE);
    append(&mut log, &[1]);
    let before = disk.names().len();
    disk.fail(fault(Call::Append, ErrorKind::StorageFull, true));
    (0..100).for_each(|_| drop(log.append(&[&samples()[2].rows]).unwrap_err()));
    assert_eq!(disk.names().len(), before);
}

#[test]
fn a_start_fails_only_where_the_directory_has_no_records_or_cannot_be_listed() {
    for call in WRITES.into_iter().chain([Call::Create, Call::Open, Call::Read, Call::Truncate, Call::Remove])
    {
        for after in 0..12 {
            for for_good in [false, true] {
                let disk = Simulated::new(after);
                let (mut log, _) = open(&disk, 1);
                let first = append(&mut log, &[1]);
                let second = append(&mut log, &[2]);
                // The last one is torn: the syncs of a seal and of a header come before its own.
                disk.fail(Fault { after: 2, ..fault(Call::Sync, ErrorKind::Other, false) });
                log.append(&[&samples()[4].rows]).unwrap_err();
                let disk = disk.after_cut();
                disk.fail(Fault { call, error: ErrorKind::Other, after, for_good });
                let (_, segments) = Log::open(disk.clone(), settings(LARGE))
                    .unwrap_or_else(|error| panic!("{call:?}: {error}"));
                disk.mend();
                let requests = read(&disk, &segments).requests;
                let next = read(&disk, &open(&disk, LARGE).1).requests;
                let acknowledged = [(first[0], 1), (second[0], 2)];
                assert_eq!(next[..2], acknowledged, "{call:?} {after}: the next start finds everything");
                let left_out = segments.iter().filter(|segment| segment.about.is_err()).count();
                assert!(
                    left_out > 0 || requests[..2] == acknowledged,
                    "{call:?} {after}: nothing is passed over"
                );
            }
        }
    }
    let disk = Simulated::new(1);
    disk.fail(fault(Call::Create, ErrorKind::Other, true));
    assert!(Log::open(disk, settings(LARGE)).is_err());
}

#[test]
fn a_segment_whose_header_cannot_be_read_now_is_read_later() {
    let disk = Simulated::new(1);
    let (mut log, _) = open(&disk, 1);
    let keys = [append(&mut log, &[1]), append(&mut log, &[2]), append(&mut log, &[3])];
    let names = disk.names();
    disk.spoil(&names[1], 0);
    disk.spoil(&names[1], 4096);
    let (_, segments) = open(&disk, LARGE);
    assert_eq!(segments[1].about, Err(Unreadable::Refused(ErrorKind::Other)));
    assert_eq!((segments[1].first, segments[1].end), (keys[1][0].1, keys[2][0].1), "by the names");
    assert_eq!(read(&disk, &segments).requests, [(keys[0][0], 1), (keys[2][0], 3)]);
    disk.mend();
    let (_, segments) = open(&disk, LARGE);
    assert_eq!(read(&disk, &segments).requests, [(keys[0][0], 1), (keys[1][0], 2), (keys[2][0], 3)]);
}

#[test]
fn a_header_of_which_one_copy_cannot_be_read_is_read() {
    for sector in [0, 4096] {
        let disk = Simulated::new(1);
        let (mut log, _) = open(&disk, LARGE);
        let keys = append(&mut log, &[1]);
        disk.spoil(&disk.names()[0], sector);
        let (_, segments) = open(&disk, LARGE);
        assert_eq!(read(&disk, &segments).requests, [(keys[0], 1)]);
    }
}

#[test]
fn the_end_of_a_segment_with_a_bad_sector_is_found_and_nothing_is_cut() {
    let disk = Simulated::new(1);
    let (mut log, segments) = open(&disk, LARGE);
    assert!(segments.is_empty());
    let keys = append(&mut log, &[20, 1, 2, 3]);
    let name = disk.names()[0].clone();
    let before = disk.content(&name);
    disk.spoil(&name, 8192 + 4096);
    let (_, segments) = open(&disk, LARGE);
    assert_eq!(segments[0].end, keys[3].1 + samples()[3].rows.len() as u64);
    assert!(segments[0].is_kept, "it is put aside instead of being removed");
    assert_eq!(disk.content(&name), before);
    super::super::log::remove(&disk, &segments[0]).unwrap();
    assert_eq!(disk.content(&format!("quarantine/{name}")), before);
}
