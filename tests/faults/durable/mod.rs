//! The durable queue: what was answered OK is stored exactly once, whatever dies in between.
//!
//! The senders of these tests send each record once, so that what is stored shows the fate of that one request.

mod again;
mod copies;
mod ending;
mod full;
mod kills;
mod outage;
mod standby;
mod upgrade;

use std::path::{Path, PathBuf};

use support::forebay::Forebay;
use support::metrics::Scrape;
use support::postgres::Database;
use support::stored;
use tempfile::TempDir;

use crate::oracle::Oracle;

/// A directory with a durable queue, and the settings of the forebays that run on it.
pub struct Home {
    directory: PathBuf,
    dsn: String,
    sets: Vec<String>,
    /// Keeps the directory.
    _place: Option<TempDir>,
}

impl Home {
    /// An empty one. `sets` are further `--set` arguments.
    pub fn new(database: &Database, sets: &[&str]) -> Self {
        Self::on(database.dsn(), sets)
    }

    /// The same, with this connection string.
    pub fn on(dsn: &str, sets: &[&str]) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("queue");
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        Self { directory, dsn: dsn.to_owned(), sets, _place: Some(place) }
    }

    /// One in `directory`.
    pub fn at(directory: PathBuf, dsn: &str, sets: &[&str]) -> Self {
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        Self { directory, dsn: dsn.to_owned(), sets, _place: None }
    }

    /// A copy of this one, made by `cp -a` while a forebay may be running on it.
    pub fn copied(&self) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("queue");
        // A segment may be removed meanwhile, which cp reports: it is stored.
        let copied = std::process::Command::new("cp").arg("-a").args([&self.directory, &directory]).output();
        copied.expect("cp runs");
        Self { directory, dsn: self.dsn.clone(), sets: self.sets.clone(), _place: Some(place) }
    }

    /// The same directory in another place, for a forebay with these `--set` arguments.
    pub fn moved(&self, sets: &[&str]) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("moved");
        std::fs::rename(&self.directory, &directory).expect("it moves");
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        Self { directory, dsn: self.dsn.clone(), sets, _place: Some(place) }
    }

    /// The directory of the queue.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The `--set` arguments of a forebay on it.
    pub fn sets(&self) -> Vec<String> {
        let directory = format!("extensions.file_storage.directory={}", self.directory.display());
        let own = ["exporters.postgres.sending_queue.storage=file_storage", &directory]
            // Another program may have filled the disk of the tests.
            .map(str::to_owned)
            .into_iter()
            .chain(["exporters.postgres.sending_queue.min_free=0%".to_owned()]);
        own.chain(self.sets.iter().cloned()).collect()
    }

    /// Starts a forebay, and waits until it listens.
    pub async fn start(&self) -> Forebay {
        let sets = self.sets();
        Forebay::start(&self.dsn, &sets.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// Starts a forebay, and waits until it can write.
    pub async fn ready(&self) -> Forebay {
        let forebay = self.start().await;
        forebay.becomes_ready().await;
        forebay
    }

    /// Kills `forebay`, which runs on it, and starts another one.
    pub async fn killed(&self, forebay: Forebay) -> Forebay {
        kill(forebay).await;
        self.start().await
    }
}

/// SIGKILL, and the end.
pub async fn kill(mut forebay: Forebay) {
    forebay.signal("KILL").await;
    forebay.ends().await;
}

/// What must hold once `forebay` has everything stored: each record that was answered OK is stored once, no other one is stored
/// twice, the books balance, and neither `forebay` at its end nor the next one on `home` writes anything again.
pub async fn rests(home: &Home, forebay: Forebay, database: &Database, oracle: &Oracle) -> Scrape {
    let page = forebay.settles().await;
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    let found = stored(database).await;
    found.assert_holds_each_once(&oracle.acknowledged());
    let next = home.ready().await;
    let recovered = next.settles().await.value("log_buffer_recovered_total");
    assert_eq!(recovered, 0, "the next start finds records that are stored");
    let (status, said) = next.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
    assert_eq!(stored(database).await.rows(), found.rows(), "the next start has written something again");
    page
}
