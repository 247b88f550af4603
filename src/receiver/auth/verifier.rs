//! Work that anybody can ask for, held to a share of one core.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::receiver::file::aside;

/// Runs what takes long, one at a time, for a twentieth of the time in the long run.
#[derive(Debug)]
pub(super) struct Verifier {
    /// Who has it has the turn.
    turn: Mutex<Pace>,
}

#[derive(Debug)]
struct Pace {
    /// The time that may be taken, in seconds; below 0 it is owed.
    credit: f64,
    at: Instant,
}

/// What is gained in a second.
const SHARE: f64 = 0.05;
/// What is gained at most: the passwords of a dozen names at once.
const MOST: f64 = 1.0;

impl Default for Verifier {
    fn default() -> Self {
        Self { turn: Mutex::new(Pace { credit: MOST, at: Instant::now() }) }
    }
}

impl Verifier {
    /// Gives what `known` gives, or else what `work` does, when it is its turn.
    pub(super) async fn run<T>(&self, known: impl Fn() -> Option<T>, work: impl FnOnce() -> T) -> T {
        let mut pace = self.turn.lock().await;
        if let Some(known) = known() {
            return known;
        }
        sleep(pace.owed()).await;
        let begun = Instant::now();
        let done = aside(work);
        pace.spend(begun.elapsed());
        done
    }
}

impl Pace {
    /// How long until nothing is owed.
    fn owed(&mut self) -> Duration {
        let now = Instant::now();
        self.credit = (self.credit + SHARE * (now - self.at).as_secs_f64()).min(MOST);
        self.at = now;
        Duration::from_secs_f64((-self.credit / SHARE).max(0.0))
    }

    fn spend(&mut self, time: Duration) {
        self.credit -= time.as_secs_f64();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_has_a_share_of_the_time() {
        let verifier = Verifier::default();
        let begun = Instant::now();
        let mut done = 0;
        // Each takes half a second of the clock that is paused here.
        while begun.elapsed() < Duration::from_secs(1000) {
            let mut pace = verifier.turn.lock().await;
            sleep(pace.owed()).await;
            pace.spend(Duration::from_millis(500));
            done += 1;
        }
        let taken = f64::from(done) * 0.5;
        assert!((50.0..=53.0).contains(&taken), "{taken} s of 1000");
    }

    #[tokio::test]
    async fn what_is_known_by_then_is_not_done_again() {
        let verifier = Verifier::default();
        assert_eq!(verifier.run(|| None, || 1).await, 1);
        assert_eq!(verifier.run(|| Some(2), || unreachable!("it is known")).await, 2);
    }
}
