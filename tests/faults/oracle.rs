//! The oracle: who has been told what of each record, and whether that is what became of it.
//!
//! A record's number says who has sent it as which one, and its body is a function of its number. [`Oracle::settle`] is
//! the one place in which all that must hold is checked; the numbers I1 to I5 are those of the table in README.md.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use support::metrics::Scrape;
use support::postgres::Database;
use support::records::body_of;
use support::sender::Answer;
use support::stored;
use tokio::time::Instant;
use tokio_postgres::Row;

use crate::chance::assert_within;

/// I6: what an answer may take.
const IN_TIME: Duration = Duration::from_millis(20);

/// A request: what is in it, and what each of its sends was answered.
pub struct Sent {
    pub numbers: Range<u64>,
    pub answers: Vec<Answer>,
}

/// All that senders remember.
#[derive(Default)]
pub struct Oracle {
    pub requests: Vec<Sent>,
    /// How long each answer took, and those of them that were refusals.
    pub waits: Vec<Duration>,
    pub refusals: Vec<Duration>,
    /// How late the senders were themselves, which is what the machine does to everybody.
    pub late: Vec<Duration>,
    /// Whether a refusal is given by a deadline, behind which the records may be stored all the same. So it is where
    /// the queue is off.
    pub refused_may_be_stored: bool,
    /// What requests may take beside what the buffer holds, in bytes; 0 where no test makes them take much.
    pub requests_may_take: u64,
}

/// Where each record is: one of these places, each record counted once.
#[derive(Debug, Default)]
pub struct Account {
    pub sent: u64,
    pub stored: u64,
    pub dead: u64,
    /// Its sender was told that it is dropped.
    pub rejected: u64,
    /// Its sender was told to keep it.
    pub refused: u64,
    /// Its sender was told nothing.
    pub unanswered: u64,
    /// Its sender was told that it is taken, and it is nowhere.
    pub lost: u64,
    /// Rows that are stored beyond one for each record: a record that was sent twice, for lack of an answer.
    pub copies: u64,
    /// Records in requests that were sent again.
    pub again: u64,
    pub p99: Duration,
}

/// What the senders' requests come to, by sends and not by records: what forebay's own books count.
#[derive(Default)]
struct Sends {
    all: u64,
    rejected: u64,
    refused: u64,
    unanswered: u64,
}

impl Oracle {
    /// Adds what another sender remembers.
    pub fn add(&mut self, other: Oracle) {
        self.requests.extend(other.requests);
        self.waits.extend(other.waits);
        self.refusals.extend(other.refusals);
        self.late.extend(other.late);
    }

    /// The records of requests that were answered OK without a rejection.
    pub fn acknowledged(&self) -> Vec<Range<u64>> {
        let is_taken = |sent: &&Sent| sent.answers.last() == Some(&Answer::Taken { rejected: 0 });
        self.requests.iter().filter(is_taken).map(|sent| sent.numbers.clone()).collect()
    }

    /// How many records their senders were told are rejected.
    pub fn rejected(&self) -> u64 {
        let answers = self.requests.iter().filter_map(|sent| sent.answers.last());
        answers.map(|answer| if let Answer::Taken { rejected } = answer { *rejected } else { 0 }).sum()
    }

    /// An answer took so long.
    pub fn answered(&mut self, wait: Duration, answer: Answer) {
        self.waits.push(wait);
        if answer == Answer::Refused {
            self.refusals.push(wait);
        }
    }

    /// A sender wakes up now, and wanted to when it was `due`.
    pub fn is_late(&mut self, due: Instant) {
        self.late.push(due.elapsed());
    }

    /// I6: 99 of a hundred answers took no more than 20 ms, and no more refusals did, beyond what the machine was late with
    /// everything (see [`assert_within`]).
    pub fn assert_answers_in_time(&self) {
        let late = p99(&self.late);
        for (what, waits) in [("answers", &self.waits), ("refusals", &self.refusals)] {
            let waited = p99(waits);
            let what = format!("I6: {what}, to senders who were {late:?} late");
            assert_within(IN_TIME + late, waited, &what);
        }
    }

    /// Checks the invariants against the database and `page`, the metrics of the forebay that took everything and
    /// holds nothing any more.
    pub async fn settle(&self, database: &Database, page: &Scrape) -> Account {
        let account = self.look_up(database).await;
        let sends = self.sends();
        page.assert_balanced();
        // What had no answer may have been received, and become anything.
        let counted = |what: &str, found: u64, told: u64| {
            let most = told + sends.unanswered;
            assert!((told..=most).contains(&found), "I4: {what}: {found} counted, {told} to {most} told");
        };
        let dropped = |reason: &str| page.sum("log_buffer_dropped_total", &format!("reason=\"{reason}\""));
        let later = ["drop_oldest", "retry_exhausted", "undelivered", "damaged"].map(dropped).iter().sum();
        assert_eq!(page.value("log_buffer_flushed_total"), account.stored + account.copies, "I4: flushed");
        assert_eq!(page.value("log_buffer_dead_lettered_total"), account.dead, "I4: dead letters");
        counted("received", page.value("log_buffer_received_total"), sends.all - sends.unanswered);
        let for_good = page.sum("log_buffer_rejected_total", "reason=\"too_complex\"");
        counted("refused", page.value("log_buffer_rejected_total") - for_good, sends.refused);
        counted("lost after an OK", later, account.lost);
        if !self.refused_may_be_stored {
            let at_once = ["share", "drop_newest", "too_large"].map(dropped).iter().sum::<u64>();
            let rejected = at_once + for_good;
            counted("rejected", rejected, sends.rejected);
        }
        let resident = page.value("otelcol_process_memory_rss_bytes");
        let limit = page.value("log_buffer_bytes_capacity") + self.requests_may_take;
        assert!(resident <= limit + (64 << 20), "I5: {resident} bytes are resident, {limit} may be held");
        account
    }

