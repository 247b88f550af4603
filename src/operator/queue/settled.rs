//! The records that do not wait: those that are stored, and those that were dropped.

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::buffer::disk::Positions;
use crate::buffer::disk::view::View;
use crate::postgres::dsn::Target;
use crate::postgres::pool::Pool;
use crate::postgres::session::Connection;
use crate::store::Config;
use crate::store::lanes::stored_of;
use crate::table::identifier::Schema;

/// The longest that the store is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// The records that do not wait.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) positions: Positions,
    pub(super) source: Source,
}

/// How it is known which records are stored.
#[derive(Debug)]
pub(super) enum Source {
    /// PostgreSQL says so, at this address.
    Store(String),
    /// The directory's note says so, because of this.
    Note(String),
}

/// The records of `view` that do not wait: by the store at `target` (the error is why there is none), or else by the directory's note.
pub(super) async fn settled(view: &View, target: Result<Target, String>, config: &Config) -> Settled {
    let asked = match (view.id(), target) {
        (_, Err(why)) => Err(why),
        (None, Ok(_)) => Err("the directory has no queue yet".to_owned()),
        (Some(id), Ok(target)) => ask(id, target, config).await,
    };
    let (mut positions, source) = match asked {
        Ok((stored, address)) if !stored.is_empty() || view.noted().is_empty() => {
            (stored, Source::Store(address))
        }
        Ok((_, address)) => {
            (view.noted().clone(), Source::Note(format!("{address} knows nothing of this queue")))
        }
        Err(why) => (view.noted().clone(), Source::Note(why)),
    };
    positions.add(view.dropped());
    Settled { positions, source }
}

/// The records of `queue` that are stored, and where.
async fn ask(queue: Uuid, target: Target, config: &Config) -> Result<(Positions, String), String> {
    let (address, schema) = (target.describe(), Schema::new(config.schema.clone()));
    let pool = Pool::new(target, 1, PATIENCE).map_err(|error| error.to_string())?;
    let stored = async |connection: &Connection| stored_of(connection, &schema, queue).await;
    match tokio::time::timeout(PATIENCE, pool.session(PATIENCE, stored)).await {
        Ok(Ok(stored)) => Ok((stored, address)),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(_) => Err(format!("{address} did not answer within {} s", PATIENCE.as_secs())),
    }
}

impl Source {
    /// Its name in JSON.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Store(_) => "postgresql",
            Self::Note(_) => "directory",
        }
    }

    /// Why PostgreSQL was not asked, or did not answer.
    pub(super) fn why(&self) -> Option<&str> {
        match self {
            Self::Store(_) => None,
            Self::Note(why) => Some(why),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(address) => write!(f, "PostgreSQL says which records are stored ({address})"),
            Self::Note(why) => {
                write!(f, "the directory says which records are stored, perhaps not all of them: {why}")
            }
        }
    }
}
