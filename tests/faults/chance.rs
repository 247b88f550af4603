//! How often a fault is repeated, and what is left to chance: short and printed in CI, long on demand.

use std::env;
use std::time::Duration;

/// Set to anything, this asks for the long counts.
const LONG: &str = "FOREBAY_FAULTS_LONG";
/// A seed to be used again.
const SEED: &str = "FOREBAY_FAULTS_SEED";

/// `short`, or `long` where the long counts are asked for.
pub fn either<T>(short: T, long: T) -> T {
    if env::var_os(LONG).is_some() { long } else { short }
}

/// Longer than anything takes that is not stuck.
pub const HANG: Duration = Duration::from_secs(60);

/// Fails where `what` took longer than the promise, in the long counts, in which a test is alone on the machine. Beside
/// other tests the time says more of the machine, and only what is stuck fails.
pub fn assert_within(promise: Duration, took: Duration, what: &str) {
    assert!(took <= either(HANG, promise), "{what}: {took:?}, the promise is {promise:?}");
}

/// Chance, by a seed that is printed.
pub fn chance(test: &str) -> fastrand::Rng {
    let given = env::var(SEED).ok().map(|seed| seed.parse().unwrap_or_else(|_| panic!("{SEED} is a number")));
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("{test}: {SEED}={seed}");
    fastrand::Rng::with_seed(seed)
}
