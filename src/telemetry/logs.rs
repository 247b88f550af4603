//! forebay's own messages: `tracing` events, written to stderr only. Spans are not printed.
//!
//! Warnings and errors are folded: each place in the code prints at most one line in ten seconds per partition, lane and so on, with
//! the count of those left out. Other crates print warnings and errors only, and deadpool nothing, because the exporter reports the
//! same with more context. Logging never fails or blocks the program: a line that stderr refuses is lost, and a stderr that blocks
//! keeps only the writing thread waiting.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::Error;
use super::config::{Encoding, LogsConfig};
use super::fold::{Fold, Printed};
use super::line::Style;
use super::outlet::{Inlet, Outlet};
use super::subject::subject;
use super::threshold::Threshold;

/// The window in which a place prints one line per subject.
const WINDOW: Duration = Duration::from_secs(10);
/// How often [`Logs::tell_repeats`] looks for windows that are over.
const LOOK: Duration = Duration::from_secs(1);
/// The longest wait at the end for a stderr that blocks.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The logging of the process. Dropping it prints the folded messages that are left; drop it last of all.
#[must_use = "dropping it prints what was folded; keep it to the end"]
pub struct Logs {
    printer: Arc<Printer>,
    outlet: Arc<Outlet>,
    threshold: Threshold,
}

/// Sends this process's `tracing` events to stderr, by way of [`Logs::writer`]. Call it once, first of all.
pub fn init(config: &LogsConfig) -> Result<Logs, Error> {
    let style = match config.encoding {
        Encoding::Console => Style::Console { colours: wants_colours(&io::stderr()) },
        Encoding::Json => Style::Json,
    };
    let outlet = Arc::new(Outlet::default());
    let printer = Arc::new(Printer::new(style, Now::read, Inlet(outlet.clone())));
    let (filter, threshold) = Threshold::new(config.level);
    tracing::subscriber::set_global_default(subscriber(filter, printer.clone()))
        .map_err(|_| Error::LogsAlreadySet)?;
    Ok(Logs { printer, outlet, threshold })
}

impl Logs {
    /// The handle that changes the level.
    pub fn threshold(&self) -> Threshold {
        self.threshold.clone()
    }

    /// Returns the function that writes messages to stderr. It blocks until the end; run it on a thread of its own.
    pub fn writer(&self) -> impl FnOnce() + Send + 'static {
        let outlet = self.outlet.clone();
        move || outlet.run(io::stderr())
    }

    /// Prints folded messages when their window is over, until `shutdown`. Without it, the last repeats would be printed only with the
    /// next message from the same place.
    pub fn tell_repeats(
        &self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let printer = self.printer.clone();
        async move {
            let mut shutdown = std::pin::pin!(shutdown);
            let mut looks = interval(LOOK);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = &mut shutdown => return,
                    _ = looks.tick() => printer.print_due(),
                }
            }
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.printer.print_rest();
        self.outlet.finish(LAST_WORDS);
    }
}

/// Whether to use colours: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub fn wants_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn subscriber(
    filter: impl Layer<Registry> + Send + Sync,
    printer: Arc<Printer>,
) -> impl Subscriber + Send + Sync {
    tracing_subscriber::registry().with(filter).with(Sink(printer))
}

/// Both clocks at one moment: the wall clock for the line, and the steady one for the fold, because the wall clock may jump.
#[derive(Clone, Copy)]
struct Now {
    wall: Timestamp,
    steady: Instant,
}

impl Now {
    fn read() -> Self {
        Self { wall: Timestamp::now(), steady: Instant::now() }
    }
}

