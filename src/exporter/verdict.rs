//! Decides the cause of a failed attempt, and so what is done about it.
//!
//! An SQLSTATE is not enough: any code may come from one row, or from a table or server that accepts no row at all. So the
//! table is tested at once, over another connection, with a row that it accepted before ([`super::sample`]).

use std::time::Duration;

use super::write::Progress;
use crate::postgres::error::{Class, Failure};

/// After this many refused rows without a stored one, the table is tested even if the class of the code says that a row
/// is at fault.
pub(super) const SUSPICIOUS: usize = 20;
/// Failed attempts of a row that is sent alone, while the table accepts others, before it is given up.
const TRIES: usize = 3;
/// The same if its session ended or the code is of a passing condition, both of which have many causes.
const MORE_TRIES: usize = 6;
/// The same if another session holds a lock, which mostly passes.
const TRIES_AT_A_LOCK: usize = 20;
/// The shortest time that a row is tried for, if its code is of a passing condition: a conflict, a shortage, a lock.
const PASSING: Duration = Duration::from_secs(10);

/// The cause of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One of the rows is at fault: it is found, taken out, and kept as a dead letter.
    Row,
    /// It may be a row, but no row is known that the table accepts: the batch is divided, nothing becomes a dead letter.
    Unproven,
    /// The table refuses a row that it accepted before: everything is held.
    Table,
    /// The server cannot be reached, or cannot do it now: everything is held.
    Server,
    /// A session or connection of our own is in the way: try again later.
    Ourselves,
}

/// The table's answer to a row that it accepted before.
#[derive(Clone, Debug)]
pub(super) enum Sampled {
    /// It was not tested.
    NotAsked,
    /// No row is known.
    NoneKnown,
    /// It accepts the row, in a fraction of the deadline.
    Taken,
    /// It already has such a row, which proves nothing.
    Duplicate,
    /// It refuses the row.
    Refused(Failure),
    /// There was no answer in time, or the server cannot do it now.
    Unanswered(Failure),
}

impl Sampled {
    /// Interprets the result of writing the row.
    pub(super) fn of(taken: Result<(), Failure>) -> Self {
        match taken {
            Ok(()) => Self::Taken,
            // The stored row may conflict with its copy.
            Err(failure) if failure.is_a_duplicate() => Self::Duplicate,
            Err(failure) => match failure.class {
                Class::Connection | Class::Busy | Class::DiskFull => Self::Unanswered(failure),
                Class::Poison | Class::Refused | Class::Unknown => Self::Refused(failure),
            },
        }
    }
}

/// The facts about a failed attempt.
#[derive(Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub(super) failure: &'a Failure,
    pub(super) reached: Progress,
    /// Whether the COMMIT may have taken effect.
    pub(super) in_doubt: bool,
    /// Whether a session of this lane may still be working on suspect rows.
    pub(super) under_suspicion: bool,
    /// Not all of its rows are dead letters.
    pub(super) has_rows: bool,
    /// Consecutive dead letters without a stored record.
    pub(super) refused: usize,
}

impl Evidence<'_> {
    /// Whether the table has to be tested for a verdict. The answer for the first row that is refused by its class holds for the
    /// next ones.
    pub(super) fn asks_the_table(&self) -> bool {
        let by_its_class = self.failure.class == Class::Poison && (1..SUSPICIOUS).contains(&self.refused);
        self.is_of_the_rows() && !by_its_class
    }

    /// The verdict, given the table's answer.
    pub(super) fn verdict(&self, sampled: &Sampled) -> Verdict {
        let failure = self.failure;
        // A COMMIT without an answer is looked up next, which shows whether the server can be reached.
        if failure.is_a_wait_for_our_own_pool() || (self.in_doubt && self.reached == Progress::Committing) {
            return Verdict::Ourselves;
        }
        if !self.is_of_the_rows() {
            let waits_for_us =
                self.under_suspicion && self.reached == Progress::Begun && failure.may_be_a_lock();
            return if waits_for_us { Verdict::Ourselves } else { Verdict::Server };
        }
        match sampled {
            Sampled::NotAsked => Verdict::Row,
            // A batch that is sent again has many rows that are stored already.
            Sampled::Duplicate if self.refused >= SUSPICIOUS && !failure.is_a_duplicate() => Verdict::Table,
            Sampled::Taken | Sampled::Duplicate => Verdict::Row,
            Sampled::Refused(_) => Verdict::Table,
            Sampled::Unanswered(_) => Verdict::Server,
            Sampled::NoneKnown => match failure.class {
                Class::Poison => Verdict::Row,
                Class::Unknown | Class::Refused => Verdict::Unproven,
                _ if failure.asks_for_less() => Verdict::Unproven,
                Class::Connection | Class::Busy | Class::DiskFull => Verdict::Server,
            },
        }
    }

    /// Whether the table has to be tested with a row of now: a table that lacks a partition accepts rows of other times for a while.
    pub(super) fn asks_about_now(&self) -> bool {
        self.failure.is_a_missing_partition() && self.refused >= SUSPICIOUS
    }

    /// Whether rows were sent, so that one of them may be at fault. A full disk is never a row's fault.
    fn is_of_the_rows(&self) -> bool {
        let were_sent = self.reached != Progress::Begun && self.has_rows;
        were_sent && !self.in_doubt && self.failure.class != Class::DiskFull
    }
}

