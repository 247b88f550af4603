//! The server itself: its version, clock and settings.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;

use super::{Checked, Patient, Verdict, ok, problem, warning};

/// The major versions that forebay is made for, each with the day of its last release (PostgreSQL versioning policy).
const VERSIONS: [(i32, Date); 6] = [
    (13, date(2025, 11, 13)),
    (14, date(2026, 11, 12)),
    (15, date(2027, 11, 11)),
    (16, date(2028, 11, 9)),
    (17, date(2029, 11, 8)),
    (18, date(2030, 11, 14)),
];

/// The largest difference of clocks that is fine.
const SKEW: Duration = Duration::from_secs(1);

pub(super) async fn version(p: &Patient<'_>) -> Checked {
    let select = "SELECT current_setting('server_version'), current_setting('server_version_num')::int";
    let row = p.connection.query_one(select, &[]).await?;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    Ok(vec![judge_version(row.get(0), row.get::<_, i32>(1) / 10_000, today)])
}

fn judge_version(name: &str, major: i32, today: Date) -> (Verdict, String) {
    let (oldest, newest) = (VERSIONS[0].0, VERSIONS[VERSIONS.len() - 1].0);
    match VERSIONS.iter().find(|(known, _)| *known == major) {
        Some((_, end)) if today > *end => {
            warning(format!("PostgreSQL {name} has had no fixes since {end}: upgrade to {newest}"))
        }
        Some((_, end)) => ok(format!("PostgreSQL {name}, with fixes until {end}")),
        None if major < oldest => problem(format!(
            "PostgreSQL {name} is too old, forebay needs {oldest} or newer: upgrade to {newest}"
        )),
        None => warning(format!(
            "PostgreSQL {name} is newer than this forebay, which was made for up to {newest}"
        )),
    }
}

pub(super) async fn encoding(p: &Patient<'_>) -> Checked {
    let encoding: String = p.connection.query_one("SHOW server_encoding", &[]).await?.get(0);
    if encoding == "UTF8" {
        return Ok(vec![ok("UTF8")]);
    }
    Ok(vec![problem(format!(
        "the database's encoding is {encoding}, which cannot hold every text: \
         CREATE DATABASE logs ENCODING 'UTF8' TEMPLATE template0, and use that"
    ))])
}

