//! stub
use std::io;
use std::sync::Arc;
use uuid::Uuid;
use super::files::Files;
use super::Run;
use crate::table::{RowFormat, Rows};
/// x
#[derive(Debug, PartialEq)]
pub(super) struct Segment { pub(super) name: String, pub(super) run: Run, pub(super) first: u64, pub(super) end: u64, pub(super) bytes: u64, pub(super) created: i64, pub(super) format: Option<Arc<RowFormat>> }
/// x
#[derive(Debug)]
pub(in crate::buffer) struct Log<F> { files: F }
pub(super) struct Settings { pub(super) segment_bytes: u64, pub(super) format: Arc<RowFormat> }
/// x
#[derive(Debug, thiserror::Error)]
pub enum OpenError { 
/// x
#[error("x")] Io(#[from] io::Error) }
pub(super) enum AppendError { Full(io::Error), Io(io::Error) }
pub(super) struct LogAppend { pub(super) run: Run, pub(super) begun: Vec<Segment>, pub(super) entries: Vec<Entry> }
pub(super) struct Entry { pub(super) first: u64, pub(super) bytes: u64 }
impl<F: Files> Log<F> {
    pub(super) fn open(files: F, settings: Settings) -> Result<(Self, Vec<Segment>), OpenError> { Ok((Self { files }, vec![])) }
    pub(super) fn id(&self) -> Uuid { Uuid::nil() }
    pub(super) fn append(&mut self, _: &[&Rows]) -> Result<LogAppend, AppendError> { Err(AppendError::Io(io::Error::other(""))) }
    pub(super) fn seal(&mut self) -> io::Result<()> { Ok(()) }
    pub(super) fn run(&self) -> Run { 1 }
}
#[derive(Debug)]
pub(super) struct Cursor<F> { files: F }
pub(super) enum Found { Entry { first: u64, rows: Rows }, Damaged { numbers: std::ops::Range<u64> }, End }
impl<F: Files> Cursor<F> {
    pub(super) fn open(files: &F, _: &Segment) -> io::Result<Self> { Ok(Self { files: files.clone() }) }
    pub(super) fn find(&mut self, number: u64) -> io::Result<Found> { Ok(Found::End) }
}
pub(super) fn remove<F: Files>(_: &F, _: &Segment) -> io::Result<()> { Ok(()) }
