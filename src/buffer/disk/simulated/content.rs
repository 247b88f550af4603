//! The content of a file on the simulated disk, in sectors.

use std::collections::BTreeSet;

use fastrand::Rng;

/// The bytes that a disk writes as a whole or not at all.
pub(super) const SECTOR: usize = 512;

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) now: Vec<u8>,
    pub(super) synced: Vec<u8>,
    /// The shortest that it was since the last sync. From there on it differs from what was synced.
    low: usize,
    /// Sectors that a failed sync has lost: later syncs do not write them.
    lost: BTreeSet<usize>,
}

impl Content {
    pub(super) fn synced(content: Vec<u8>) -> Self {
        Self { low: content.len(), now: content.clone(), synced: content, lost: BTreeSet::new() }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        let from = self.now.len();
        self.now.extend_from_slice(bytes);
        self.lost.retain(|sector| *sector < from / SECTOR);
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.now.resize(length, 0);
        self.low = self.low.min(length);
    }

    fn sectors(&self) -> std::ops::Range<usize> {
        self.low / SECTOR..self.now.len().max(self.synced.len()).div_ceil(SECTOR)
    }

    pub(super) fn sync(&mut self) {
        let from = self.low / SECTOR * SECTOR;
        let before = if self.lost.is_empty() { Vec::new() } else { self.synced.clone() };
        self.synced.truncate(from);
        self.synced.extend_from_slice(&self.now[from..]);
        for sector in self.lost.clone() {
            copy_sector(sector, &before, &mut self.synced);
        }
        // Lost sectors differ from what the operating system shows.
        self.low = self.lost.first().map_or(self.now.len(), |first| first * SECTOR);
    }

    /// Some of the sectors are written, some are still to be, and the others never will be.
    pub(super) fn fail_to_sync(&mut self, random: &mut Rng) {
        let before = self.synced.clone();
        let mut after = self.now.clone();
        // All written, all lost, or each by chance.
        let mode = random.u8(0..4);
        for sector in self.sectors() {
            match if mode < 3 { mode } else { random.u8(0..3) } {
                0 => {}
                1 => copy_sector(sector, &before, &mut after),
                _ => {
                    copy_sector(sector, &before, &mut after);
                    self.lost.insert(sector);
                }
            }
        }
        if mode > 0 && random.bool() {
            after.truncate(before.len().max(self.low));
        }
        self.synced = after;
        self.low = self.low.min(self.synced.len());
    }

    pub(super) fn after_cut(&self, random: &mut Rng) -> Vec<u8> {
        if self.low == self.now.len() && self.low == self.synced.len() {
            return self.now.clone();
        }
        let (shorter, longer) = (self.low, self.now.len().max(self.synced.len()));
        let length = match random.u8(0..4) {
            0 => self.synced.len(),
            1 => self.now.len(),
            _ => random.usize(shorter..=longer),
        };
        let kept = self.low.min(self.synced.len());
        let mut after = self.now.clone();
        after.resize(length.max(self.now.len()), 0);
        // All lost, all kept, or each by chance.
        let mode = random.u8(0..4);
        for sector in self.sectors() {
            let fate = if mode < 3 { mode } else { random.u8(0..3) };
            match fate {
                0 => {}
                // The synced part of a sector is not lost with the rest.
                1 if sector * SECTOR >= kept => fill_sector(sector, &mut after),
                _ if self.lost.contains(&sector) || fate > 0 => copy_sector(sector, &self.synced, &mut after),
                _ => {}
            }
        }
        for sector in &self.lost {
            copy_sector(*sector, &self.synced, &mut after);
        }
        after.truncate(length);
        after
    }
}

/// Sector `sector` of `to` becomes as it is in `from`: zeros behind its end.
fn copy_sector(sector: usize, from: &[u8], to: &mut [u8]) {
    fill_sector(sector, to);
    let (start, end) = (sector * SECTOR, ((sector + 1) * SECTOR).min(from.len()).min(to.len()));
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

fn fill_sector(sector: usize, bytes: &mut [u8]) {
    let end = ((sector + 1) * SECTOR).min(bytes.len());
    if let Some(bytes) = bytes.get_mut(sector * SECTOR..end) {
        bytes.fill(0);
    }
}
