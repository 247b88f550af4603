//! The tests run the program that was built with them.

use std::path::Path;

use support::forebay::{binary, binary_beside};

/// Scenario: cargo says where the binary is, or does not. Guarantee: the same one is found, which is the one of this build.
#[test]
fn the_tests_run_the_binary_of_their_own_build() {
    let built = Path::new(env!("CARGO_BIN_EXE_forebay"));
    assert_eq!((&*binary(), &*binary_beside()), (built, built));
}
