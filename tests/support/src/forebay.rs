//! A running forebay: the real binary, on ports of its own.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::metrics::Scrape;
use crate::sender::Sender;
use crate::usage::{cpu, peak_resident};
use crate::{PATIENCE, eventually};

/// A forebay process. It is killed when it is dropped.
pub struct Forebay {
    child: Child,
    grpc: String,
    http: String,
    health: String,
    metrics: String,
    lines: Arc<Mutex<VecDeque<String>>>,
}

/// `--set` arguments that have failures retried at once, and batches written at once.
pub const QUICK: &[&str] = &[
    "processors.batch.timeout=10ms",
    "exporters.postgres.retry_on_failure.initial_interval=20ms",
    "exporters.postgres.retry_on_failure.max_interval=100ms",
];

/// The binary that was built with this test or benchmark. Cargo tells it at run time since 1.94.
pub fn binary() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_forebay").map_or_else(binary_beside, PathBuf::from)
}

/// The same where nothing tells it, as with an older cargo or where the test is started by hand: cargo puts tests into
/// `target/PROFILE/deps` and binaries into `target/PROFILE`.
pub fn binary_beside() -> PathBuf {
    let this = std::env::current_exe().expect("Linux says which file this is");
    let found = this.ancestors().nth(2).expect("a test has a folder in its profile's").join("forebay");
    assert!(found.is_file(), "{} is missing; cargo test builds it before the tests", found.display());
    found
}

/// The command line of the binary, with nothing of the tests' environment in it.
pub fn command() -> Command {
    command_of(binary())
}

