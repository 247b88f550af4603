//! A program that sends with an SDK. README.md says what it does and prints.

use std::process::Stdio;

use serde::Deserialize;
use serde_json::Value;
use support::PATIENCE;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::rust;
use crate::sdks::{Sdk, Transport};
use crate::set::FILE;

/// What it is to send.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// The set of records so many times.
    Records { rounds: usize },
    /// Numbered records, as many as it is told at a time.
    Numbers,
}

/// A sender at work.
pub struct Sender {
    sdk: Sdk,
    lines: mpsc::Sender<String>,
    shown: mpsc::UnboundedReceiver<Value>,
}

/// What the SDK says of its exports at the end.
#[derive(Debug, Deserialize)]
pub struct Report {
    pub emitted: u64,
    /// Records in exports of which the exporter says that they succeeded.
    pub exported: u64,
    /// Records in exports of which it says that they failed.
    pub failed: u64,
    /// What else it says, to its error handler or in its own log.
    pub said: Vec<String>,
}

/// The times that the SDK has given a record, in nanoseconds as text; 0 is none.
#[derive(Debug, Deserialize)]
pub struct Told {
    pub time: String,
    pub observed: String,
}

impl Sender {
    pub fn start(sdk: Sdk, transport: Transport, endpoint: &str, work: Work) -> Self {
        let (lines, written) = mpsc::channel(16);
        let (out, shown) = mpsc::unbounded_channel();
        if sdk == Sdk::Rust {
            let (endpoint, runtime) = (endpoint.to_owned(), tokio::runtime::Handle::current());
            std::thread::spawn(move || {
                // The exporter makes its connections in it.
                let _in_runtime = runtime.enter();
                rust::send(transport, &endpoint, work, written, out);
            });
        } else {
            let mut command = sdk.sender();
            command.args([transport.name(), endpoint]);
            match work {
                Work::Records { rounds } => command.args(["records", FILE, &rounds.to_string()]),
                Work::Numbers => command.arg("numbers"),
            };
            let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
            tokio::spawn(attend(command.spawn().expect("the sender starts"), written, out));
        }
        Self { sdk, lines, shown }
    }

    /// Emits so many more numbered records; how many of them the SDK has sent is not known yet.
    pub async fn emit(&mut self, count: u64) {
        self.lines.send(count.to_string()).await.expect("the sender runs");
        self.next().await.expect("the sender answers");
    }

    /// Tells it to come to its end, and waits for that. Gives the times of its records, too.
    pub async fn end(self) -> (Vec<Told>, Report) {
        let Self { sdk, lines, mut shown } = self;
        drop(lines);
        let mut said = Vec::new();
        let all = async {
            while let Some(line) = shown.recv().await {
                said.push(line);
            }
        };
        timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("the sender of {sdk:?} does not end"));
        let last = said.pop().unwrap_or_else(|| panic!("the sender of {sdk:?} says nothing"));
        let report = serde_json::from_value(last).unwrap_or_else(|error| panic!("{sdk:?}: {error}"));
        (said.into_iter().map(|line| serde_json::from_value(line).expect("times")).collect(), report)
    }

    async fn next(&mut self) -> Option<Value> {
        timeout(PATIENCE, self.shown.recv()).await.unwrap_or_else(|_| panic!("{:?} is silent", self.sdk))
    }
}

/// Carries lines to a process and from it, until it ends.
async fn attend(mut child: Child, mut lines: mpsc::Receiver<String>, out: mpsc::UnboundedSender<Value>) {
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let writing = async move {
        while let Some(line) = lines.recv().await {
            stdin.write_all(format!("{line}\n").as_bytes()).await.expect("the sender reads");
        }
    };
    let reading = async {
        while let Some(line) = stdout.next_line().await.expect("the sender writes UTF-8") {
            let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if out.send(line).is_err() {
                return;
            }
        }
    };
    tokio::join!(writing, reading);
    let status = child.wait().await.expect("it ends");
    assert!(status.success(), "the sender ended with {status}");
}
