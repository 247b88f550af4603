//! The tasks, each spawned here and joined in [`super::ending`].

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{App, Listeners, flagged};
use crate::buffer::Buffer;
use crate::embedded::{self, Embedded};
use crate::memory::Pressure;
use crate::supervisor;
use crate::telemetry::Push;
use crate::telemetry::pages::Page;

/// The running tasks, in the order of their end.
pub(super) struct Tasks {
    /// Receives requests, until `stop_receiving`.
    pub(super) receiver: JoinHandle<()>,
    stop_receiving: watch::Sender<bool>,
    /// Write batches, until the buffer is closed and empty.
    pub(super) lanes: JoinSet<()>,
    /// Writes to the durable queue, until that is closed.
    pub(super) disk_writer: JoinSet<()>,
    /// Reads it back, until that is closed.
    pub(super) disk_reader: JoinSet<()>,
    /// Maintains the store, until it is aborted.
    pub(super) keeper: JoinHandle<()>,
    /// Writes losses, until `stop_clerk`, and then the last of them.
    pub(super) clerk: JoinHandle<()>,
    stop_clerk: watch::Sender<bool>,
    /// Builds indexes, until `stop_indexer`.
    pub(super) indexer: JoinHandle<()>,
    stop_indexer: watch::Sender<bool>,
    /// Watch memory and files, write folded records and send watchdog signs, until they are aborted.
    pub(super) watchers: JoinSet<()>,
    /// Serve health and metrics, and push them, until `stop_pages`.
    pub(super) pages: JoinSet<()>,
    stop_pages: watch::Sender<bool>,
    /// Keeps the private PostgreSQL running, if there is one, until `stop_private`.
    pub(super) private: JoinSet<Result<(), embedded::Error>>,
    stop_private: watch::Sender<bool>,
}

impl Tasks {
    /// Starts everything, downstream first.
    pub(super) fn start(
        app: &App,
        listeners: Listeners,
        pushes: Vec<Push>,
        private: Option<Embedded>,
    ) -> Self {
        let (stop_private, privately) = watch::channel(false);
        let health = app.health.clone();
        let keep = |embedded: Embedded| async move {
            embedded.keep(|trouble| health.private_server(trouble), flagged(privately)).await
        };
        let mut private_server = JoinSet::new();
        private.map(keep).map(|kept| private_server.spawn(kept));
        let (stop_receiving, receiving) = watch::channel(false);
        let (stop_pages, paging) = watch::channel(false);
        let mut pages = JoinSet::new();
        if let (Some(listener), Some(config)) = (listeners.health, &app.config.health) {
            let buffer = app.buffer.clone();
            let page = Page::health(app.health.clone(), &config.path, move || buffer.largest_senders());
            pages.spawn(page.serve(listener, flagged(paging.clone())));
        }
        for listener in listeners.metrics {
            let page = Page::metrics(app.metrics.clone());
            pages.spawn(page.serve(listener, flagged(paging.clone())));
        }
        for push in pushes {
            pages.spawn(push.run(flagged(paging.clone())));
        }
        let store = app.store.clone();
        let keeper = tokio::spawn(async move { store.run_keeper().await });
        let (stop_clerk, clerk_ends) = watch::channel(false);
        let exporter = app.exporter.clone();
        let clerk = tokio::spawn(async move { exporter.run_clerk(flagged(clerk_ends)).await });
        let (stop_indexer, indexer_ends) = watch::channel(false);
        let (store, buffer) = (app.store.clone(), app.buffer.clone());
        let indexer = tokio::spawn(async move {
            store.run_indexer(|| buffer.has_room(), flagged(indexer_ends)).await;
        });
        let mut watchers = JoinSet::new();
        if let Some(limiter) = app.limiter.clone() {
            let (buffer, intake) = (app.buffer.clone(), app.intake.clone());
            watchers.spawn(async move {
                let counted = || (intake.receiving() + buffer.memory()) as u64;
                limiter.run(counted, |pressure| relieve(&buffer, pressure)).await;
            });
        }
        let (mut disk_writer, mut disk_reader) = (JoinSet::new(), JoinSet::new());
        if let Some([write, read]) = app.buffer.disk_threads() {
            disk_writer.spawn_blocking(write);
            disk_reader.spawn_blocking(read);
        }
        let mut lanes = JoinSet::new();
        for number in 0..app.exporter.lanes() {
            let exporter = app.exporter.clone();
            lanes.spawn(async move { exporter.run_lane(number).await });
        }
        let gates = app.gates.clone();
        watchers.spawn(async move { gates.keep_fresh().await });
        let intake = app.intake.clone();
        watchers.spawn(async move { intake.keep_writing_folded().await });
        if let Some(every) = supervisor::sign_of_life_every() {
            watchers.spawn(give_signs_of_life(every));
        }
        let (config, gates, intake) = (app.config.receiver.clone(), app.gates.clone(), app.intake.clone());
        let receiver = tokio::spawn(async move {
            listeners.receiver.serve(&config, &gates, intake, flagged(receiving)).await;
        });
        Self {
            receiver,
            stop_receiving,
            lanes,
            disk_writer,
            disk_reader,
            keeper,
            clerk,
            stop_clerk,
            indexer,
            stop_indexer,
            watchers,
            pages,
            stop_pages,
            private: private_server,
            stop_private,
        }
    }

    /// Waits until a task ends that should not; returns its name.
    pub(super) async fn ended_early(&mut self) -> &'static str {
        tokio::select! {
            _ = &mut self.receiver => "the receiver",
            Some(_) = self.lanes.join_next() => "a writer lane",
            Some(_) = self.disk_writer.join_next() => "the writer of the durable queue",
            Some(_) = self.disk_reader.join_next() => "the reader of the durable queue",
            _ = &mut self.keeper => "the keeper of the store",
            _ = &mut self.clerk => "the clerk of losses",
            _ = &mut self.indexer => "the indexer",
            Some(_) = self.watchers.join_next() => "the memory limiter, what writes folded records, looks after files or gives signs of life",
            Some(_) = self.pages.join_next() => "a page or a push of metrics",
            Some(_) = self.private.join_next() => "what keeps the private PostgreSQL running",
        }
    }

    /// Accepts no further connection; the requests in progress are finished.
    pub(super) fn stop_receiving(&self) {
        self.stop_receiving.send_replace(true);
    }

    /// Stops building indexes; the next start goes on with it.
    pub(super) fn stop_indexer(&self) {
        self.stop_indexer.send_replace(true);
    }

    /// Has the clerk write the last losses; no more will come.
    pub(super) fn stop_clerk(&self) {
        self.stop_clerk.send_replace(true);
    }

    /// Stops the private PostgreSQL.
    pub(super) fn stop_private(&self) {
        self.stop_private.send_replace(true);
    }

    /// Closes the pages of health and metrics; metrics are pushed a last time.
    pub(super) fn stop_pages(&self) {
        self.stop_pages.send_replace(true);
    }
}

/// Frees memory: waiting records are written at once, and under `drop_oldest` the oldest are dropped.
fn relieve(buffer: &Buffer, pressure: Pressure) {
    buffer.hurry();
    if let Pressure::Hard(over) = pressure {
        buffer.shed_oldest(over);
    }
}

/// Sends watchdog signs. Each one comes from a newly spawned task, as a request would be: if the runtime hangs, there is none.
async fn give_signs_of_life(every: Duration) {
    loop {
        let sign = tokio::spawn(async { supervisor::alive() });
        if sign.await.is_err() {
            return;
        }
        tokio::time::sleep(every).await;
    }
}
