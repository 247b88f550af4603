//! Files that are damaged, cut, blank, swapped, missing, there twice, or of a later version.

use std::sync::Arc;

use super::super::cursor::{Cursor, Found};
use super::super::log::{Log, Settings, named};
use super::super::segment::Unreadable;
use super::super::simulated::Simulated;
use super::{Key, Read, append, for_each_seed, open, read, samples};
use crate::table::RowFormat;

const LARGE: u64 = 1 << 30;
/// Both copies of a header.
const HEADERS: usize = 8192;
const ENTRY: usize = 48;

/// A queue of two runs: a sealed segment, one that another follows, and one without a seal.
fn queue() -> (Simulated, Vec<(Key, usize)>) {
    let disk = Simulated::new(1);
    let mut requests = Vec::new();
    let mut add = |keys: Vec<Key>, samples: &[usize]| requests.extend(keys.into_iter().zip(samples.to_vec()));
    let (mut log, _) = open(&disk, LARGE);
    add(append(&mut log, &[1, 3]), &[1, 3]);
    log.seal().unwrap();
    let (mut log, _) = open(&disk, 1);
    add(append(&mut log, &[2, 8]), &[2, 8]);
    add(append(&mut log, &[7]), &[7]);
    add(append(&mut log, &[1]), &[1]);
    (disk, requests)
}

/// A queue of one segment without a seal, its requests, and its name.
fn segment(samples: &[usize]) -> (Simulated, Vec<(Key, usize)>, String) {
    let disk = Simulated::new(1);
    let (mut log, _) = open(&disk, LARGE);
    let requests = append(&mut log, samples).into_iter().zip(samples.to_vec()).collect();
    let name = disk.names()[0].clone();
    (disk, requests, name)
}

/// The records that a start finds on `disk`.
fn found(disk: &Simulated) -> Read {
    read(disk, &open(disk, LARGE).1)
}

fn quarantined(disk: &Simulated) -> Vec<(String, Vec<u8>)> {
    let names = disk.names().into_iter().filter(|name| name.starts_with("quarantine/"));
    names.map(|name| (name.clone(), disk.content(&name))).collect()
}

#[test]
fn damage_that_grows_is_kept_as_a_whole() {
    let disk = Simulated::new(1);
    let (mut log, _) = open(&disk, 1 << 20);
    let keys = append(&mut log, &[1, 2, 3]);
    drop(log);
    let (_, segments) = open(&disk, 1 << 20);
    let mut content = disk.content(&segments[0].name);
    let mut damage = |sample: usize| {
        let at = memchr::memmem::find(&content, samples()[sample].rows.bytes()).unwrap();
        content[at] ^= 1;
        disk.put(&segments[0].name, content.clone());
        let found = Cursor::open(&disk, &segments[0]).unwrap().find(keys[1].1).unwrap();
        assert!(matches!(found, Found::Damaged { is_kept: true, .. }), "{found:?}");
        quarantined(&disk).into_iter().map(|(_, bytes)| bytes).max_by_key(Vec::len).unwrap()
    };
    let (one, both) = (damage(2), damage(3));
    let last = samples()[3].rows.bytes();
    assert!(both.len() > one.len() && both.ends_with(&last[last.len() - 20..]));
}

