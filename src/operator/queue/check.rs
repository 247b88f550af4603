//! Whether all records of the queue can be read.

use std::io::Write;

use super::Outcome;
use crate::buffer::disk::Positions;
use crate::buffer::disk::view::{Part, View};
use crate::operator::command_error::CommandError;

/// Reads everything, and writes a line for each damage.
pub(super) fn check(view: &View, out: &mut dyn Write) -> Result<Outcome, CommandError> {
    let (mut records, mut damages) = (0, 0u64);
    for segment in view.segments() {
        if let Err(why) = &segment.about {
            damages += 1;
            writeln!(out, "{}: {} bytes cannot be read: {why}", segment.name, segment.bytes)?;
        }
    }
    view.read(&Positions::default(), |part| {
        match part {
            Part::Rows { range, .. } => records += range.len(),
            Part::Damaged { segment, bytes, numbers } => {
                damages += 1;
                let lost = match numbers.end - numbers.start {
                    0 => "no record is lost".to_owned(),
                    lost => {
                        format!("{lost} records are lost, numbers {} to {}", numbers.start, numbers.end - 1)
                    }
                };
                let place = match bytes.end - bytes.start {
                    0 => "an entry is missing".to_owned(),
                    length => format!("{length} bytes at {} are damaged", bytes.start),
                };
                writeln!(out, "{}: {place}: {lost}", segment.name)?;
            }
            Part::Torn { segment, bytes } => writeln!(
                out,
                "{}: {} bytes at {} are a write that was not completed; its records were not acknowledged",
                segment.name,
                bytes.end - bytes.start,
                bytes.start,
            )?,
        }
        Ok::<_, CommandError>(())
    })?;
    let segments = view.segments().len();
    writeln!(out, "{segments} segments, {records} records that can be read, {damages} damages")?;
    Ok(if damages == 0 { Outcome::Done } else { Outcome::Damaged })
}
