//! Retention: drops whole partitions, by age, by size, and to make room on a full disk. Single records are deleted only from the
//! default partition (`sweep.rs`).
//!
//! A partition that is still written to, or will be, is never dropped. Several gateways agree by the lock for DDL: one drops, and
//! the others check again behind the lock and find nothing to do. DROP needs an exclusive lock on the whole table, and all writers
//! queue behind it; so it waits for a moment only, and is retried later if somebody reads for longer.

use std::collections::HashSet;
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::beside;
use super::catalogue::{PartitionState, partition_states};
use crate::postgres::error::{Class, Failure};
use crate::postgres::session::Connection;
use crate::store::config::RetentionConfig;
use crate::store::schema::{DDL_LOCK, IN_A_MOMENT};
use crate::store::{HOUSEKEEPING, Store};

/// Why a partition is dropped; in snake case it is the label `reason` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum RetentionReason {
    MaxAge,
    MaxSize,
    DiskFull,
}

/// The state of a full disk, shared by lanes and keeper: when an attempt began that met it, and when room was made.
#[derive(Debug, Default)]
pub struct DiskRoom {
    wanted: watch::Sender<Option<Instant>>,
    made: watch::Sender<Option<Instant>>,
}

/// The result of an attempt to drop.
enum Done {
    /// No partition is due.
    Nothing,
    /// A partition was dropped; there may be more.
    Dropped,
    /// This partition (its oid) cannot be dropped for a reason of its own.
    Refused(u32),
}

/// How often to check what is due.
const EVERY: Duration = Duration::from_secs(60);
/// The first wait after contention; each further one is twice as long, up to [`EVERY`].
const AGAIN: Duration = Duration::from_secs(1);
/// How long to wait for a lock on the default partition on a full disk, before another partition is dropped instead.
const PATIENCE: Duration = Duration::from_secs(10);
/// After this much contention a warning is logged.
const LONG: Duration = Duration::from_secs(300);
/// The default partition, and each table beside the partitions, may take `max_size` divided by this.
const SHARE: u64 = 10;
/// Seconds after its end for which a partition may still get buffered records.
pub(crate) const GRACE: i64 = 600;

impl DiskRoom {
    /// Asks for room: an attempt that began at `tried` met a full disk.
    pub(crate) fn want(&self, tried: Instant) {
        if *self.made.borrow() < Some(tried) {
            self.wanted.send_replace(Some(tried));
        }
    }

    /// Waits until room was made since `tried`.
    pub(crate) async fn made_since(&self, tried: Instant) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.made.subscribe().wait_for(|made| *made > Some(tried)).await;
    }
}

impl Store {
    /// Drops what is due, periodically and when the disk is full. It never returns.
    pub(crate) async fn retain(&self) {
        let mut wanted = self.room.wanted.subscribe();
        let (mut served, mut room_is_due) = (None, false);
        let (mut in_the_way, mut wait) = (None, EVERY);
        loop {
            let asked = *wanted.borrow();
            // Room that was made since an attempt began serves it, even if the attempt failed before that.
            let unserved = asked > served.max(*self.room.made.borrow());
            room_is_due |= unserved && self.config.retention.drop_when_disk_is_full;
            served = asked;
            let is_patient = in_the_way.is_none_or(|since: Instant| since.elapsed() < PATIENCE);
            match self.drop_what_is_due(&mut room_is_due, is_patient).await {
                Ok(()) => (in_the_way, wait, room_is_due) = (None, EVERY, false),
                Err(failure) => {
                    let since = *in_the_way.get_or_insert_with(Instant::now);
                    wait = if wait == EVERY { AGAIN } else { (wait * 2).min(EVERY) };
                    if since.elapsed() >= LONG {
                        tracing::warn!(%failure, since = ?since.elapsed(), "partitions that are due cannot be dropped");
                    }
                }
            }
            tokio::select! {
                () = sleep(wait) => {}
                _ = wanted.wait_for(|asked| *asked > served) => {}
            }
        }
    }

