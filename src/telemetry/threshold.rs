//! Which messages are printed: forebay's own from a level on that may change while it runs, and other crates' warnings.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Registry, reload};

use super::config::Level;

/// The least severe messages that are printed.
#[derive(Clone, Debug)]
pub struct Threshold(reload::Handle<Targets, Registry>);

impl Threshold {
    /// The filter for `level`, and the handle that changes it.
    pub(super) fn new(level: Level) -> (reload::Layer<Targets, Registry>, Self) {
        let (filter, handle) = reload::Layer::new(targets(level));
        (filter, Self(handle))
    }

    /// From now on messages below `level` are not printed.
    pub fn set(&self, level: Level) {
        // This fails only if the subscriber is gone, and then nothing is printed anyway.
        let _ = self.0.reload(targets(level));
    }
}

pub(super) fn targets(level: Level) -> Targets {
    let level = match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
        Level::Off => LevelFilter::OFF,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("deadpool", LevelFilter::OFF)
        .with_target(env!("CARGO_CRATE_NAME"), level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_crates_are_held_to_warnings_and_deadpool_is_silent() {
        let shown = |level, target: &str, event| targets(level).would_enable(target, &event);
        for level in [Level::Debug, Level::Info, Level::Warn] {
            for target in
                ["h2::proto", "hyper", "tonic", "tower", "tokio_postgres", "rustls", "opentelemetry_sdk"]
            {
                assert!(!shown(level, target, tracing::Level::INFO), "{target}");
                assert!(shown(level, target, tracing::Level::WARN), "{target}");
            }
            assert!(!shown(level, "deadpool.postgres", tracing::Level::ERROR));
        }
        assert!(!shown(Level::Error, "h2", tracing::Level::WARN));
        assert!(shown(Level::Debug, "forebay::buffer", tracing::Level::DEBUG));
        assert!(!shown(Level::Info, "forebay::buffer", tracing::Level::DEBUG));
        assert!(!shown(Level::Error, "forebay::buffer", tracing::Level::WARN));
    }
}
