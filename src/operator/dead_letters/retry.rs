//! Retries dead letters: moves them from `dead_letters` to the table that refused them, in one transaction, so that a crash leaves
//! each in exactly one of the two.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;

use bytes::Bytes;
use uuid::Uuid;

use super::origins::{Named, lacking, restore};
use super::{CommandError, DeadLetters, Filter};
use crate::postgres::error::{Class, Failure};
use crate::postgres::pool::AS_THE_ROLE_HAS_THEM;
use crate::postgres::session::Connection;
use crate::store::triggers::copy_past;
use crate::table::Destination;
use crate::table::ddl::{LOG_RECORDS, copy_statement_into};
use crate::table::decode::fields;

/// The result of a retry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Letters that are in the table now.
    pub stored: u64,
    /// Letters that were refused again, and have stayed.
    pub refused: u64,
    /// The stored ones whose resource or scope is missing: letters from before schema version 9 do not keep it.
    pub incomplete: u64,
}

/// Letters that are being retried.
#[derive(Default)]
struct Taken {
    /// Rows by their table and the names of their fields: a letter of another version may have others.
    rows: BTreeMap<(Option<String>, Vec<String>), Vec<Bytes>>,
    resources: Vec<Uuid>,
    scopes: Vec<Uuid>,
    /// The ids in the rows of letters that do not keep resource and scope.
    named: Vec<Named>,
}

impl fmt::Display for Retried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stored, refused, incomplete } = self;
        write!(f, "{stored} stored, {refused} refused again")?;
        match incomplete {
            0 => Ok(()),
            _ => write!(
                f,
                "; {incomplete} of those stored lack their resource or scope, which old letters do not keep"
            ),
        }
    }
}

impl DeadLetters {
    pub(super) async fn retry(
        &self,
        filter: &Filter,
        progress: &mut dyn Write,
    ) -> Result<Retried, CommandError> {
        let (mut below, mut done) = (i64::MAX, Retried::default());
        loop {
            let ids = self.page(filter, below).await?;
            let Some(last) = ids.last() else { return Ok(done) };
            below = *last;
            if let Err(failure) = self.retry_page(&ids, &mut done).await {
                writeln!(progress, "{done} before the failure")?;
                return Err(failure.into());
            }
            writeln!(progress, "{done} so far")?;
        }
    }

    /// Sends the letters together; if one of them is at fault, each by itself.
    async fn retry_page(&self, ids: &[i64], done: &mut Retried) -> Result<(), Failure> {
        if self.send(ids, done).await?.is_none() {
            return Ok(());
        }
        for id in ids {
            if let Some(failure) = self.send(&[*id], done).await? {
                self.note(*id, &failure).await?;
                done.refused += 1;
            }
        }
        Ok(())
    }

    /// Moves those of the letters that are still there. If one of them is at fault, it moves none and returns why.
    async fn send(&self, ids: &[i64], done: &mut Retried) -> Result<Option<Failure>, Failure> {
        match self.connected(async |c| self.transfer(c, ids).await).await {
            Ok((all, incomplete)) => {
                done.stored += all;
                done.incomplete += incomplete;
                Ok(None)
            }
            Err(failure) if is_of_a_row(&failure) => Ok(Some(failure)),
            Err(failure) => Err(failure),
        }
    }

    /// Returns how many letters were still there and are stored, and how many of these lack their resource or scope.
    async fn transfer(&self, connection: &Connection, ids: &[i64]) -> Result<(u64, u64), Failure> {
        connection.batch_execute("BEGIN").await?;
        let Taken { rows, resources, scopes, named } = self.take(connection, ids).await?;
        restore(connection, &self.schema, &resources, &scopes).await?;
        let lacking = lacking(connection, &self.schema, &named).await?;
        let incomplete = lacking.iter().filter(|lacks| !lacks.is_empty()).count() as u64;
        let mut all = 0;
        for ((destination, names), rows) in rows {
            all += rows.len() as u64;
            self.copy(connection, destination, &names, rows).await?;
        }
        connection.batch_execute("COMMIT").await?;
        Ok((all, incomplete))
    }

    /// Takes the letters out of the table. Their locks keep a second retry from sending them as well.
    async fn take(&self, connection: &Connection, ids: &[i64]) -> Result<Taken, Failure> {
        let delete = format!(
            "DELETE FROM {}.dead_letters WHERE id = ANY ($1) RETURNING columns, row, destination, resource_id, scope_id",
            self.schema
        );
        let statement = connection.prepare_cached(&delete).await?;
        let mut taken = Taken::default();
        for letter in connection.query(&statement, &[&ids]).await? {
            let (names, row): (Vec<String>, Vec<u8>) = (letter.get(0), letter.get(1));
            let destination: Option<String> = letter.get(2);
            // Malformed bytes must not change how PostgreSQL reads the rows after them.
            if fields(&row).is_none_or(|fields| fields.len() != names.len()) {
                let message =
                    format!("the bytes are not one row of {} fields in binary COPY format", names.len());
                return Err(Failure::of_a_row("22P04", message));
            }
            let (resource, scope): (Option<Uuid>, Option<Uuid>) = (letter.get(3), letter.get(4));
            if resource.is_none() && destination.is_none() {
                taken.named.push(Named::by(&row, &names));
            }
            taken.resources.extend(resource);
            taken.scopes.extend(scope);
            taken.rows.entry((destination, names)).or_default().push(row.into());
        }
        Ok(taken)
    }