    /// Drops one after the other, each in a transaction of its own, so that writers get their turn. `room_is_due` ends once one is
    /// dropped, even if the next fails. With `is_patient`, contention on the default partition does not cost another one.
    async fn drop_what_is_due(&self, room_is_due: &mut bool, is_patient: bool) -> Result<(), Failure> {
        let policy = &self.config.retention;
        if !(policy.drops() || *room_is_due) {
            return Ok(());
        }
        if *room_is_due {
            let clear = async |c: &Connection| self.clear_strays_for_room(c).await;
            match self.pool.session(HOUSEKEEPING, clear).await {
                Ok(true) => {
                    *room_is_due = false;
                    self.room.made.send_replace(Some(Instant::now()));
                }
                Err(failure) if failure.class == Class::Busy && is_patient => return Err(failure),
                Ok(false) | Err(_) => {}
            }
        }
        let mut refused = HashSet::new();
        loop {
            let drop_next = async |c: &Connection| self.drop_next(c, *room_is_due, &refused).await;
            match self.pool.session(HOUSEKEEPING, drop_next).await? {
                Done::Nothing => return Ok(()),
                Done::Dropped => *room_is_due = false,
                Done::Refused(oid) => drop(refused.insert(oid)),
            }
        }
    }

    async fn drop_next(
        &self,
        connection: &Connection,
        room_is_due: bool,
        refused: &HashSet<u32>,
    ) -> Result<Done, Failure> {
        let policy = &self.config.retention;
        let (seen, now) = partition_states(connection, &self.schema).await?;
        let beside = beside::bytes(connection, &self.schema, policy.share()).await?;
        let Some((first, _)) = due(&seen, beside, policy, now, room_is_due, refused) else {
            return Ok(Done::Nothing);
        };
        connection.batch_execute(IN_A_MOMENT).await?;
        connection.batch_execute(DDL_LOCK).await?;
        let (seen, now) = partition_states(connection, &self.schema).await?;
        // Room that another gateway has made meanwhile serves this one as well.
        let room_is_due = room_is_due && seen.iter().any(|state| state.partition.oid == first.partition.oid);
        let Some((state, reason)) = due(&seen, beside, policy, now, room_is_due, refused) else {
            connection.batch_execute("ROLLBACK").await?;
            self.room.made.send_replace(Some(Instant::now()));
            return Ok(Done::Nothing);
        };
        let partition = &state.partition;
        let dropped = connection.batch_execute(&format!("DROP TABLE {}", partition.qualified)).await;
        match dropped.map_err(Failure::from) {
            Ok(()) => {}
            Err(failure) if matches!(failure.class, Class::Busy | Class::Connection) => return Err(failure),
            Err(failure) => {
                connection.batch_execute("ROLLBACK").await?;
                tracing::warn!(partition = partition.name, %failure, "a partition that is due cannot be dropped");
                return Ok(Done::Refused(partition.oid));
            }
        }
        connection.batch_execute("COMMIT").await?;
        self.partitions.forget();
        self.metrics.dropped(reason, state.bytes());
        self.room.made.send_replace(Some(Instant::now()));
        let ended = partition.range.map_or(0, |(_, to)| now - to);
        tracing::info!(
            partition = partition.name,
            reason = <&str>::from(reason),
            rows_estimated = state.rows,
            bytes = state.bytes(),
            ended_hours_ago = ended / 3600,
            "dropped a partition"
        );
        Ok(Done::Dropped)
    }
}

/// Whether nothing more is written to a partition of this range.
pub(crate) fn is_closed((_, to): (i64, i64), now: i64) -> bool {
    to.saturating_add(GRACE) <= now
}

/// The partition to drop next, and the reason. The tables beside the partitions take `beside` bytes.
pub(crate) fn due<'a>(
    seen: &'a [PartitionState],
    beside: u64,
    policy: &RetentionConfig,
    now: i64,
    room_is_due: bool,
    refused: &HashSet<u32>,
) -> Option<(&'a PartitionState, RetentionReason)> {
    let closed = |state: &&PartitionState| {
        let partition = &state.partition;
        partition.is_table
            && partition.range.is_some_and(|range| is_closed(range, now))
            && !refused.contains(&partition.oid)
    };
    let oldest = seen.iter().find(closed)?;
    let is_old =
        |state: &&PartitionState| state.partition.range.is_some_and(|(_, to)| policy.is_past(to, now));
    if let Some(old) = seen.iter().filter(closed).find(is_old) {
        return Some((old, RetentionReason::MaxAge));
    }
    let most =
        |state: &PartitionState| if state.partition.range.is_none() { policy.share() } else { u64::MAX };
    let total: u64 = seen.iter().map(|state| state.bytes().min(most(state))).sum();
    if policy.max_size.0 > 0 && total + beside > policy.max_size.0 {
        return Some((oldest, RetentionReason::MaxSize));
    }
    room_is_due.then_some((oldest, RetentionReason::DiskFull))
}

