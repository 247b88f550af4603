//! The clerk writes losses into the table of losses, so that after an incident one query shows what is missing.
//!
//! Losses are collected in windows of a few seconds, which wait until the store accepts batches. A parcel of windows is
//! written in its own transaction and does not change once tried: like a lane, the clerk has a sequence row by which an
//! unanswered COMMIT is looked up, so that no loss is written twice.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, timeout};

use super::Exporter;
use super::turn::{Advanced, Turn, advance};
use crate::buffer::Loss;
use crate::postgres::error::Failure;
use crate::postgres::session::Connection;
use crate::store::lanes::CLERK;
use crate::store::{HOUSEKEEPING, Store};

/// The most losses that wait unmerged. With more, neighbouring windows are merged.
const MOST_WAITING: usize = 20_000;
/// The longest that writing the last ones may take at shutdown.
const LAST: Duration = Duration::from_secs(1);
/// The most kinds of losses that are logged if they can no longer be written.
const MOST_LOGGED: usize = 20;

/// The losses between two times.
#[derive(Clone, Debug)]
struct Window {
    since: SystemTime,
    until: SystemTime,
    losses: Vec<Loss>,
}

struct Clerk<'a> {
    exporter: &'a Exporter,
    /// The start of the current window.
    since: SystemTime,
    waiting: Vec<Window>,
    /// The windows being written.
    parcel: Vec<Window>,
    sequence: i64,
}

impl Exporter {
    /// Writes losses until `ending`, and then the last of them; nothing if the window's length is 0.
    pub async fn run_clerk(&self, ending: impl Future<Output = ()>) {
        if self.config.losses_window.0.is_zero() {
            return ending.await;
        }
        let mut clerk = Clerk {
            exporter: self,
            since: SystemTime::now(),
            waiting: Vec::new(),
            parcel: Vec::new(),
            sequence: 1,
        };
        tokio::select! {
            () = ending => {}
            () = clerk.work() => {}
        }
        clerk.finish().await;
    }
}

