//! Whose fault a failed try was, which decides what is done about it. It is decided here alone.
//!
//! An SQLSTATE does not tell: any code may come of one row, and any of a table or a server that takes no row at all. So the
//! table is asked at once, over another connection, for a row that it took before ([`super::sample`]).

use std::time::Duration;

use super::write::Progress;
use crate::postgres::error::{Class, Failure};

/// After so many refused rows in a row without a stored one, even a code that is a row's by its class does not
/// decide alone.
pub(super) const SUSPICIOUS: usize = 20;
/// Failed tries of a row that is sent alone, while the table takes others, before it is given up.
const TRIES: usize = 3;
/// The same where its session ended, or the code is of what passes, both of which happen for many reasons.
const MORE_TRIES: usize = 6;
/// The same where somebody else holds a lock, which passes more often than not.
const TRIES_AT_A_LOCK: usize = 20;
/// For so long at least a row is tried whose code is of what passes: a conflict, a lack of something, a lock.
const PASSING: Duration = Duration::from_secs(10);

/// Whose fault a failed try was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One of the rows is at fault: it is found, taken out, and kept as a dead letter.
    Row,
    /// It may be a row, but no row is known that the table takes: the batch is divided, nothing becomes a dead letter.
    Unproven,
    /// The table refuses what it took before: everything is held.
    Table,
    /// The server is not there, or cannot do it now: everything is held.
    Server,
    /// A session or connection of our own is in the way: once more, later.
    Ourselves,
}

/// What the table says to a row that it took before.
#[derive(Clone, Debug)]
pub(super) enum Sampled {
    /// It was not asked.
    NotAsked,
    /// No row is known.
    NoneKnown,
    /// It takes it, well within the deadline.
    Taken,
    /// It has one like it already, so that nothing more is known of it.
    Duplicate,
    /// It refuses it.
    Refused(Failure),
    /// There was no answer in time, or the server cannot do it now.
    Unanswered(Failure),
}

impl Sampled {
    /// What it means that the table took the row, or did not.
    pub(super) fn of(taken: Result<(), Failure>) -> Self {
        match taken {
            Ok(()) => Self::Taken,
            // The row itself may be in the way of its copy.
            Err(failure) if failure.is_a_duplicate() => Self::Duplicate,
            Err(failure) => match failure.class {
                Class::Connection | Class::Busy | Class::DiskFull => Self::Unanswered(failure),
                Class::Poison | Class::Refused | Class::Unknown => Self::Refused(failure),
            },
        }
    }
}

/// What is known of a failed try.
pub(super) struct Evidence<'a> {
    pub(super) failure: &'a Failure,
    pub(super) reached: Progress,
    /// Whether the COMMIT may have been carried out.
    pub(super) in_doubt: bool,
    /// Whether a session of this lane may be left at work on rows that are under suspicion.
    pub(super) under_suspicion: bool,
    /// Not all of its rows are dead letters.
    pub(super) has_rows: bool,
    /// Dead letters in a row without a stored record.
    pub(super) refused: usize,
}

impl Evidence<'_> {
    /// Whether the table has to be asked for a verdict. For further rows that are refused by their class, the answer for the
    /// first one of them holds.
    pub(super) fn asks_the_table(&self) -> bool {
        let by_its_class = self.failure.class == Class::Poison && (1..SUSPICIOUS).contains(&self.refused);
        self.is_of_the_rows() && !by_its_class
    }

    /// The verdict, with what the table says.
    pub(super) fn verdict(&self, sampled: &Sampled) -> Verdict {
        let failure = self.failure;
        // A COMMIT without an answer is looked up next, which shows whether the server is there.
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
            // A batch that is sent again has many rows that are there already.
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

    /// Whether the table has to be asked for a row of now: one that lacks a partition takes rows of other times for a while.
    pub(super) fn asks_about_now(&self) -> bool {
        self.failure.is_a_missing_partition() && self.refused >= SUSPICIOUS
    }

    /// Whether rows had been sent, so that one of them may be at fault. A disk is not full for the sake of a row.
    fn is_of_the_rows(&self) -> bool {
        let were_sent = self.reached != Progress::Begun && self.has_rows;
        were_sent && !self.in_doubt && self.failure.class != Class::DiskFull
    }
}