    /// Sends `rows` to `destination`, which is `log_records` or the existing table that the configuration names.
    async fn copy(
        &self,
        connection: &Connection,
        destination: Option<String>,
        names: &[String],
        rows: Vec<Bytes>,
    ) -> Result<(), Failure> {
        let own = Destination::new(self.schema.clone(), None);
        let (table, into) = match destination {
            None => (format!("{}.{LOG_RECORDS}", self.schema), &own),
            Some(mark) if self.destination.mark().as_ref() == Some(&mark) => {
                connection.batch_execute(&AS_THE_ROLE_HAS_THEM).await?;
                (mark, &self.destination)
            }
            Some(mark) => {
                let message = format!("it was for {mark}, which exporters.postgres.table does not name");
                return Err(Failure::of_a_row("22000", message));
            }
        };
        let expected = rows.len() as u64;
        let before = inserted(connection).await?;
        let diverted =
            copy_past(connection, &copy_statement_into(&table, names), into, rows, expected).await?;
        // A letter that a trigger has left out would be lost.
        if diverted > 0 && (expected > 1 || inserted(connection).await? == before) {
            let message = "a trigger keeps it out of the table, and puts it nowhere else";
            return Err(Failure::new(Class::Unknown, message));
        }
        Ok(())
    }

    /// Stores why the letter was refused this time.
    async fn note(&self, id: i64, failure: &Failure) -> Result<(), Failure> {
        let update = format!(
            "UPDATE {}.dead_letters SET sqlstate = $2, message = $3, attempts = attempts + 1 WHERE id = $1",
            self.schema
        );
        self.connected(async |c| {
            let statement = c.prepare_cached(&update).await?;
            c.execute(&statement, &[&id, &failure.code(), &failure.message]).await?;
            Ok(())
        })
        .await
    }
}

/// The number of rows that this transaction has inserted into any table.
async fn inserted(connection: &Connection) -> Result<i64, Failure> {
    let select = "SELECT pg_catalog.sum(n_tup_ins)::pg_catalog.int8 FROM pg_catalog.pg_stat_xact_user_tables";
    Ok(connection.query_one(select, &[]).await?.get::<_, Option<i64>>(0).unwrap_or_default())
}

/// Whether a row may be at fault, so that the others can be stored without it: its content, its format, the time it takes, a field
/// whose column is gone, or an SQLSTATE that does not say whose fault it is. The letter stays in any case. The line that PostgreSQL
/// names is not needed here.
fn is_of_a_row(failure: &Failure) -> bool {
    let of_code = |code| match Class::of_sqlstate(code, None) {
        // A missing partition has the code of a violated check, but the class Refused.
        Class::Poison | Class::Unknown => failure.class != Class::Refused,
        _ => matches!(code, "08P01" | "42703" | "53200" | "57014"),
    };
    failure.class == Class::Unknown || failure.sqlstate.as_deref().is_some_and(of_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rows_own_fault_leaves_it_behind() {
        let failure = |class, code: Option<&str>| {
            let mut failure = Failure::new(class, "any");
            failure.sqlstate = code.map(str::to_owned);
            failure
        };
        for code in ["23514", "22021", "54000", "P0001", "22P04", "08P01", "XX000", "38000", "57014"] {
            assert!(is_of_a_row(&failure(Class::Unknown, Some(code))), "{code}");
        }
        assert!(is_of_a_row(&failure(Class::Refused, Some("42703"))), "its column is gone");
        assert!(is_of_a_row(&failure(Class::Unknown, None)), "it was not stored, and nothing says why");
        for code in ["42501", "53100", "57P01", "25006", "55P03", "40001"] {
            let mut failure = failure(Class::of_sqlstate(code, None), Some(code));
            failure.copy_line = Some(1);
            assert!(!is_of_a_row(&failure), "{code}, whatever line it names");
        }
        assert!(is_of_a_row(&failure(Class::Unknown, Some("40001"))), "a trigger has raised it");
        assert!(!is_of_a_row(&failure(Class::Refused, Some("23514"))), "a partition is missing");
        assert!(!is_of_a_row(&failure(Class::Connection, None)));
    }
}