struct Printer {
    style: Style,
    clock: Box<dyn Fn() -> Now + Send + Sync>,
    fold: Fold<Identifier>,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Printer {
    fn new(
        style: Style,
        clock: impl Fn() -> Now + Send + Sync + 'static,
        out: impl Write + Send + 'static,
    ) -> Self {
        Self { style, clock: Box::new(clock), fold: Fold::new(WINDOW), out: Mutex::new(Box::new(out)) }
    }

    fn take(&self, event: &Event<'_>) {
        let now = (self.clock)();
        let metadata = event.metadata();
        let line = self.style.render(event, now.wall);
        if *metadata.level() > Level::WARN {
            return self.print([Printed { line, repeats: 0 }]);
        }
        self.print(self.fold.admit(metadata.callsite(), subject(event), line, now.steady));
    }

    fn print_due(&self) {
        self.print(self.fold.due((self.clock)().steady));
    }

    fn print_rest(&self) {
        self.print(self.fold.rest((self.clock)().steady));
    }

    /// Writes each line with a single write.
    fn print(&self, lines: impl IntoIterator<Item = Printed>) {
        for Printed { line, repeats } in lines {
            let line = self.style.close(line, repeats);
            let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            // A failure of stderr cannot be reported anywhere.
            let _ = out.write_all(line.as_bytes());
        }
    }
}

/// Passes the subscriber's events to the printer.
struct Sink(Arc<Printer>);

impl<S: Subscriber> Layer<S> for Sink {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.take(event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tracing::subscriber::with_default;
    use tracing::{debug, error, info, warn};

    use super::*;
    use crate::telemetry::config;
    use crate::telemetry::threshold::targets;
    use crate::telemetry::{Health, StoreTrouble};

    const CONSOLE: Style = Style::Console { colours: false };

    /// A stderr that can be read.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn lines(&self) -> Vec<String> {
            let bytes = self.0.lock().unwrap();
            std::str::from_utf8(&bytes).unwrap().lines().map(str::to_owned).collect()
        }
    }

    /// A printer onto paper, and the seconds that its clock shows.
    fn printer(style: Style) -> (Arc<Printer>, Paper, Arc<AtomicU64>) {
        let (paper, seconds, start) = (Paper::default(), Arc::new(AtomicU64::new(0)), Instant::now());
        let clock = {
            let seconds = seconds.clone();
            move || {
                let passed = seconds.load(Ordering::Relaxed);
                Now {
                    wall: Timestamp::from_second(1_795_428_000 + passed as i64).unwrap(),
                    steady: start + Duration::from_secs(passed),
                }
            }
        };
        (Arc::new(Printer::new(style, clock, paper.clone())), paper, seconds)
    }

    fn logs(printer: Arc<Printer>) -> Logs {
        Logs { printer, outlet: Arc::default(), threshold: Threshold::new(config::Level::Info).1 }
    }

    #[test]
    fn a_line_for_people() {
        let (printer, paper, _) = printer(CONSOLE);
        with_default(subscriber(targets(config::Level::Info), printer), || {
            info!(port = 4317, tls = false, endpoint = "127.0.0.1:4317", why = "as asked", "listening");
            warn!(error = %io::Error::other("a\nb"), "cannot write\nthis");
            warn!(target: "h2", "odd frame");
            debug!("not at this level");
        });
        assert_eq!(
            paper.lines(),
            [
                "2026-11-23T10:00:00.000Z INFO  listening port=4317 tls=false endpoint=127.0.0.1:4317 why=\"as asked\"",
                "2026-11-23T10:00:00.000Z WARN  cannot write\\nthis error=\"a\\nb\"",
                "2026-11-23T10:00:00.000Z WARN  h2: odd frame",
            ]
        );
    }

    #[test]
    fn colours_mark_the_level_only() {
        let (printer, paper, _) = printer(Style::Console { colours: true });
        with_default(subscriber(targets(config::Level::Info), printer), || error!("bad"));
        assert_eq!(paper.lines(), ["2026-11-23T10:00:00.000Z \x1b[31mERROR\x1b[0m bad"]);
    }

    #[test]
    fn a_line_of_json_is_flat_and_keeps_its_own_keys() {
        let (printer, paper, seconds) = printer(Style::Json);
        with_default(subscriber(targets(config::Level::Info), printer), || {
            for second in [0, 1, 10] {
                seconds.store(second, Ordering::Relaxed);
                error!(code = "57P01", rows = 10u64, level = "mine", "refused \"so\"");
            }
        });
        let target = module_path!();
        assert_eq!(
            paper.lines(),
            [
                format!(
                    r#"{{"time":"2026-11-23T10:00:00.000000Z","level":"error","target":"{target}","message":"refused \"so\"","code":"57P01","rows":10}}"#
                ),
                format!(
                    r#"{{"time":"2026-11-23T10:00:10.000000Z","level":"error","target":"{target}","message":"refused \"so\"","code":"57P01","rows":10,"repeats":1}}"#
                ),
            ]
        );
    }