impl Clerk<'_> {
    async fn work(&mut self) {
        loop {
            sleep(self.exporter.config.losses_window.0).await;
            self.close_window();
            let began = Instant::now();
            if self.exporter.store.standing.takes_batches()
                && let Err(failure) = self.write().await
                && !self.exporter.store.makes_again(&failure, began).await
            {
                tracing::warn!(%failure, "losses cannot be written down yet");
            }
        }
    }

    /// Writes the losses since the last window, and all that could not be written before.
    async fn finish(&mut self) {
        self.close_window();
        if self.waiting.is_empty() && self.parcel.is_empty() {
            return;
        }
        let written = async {
            while !(self.waiting.is_empty() && self.parcel.is_empty()) {
                self.write().await?;
            }
            Ok::<_, Failure>(())
        };
        match timeout(LAST, written).await {
            Ok(Ok(())) => return,
            Ok(Err(failure)) => tracing::warn!(%failure, "the last losses cannot be written down"),
            Err(_) => tracing::warn!(timeout = ?LAST, "the last losses cannot be written down in time"),
        }
        self.log_unwritten();
    }

    /// Collects the losses since the last window.
    fn close_window(&mut self) {
        let until = SystemTime::now();
        // The clock may have been set back.
        let since = std::mem::replace(&mut self.since, until).min(until);
        let losses = self.exporter.buffer.books().losses().take();
        if losses.is_empty() {
            return;
        }
        self.waiting.push(Window { since, until, losses });
        let count: usize = self.waiting.iter().map(|window| window.losses.len()).sum();
        if self.waiting.len() > 1 && count > MOST_WAITING {
            self.waiting = std::mem::take(&mut self.waiting).chunks(2).map(merged).collect();
        }
    }

    async fn write(&mut self) -> Result<(), Failure> {
        if self.parcel.is_empty() {
            self.parcel = std::mem::take(&mut self.waiting);
        }
        if self.parcel.is_empty() {
            return Ok(());
        }
        self.exporter.store.pool.session(HOUSEKEEPING, async |c| self.write_parcel(c).await).await?;
        self.parcel.clear();
        self.sequence += 1;
        Ok(())
    }

    async fn write_parcel(&self, connection: &Connection) -> Result<(), Failure> {
        let Store { schema, gateway, .. } = &*self.exporter.store;
        let (lane, sequence) = (CLERK, self.sequence);
        let turn = Turn { schema, gateway: *gateway, lane, sequence, before: None, queued: None };
        connection.batch_execute("BEGIN").await?;
        if advance(connection, turn).await? == Advanced::Before {
            // Commits, as a lane does, to wait for the synchronous standby.
            return Ok(connection.batch_execute("COMMIT").await?);
        }
        let insert = format!(
            "INSERT INTO {schema}.losses (since, until, service, severity, reason, records, gateway) \
             SELECT since, until, service, severity, reason, records, $7 \
             FROM unnest($1::timestamptz[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::int8[]) \
             u(since, until, service, severity, reason, records)"
        );
        let rows =
            || self.parcel.iter().flat_map(|window| window.losses.iter().map(move |loss| (window, loss)));
        let since: Vec<_> = rows().map(|(window, _)| window.since).collect();
        let until: Vec<_> = rows().map(|(window, _)| window.until).collect();
        let services: Vec<_> = rows().map(|(_, loss)| loss.service.as_deref()).collect();
        let severities: Vec<_> = rows().map(|(_, loss)| loss.severity.name()).collect();
        let reasons: Vec<_> = rows().map(|(_, loss)| <&str>::from(loss.reason)).collect();
        let records: Vec<_> = rows().map(|(_, loss)| loss.records as i64).collect();
        let statement = connection.prepare_cached(&insert).await?;
        let values: [&(dyn crate::postgres::ToSql + Sync); 7] =
            [&since, &until, &services, &severities, &reasons, &records, gateway];
        connection.execute(&statement, &values).await?;
        Ok(connection.batch_execute("COMMIT").await?)
    }

    /// Logs the losses that could not be written to the table.
    fn log_unwritten(&self) {
        let windows: Vec<_> = self.parcel.iter().chain(&self.waiting).cloned().collect();
        let Window { mut losses, .. } = merged(&windows);
        losses.sort_by_key(|loss| std::cmp::Reverse(loss.records));
        let most: Vec<_> = losses.iter().take(MOST_LOGGED).map(ToString::to_string).collect();
        let records: u64 = losses.iter().map(|loss| loss.records).sum();
        let more = losses.len() - most.len();
        tracing::warn!(records, most = most.join("; "), more, "lost, and not in the table of losses");
    }
}

/// Merges windows that follow each other.
fn merged(windows: &[Window]) -> Window {
    let mut whole = windows[0].clone();
    for window in &windows[1..] {
        whole.since = whole.since.min(window.since);
        whole.until = whole.until.max(window.until);
        whole.losses.extend(window.losses.iter().cloned());
    }
    let kind = |loss: &Loss| (loss.service.clone(), loss.severity as u8, loss.reason);
    whole.losses.sort_by_cached_key(kind);
    whole.losses.dedup_by(|next, loss| {
        let same = kind(next) == kind(loss);
        loss.records += if same { next.records } else { 0 };
        same
    });
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{DropReason, LossReason};
    use crate::table::Severity;

    #[test]
    fn windows_become_one_with_the_same_sums() {
        let start = SystemTime::UNIX_EPOCH;
        let window = |second, losses: &[(&str, Severity, u64)]| Window {
            since: start + Duration::from_secs(second),
            until: start + Duration::from_secs(second + 1),
            losses: losses
                .iter()
                .map(|(service, severity, records)| Loss {
                    service: Some((*service).to_owned()),
                    severity: *severity,
                    reason: LossReason::Dropped(DropReason::DropOldest),
                    records: *records,
                })
                .collect(),
        };
        let (info, warn) = (Severity::Info, Severity::Warn);
        let windows = [
            window(3, &[("shop", info, 1), ("shop", warn, 2)]),
            window(4, &[("auth", info, 4), ("shop", info, 8)]),
            window(5, &[("shop", warn, 16)]),
        ];
        let Window { since, until, losses } = merged(&windows);
        assert_eq!((since, until), (windows[0].since, windows[2].until));
        let sums: Vec<_> =
            losses.iter().map(|l| (l.service.as_deref().unwrap(), l.severity, l.records)).collect();
        assert_eq!(sums, [("auth", info, 4), ("shop", info, 9), ("shop", warn, 18)]);
    }
}
