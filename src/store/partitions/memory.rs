//! How much memory the build of an index has, on which the size of a GIN index depends: one million records' attributes took
//! 74 MB by the best, 92 MB by PostgreSQL's default, 127 MB by more than enough.

use super::catalogue::PartitionState;
use crate::postgres::error::{Class, Failure};
use crate::postgres::session::Connection;
use crate::table::index::Index;

/// The number of pages that are sampled to estimate the memory for a build.
const SAMPLED_PAGES: f64 = 2000.0;
/// Bytes of memory that one build may take even if `maintenance_work_mem` is lower: its default suits servers of long ago.
const ALWAYS_ALLOWED: f64 = 256.0 * 1024.0 * 1024.0;

/// Sets the memory for the build of `index`, if the index's size depends on it: a bit more than half of what the build collects, so
/// that it takes two passes. Three passes give a larger index than one. If half is more than is allowed, a quarter is next best,
/// and so on.
pub(super) async fn give_memory(
    connection: &Connection,
    state: &PartitionState,
    index: Index,
) -> Result<(), Failure> {
    let pages = (state.table_bytes / 8192).max(1) as f64;
    let share = (SAMPLED_PAGES / pages).min(1.0);
    connection.batch_execute("RESET maintenance_work_mem").await?;
    let Some(estimate) = index.collected_statement(&state.partition.qualified, share) else { return Ok(()) };
    // Attributes of many megabytes take longer; then the server's own setting has to do.
    connection.batch_execute("BEGIN; SET LOCAL statement_timeout = '5s'").await?;
    let estimated = connection.query_opt(&estimate, &[]).await.map_err(Failure::from);
    connection.batch_execute("ROLLBACK").await?;
    let row = match estimated {
        Ok(Some(row)) => row,
        Err(failure) if failure.class == Class::Connection => return Err(failure),
        Ok(None) | Err(_) => return Ok(()),
    };
    let (collected, allowed): (f64, f64) = (row.get(0), row.get(1));
    let memory = memory_for(collected, allowed);
    connection.batch_execute(&format!("SET maintenance_work_mem = '{memory}kB'")).await?;
    Ok(())
}

/// Kilobytes for a build that collects this many bytes.
fn memory_for(collected: f64, allowed: f64) -> u64 {
    let mut memory = 0.58 * collected;
    while memory > allowed.max(ALWAYS_ALLOWED) {
        memory /= 2.0;
    }
    (memory / 1024.0).ceil().max(1024.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_adds_its_keys_by_two_times_or_four() {
        let mib = f64::from(1024 * 1024);
        assert_eq!(memory_for(258e6, 64.0 * mib), 146_133, "by two");
        assert_eq!(memory_for(490e6, 64.0 * mib), 138_770, "by four");
        assert_eq!(memory_for(490e6, 1024.0 * mib), 277_540, "a server that allows it");
        assert_eq!(memory_for(1.0, 64.0 * mib), 1024, "PostgreSQL's least");
    }
}
