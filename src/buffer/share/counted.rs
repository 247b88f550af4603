//! Records that are counted for their senders: those of a request until its rows are, or those of a segment on disk.

use super::band::{BANDS, Band};
use super::{Amount, Shares};
use crate::table::Rows;

/// Counted records by sender and band. Dropping it gives them back.
#[derive(Debug)]
pub(in crate::buffer) struct Counted {
    shares: &'static Shares,
    /// At most one for each sender.
    senders: Vec<Sender>,
    /// The index of the last one.
    last: usize,
}

#[derive(Debug)]
struct Sender {
    number: usize,
    admitted: [Amount; BANDS],
    dropped: usize,
}

impl Counted {
    /// None yet.
    pub(in crate::buffer) fn new(shares: &'static Shares) -> Self {
        Self { shares, senders: Vec::new(), last: 0 }
    }

    /// Notes a record that [`Shares::add`] has counted.
    pub(in crate::buffer) fn admitted(&mut self, sender: usize, band: Band, amount: Amount) {
        self.of(sender).admitted[band as usize] += amount;
    }

    /// Counts all of `rows`, which take `bytes` bytes, for their senders.
    pub(in crate::buffer) fn hold(&mut self, rows: &Rows, bytes: usize) {
        let shares = self.shares;
        shares.portions(rows, 0..rows.len(), bytes, |sender, band, amount| {
            shares.add(sender, band, amount);
            self.admitted(sender, band, amount);
        });
    }

    /// Notes a record that was not admitted.
    pub(in crate::buffer) fn dropped(&mut self, sender: usize) {
        self.of(sender).dropped += 1;
    }

    /// Logs the senders of which records were dropped.
    pub(in crate::buffer) fn log_dropped(&self) {
        for sender in self.senders.iter().filter(|sender| sender.dropped > 0) {
            self.shares.log_dropped(sender.number, sender.dropped);
        }
    }

    fn of(&mut self, sender: usize) -> &mut Sender {
        // The next record usually has the same one.
        if self.senders.get(self.last).is_none_or(|last| last.number != sender) {
            let known = self.senders.iter().position(|known| known.number == sender);
            self.last = known.unwrap_or(self.senders.len());
            if known.is_none() {
                self.senders.push(Sender { number: sender, admitted: Default::default(), dropped: 0 });
            }
        }
        &mut self.senders[self.last]
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        for sender in &self.senders {
            for (band, amount) in Band::ALL.into_iter().zip(sender.admitted) {
                self.shares.sub(sender.number, band, amount);
            }
        }
    }
}
