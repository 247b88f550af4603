//! Which forebay this is: its version, what it was built from, what it can do.

use std::sync::LazyLock;

/// The commit that was built; `unknown` where whoever built it has not said so in `FOREBAY_COMMIT`.
pub const COMMIT: &str = match option_env!("FOREBAY_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// What `forebay --version` says.
pub fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{}\n\
             commit:     {COMMIT}\n\
             receivers:  otlp (grpc, http; protobuf, json; gzip, zstd; tls)\n\
             processors: memory_limiter, batch\n\
             exporters:  postgres\n\
             extensions: health_check, bearertokenauth, basicauth, file_storage",
            env!("CARGO_PKG_VERSION")
        )
    });
    &LONG
}
