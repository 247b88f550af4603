//! Transcodes a request's wire bytes to rows of binary COPY, in one pass over borrowed bytes.

pub mod gate;
mod origins;
mod rows;
mod stored;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::gate::{Candidate, Gate, Open, Verdict};
use self::origins::{Origin, Origins};
pub use self::rows::{MAX_PERIODS, Rows};
use crate::otlp::{Invalid, Limits, LogRecord, Malformed, ScopeLogs, resource_logs};
use crate::table::interned::{Interner, New, Resource, Scope, Storable};
use crate::table::json::{LARGEST_OF_A_BYTE, most_bytes};
use crate::table::layout::{Layout, Own, Place};
use crate::table::mapping::Mapping;
use crate::table::partition::Width;
use crate::table::severity::Severity;
use crate::table::space::{NoSpace, Space};
use crate::table::tally::Tally;
use crate::table::text::Replaced;

/// Turns requests into rows.
#[derive(Debug, Default)]
pub struct Transcoder {
    interner: Interner,
    limits: Limits,
    /// The width of the rows' partitions.
    width: Width,
    mapping: Option<Arc<Mapping>>,
}

/// The result for a request's records.
#[derive(Debug, Default)]
pub struct Transcoded<'a> {
    /// The rows.
    pub rows: Rows,
    /// The records that are not protobuf, or whose resource or scope is not.
    pub malformed: Tally,
    /// The records that exceed a limit on structure, or whose resource or scope does.
    pub too_complex: Tally,
    /// Why the first of these was refused.
    pub first_too_complex: Option<Invalid>,
    /// The records beyond the requested number.
    pub beyond: Tally,
    /// The records that the gate did not admit.
    pub shed: Tally,
    /// The records for which other rows stand.
    pub folded: Tally,
    /// The values replaced in the rows.
    pub replaced: Replaced,
    /// The new resources and scopes, to cache once the rows are in the buffer.
    pub new: Uncached<'a>,
}

/// The resources and scopes of a request that are not cached yet.
#[derive(Debug, Default)]
pub struct Uncached<'a> {
    resources: Vec<New<'a, Resource>>,
    scopes: Vec<New<'a, Scope>>,
}

/// Why there are no rows of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untranscoded {
    /// The nesting down to the records is broken, which [`crate::otlp::count_records`] rules out.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The rows take more memory than there is for them.
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
}

/// One pass over a request.
struct Pass<'a, 's, 'm, L> {
    layout: L,
    /// Reused for each record, to reuse its memory.
    record: LogRecord<'a>,
    /// The values replaced in the current row.
    replaced: Replaced,
    records: usize,
    arrival: u64,
    limits: Limits,
    /// A record of at most so many bytes is within all limits.
    harmless: usize,
    /// The memory taken, beside the rows, for reading attributes and for the fields that the records of a scope share.
    reading: usize,
    sharing: usize,
    space: &'s mut Space<'m>,
}

/// The memory that an attribute takes while its record is read, in vectors that double.
const OF_AN_ATTRIBUTE: usize = 256;

impl Transcoder {
    /// Makes rows for `log_records` with partitions of this width, or for the existing table of `mapping`. Records beyond `limits`
    /// are refused.
    pub fn new(width: Width, mapping: Option<Arc<Mapping>>, limits: Limits) -> Self {
        Self { width, mapping, limits, interner: Interner::new(limits) }
    }

