//! What is in the database of the numbered records.

use std::collections::HashMap;
use std::ops::Range;

use crate::postgres::Database;
use crate::records::body_of;

/// The numbers that are stored, each with how many times.
pub struct Stored {
    copies: HashMap<u64, u32>,
}

/// Reads all numbered records, and checks that each body is the function of its number.
pub async fn stored(database: &Database) -> Stored {
    let client = database.connect().await;
    let rows = "SELECT (attributes->>'number')::bigint, body FROM otel.logs WHERE attributes ? 'number'";
    let rows = client.query(rows, &[]).await.unwrap();
    let mut copies = HashMap::new();
    for row in rows {
        let number = row.get::<_, i64>(0) as u64;
        assert_eq!(row.get::<_, String>(1), body_of(number), "a body that was not sent");
        *copies.entry(number).or_default() += 1;
    }
    Stored { copies }
}

impl Stored {
    /// How many times this number is stored.
    pub fn copies(&self, number: u64) -> u32 {
        self.copies.get(&number).copied().unwrap_or_default()
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.copies.values().map(|copies| u64::from(*copies)).sum()
    }

    /// Each of these numbers is stored exactly once; others may be stored as well, but not twice.
    pub fn assert_holds_each_once(&self, ranges: &[Range<u64>]) {
        let twice: Vec<_> = self.copies.iter().filter(|(_, copies)| **copies > 1).take(5).collect();
        assert!(twice.is_empty(), "stored more than once: {twice:?}");
        let numbers = ranges.iter().cloned().flatten();
        let missing: Vec<_> = numbers.filter(|number| !self.copies.contains_key(number)).take(5).collect();
        assert!(missing.is_empty(), "answered OK and not stored: {missing:?} and perhaps more");
    }
}