/// How long a single row is tried while the table accepts others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Patience {
    tries: usize,
    time: Duration,
}

impl Patience {
    /// The patience after `failure`. It is less if a row was given up lately with the same code (`known`), if forebay is shutting
    /// down (`ends`), or if many other rows wait (`crowded`).
    pub(super) fn with(failure: &Failure, known: bool, ends: bool, crowded: bool) -> Self {
        let tries = match failure.class {
            _ if ends => TRIES,
            _ if failure.ends_the_session() => MORE_TRIES,
            Class::Busy if failure.may_be_a_lock() && !failure.asks_for_less() => TRIES_AT_A_LOCK,
            _ if failure.may_pass() && !known => MORE_TRIES,
            _ if failure.may_pass() => TRIES,
            Class::Unknown | Class::Refused if known => 1,
            _ => TRIES,
        };
        // A condition that did not pass for one row will not pass for the next.
        let passes = failure.may_pass() && !known && !crowded;
        // A bad network can end many sessions within seconds.
        let time = if (passes || failure.ends_the_session()) && !ends { PASSING } else { Duration::ZERO };
        Self { tries, time }
    }

    /// Whether it ends after this many `tries` in this `time`.
    pub(super) fn ends(&self, tries: usize, time: Duration) -> bool {
        tries >= self.tries && time >= self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: &str) -> Failure {
        let mut failure = Failure::new(Class::of_sqlstate(code, None), "no");
        failure.sqlstate = Some(code.to_owned());
        failure
    }

    /// The same, raised by a trigger.
    fn raised(code: &str) -> Failure {
        let mut failure = failure(code);
        failure.class = Class::of_sqlstate(code, Some("exec_stmt_raise"));
        failure
    }

