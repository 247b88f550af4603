//! Commands for operators: [`doctor`] checks the store and the server, [`dead_letters`] sends refused rows again, [`reading`] shows
//! stored records, [`queue`] those that wait on disk, [`partitions`] shows how long each is kept, and [`propose`] drafts a mapping for an existing table.

pub mod command_error;
pub mod dead_letters;
pub mod doctor;
pub mod partitions;
pub mod propose;
pub mod queue;
pub mod reading;