    #[test]
    fn a_storm_of_warnings_is_one_line_a_window() {
        let (printer, paper, seconds) = printer(CONSOLE);
        let say = |attempt: u64| warn!(attempt, "cannot connect");
        with_default(subscriber(targets(config::Level::Info), printer.clone()), || {
            (0..1_000).for_each(say);
            printer.print_due();
            seconds.store(10, Ordering::Relaxed);
            printer.print_due();
            (1_000..1_100).for_each(say);
            drop(logs(printer));
        });
        assert_eq!(
            paper.lines(),
            [
                "2026-11-23T10:00:00.000Z WARN  cannot connect attempt=0",
                "2026-11-23T10:00:00.000Z WARN  cannot connect attempt=999 repeats=998",
                "2026-11-23T10:00:10.000Z WARN  cannot connect attempt=1099 repeats=99",
            ]
        );
    }

    #[test]
    fn each_change_of_health_is_said_once() {
        let (printer, paper, _) = printer(CONSOLE);
        with_default(subscriber(targets(config::Level::Info), printer.clone()), || {
            let health = Health::new();
            for trouble in [StoreTrouble::DatabaseUnreachable, StoreTrouble::DatabaseRefuses] {
                health.store_unavailable(trouble, "first");
                health.store_unavailable(trouble, "second");
            }
            health.store_ready();
            health.store_ready();
            health.draining();
            health.store_ready();
            printer.print_rest();
        });
        let said: Vec<String> = paper.lines().iter().map(|line| line[25..45].to_owned()).collect();
        assert_eq!(
            said,
            ["WARN  the database c", "WARN  the database r", "WARN  the database a", "INFO  draining: new "]
        );
    }

    #[test]
    fn each_partition_that_fails_is_said_and_not_each_failure() {
        let (printer, paper, seconds) = printer(CONSOLE);
        with_default(subscriber(targets(config::Level::Info), printer.clone()), || {
            for (partition, attempt) in [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3)] {
                seconds.fetch_add(1, Ordering::Relaxed);
                warn!(partition, attempt, "cannot be made");
            }
            printer.print_rest();
        });
        let said: Vec<String> = paper.lines().iter().map(|line| line[56..].to_owned()).collect();
        assert_eq!(said, ["a attempt=1", "b attempt=1", "b attempt=2", "a attempt=3 repeats=1"]);
    }

    #[test]
    fn information_is_not_folded() {
        let (printer, paper, _) = printer(CONSOLE);
        with_default(subscriber(targets(config::Level::Info), printer), || {
            for port in [4317, 4318] {
                info!(port, "listening");
            }
        });
        assert_eq!(paper.lines().len(), 2);
    }

    #[test]
    fn a_closed_stderr_is_tolerated() {
        struct ClosedOnce(Option<io::Error>, Paper);
        impl Write for ClosedOnce {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.take().map_or_else(|| self.1.write(bytes), Err)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let paper = Paper::default();
        let closed = ClosedOnce(Some(io::ErrorKind::BrokenPipe.into()), paper.clone());
        let printer = Arc::new(Printer::new(CONSOLE, Now::read, closed));
        with_default(subscriber(targets(config::Level::Info), printer), || {
            error!("into the void");
            error!("heard");
        });
        assert!(matches!(&paper.lines()[..], [line] if line.contains("heard")), "{:?}", paper.lines());
    }

    #[tokio::test]
    async fn repeats_are_told_while_it_runs_and_the_telling_ends() {
        let (printer, paper, seconds) = printer(CONSOLE);
        let logs = logs(printer.clone());
        with_default(subscriber(targets(config::Level::Info), printer), || {
            for _ in 0..3 {
                warn!("again");
            }
        });
        seconds.store(10, Ordering::Relaxed);
        // The first look is at once; the shutdown here is the line's arrival.
        let arrived = paper.clone();
        logs.tell_repeats(async move {
            while arrived.lines().len() < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(paper.lines()[1], "2026-11-23T10:00:00.000Z WARN  again repeats=1");
    }

    #[test]
    fn a_second_subscriber_is_an_error_and_no_panic() {
        let first = init(&LogsConfig::default());
        let second = init(&LogsConfig::default());
        assert!(matches!(second, Err(Error::LogsAlreadySet)));
        drop(first);
    }
}