    /// The evidence about rows that were sent.
    fn evidence(failure: &Failure, refused: usize) -> Evidence<'_> {
        let reached = Progress::Advanced;
        Evidence { failure, reached, in_doubt: false, under_suspicion: false, has_rows: true, refused }
    }

    /// The verdict about them, with the table tested if necessary.
    fn verdict(failure: &Failure, refused: usize, sampled: &Sampled) -> Verdict {
        let evidence = evidence(failure, refused);
        evidence.verdict(if evidence.asks_the_table() { sampled } else { &Sampled::NotAsked })
    }

    #[test]
    fn the_table_decides_and_not_the_code() {
        use Verdict::*;
        let [refused, unanswered] =
            [Sampled::Refused(failure("42501")), Sampled::Unanswered(failure("57P03"))];
        let ended = Failure::new(Class::Connection, "connection closed").at_the_end_of_a_session();
        let short = Failure::new(Class::Unknown, "PostgreSQL took 0 rows of 1");
        let codes =
            ["XX000", "XX001", "58030", "38000", "39004", "ZZ999", "22P04", "08P01", "53200", "57014"];
        let further = ["42501", "42P01", "0A000", "55P03", "40001", "25001", "57P01"];
        let any = codes.into_iter().chain(further).map(failure);
        for failure in any.chain([Failure::deadline(10.0), ended, short]) {
            for (sampled, expected) in [(&Sampled::Taken, Row), (&refused, Table), (&unanswered, Server)] {
                assert_eq!(verdict(&failure, 0, sampled), expected, "{failure:?}, {sampled:?}");
            }
            // No dead letter without a row that is accepted.
            let unproven = verdict(&failure, 0, &Sampled::NoneKnown);
            assert!(matches!(unproven, Unproven | Server), "{failure:?}");
        }
    }

    #[test]
    fn the_first_row_that_is_refused_by_its_class_has_the_table_asked_and_after_twenty_it_is_asked_again() {
        let (poison, refused) = (failure("23514"), Sampled::Refused(failure("23514")));
        assert_eq!(verdict(&poison, 0, &refused), Verdict::Table);
        assert_eq!(verdict(&poison, 0, &Sampled::Taken), Verdict::Row);
        assert_eq!(verdict(&poison, 0, &Sampled::NoneKnown), Verdict::Row);
        let verdicts = [19, 20].map(|refused| verdict(&failure("XX000"), refused, &Sampled::Duplicate));
        assert_eq!(verdicts, [Verdict::Row, Verdict::Table]);
        assert_eq!(verdict(&poison, 1, &refused), Verdict::Row, "the answer for the first one holds");
        assert_eq!(verdict(&poison, 19, &refused), Verdict::Row);
        assert_eq!(verdict(&poison, 20, &refused), Verdict::Table);
        assert_eq!(verdict(&poison, 20, &Sampled::Taken), Verdict::Row);
        assert_eq!(verdict(&poison, 20, &Sampled::NoneKnown), Verdict::Row);
    }

    #[test]
    fn a_missing_partition_is_the_tables_fault_once_it_lacks_that_of_now() {
        let mut missing = failure("23514");
        missing.class = Class::Refused;
        assert_eq!([19, 20].map(|refused| evidence(&missing, refused).asks_about_now()), [false, true]);
        assert!(!evidence(&failure("23514"), 20).asks_about_now(), "a constraint knows no times");
        assert_eq!(verdict(&missing, 20, &Sampled::Taken), Verdict::Row);
        assert_eq!(verdict(&missing, 20, &Sampled::Refused(missing.clone())), Verdict::Table);
    }

    #[test]
    fn no_row_is_at_fault_before_rows_are_sent_nor_in_doubt_nor_for_a_full_disk() {
        use Progress::{Advanced, Begun, Committing};
        for (code, reached, in_doubt, under_suspicion, expected) in [
            ("XX000", Begun, false, true, Verdict::Server),
            // It is looked up, if that is possible.
            ("XX000", Committing, true, false, Verdict::Ourselves),
            ("XX000", Begun, true, false, Verdict::Server),
            ("53100", Advanced, false, true, Verdict::Server),
            ("55P03", Begun, false, false, Verdict::Server),
            // Its session is still at work.
            ("55P03", Begun, false, true, Verdict::Ourselves),
        ] {
            let failure = failure(code);
            let evidence = Evidence { reached, in_doubt, under_suspicion, ..evidence(&failure, 99) };
            assert!(!evidence.asks_the_table());
            assert_eq!(evidence.verdict(&Sampled::NotAsked), expected, "{code} {reached:?}");
        }
    }

    #[test]
    fn no_row_is_at_fault_where_all_are_dead_letters() {
        for code in ["XX000", "23514", "42501"] {
            let (failure, reached) = (failure(code), Progress::Committing);
            let evidence =
                Evidence { reached, under_suspicion: true, has_rows: false, ..evidence(&failure, 1) };
            assert!(!evidence.asks_the_table());
            assert_eq!(evidence.verdict(&Sampled::NotAsked), Verdict::Server, "{code}");
        }
    }

    #[test]
    fn rows_that_are_sent_again_are_at_fault_themselves() {
        let [duplicate, other] = [failure("23505"), failure("23514")];
        assert_eq!(verdict(&duplicate, 500, &Sampled::Duplicate), Verdict::Row);
        assert_eq!(verdict(&other, SUSPICIOUS, &Sampled::Duplicate), Verdict::Table);
    }

    #[test]
    fn a_row_has_a_few_tries_and_time_where_its_code_is_of_what_passes() {
        let ended = Failure::new(Class::Connection, "connection closed").at_the_end_of_a_session();
        for (failure, expected) in [
            (failure("XX000"), [3, 1]),
            (failure("42501"), [3, 1]),
            (failure("22P05"), [3, 3]),
            (failure("08P01"), [6, 3]),
            (failure("40001"), [6, 3]),
            (failure("53300"), [6, 3]),
            (raised("57014"), [6, 3]),
            (raised("40P01"), [6, 3]),
            (Failure::deadline(10.0), [3, 3]),
            (failure("57014"), [3, 3]),
            (failure("53200"), [3, 3]),
            (ended, [6, 6]),
            (failure("55P03"), [20, 20]),
        ] {
            let patience = |known, ends, crowded| Patience::with(&failure, known, ends, crowded);
            let tries = [false, true].map(|known| patience(known, false, false).tries);
            assert_eq!(tries, expected, "{failure:?}");
            let passes = failure.may_pass() || failure.ends_the_session();
            let time = if passes { PASSING } else { Duration::ZERO };
            let crowded = if failure.ends_the_session() { PASSING } else { Duration::ZERO };
            assert_eq!([false, true].map(|crowded| patience(false, false, crowded).time), [time, crowded]);
            assert_eq!(patience(false, true, false), Patience { tries: 3, time: Duration::ZERO });
        }
        let patience = Patience::with(&raised("40001"), false, false, false);
        assert!(!patience.ends(100, PASSING / 2) && !patience.ends(5, PASSING) && patience.ends(6, PASSING));
    }
}