#[test]
fn a_flipped_bit_costs_its_entry_at_most() {
    let (disk, requests) = queue();
    let id = named(&disk).unwrap();
    for name in disk.names() {
        let content = disk.content(&name);
        let is_segment = name != "queue";
        for_each_seed(content.len() as u64, |at| {
            let at = at as usize;
            // Most of a header is blank.
            if is_segment && at < HEADERS && content[at] == 0 && !at.is_multiple_of(64) {
                return;
            }
            let mut damaged = content.clone();
            damaged[at] ^= 1 << (at % 8);
            let disk = disk.copy();
            disk.put(&name, damaged.clone());
            let (log, segments) = open(&disk, LARGE);
            assert_eq!(log.id(), id, "{name} {at}");
            let read = read(&disk, &segments);
            let (kept, lost): (Vec<_>, Vec<_>) =
                requests.iter().copied().partition(|request| read.requests.contains(request));
            assert_eq!(read.requests, kept, "{name} {at}: nothing that was not there, in order");
            if at < HEADERS || !is_segment {
                assert_eq!(lost, [], "{name} {at}");
                return;
            }
            let [((run, number), sample)] = lost[..] else {
                return assert_eq!(lost, [], "{name} {at}");
            };
            assert!(name.starts_with(&format!("{run:016x}")), "{name} {at}");
            let bytes = &quarantined(&disk)[0].1;
            let around = &damaged[(at + 1).saturating_sub(bytes.len())..];
            assert!(around.windows(bytes.len()).any(|window| window == bytes), "{name} {at}: it is kept");
            // The last entry of a file without a seal may as well be one that was never acknowledged.
            if (run, number) != requests[5].0 {
                let numbers = number..number + samples()[sample].rows.len() as u64;
                assert_eq!((&read.lost[..], read.damaged), (&[(run, numbers)][..], 1), "{name} {at}");
            }
        });
    }
}

#[test]
fn a_file_without_a_seal_that_is_cut_at_any_length_has_its_whole_entries() {
    let (disk, requests, name) = segment(&[1, 3, 2]);
    let content = disk.content(&name);
    let mut ends = vec![HEADERS];
    for (_, sample) in &requests {
        let sample = &samples()[*sample];
        ends.push(ends.last().unwrap() + ENTRY + sample.described.len() + sample.rows.bytes().len());
    }
    assert_eq!(content.len(), ends[3]);
    for length in HEADERS..=content.len() {
        for blank in [0, 1, 600] {
            let disk = disk.copy();
            let whole = ends.iter().rposition(|end| *end <= length).unwrap();
            disk.put(&name, [&content[..length], &vec![0; blank]].concat());
            let read = found(&disk);
            assert_eq!((read.requests, read.lost), (requests[..whole].to_vec(), vec![]), "{length}");
            let torn = &content[ends[whole]..length];
            let kept = quarantined(&disk);
            assert_eq!(kept.is_empty(), torn.iter().all(|byte| *byte == 0), "{length}");
            assert!(kept.iter().all(|(_, bytes)| bytes.starts_with(torn)), "{length}");
            assert_eq!(disk.content(&name).len(), ends[whole] + ENTRY, "it is cut there, and sealed");
        }
    }
}

#[test]
fn a_file_that_is_cut_in_its_header_stays_as_it_is() {
    let (disk, requests, name) = segment(&[1]);
    let content = disk.content(&name);
    let used = content[..4096].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for length in (0..HEADERS).step_by(97) {
        let disk = disk.copy();
        disk.put(&name, content[..length].to_vec());
        let (_, segments) = open(&disk, LARGE);
        let is_whole = length >= used;
        assert_eq!(segments[0].about.is_ok(), is_whole, "{length}");
        assert_eq!(read(&disk, &segments).requests, []);
        if !is_whole {
            assert_eq!(segments[0].about, Err(Unreadable::Damaged));
            assert_eq!((segments[0].run, segments[0].first), requests[0].0, "by its name");
            assert_eq!(disk.content(&name), content[..length]);
        }
    }
}

#[test]
fn a_blank_file_stays_and_the_others_are_read() {
    let (disk, requests) = queue();
    for (at, name) in disk.names().into_iter().filter(|name| name != "queue").enumerate() {
        let disk = disk.copy();
        let blank = vec![0; disk.content(&name).len()];
        disk.put(&name, blank.clone());
        let (_, segments) = open(&disk, LARGE);
        assert_eq!(segments[at].about, Err(Unreadable::Damaged));
        let gone = [0..2, 2..4, 4..5, 5..6][at].clone();
        let left: Vec<_> = requests[..gone.start].iter().chain(&requests[gone.end..]).copied().collect();
        assert_eq!(read(&disk, &segments).requests, left);
        assert_eq!(disk.content(&name), blank);
    }
}