    /// The limits on the structure of requests.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Writes the first `records` records of `request` as rows, with memory from `space`. `arrival` (nanoseconds since 1970) is
    /// the time of records that have none.
    ///
    /// # Errors
    ///
    /// There are no rows then, and nothing is counted.
    pub fn transcode<'a>(
        &self,
        request: &'a [u8],
        records: usize,
        arrival: u64,
        space: &mut Space<'_>,
    ) -> Result<Transcoded<'a>, Untranscoded> {
        self.transcode_through(&mut Open, request, records, arrival, space)
    }

    /// As [`Transcoder::transcode`], with the rows of those records that `gate` admits.
    ///
    /// # Errors
    ///
    /// As for [`Transcoder::transcode`]. The gate may have been asked for some records.
    pub fn transcode_through<'a>(
        &self,
        gate: &mut impl Gate,
        request: &'a [u8],
        records: usize,
        arrival: u64,
        space: &mut Space<'_>,
    ) -> Result<Transcoded<'a>, Untranscoded> {
        match &self.mapping {
            None => self.transcode_by(Own::default(), gate, request, records, arrival, space),
            Some(mapping) => {
                self.transcode_by(mapping.filler(arrival), gate, request, records, arrival, space)
            }
        }
    }

    fn transcode_by<'a, L: Layout<'a>>(
        &self,
        layout: L,
        gate: &mut impl Gate,
        request: &'a [u8],
        records: usize,
        arrival: u64,
        space: &mut Space<'_>,
    ) -> Result<Transcoded<'a>, Untranscoded> {
        let rows = Rows::with_space(self.width, request, records, space)?;
        let mut done = Transcoded { rows, ..Transcoded::default() };
        let mut pass = Pass {
            layout,
            record: LogRecord::default(),
            replaced: Replaced::default(),
            records,
            arrival,
            limits: self.limits,
            harmless: self.limits.harmless_bytes(),
            reading: 0,
            sharing: 0,
            space,
        };
        let copied = |attributes| (!L::IS_OWN).then_some(attributes);
        let mut resources = Origins::none(self.limits, copied(Resource::ATTRIBUTES));
        let mut scopes = Origins::none(self.limits, copied(Scope::ATTRIBUTES));
        for resource in resource_logs(request) {
            let resource = resource?;
            for scope in resource.scope_logs() {
                let scope = scope?;
                if !scope.has_records() {
                    continue;
                }
                let key = (resource.resource, resource.schema_url);
                let of =
                    resources.meet(key, pass.space, |space| self.interner.resource(key.0, key.1, space))?;
                let key = (scope.scope, scope.schema_url);
                let within =
                    scopes.meet(key, pass.space, |space| self.interner.scope(key.0, key.1, space))?;
                let entered = pass.enter(of, within, resource.resource, scope.scope)?;
                done.transcode_scope(&mut pass, gate, &scope, of, within, entered)?;
            }
        }
        done.rows.shrink(pass.space);
        // If they are copied into rows, each row counts its own replacements.
        let mut unstored = Replaced::default();
        let replaced = if L::IS_OWN { &mut done.replaced } else { &mut unstored };
        done.new.resources = resources.new_ones(replaced, pass.space);
        done.new.scopes = scopes.new_ones(replaced, pass.space);
        Ok(done)
    }

    /// Caches these resources and scopes for further requests. Call it once their rows are in the buffer.
    pub fn remember(&self, new: Uncached<'_>) {
        self.interner.remember(new.resources, new.scopes);
    }

    /// The services and severities of a request that is refused as a whole. If there is no `space` for a resource, its records
    /// count without a service.
    ///
    /// # Errors
    ///
    /// The nesting down to the records is broken, which [`crate::otlp::count_records`] rules out.
    pub fn tally(&self, request: &[u8], space: &mut Space<'_>) -> Result<Tally, Malformed> {
        let mut tally = Tally::default();
        for resource in resource_logs(request) {
            let resource = resource?;
            let mut interned = None;
            for scope in resource.scope_logs() {
                for record in scope?.log_records() {
                    let severity = Severity::from_number(LogRecord::severity_of(record?));
                    let interned = interned.get_or_insert_with(|| {
                        let (message, url) = (resource.resource, resource.schema_url);
                        let interned = self.interner.resource(message, url, space).ok()?.ok()?;
                        Some(interned.content)
                    });
                    tally.add(interned.as_ref(), severity);
                }
            }
        }
        Ok(tally)
    }
}

impl<'a, L: Layout<'a>> Pass<'a, '_, '_, L> {
    /// Begins the records of a scope. The inner error is for a scope or a resource that cannot be stored.
    fn enter(
        &mut self,
        resource: &Origin<Resource>,
        scope: &Origin<Scope>,
        resource_message: &'a [u8],
        scope_message: &'a [u8],
    ) -> Result<Result<(), Invalid>, NoSpace> {
        let values = resource.values + scope.values;
        let (resource, scope) = match (&resource.content, &scope.content) {
            (Ok(resource), Ok(scope)) => (resource, scope),
            (Err(invalid), _) | (_, Err(invalid)) => return Ok(Err(*invalid)),
        };
        let place = Place { resource, scope, resource_message, scope_message, values };
        let to_enter = self.layout.to_enter(&place, self.limits.resource_attributes);
        raise(&mut self.sharing, to_enter, self.space)?;
        Ok(self.layout.enter(&place).map_err(Invalid::from))
    }

    /// Reads a record within all limits; returns the most bytes that its values become.
    #[inline]
    fn read(&mut self, message: &'a [u8]) -> Result<Result<usize, Invalid>, NoSpace> {
        let values = if message.len() <= self.harmless {
            LARGEST_OF_A_BYTE * message.len()
        } else {
            let found = match self.limits.check_record(message) {
                Ok(found) => found,
                Err(invalid) => return Ok(Err(invalid)),
            };
            raise(&mut self.reading, found.attributes * OF_AN_ATTRIBUTE, self.space)?;
            most_bytes(message, found)
        };
        Ok(self.record.read(message).map(|()| values).map_err(Invalid::from))
    }

    /// The record that was read from `message`; none if its resource or its scope cannot be stored, for which it is refused.
    #[inline]
    fn candidate<'b>(
        &'b self,
        of: &'b Origin<Resource>,
        within: &'b Origin<Scope>,
        message: &'b [u8],
    ) -> Option<Candidate<'a, 'b>> {
        let (of, within) = of.content.as_ref().ok().zip(within.content.as_ref().ok())?;
        Some(Candidate { of, within, record: &self.record, message })
    }
}