/// How long a single row is tried, while the table takes others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Patience {
    tries: usize,
    time: Duration,
}

impl Patience {
    /// After `failure`. `known`: a row was given up with the same code lately. `ends`: forebay does, so that there is no time to see it
    /// pass; `crowded`: nor is there while many other rows wait.
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
        // What did not pass for one row will not for the next.
        let passes = failure.may_pass() && !known && !crowded;
        // A bad network ends sessions by chance, many times within some seconds.
        let time = if (passes || failure.ends_the_session()) && !ends { PASSING } else { Duration::ZERO };
        Self { tries, time }
    }

    /// Whether it is at its end, after so many `tries` in so much `time`.
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

    /// The verdict about rows that were sent, when the table was asked if it had to be.
    fn verdict(failure: &Failure, refused: usize, sampled: &Sampled) -> Verdict {
        let reached = Progress::Advanced;
        let evidence =
            Evidence { failure, reached, in_doubt: false, under_suspicion: false, has_rows: true, refused };
        let not_asked = Sampled::NotAsked;
        evidence.verdict(if evidence.asks_the_table() { sampled } else { &not_asked })
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
            let unproven = verdict(&failure, 0, &Sampled::NoneKnown);
            assert!(
                matches!(unproven, Unproven | Server),
                "no dead letter without a row that is taken: {failure:?}"
            );
        }
    }

    #[test]
    fn the_first_row_that_is_refused_by_its_class_has_the_table_asked_and_after_twenty_it_is_asked_again() {
        let (poison, refused) = (failure("23514"), Sampled::Refused(failure("23514")));
        assert_eq!(verdict(&poison, 0, &refused), Verdict::Table);
        assert_eq!(verdict(&poison, 0, &Sampled::Taken), Verdict::Row);
        assert_eq!(verdict(&poison, 0, &Sampled::NoneKnown), Verdict::Row);
        assert_eq!(
            [19, 20].map(|refused| verdict(&failure("XX000"), refused, &Sampled::Duplicate)),
            [Verdict::Row, Verdict::Table]
        );
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
        let asks_about_now = |failure: &Failure, refused| {
            let reached = Progress::Advanced;
            Evidence { failure, reached, in_doubt: false, under_suspicion: false, has_rows: true, refused }
                .asks_about_now()
        };
        assert_eq!([19, 20].map(|refused| asks_about_now(&missing, refused)), [false, true]);
        assert!(!asks_about_now(&failure("23514"), 20), "a constraint knows no times");
        assert_eq!(verdict(&missing, 20, &Sampled::Taken), Verdict::Row);
        assert_eq!(verdict(&missing, 20, &Sampled::Refused(missing.clone())), Verdict::Table);
    }

    #[test]
    fn no_row_is_at_fault_before_rows_are_sent_nor_in_doubt_nor_for_a_full_disk() {
        let evidence = |failure, reached, in_doubt, under_suspicion| {
            let evidence =
                Evidence { failure, reached, in_doubt, under_suspicion, has_rows: true, refused: 99 };
            assert!(!evidence.asks_the_table());
            evidence.verdict(&Sampled::NotAsked)
        };
        let [internal, lock, full] = ["XX000", "55P03", "53100"].map(failure);
        assert_eq!(evidence(&internal, Progress::Begun, false, true), Verdict::Server);
        assert_eq!(
            evidence(&internal, Progress::Committing, true, false),
            Verdict::Ourselves,
            "it is looked up"
        );
        assert_eq!(
            evidence(&internal, Progress::Begun, true, false),
            Verdict::Server,
            "it cannot be looked up"
        );
        assert_eq!(evidence(&full, Progress::Advanced, false, true), Verdict::Server);
        assert_eq!(evidence(&lock, Progress::Begun, false, false), Verdict::Server);
        assert_eq!(
            evidence(&lock, Progress::Begun, false, true),
            Verdict::Ourselves,
            "its session is still at work"
        );
    }

    #[test]
    fn no_row_is_at_fault_where_all_are_dead_letters() {
        for code in ["XX000", "23514", "42501"] {
            let (failure, reached) = (&failure(code), Progress::Committing);
            let evidence = Evidence {
                failure,
                reached,
                in_doubt: false,
                under_suspicion: true,
                has_rows: false,
                refused: 1,
            };
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
