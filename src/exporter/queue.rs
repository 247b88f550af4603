//! The durable queue, as the lanes write it: they take it over before their first batch, and again when PostgreSQL has lost commits.

use tokio::time::{Instant, sleep};

use super::Exporter;
use super::turn::end_holders_of;
use crate::buffer::disk::{Claim, DurableQueue};
use crate::postgres::backoff::Backoff;
use crate::postgres::error::Failure;
use crate::postgres::session::Connection;
use crate::store::HOUSEKEEPING;
use crate::store::lanes::{Owner, TakenOver, take_over};

impl Exporter {
    /// Waits until this process has taken the durable queue over, if there is one. The first lane to come takes it over, with retries.
    pub(super) async fn owns_the_queue(&self) {
        let Some(queue) = self.buffer.durable() else { return };
        let mut taken = self.takeover.lock().await;
        let (mut backoff, mut trouble) = (Backoff::new(self.store.retry()), None);
        while taken.is_none() {
            let tried = Instant::now();
            match self.take_over(queue, None).await {
                Ok(TakenOver { stamp, stored, .. }) => {
                    self.buffer.books().recover(queue.adopt(&stored, stamp));
                    *taken = Some(stamp);
                    if trouble.take().is_some() {
                        self.store.standing.took();
                    }
                }
                Err(failure) if self.store.makes_again(&failure, tried).await => {}
                Err(failure) => {
                    trouble.get_or_insert_with(|| self.store.standing.trouble());
                    self.store.standing.report(&failure);
                    self.metrics.failed(failure.class);
                    tracing::debug!(%failure, "the queue cannot be taken over yet");
                    backoff.follow(self.store.retry());
                    sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    /// Takes the queue over again, because the database has lost transactions that `claim` speaks for, and has what it has lost
    /// sent again. Does nothing if that was done since the claim was made.
    pub(super) async fn take_over_again(&self, queue: &DurableQueue, claim: &Claim) -> Result<(), Failure> {
        let mut taken = self.takeover.lock().await;
        if !queue.claims().is_current(claim) {
            return Ok(());
        }
        let before = queue.claims().stored();
        let TakenOver { stamp, stored, stamps } = self.take_over(queue, *taken).await?;
        *taken = Some(stamp);
        let lost = queue.claims().adopt(before, &stored, &stamps, stamp);
        if !lost.is_empty() {
            tracing::error!(
                records = lost.len(),
                "PostgreSQL has lost records that it had committed; those that the queue still has are sent again. Was there a failover \
                 to a standby that lagged, or was the store made again?"
            );
            self.buffer.books().recover(queue.send_again(&lost));
        }
        Ok(())
    }

    async fn take_over(&self, queue: &DurableQueue, last: Option<i64>) -> Result<TakenOver, Failure> {
        let store = &self.store;
        let owner =
            Owner { schema: &store.schema, queue: queue.id(), gateway: store.gateway, lanes: self.lanes() };
        let oldest = queue.oldest_run();
        let take = async |connection: &Connection| take_over(connection, owner, last, oldest).await;
        let taken = store.pool.session(HOUSEKEEPING, take).await;
        if let Err(failure) = &taken
            && failure.may_be_a_lock()
        {
            self.end_holders(queue).await;
        }
        taken
    }

    /// Ends sessions that hold a row of the queue for longer than a batch may take: their process or host is gone.
    async fn end_holders(&self, queue: &DurableQueue) {
        let (schema, timeout) = (&self.store.schema, self.config.timeout.0);
        let end = async |c: &Connection| end_holders_of(c, schema, queue.id(), timeout).await;
        match self.store.pool.session(HOUSEKEEPING, end).await {
            Ok(0) => {}
            Ok(sessions) => {
                tracing::warn!(
                    sessions,
                    "asked PostgreSQL to end a session that an earlier owner of the queue has left"
                );
            }
            Err(failure) => tracing::debug!(%failure, "cannot look for sessions that hold the queue"),
        }
    }
}