/// Takes from `space` the bytes that `taken` lacks of `bytes`, for memory that is reused.
fn raise(taken: &mut usize, bytes: usize, space: &mut Space<'_>) -> Result<(), NoSpace> {
    space.take(bytes.saturating_sub(*taken))?;
    *taken = bytes.max(*taken);
    Ok(())
}

impl Transcoded<'_> {
    /// `entered` is an error if the resource or the scope cannot be stored.
    fn transcode_scope<'a, L: Layout<'a>>(
        &mut self,
        pass: &mut Pass<'a, '_, '_, L>,
        gate: &mut impl Gate,
        scope: &ScopeLogs<'a>,
        of: &mut Origin<Resource>,
        within: &mut Origin<Scope>,
        entered: Result<(), Invalid>,
    ) -> Result<(), Untranscoded> {
        for message in scope.log_records() {
            let message = message?;
            if self.met() >= pass.records {
                if gate.folds() && entered.is_ok() && self.folds_beyond(pass, gate, of, within, message)? {
                    continue;
                }
                let severity = Severity::from_number(LogRecord::severity_of(message));
                self.beyond.add(of.content.as_ref().ok(), severity);
                continue;
            }
            let written = match entered {
                Ok(()) => match pass.read(message)? {
                    Ok(values) => match pass
                        .candidate(of, within, message)
                        .map_or(Verdict::Take, |candidate| gate.admits(candidate))
                    {
                        Verdict::Take => self.rows.push(pass, values, of, within, &mut self.replaced)?,
                        verdict => {
                            self.leave_out(verdict, of, pass.record.severity_number);
                            Ok(())
                        }
                    },
                    Err(invalid) => Err(invalid),
                },
                Err(invalid) => Err(invalid),
            };
            if let Err(invalid) = written {
                self.refuse(message, of, invalid);
            }
        }
        Ok(())
    }

    /// Asks `gate` for another row that stands for a record beyond the requested number.
    fn folds_beyond<'a, L: Layout<'a>>(
        &mut self,
        pass: &mut Pass<'a, '_, '_, L>,
        gate: &mut impl Gate,
        of: &Origin<Resource>,
        within: &Origin<Scope>,
        message: &'a [u8],
    ) -> Result<bool, NoSpace> {
        let is_read = pass.read(message)?.is_ok();
        let candidate = pass.candidate(of, within, message).filter(|_| is_read);
        let folds = candidate.is_some_and(|candidate| gate.has_row_for(candidate));
        if folds {
            self.leave_out(Verdict::Fold, of, pass.record.severity_number);
        }
        Ok(folds)
    }

    /// The number of records met so far, beside folded ones, which need no room, and those beyond the requested number.
    fn met(&self) -> usize {
        let unwritten = [&self.malformed, &self.too_complex, &self.shed];
        self.rows.len() + unwritten.map(Tally::total).iter().sum::<usize>()
    }

    fn leave_out(&mut self, verdict: Verdict, of: &Origin<Resource>, severity: i32) {
        let tally = if verdict == Verdict::Fold { &mut self.folded } else { &mut self.shed };
        tally.add(of.content.as_ref().ok(), Severity::from_number(severity));
    }

    #[cold]
    fn refuse(&mut self, message: &[u8], of: &Origin<Resource>, invalid: Invalid) {
        let severity = Severity::from_number(LogRecord::severity_of(message));
        let refused = match invalid {
            Invalid::Malformed(_) => &mut self.malformed,
            Invalid::TooComplex(_) => {
                self.first_too_complex.get_or_insert(invalid);
                &mut self.too_complex
            }
        };
        refused.add(of.content.as_ref().ok(), severity);
    }
}