pub(super) async fn clock(p: &Patient<'_>) -> Checked {
    let statement = p.connection.prepare("SELECT clock_timestamp()").await?;
    let mut best: Option<(Duration, f64)> = None;
    for _ in 0..5 {
        let (asked, instant) = (SystemTime::now(), std::time::Instant::now());
        let theirs: SystemTime = p.connection.query_one(&statement, &[]).await?.get(0);
        let round_trip = instant.elapsed();
        // Assumes that the server read its clock halfway through the round trip.
        let skew = seconds(theirs) - seconds(asked + round_trip / 2);
        if best.is_none_or(|(shortest, _)| round_trip < shortest) {
            best = Some((round_trip, skew));
        }
    }
    let (round_trip, skew) = best.unwrap_or_default();
    Ok(vec![judge_clock(round_trip, skew)])
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// `skew` is how far the server's clock is ahead, in seconds; its uncertainty is half of the round trip.
fn judge_clock(round_trip: Duration, skew: f64) -> (Verdict, String) {
    let uncertain = round_trip.as_secs_f64() / 2.0;
    let milliseconds = round_trip.as_secs_f64() * 1000.0;
    if skew.abs() <= SKEW.as_secs_f64() + uncertain {
        return ok(format!(
            "the server's is {:.0} ms off (round trip {milliseconds:.1} ms)",
            skew.abs() * 1000.0
        ));
    }
    let direction = if skew > 0.0 { "ahead of" } else { "behind" };
    warning(format!(
        "the server's is {:.1} s {direction} this machine's, by which records without a time are dated and the \
         days' partitions made: let both follow NTP",
        skew.abs()
    ))
}

pub(super) async fn durability(p: &Patient<'_>) -> Checked {
    let mut found = Vec::new();
    for (name, what) in [
        ("fsync", "a crash of the machine can destroy the database"),
        ("full_page_writes", "a crash of the machine can leave torn pages"),
    ] {
        if p.setting(name).await?.as_deref() == Some("off") {
            found.push(warning(format!("{name} is off: {what}; ALTER SYSTEM SET {name} = on, and reload")));
        }
    }
    // The session's value: a pooler may have swallowed forebay's setting.
    let commit: String = p.connection.query_one("SHOW synchronous_commit", &[]).await?.get(0);
    if commit != "on" {
        let role = "ALTER ROLE ... SET synchronous_commit = on";
        found.push(warning(format!(
            "synchronous_commit is {commit} in spite of forebay's own setting, so that a crash can take back what was \
             answered as stored: {role}"
        )));
    }
    if found.is_empty() {
        found.push(ok("fsync and full_page_writes are on; forebay sets synchronous_commit = on for itself"));
    }
    Ok(found)
}

/// Server settings that may end a session or a transaction before forebay's own deadlines. forebay sets both to 0 for its sessions,
/// but a pooler may have swallowed that.
pub(super) async fn timeouts(p: &Patient<'_>) -> Checked {
    let (role, _) = p.role().await?;
    let mut found = Vec::new();
    for (name, harmless_from, consequence) in [
        ("idle_session_timeout", u128::MAX, "idle connections are cut, and opened anew"),
        (
            "transaction_timeout",
            p.config.timeout.as_millis(),
            "a batch that takes longer is cut off and tried again",
        ),
    ] {
        let select = "SELECT setting FROM pg_settings WHERE name = $1";
        let value: Option<String> =
            p.connection.query_opt(select, &[&name]).await?.and_then(|row| row.get(0));
        let value: u128 = value.and_then(|value| value.parse().ok()).unwrap_or(0);
        if value > 0 && value < harmless_from {
            found.push(warning(format!(
                "{name} is {value} ms in spite of forebay's own setting, by which {consequence}: ALTER ROLE {role} SET {name} = 0"
            )));
        }
    }
    if found.is_empty() {
        found.push(ok("none would cut forebay's sessions"));
    }
    Ok(found)
}

/// Compares checkpoints that WAL has forced with timed ones.
pub(super) async fn checkpoints(p: &Patient<'_>) -> Checked {
    let newer = "SELECT to_regclass('pg_catalog.pg_stat_checkpointer') IS NOT NULL";
    let select = if p.connection.query_one(newer, &[]).await?.get(0) {
        "SELECT num_requested, num_timed FROM pg_stat_checkpointer"
    } else {
        "SELECT checkpoints_req, checkpoints_timed FROM pg_stat_bgwriter"
    };
    let row = p.connection.query_one(select, &[]).await?;
    let size: String = p.connection.query_one("SHOW max_wal_size", &[]).await?.get(0);
    Ok(vec![judge_checkpoints(row.get(0), row.get(1), &size)])
}

/// A few are requested by backups and by hand.
fn judge_checkpoints(requested: i64, timed: i64, max_wal_size: &str) -> (Verdict, String) {
    if requested > timed && requested >= 20 {
        return warning(format!(
            "{requested} were forced, by WAL for the most part, and {timed} came by the clock; each makes the next \
             writes larger: raise max_wal_size, which is {max_wal_size}"
        ));
    }
    ok(format!("requested {requested}, by the clock {timed}; max_wal_size is {max_wal_size}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_judged_by_their_last_day() {
        let judge = |major, today| judge_version("x", major, today).0;
        assert_eq!(judge(12, date(2024, 1, 1)), Verdict::Problem);
        assert_eq!(judge(13, date(2025, 11, 13)), Verdict::Ok);
        assert_eq!(judge(13, date(2025, 11, 14)), Verdict::Warning);
        assert_eq!(judge(18, date(2026, 1, 1)), Verdict::Ok);
        assert_eq!(judge(19, date(2026, 1, 1)), Verdict::Warning);
    }

    #[test]
    fn a_slow_network_is_not_a_wrong_clock() {
        let judge = |round_trip, skew| judge_clock(Duration::from_millis(round_trip), skew);
        assert_eq!(judge(1, -0.9).0, Verdict::Ok);
        assert_eq!(judge(1000, 1.4).0, Verdict::Ok);
        let (verdict, text) = judge(10, -90.0);
        assert!(verdict == Verdict::Warning && text.contains("90.0 s behind"), "{text}");
        assert!(judge(10, 2.0).1.contains("2.0 s ahead of"));
    }

    #[test]
    fn a_few_requested_checkpoints_are_nothing() {
        assert_eq!(judge_checkpoints(19, 0, "1GB").0, Verdict::Ok);
        assert_eq!(judge_checkpoints(20, 19, "1GB").0, Verdict::Warning);
        assert_eq!(judge_checkpoints(20, 300, "1GB").0, Verdict::Ok);
    }
}
