//! The filter of dead letters.

use std::time::SystemTime;

use crate::postgres::ToSql;
use crate::values::when::When;

/// Selects the dead letters that satisfy all its conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Their id is one of these; all if there are none.
    pub ids: Vec<i64>,
    /// They have this SQLSTATE.
    pub sqlstate: Option<String>,
    /// They belong to this service.
    pub service: Option<String>,
    /// They were refused since then.
    pub since: Option<When>,
}

/// The filter as values of parameters.
pub(super) struct Parameters {
    ids: Option<Vec<i64>>,
    sqlstate: Option<String>,
    service: Option<String>,
    time: Option<SystemTime>,
    seconds: Option<f64>,
}

/// The condition on `dead_letters`, with the five parameters of [`Parameters::all`].
pub(super) const CONDITION: &str = "($1::bigint[] IS NULL OR id = ANY ($1)) \
     AND ($2::text IS NULL OR sqlstate = $2) AND ($3::text IS NULL OR service = $3) \
     AND ($4::timestamptz IS NULL OR at >= $4) \
     AND ($5::double precision IS NULL OR at >= now() - $5 * interval '1 second')";

impl Filter {
    pub(super) fn parameters(&self) -> Parameters {
        let (time, seconds) = match self.since {
            None => (None, None),
            Some(When::Time(time)) => (Some(time.into()), None),
            Some(When::Ago(ago)) => (None, Some(ago.as_secs_f64())),
        };
        Parameters {
            ids: (!self.ids.is_empty()).then(|| self.ids.clone()),
            sqlstate: self.sqlstate.clone(),
            service: self.service.clone(),
            time,
            seconds,
        }
    }
}

impl Parameters {
    pub(super) fn all(&self) -> [&(dyn ToSql + Sync); 5] {
        [&self.ids, &self.sqlstate, &self.service, &self.time, &self.seconds]
    }
}