#[test]
fn missing_files_cost_what_they_had() {
    let (disk, requests) = queue();
    for (at, name) in disk.names().into_iter().filter(|name| name != "queue").enumerate() {
        let disk = disk.copy();
        super::super::files::Files::remove(&disk, &name).unwrap();
        let gone = [0..2, 2..4, 4..5, 5..6][at].clone();
        let left: Vec<_> = requests[..gone.start].iter().chain(&requests[gone.end..]).copied().collect();
        assert_eq!((found(&disk).requests, found(&disk).lost), (left, vec![]));
    }
    let id = named(&disk).unwrap();
    super::super::files::Files::remove(&disk, "queue").unwrap();
    assert_eq!(open(&disk, LARGE).0.id(), id, "the segments have it as well");
    assert_eq!(named(&disk), Some(id));
}

#[test]
fn names_that_are_swapped_change_nothing() {
    let (disk, requests) = queue();
    let names: Vec<_> = disk.names().into_iter().filter(|name| name != "queue").collect();
    for (one, two) in [(0, 1), (1, 2), (0, 3)] {
        let disk = disk.copy();
        let (first, second) = (disk.content(&names[one]), disk.content(&names[two]));
        disk.put(&names[one], second);
        disk.put(&names[two], first);
        let read = found(&disk);
        assert_eq!((read.requests, read.lost), (requests.clone(), vec![]));
    }
}

#[test]
fn a_copy_under_another_name_is_put_aside() {
    let (disk, requests) = queue();
    let names: Vec<_> = disk.names().into_iter().filter(|name| name != "queue").collect();
    for name in &names {
        for other in
            ["0000000000000001-0000000000000000.segment", "7fffffffffffffff-0000000000000000.segment"]
        {
            let disk = disk.copy();
            disk.put(other, disk.content(name));
            let copy = disk.content(name);
            assert_eq!(found(&disk).requests, requests);
            assert_eq!(quarantined(&disk), [(format!("quarantine/{other}"), copy)]);
        }
    }
}

#[test]
fn a_file_of_a_later_version_stays_and_is_reported() {
    let (disk, requests) = queue();
    let name = "0000000000000009-0000000000000000.segment";
    let mut later = disk.content(&disk.names()[0]);
    for copy in [0, 4096] {
        later[copy + 8] = 2;
    }
    disk.put(name, later.clone());
    let (_, segments) = open(&disk, LARGE);
    assert_eq!(segments[0].about, Err(Unreadable::Later(2)));
    assert_eq!(read(&disk, &segments).requests, requests);
    assert_eq!(disk.content(name), later);
}

#[test]
fn a_length_of_four_gigabytes_takes_no_memory_and_costs_its_entry() {
    let (disk, requests, name) = segment(&[1, 3, 2]);
    let mut content = disk.content(&name);
    let sample = &samples()[1];
    let at = HEADERS + ENTRY + sample.described.len() + sample.rows.bytes().len();
    // Whole by its own checksum, as if it had been written so.
    content[at + 28..at + 36].fill(0xff);
    let checksum = crc32fast::hash(&content[at..at + 44]).to_le_bytes();
    content[at + 44..at + 48].copy_from_slice(&checksum);
    disk.put(&name, content);
    let read = found(&disk);
    assert_eq!((read.requests, read.damaged), (vec![requests[0], requests[2]], 1));
}

#[test]
fn old_entries_of_another_file_are_no_entries() {
    let (disk, requests, name) = segment(&[1, 3]);
    let (old, _, of_it) = segment(&[2]);
    let old = old.content(&of_it)[HEADERS..].to_vec();
    disk.put(&name, [disk.content(&name), old.clone()].concat());
    assert_eq!(found(&disk).requests, requests);
    assert_eq!(quarantined(&disk)[0].1, old, "they are no zeros, so that they are kept");
}

