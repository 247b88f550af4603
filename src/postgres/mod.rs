//! Access to a PostgreSQL server: connection strings, TLS, the pool, sessions, COPY, and failures sorted by SQLSTATE.
//!
//! Only this folder names deadpool and the glue between tokio-postgres and rustls. It knows nothing of forebay's tables.

pub mod backoff;
mod connect;
mod context;
pub mod copy;
pub mod dsn;
pub mod error;
pub mod pool;
pub mod redact;
pub mod session;
pub(crate) mod tls;

pub use tokio_postgres::types::ToSql;
pub use tokio_postgres::{Error, Row, SimpleQueryMessage};