    /// Checks what can be checked where a forebay was killed and its books with it: of what was answered OK, no more
    /// than `most_lost` records are gone.
    pub async fn settle_killed(&self, database: &Database, most_lost: u64) -> Account {
        let account = self.look_up(database).await;
        assert!(account.lost <= most_lost, "I1: more than {most_lost} are lost: {account}");
        account
    }

    /// Finds each record in the database, or what was said of it.
    async fn look_up(&self, database: &Database) -> Account {
        let (stored, dead) = (stored(database).await, dead_letters(database).await);
        let (mut account, mut rows, mut letters) = (Account::default(), 0, 0);
        for Sent { numbers, answers } in &self.requests {
            let refusals = answers.iter().filter(|answer| **answer == Answer::Refused).count();
            let most =
                if self.refused_may_be_stored { answers.len() } else { answers.len() - refusals } as u64;
            let mut absent = 0;
            for number in numbers.clone() {
                let in_table = u64::from(stored.copies(number));
                let in_letters = dead.get(&number).copied().unwrap_or_default();
                let copies = in_table + in_letters;
                assert!(copies <= most, "I3: {number} is stored {copies} times and was answered {answers:?}");
                (rows, letters) = (rows + in_table, letters + in_letters);
                account.sent += 1;
                match (in_table, in_letters) {
                    (0, 0) => absent += 1,
                    (0, _) => account.dead += 1,
                    (copies, _) => {
                        account.stored += 1;
                        account.copies += copies - 1;
                    }
                }
            }
            match answers.last().copied().unwrap_or(Answer::None) {
                Answer::Taken { rejected } => {
                    account.rejected += absent.min(rejected);
                    account.lost += absent.saturating_sub(rejected);
                }
                Answer::Refused => account.refused += absent,
                Answer::None => account.unanswered += absent,
            }
        }
        assert_eq!(stored.rows(), rows, "I2: something is stored that was not sent");
        let all = "SELECT count(*) FROM otel.log_records";
        let all: i64 = database.connect().await.query_one(all, &[]).await.unwrap().get(0);
        assert_eq!(all as u64, rows, "I2: a row has no number, or the view does not show it");
        assert_eq!(dead.values().sum::<u64>(), letters, "I2: something is a dead letter that was not sent");
        let again = |sent: &Sent| (sent.numbers.end - sent.numbers.start) * (sent.answers.len() as u64 - 1);
        account.again = self.requests.iter().map(again).sum();
        account.p99 = p99(&self.waits);
        account
    }

    fn sends(&self) -> Sends {
        let mut sends = Sends::default();
        for Sent { numbers, answers } in &self.requests {
            let records = numbers.end - numbers.start;
            for answer in answers {
                sends.all += records;
                match answer {
                    Answer::Taken { rejected } => sends.rejected += rejected,
                    Answer::Refused => sends.refused += records,
                    Answer::None => sends.unanswered += records,
                }
            }
        }
        sends
    }
}

/// What 99 of a hundred took at most.
pub fn p99(waits: &[Duration]) -> Duration {
    let mut waits = waits.to_vec();
    waits.sort();
    waits.get(waits.len() * 99 / 100).copied().unwrap_or_default()
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, stored, dead, rejected, refused, unanswered, lost, copies, again, p99 } = self;
        write!(
            f,
            "sent {sent} = stored {stored} + dead letters {dead} + rejected {rejected} + refused {refused} \
             + unanswered {unanswered} + dropped later {lost}; sent again {again}, stored twice {copies}; p99 of the answers {p99:.1?}"
        )
    }
}

/// I4: what forebay counts as lost on `page` is in the table of losses, once, after it has ended.
pub async fn losses_are_written(database: &Database, page: &Scrape) {
    let client = database.connect().await;
    let sum = "SELECT coalesce(sum(records), 0)::bigint FROM otel.losses";
    let written: i64 = client.query_one(sum, &[]).await.unwrap().get(0);
    let lost = page.value("log_buffer_dropped_total")
        + page.value("log_buffer_dead_lettered_total")
        + page.sum("log_buffer_rejected_total", "reason=\"malformed\"")
        + page.sum("log_buffer_rejected_total", "reason=\"too_complex\"");
    assert_eq!(written as u64, lost, "I4: losses written, and counted");
}

/// The numbers among the dead letters, each with how many times. The row's own bytes are there, its body among them.
async fn dead_letters(database: &Database) -> HashMap<u64, u64> {
    let client = database.connect().await;
    let body = body_of(0).replace('0', "(\\d+)");
    let numbers =
        "SELECT substring(encode(row, 'escape') FROM $1)::bigint, count(*) FROM otel.dead_letters GROUP BY 1";
    let rows = client.query(numbers, &[&body]).await.unwrap();
    // A body that was not sent has no number.
    let number = |row: &Row| row.get::<_, Option<i64>>(0).expect("I2: a body that was not sent") as u64;
    rows.iter().map(|row| (number(row), row.get::<_, i64>(1) as u64)).collect()
}