#[test]
fn an_entry_in_the_place_of_another_costs_that_one() {
    // The disk has written it to a wrong place, of the same length.
    let (disk, requests, name) = segment(&[1, 1, 1, 2]);
    let content = disk.content(&name);
    let length = ENTRY + samples()[1].described.len() + samples()[1].rows.bytes().len();
    let entry = |at: usize| HEADERS + at * length..HEADERS + (at + 1) * length;
    for (from, to) in [(2, 0), (0, 2), (1, 2)] {
        let disk = disk.copy();
        let mut misplaced = content.clone();
        misplaced[entry(to)].copy_from_slice(&content[entry(from)]);
        disk.put(&name, misplaced);
        let read = found(&disk);
        let others = [&requests[..to], &requests[to + 1..]].concat();
        let numbers = to as u64..to as u64 + 1;
        assert_eq!((read.requests, read.lost), (others, vec![(requests[0].0.0, numbers)]), "{from} {to}");
    }
}

#[test]
fn a_torn_entry_between_whole_ones_is_damage_and_both_are_read() {
    let (disk, requests, name) = segment(&[1, 3, 2]);
    let mut content = disk.content(&name);
    let sample = &samples()[1];
    let at = HEADERS + ENTRY + sample.described.len() + sample.rows.bytes().len();
    content[at..at + ENTRY + 10].fill(0);
    disk.put(&name, content);
    let read = found(&disk);
    assert_eq!((read.requests, read.damaged), (vec![requests[0], requests[2]], 1));
}

#[test]
fn damage_at_the_end_hides_nothing_that_is_appended_behind_it() {
    let disk = Simulated::new(1);
    let (mut log, _) = open(&disk, LARGE);
    let rows = |at: usize| &samples()[at].rows;
    let begun = log.append(&[rows(1), rows(3)]).unwrap().begun.unwrap();
    let name = begun.name.clone();
    let id = super::super::files::Files::open(&disk, &name).unwrap();
    disk.flip(id, disk.content(&name).len() - 1);
    let mut cursor = Cursor::open(&disk, &begun).unwrap();
    assert!(matches!(cursor.find(0).unwrap(), Found::Entry { first: 0, .. }));
    for _ in 0..2 {
        let found = cursor.find(1).unwrap();
        assert!(matches!(found, Found::Damaged { numbers, .. } if numbers == (1..u64::MAX)));
    }
    let next = append(&mut log, &[2])[0].1;
    assert!(matches!(cursor.find(next).unwrap(), Found::Entry { first, .. } if first == next));
    assert!(matches!(cursor.find(1).unwrap(), Found::Damaged { numbers, .. } if numbers == (1..next)));
    assert!(matches!(cursor.find(0).unwrap(), Found::Entry { first: 0, .. }));
}

#[test]
fn a_header_as_large_as_thousand_columns_need_is_read() {
    let disk = Simulated::new(1);
    let columns = (0..1000).map(|at| (format!("column {at}"), "text".to_owned())).collect();
    let format = Arc::new(RowFormat { destination: None, columns });
    let (mut log, _) =
        Log::open(disk.clone(), Settings { segment_bytes: LARGE, format: format.clone() }).unwrap();
    let begun = log.append(&[&samples()[1].rows]).unwrap().begun.unwrap();
    assert!(begun.entries > HEADERS as u64);
    for damaged in [None, Some(100), Some(begun.entries as usize / 2 + 100)] {
        let (disk, mut content) = (disk.copy(), disk.content(&begun.name));
        damaged.into_iter().for_each(|at: usize| content[at] ^= 1);
        disk.put(&begun.name, content);
        let (_, segments) = open(&disk, LARGE);
        assert_eq!(
            (segments[0].about.as_ref(), segments[0].format.as_ref()),
            (begun.about.as_ref(), Some(&format))
        );
        assert_eq!((segments[0].first, segments[0].end), (0, 1));
    }
}
