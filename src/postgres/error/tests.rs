//! The classes of failures.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_code_has_a_class(code in any::<String>(), routine in any::<Option<String>>()) {
        let _ = Class::of_sqlstate(&code, routine.as_deref());
    }
}

#[test]
fn every_side_of_the_table() {
    use Class::*;
    for (class, codes) in [
        (Connection, &["08000", "08006", "25006", "25P02", "25P03", "57P01", "57P02", "57P03", "57P05"][..]),
        (Busy, &["40001", "40P01", "53200", "53300", "55P03", "55006", "57014"]),
        (DiskFull, &["53100"]),
        (Poison, &["22021", "22P05", "23502", "23505", "23514", "54000", "P0001"]),
        (
            Refused,
            &["28000", "28P01", "3D000", "3F000", "42501", "42P01", "42703", "42804", "0A000", "26000"],
        ),
        (
            Unknown,
            &["22P04", "38000", "39004", "58030", "58P01", "XX000", "XX001", "ZZ999", "99999", "", "7"],
        ),
    ] {
        for code in codes {
            assert_eq!(Class::of_sqlstate(code, None), class, "{code}");
        }
    }
    assert_eq!(Class::of_sqlstate("23514", Some("ExecFindPartition")), Refused);
    assert_eq!(Class::of_sqlstate("23514", Some("ExecConstraints")), Poison);
    for (code, class) in
        [("08006", Unknown), ("40001", Unknown), ("53100", Unknown), ("57P01", Unknown), ("P0001", Poison)]
    {
        assert_eq!(Class::of_sqlstate(code, Some("exec_stmt_raise")), class, "{code} of a trigger");
    }
}

#[test]
fn a_commit_that_was_answered_is_not_in_doubt_unless_the_session_ended_with_it() {
    let failure = |code: Option<&str>| Failure {
        sqlstate: code.map(str::to_owned),
        ..Failure::new(Class::Connection, "any")
    };
    for code in [None, Some("40003"), Some("08006"), Some("57P01"), Some("57P02")] {
        assert!(failure(code).leaves_commit_unknown(), "{code:?}");
    }
    for code in ["40001", "23514", "P0001", "53100", "25006", "57014", "XX000"] {
        let failure = failure(Some(code));
        assert!(!failure.leaves_commit_unknown(), "{code}");
        assert!(failure.at_the_end_of_a_session().leaves_commit_unknown(), "{code}");
    }
}

#[test]
fn a_dead_letter_has_a_code_whatever_it_was() {
    let ended = Failure::new(Class::Connection, "connection closed").at_the_end_of_a_session();
    let short = Failure::new(Class::Unknown, "PostgreSQL took 0 rows of 1");
    let refusal = Failure { sqlstate: Some("XX000".to_owned()), ..short.clone() };
    let late = Failure::deadline(10.0);
    let codes = [&late, &ended, &short, &refusal].map(Failure::code);
    assert_eq!(codes, ["timeout", "session_end", "not_stored", "XX000"]);
}

#[test]
fn labels_are_a_closed_set() {
    let labels: Vec<_> = Class::VARIANTS.iter().map(<&str>::from).collect();
    assert_eq!(labels, ["connection", "busy", "disk_full", "poison", "refused", "unknown"]);
}
