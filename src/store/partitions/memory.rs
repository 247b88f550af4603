//! How much memory the build of an index has, on which the size of a GIN index depends: one million records' attributes took
//! 74 MB by the best, 92 MB by PostgreSQL's default, 127 MB by more than enough.

use super::catalogue::PartitionState;
use crate::postgres::error::{Class, Failure};
use crate::postgres::session::Connection;
use crate::table::index::Index;

/// As many pages tell how much memory a build needs.
const SAMPLED_PAGES: f64 = 2000.0;
/// Memory in bytes that one build may take whatever `maintenance_work_mem` is, whose default is for servers of long ago.
const ALWAYS_ALLOWED: f64 = 256.0 * 1024.0 * 1024.0;

/// Sets how much memory the build of `index` has, where its size depends on it: a bit more than half of what it collects, so that
/// it adds that by two times. By three the index is worse than by one that is too large. Where a half is more than may be taken, half
/// of it is next best.
pub(super) async fn give_memory(
    connection: &Connection,
    state: &PartitionState,
    index: Index,
) -> Result<(), Failure> {
    let pages = (state.table_bytes / 8192).max(1) as f64;
    let share = (SAMPLED_PAGES / pages).min(1.0);
    connection.batch_execute("RESET maintenance_work_mem").await?;
    let Some(estimate) = index.collected_statement(&state.partition.qualified, share) else { return Ok(()) };
    // Attributes of many megabytes take longer, and then the server's own memory has to do.
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

/// Kilobytes for a build that collects so many bytes.
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