/// The same of another binary.
pub fn command_of(binary: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    for name in ["PATH", "HOME", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Runs a command of the binary on `dsn`, with `arguments` that are parted by spaces.
pub async fn run(dsn: &str, arguments: &str, sets: &[&str]) -> Ran {
    let mut command = command();
    command.env("DATABASE_URL", dsn).args(arguments.split(' '));
    ran(command.args(sets.iter().flat_map(|set| ["--set", set]))).await
}

/// Runs `command` to its end.
pub async fn ran(command: &mut Command) -> Ran {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// What a command has answered.
#[derive(Debug)]
pub struct Ran {
    /// The exit status; none after a signal.
    pub status: Option<i32>,
    /// All of standard output.
    pub out: String,
    /// All of standard error.
    pub err: String,
}

impl Ran {
    /// Its answer, which is one JSON object a line.
    pub fn json(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{self:?}")))
            .collect()
    }
}

/// The arguments that every forebay of the tests has: free ports, messages as JSON.
pub fn arguments(sets: &[&str]) -> Vec<String> {
    let fixed = [
        "receivers.otlp.protocols.grpc.endpoint=127.0.0.1:0",
        "receivers.otlp.protocols.http.endpoint=127.0.0.1:0",
        "extensions.health_check.endpoint=127.0.0.1:0",
        "service.telemetry.metrics.readers.0.pull.exporter.prometheus.port=0",
        "service.telemetry.logs.encoding=json",
    ];
    fixed.iter().chain(sets).flat_map(|set| ["--set".to_owned(), (*set).to_owned()]).collect()
}

impl Forebay {
    /// Starts forebay on `dsn` with further `--set` arguments, and waits until it listens.
    pub async fn start(dsn: &str, sets: &[&str]) -> Self {
        let mut command = command();
        command.env("DATABASE_URL", dsn).args(arguments(sets));
        Self::spawn(command).await
    }

    /// Starts forebay, and waits until it takes records and can write them.
    pub async fn ready(dsn: &str, sets: &[&str]) -> Self {
        let forebay = Self::start(dsn, sets).await;
        forebay.becomes_ready().await;
        forebay
    }

    /// Runs `command` and waits until it listens.
    pub async fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let (said, mut listening) = watch::channel(None);
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        tokio::spawn(keep_lines(stderr, lines.clone(), said));
        let waiting = tokio::time::timeout(PATIENCE, listening.wait_for(Option::is_some));
        let Ok(Ok(ports)) = waiting.await.map(|found| found.map(|value| value.clone())) else {
            panic!("forebay did not say where it listens; it said: {:#?}", lines.lock().unwrap());
        };
        let ports: Value = ports.expect("waited for");
        let port = |name: &str| ports[name].as_str().unwrap_or_default().to_owned();
        Self {
            child,
            grpc: port("grpc"),
            http: port("http"),
            health: port("health"),
            metrics: port("metrics"),
            lines,
        }
    }

    /// The gRPC endpoint, as `http://address:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// The address of OTLP/HTTP.
    pub fn http_address(&self) -> &str {
        &self.http
    }

    /// The address of the health page.
    pub fn health_address(&self) -> &str {
        &self.health
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The bytes that were resident at most.
    pub fn peak(&self) -> u64 {
        peak_resident(self.pid())
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    /// The time of processors that it has taken.
    pub fn processor_time(&self) -> std::time::Duration {
        cpu(self.pid())
    }

    /// The address of the metrics page.
    pub fn metrics_address(&self) -> &str {
        &self.metrics
    }

    /// A client with a connection of its own.
    pub async fn sender(&self) -> Sender {
        Sender::connect(&self.endpoint()).await
    }

    /// Status and body of the health page.
    pub async fn health(&self) -> (u16, Value) {
        let (status, body) = get(&format!("http://{}/", self.health)).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }

    /// Waits until the health page says that records are taken and written.
    pub async fn becomes_ready(&self) {
        eventually("forebay is ready", || async { (self.health().await.0 == 200).then_some(()) }).await;
    }

    /// Waits until the health page gives this reason for not being ready.
    pub async fn becomes_unready(&self, reason: &str) {
        let what = format!("forebay is not ready because of {reason}");
        eventually(&what, || async {
            let (status, body) = self.health().await;
            (status == 503 && body["reason"] == reason).then_some(())
        })
        .await;
    }

    /// The metrics of now.
    pub async fn scrape(&self) -> Scrape {
        let (status, body) = get(&format!("http://{}/metrics", self.metrics)).await;
        assert_eq!(status, 200, "{body}");
        Scrape::parse(&body)
    }

    /// Waits until nothing is held any more, and checks that the books balance.
    pub async fn settles(&self) -> Scrape {
        let scrape = eventually("the buffer is empty", || async {
            let scrape = self.scrape().await;
            (scrape.value("log_buffer_size") == 0 && scrape.held() == 0).then_some(scrape)
        })
        .await;
        scrape.assert_balanced();
        scrape
    }

    /// Sends a signal: `TERM`, `INT`, `KILL`, `STOP`, `CONT`.
    pub async fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().await.expect("kill runs");
        assert!(sent.success());
    }

    /// Waits for the end; gives the exit status.
    pub async fn ends(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("forebay does not end; it said: {:#?}", self.lines.lock().unwrap()))
            .expect("it can be waited for")
    }

    /// SIGTERM, then the end.
    pub async fn terminate(mut self) -> (Option<i32>, Vec<String>) {
        self.signal("TERM").await;
        let status = self.ends().await;
        (status.code(), self.said())
    }

    /// What it has said on stderr so far.
    pub fn said(&self) -> Vec<String> {
        self.lines.lock().unwrap().iter().cloned().collect()
    }
}

async fn keep_lines(
    stderr: BufReader<tokio::process::ChildStderr>,
    kept: Arc<Mutex<VecDeque<String>>>,
    said: watch::Sender<Option<Value>>,
) {
    let mut lines = stderr.lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(event) = serde_json::from_str::<Value>(&line)
            && event["message"] == "forebay takes records"
        {
            said.send_replace(Some(event));
        }
        let mut kept = kept.lock().unwrap();
        if kept.len() == 1000 {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

/// GETs a page.
pub async fn get(url: &str) -> (u16, String) {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let mut response = agent.get(&url).call().unwrap_or_else(|error| panic!("GET {url}: {error}"));
        let body = response.body_mut().read_to_string().unwrap_or_default();
        (response.status().as_u16(), body)
    })
    .await
    .expect("the request ends")
}
