//! The limits of the memory: the exact words where they are wrong.

use super::*;

#[test]
fn limits_that_cannot_hold_are_refused() {
    for (limits, expected) in [
        ("{}", "limit_mib: found 0, expected a limit such as 512MiB, or limit_percentage"),
        (
            "{limit_mib: 9, check_interval: 0s}",
            "check_interval: found 0, expected a duration above 0, such as 10s",
        ),
        (
            "{limit_mib: 9, spike_limit_mib: 9}",
            "spike_limit_mib: found 9MiB, expected less than the limit (9MiB)",
        ),
        ("{limit_percentage: 101}", "limit_percentage: found 101, expected 0 to 100"),
        (
            "{limit_percentage: 50, spike_limit_percentage: 60}",
            "spike_limit_percentage: found 60, expected less than the limit (50)",
        ),
        (
            "{limit_mib: 9, min_gc_interval_when_soft_limited: 1s}",
            "min_gc_interval_when_soft_limited: not in forebay: there is no garbage collector; remove this key",
        ),
    ] {
        let used = "service.pipelines.logs.processors=[memory_limiter, batch]";
        let refusal = minimal(&[used, &format!("processors.memory_limiter={limits}")], &none);
        assert_eq!(refusal, Err(format!("processors.memory_limiter.{expected}")));
    }
    let unused = minimal(&["processors.memory_limiter="], &none).unwrap();
    assert_eq!(unused, defaults(), "what the pipeline does not name is not in use");
}
