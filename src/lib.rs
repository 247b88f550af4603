//! forebay: an OpenTelemetry gateway collector for logs that writes to PostgreSQL.
//!
//! A record's way through the program, which is also the order to read it in:
//!
//! 1. [`receiver`] receives the request's bytes and answers the sender,
//! 2. [`otlp`] walks them as protobuf without decoding them into messages,
//! 3. [`buffer`] reserves room for the records, or drops by the overflow policy,
//! 4. [`table`] writes each record as one row of PostgreSQL's binary COPY,
//! 5. [`buffer`] holds the rows and hands them out in batches,
//! 6. [`exporter`] writes each batch in one transaction and settles it.
//!
//! Around it: [`config`] reads the YAML, [`app`] builds the parts and ends them in order, [`telemetry`] has forebay's own
//! metrics, logs and health, [`net`] serves HTTP, [`memory`] limits the memory of the whole process, [`embedded`] runs a private
//! PostgreSQL, [`shutdown`] has the signals, [`supervisor`] notifies systemd, [`cli`] is the command line, [`values`] reads and
//! shows durations, sizes, times, secrets and text, [`version`] is the version.
//!
//! Imports go down only; `tests/tidy.rs` holds that. ARCHITECTURE.md has the floors.

pub mod app;
pub mod buffer;
pub mod cli;
pub mod config;
pub mod embedded;
pub mod exporter;
pub mod memory;
pub mod net;
pub mod operator;
pub mod otlp;
pub mod postgres;
pub mod receiver;
pub mod shutdown;
pub mod store;
pub mod supervisor;
pub mod table;
pub mod telemetry;
pub mod values;
pub mod version;
