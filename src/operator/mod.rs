//! Commands for operators: [`doctor`] looks into all of it, [`dead_letters`] sends refused rows again, [`reading`] shows stored
//! records, [`partitions`] shows how long each is kept, and [`propose`] drafts a mapping for an existing table.

pub mod command_error;
pub mod dead_letters;
pub mod doctor;
pub mod partitions;
pub mod propose;
pub mod reading;