impl RetentionConfig {
    /// Whether anything is dropped while the disk is not full.
    pub(crate) fn drops(&self) -> bool {
        !self.max_age.0.is_zero() || self.max_size.0 > 0
    }

    /// The share of `max_size`, in bytes, of the default partition and of each table beside the partitions. Anything beyond it does
    /// not count, so that it never costs other partitions.
    pub(crate) fn share(&self) -> u64 {
        self.max_size.0 / SHARE
    }

    /// Whether a partition that ended at `end` is older than `max_age`.
    pub(crate) fn is_past(&self, end: i64, now: i64) -> bool {
        !self.max_age.0.is_zero() && end <= now - self.max_age.0.as_secs() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::partitions::catalogue::Partition;
    use crate::values::duration::GoDuration;
    use crate::values::size::ByteSize;

    const DAY: i64 = 86_400;
    const NOW: i64 = 100 * DAY + DAY / 2;

    #[test]
    fn labels_are_a_closed_set() {
        assert!(RetentionReason::VARIANTS.iter().map(<&str>::from).eq(["max_age", "max_size", "disk_full"]));
    }

    /// Partitions of these days with ten bytes each, and a default partition with five.
    fn days(days: std::ops::RangeInclusive<i64>) -> Vec<PartitionState> {
        let state = |oid: u32, range, bytes| PartitionState {
            partition: Partition { oid, range, is_table: true, ..Partition::default() },
            table_bytes: bytes,
            ..PartitionState::default()
        };
        let mut all: Vec<_> =
            days.map(|day| state(day as u32, Some((day * DAY, (day + 1) * DAY)), 10)).collect();
        all.push(state(0, None, 5));
        all
    }

    /// The days that are dropped one after the other, each with the reason.
    fn dropped(
        mut seen: Vec<PartitionState>,
        policy: &RetentionConfig,
        mut room: bool,
    ) -> Vec<(u32, &'static str)> {
        let mut dropped = Vec::new();
        while let Some((state, reason)) = due(&seen, 0, policy, NOW, room, &HashSet::new()) {
            let oid = state.partition.oid;
            dropped.push((oid, <&str>::from(reason)));
            seen.retain(|state| state.partition.oid != oid);
            room = false;
        }
        dropped
    }

    fn policy(days: u64, bytes: u64) -> RetentionConfig {
        RetentionConfig {
            max_age: GoDuration(Duration::from_secs(days * DAY as u64)),
            max_size: ByteSize(bytes),
            drop_when_disk_is_full: true,
        }
    }

    #[test]
    fn whole_partitions_go_by_age_then_by_size_and_one_for_room() {
        assert_eq!(dropped(days(90..=103), &policy(0, 0), false), []);
        // The last record of day 94 is 5.5 days old.
        assert_eq!(dropped(days(93..=103), &policy(5, 0), false), [(93, "max_age"), (94, "max_age")]);
        assert_eq!(dropped(days(97..=103), &policy(0, 55), false), [(97, "max_size"), (98, "max_size")]);
        assert_eq!(dropped(days(98..=103), &policy(1, 44), false), [(98, "max_age"), (99, "max_size")]);
        assert_eq!(dropped(days(97..=103), &policy(0, 0), true), [(97, "disk_full")]);
        assert_eq!(dropped(days(97..=103), &policy(2, 0), true), [(97, "max_age")], "that made room");
    }

    #[test]
    fn the_default_partition_counts_up_to_its_share() {
        let mut seen = days(98..=103);
        seen[6].table_bytes = 1_000_000;
        assert_eq!(dropped(seen.clone(), &policy(0, 67), false), [], "60, and a tenth of 67");
        assert_eq!(dropped(seen, &policy(0, 65), false), [(98, "max_size")]);
    }

    #[test]
    fn what_is_written_or_ahead_stays_whatever_the_size() {
        assert_eq!(dropped(days(99..=103), &policy(0, 1), true), [(99, "max_size")]);
        assert_eq!(dropped(days(100..=103), &policy(0, 1), true), []);
        let midnight = 101 * DAY;
        assert!(!is_closed((100 * DAY, midnight), midnight + GRACE - 1));
        assert!(is_closed((100 * DAY, midnight), midnight + GRACE));
        assert!(!is_closed((0, i64::MAX), NOW));
    }
}
