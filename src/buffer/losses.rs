//! Recent losses: the number of records by service, severity and reason.
//!
//! Losses are counted at the rate of the flood that causes them, so counting takes no lock. A service's counters are in a
//! hash table of fixed size and live as long as the process. Services that find no place there are counted together. The
//! clerk takes the counts and resets them.

use std::fmt;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use strum::VariantArray as _;

use super::reason::LossReason;
use crate::table::{OTHERS, Severity, Tally};

/// Counters of the losses since they were last taken.
#[derive(Debug)]
pub struct Losses {
    services: Box<[OnceLock<Service>]>,
    /// For records without a service name.
    nameless: Counters,
    /// For services that found no place.
    others: Counters,
    hasher: RandomState,
}

/// A number of lost records of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Their service, if they named one.
    pub service: Option<String>,
    /// Their severity.
    pub severity: Severity,
    /// Why they were lost.
    pub reason: LossReason,
    /// Their number.
    pub records: u64,
}

#[derive(Debug)]
struct Service {
    name: Box<str>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters([[AtomicU64; Severity::VARIANTS.len()]; LossReason::ALL.len()]);

/// Places for services.
const PLACES: usize = 1024;
/// Places that are tried for a service.
const LOOKS: usize = 16;
/// The longest name that has a place of its own.
const LONGEST_NAME: usize = 256;

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (service, severity) =
            (self.service.as_deref().unwrap_or("(no service)"), <&str>::from(self.severity));
        write!(f, "{} {severity} of {service}: {}", self.records, <&str>::from(self.reason))
    }
}

impl Default for Losses {
    fn default() -> Self {
        Self {
            services: (0..PLACES).map(|_| OnceLock::new()).collect(),
            nameless: Counters::default(),
            others: Counters::default(),
            hasher: RandomState::new(),
        }
    }
}

impl Losses {
    /// Counts the records of `lost` as lost. Never waits.
    pub(super) fn add(&self, reason: LossReason, lost: &Tally) {
        for (service, severities) in lost.by_service().filter(|(_, severities)| severities.total() > 0) {
            let Counters(counters) = service.map_or(&self.nameless, |name| self.counters(name));
            for (severity, records) in severities.iter().filter(|(_, records)| *records > 0) {
                let counter = &counters[reason.index()][severity as usize];
                counter.fetch_add(records as u64, Ordering::Relaxed);
            }
        }
    }

    /// The losses since the last call.
    pub fn take(&self) -> Vec<Loss> {
        let mut losses = Vec::new();
        self.nameless.take(None, &mut losses);
        for service in self.services.iter().filter_map(OnceLock::get) {
            service.counters.take(Some(&service.name), &mut losses);
        }
        self.others.take(Some(OTHERS), &mut losses);
        losses
    }

    fn counters(&self, name: &str) -> &Counters {
        if name == OTHERS || name.len() > LONGEST_NAME {
            return &self.others;
        }
        let first = self.hasher.hash_one(name) as usize;
        for look in 0..LOOKS {
            let place = &self.services[(first + look) % PLACES];
            if place.get().is_none() {
                // Another thread may have been quicker, with this name or another.
                let _ = place.set(Service { name: name.into(), counters: Counters::default() });
            }
            if let Some(service) = place.get().filter(|service| *service.name == *name) {
                return &service.counters;
            }
        }
        &self.others
    }
}

impl Counters {
    fn take(&self, service: Option<&str>, losses: &mut Vec<Loss>) {
        for (reason, counters) in LossReason::ALL.into_iter().zip(&self.0) {
            for (severity, counter) in Severity::VARIANTS.iter().copied().zip(counters) {
                if counter.load(Ordering::Relaxed) == 0 {
                    continue;
                }
                let records = counter.swap(0, Ordering::Relaxed);
                losses.push(Loss { service: service.map(str::to_owned), severity, reason, records });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::buffer::DropReason;
    use crate::buffer::samples::resource_of;

    fn lost(service: Option<&str>, severities: &[Severity]) -> Tally {
        let resource = Arc::new(resource_of(service));
        let mut tally = Tally::default();
        severities.iter().for_each(|severity| tally.add(Some(&resource), *severity));
        tally
    }

    #[test]
    fn losses_are_taken_once_by_service_severity_and_reason() {
        let losses = Losses::default();
        let full = LossReason::Dropped(DropReason::DropNewest);
        losses.add(full, &lost(Some("shop"), &[Severity::Info, Severity::Error, Severity::Info]));
        losses.add(full, &lost(Some("shop"), &[Severity::Info]));
        losses.add(LossReason::DeadLetter, &lost(Some("shop"), &[Severity::Info]));
        losses.add(LossReason::Malformed, &lost(None, &[Severity::Unspecified]));
        let loss = |service: Option<&str>, severity, reason, records| Loss {
            service: service.map(str::to_owned),
            severity,
            reason,
            records,
        };
        let expected = [
            loss(None, Severity::Unspecified, LossReason::Malformed, 1),
            loss(Some("shop"), Severity::Info, full, 3),
            loss(Some("shop"), Severity::Error, full, 1),
            loss(Some("shop"), Severity::Info, LossReason::DeadLetter, 1),
        ];
        assert_eq!(losses.take(), expected);
        assert_eq!(losses.take(), []);
    }

    #[test]
    fn ever_new_services_take_no_more_room_and_none_of_their_losses_is_forgotten() {
        let losses = Losses::default();
        for number in 0..10_000 {
            losses.add(LossReason::Malformed, &lost(Some(&number.to_string()), &[Severity::Warn]));
        }
        losses.add(LossReason::Malformed, &lost(Some(&"long".repeat(100)), &[Severity::Warn]));
        let taken = losses.take();
        assert!(taken.len() <= PLACES + 1, "{} services", taken.len());
        assert_eq!(taken.iter().map(|loss| loss.records).sum::<u64>(), 10_001);
        assert_eq!(taken.last().and_then(|loss| loss.service.as_deref()), Some(OTHERS));
    }

    #[test]
    fn threads_that_count_and_one_that_takes_come_to_the_same_sum() {
        let losses = Losses::default();
        let taken = std::thread::scope(|scope| {
            let counting: Vec<_> = (0..3)
                .map(|thread| {
                    let losses = &losses;
                    scope.spawn(move || {
                        for step in 0..5_000 {
                            let service = format!("service {}", (thread + step) % 20);
                            losses.add(LossReason::DeadLetter, &lost(Some(&service), &[Severity::Fatal]));
                        }
                    })
                })
                .collect();
            let mut taken = 0;
            while counting.iter().any(|thread| !thread.is_finished()) {
                taken += losses.take().iter().map(|loss| loss.records).sum::<u64>();
            }
            taken
        });
        assert_eq!(taken + losses.take().iter().map(|loss| loss.records).sum::<u64>(), 15_000);
    }

    #[test]
    fn the_order_of_all_is_the_order_of_the_indexes() {
        assert_eq!(LossReason::ALL.map(LossReason::index), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let own = LossReason::ALL[DropReason::VARIANTS.len() - 1..].iter().map(<&str>::from);
        assert!(own.eq(["share", "malformed", "too_complex", "dead_letter"]));
    }
}
