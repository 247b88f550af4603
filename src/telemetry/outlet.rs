//! A bounded queue of lines for a stream that may block, so that a stderr whose reader is stuck does not hold up the program.
//!
//! One thread writes the lines. Lines beyond the bound are lost, and their number is logged as soon as the stream accepts lines again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The queue, shared by writers and the thread.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Number of lines for which there was no room.
    lost: u64,
    is_writing: bool,
    is_closed: bool,
}

/// The writing end. Each write is one line.
#[derive(Debug)]
pub(super) struct Inlet(pub(super) Arc<Outlet>);

/// The most bytes in the queue.
const MOST: usize = 1 << 20;

impl Outlet {
    /// Writes lines to `out` until the queue is closed. Run it on a thread of its own: it blocks as `out` does.
    pub(super) fn run(&self, mut out: impl Write) {
        let mut reported = 0;
        loop {
            let is_idle = |queue: &mut Queue| queue.lines.is_empty() && !queue.is_closed;
            let queue = self.changed.wait_while(self.lock(), is_idle);
            let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
            let Some(line) = queue.lines.pop_front() else { return };
            queue.bytes -= line.len();
            queue.is_writing = true;
            drop(queue);
            // A failure of stderr cannot be reported anywhere.
            let _ = out.write_all(&line);
            let mut queue = self.lock();
            queue.is_writing = false;
            let lost = queue.lost;
            drop(queue);
            self.changed.notify_all();
            if lost > reported {
                tracing::warn!(lost = lost - reported, "messages were lost because nothing read stderr");
                reported = lost;
            }
        }
    }

    /// Closes the queue, and waits up to `patience` for its last lines to be written.
    pub(super) fn finish(&self, patience: Duration) {
        let mut queue = self.lock();
        queue.is_closed = true;
        self.changed.notify_all();
        let is_busy = |queue: &mut Queue| !queue.lines.is_empty() || queue.is_writing;
        let _ = self.changed.wait_timeout_while(queue, patience, is_busy);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Inlet {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.0.lock();
        if queue.bytes + line.len() > MOST {
            queue.lost += 1;
        } else {
            queue.bytes += line.len();
            queue.lines.push_back(line.to_vec());
            drop(queue);
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, PipeReader, pipe};
    use std::thread;

    use super::*;

    /// An outlet into a pipe, its inlet, and the pipe's other end.
    fn into_pipe() -> (Arc<Outlet>, Inlet, BufReader<PipeReader>) {
        let (reader, writer) = pipe().unwrap();
        let outlet = Arc::new(Outlet::default());
        let writing = outlet.clone();
        thread::spawn(move || writing.run(writer));
        (outlet.clone(), Inlet(outlet), BufReader::new(reader))
    }

    /// Scenario: nothing reads a pipe, then something does. Guarantee: writers are never held up, lines come whole and in order,
    /// and lost ones are counted.
    #[test]
    fn a_pipe_that_nobody_reads_does_not_block_writers() {
        let (outlet, mut inlet, reader) = into_pipe();
        let line = |number: usize| format!("{number:0>1023}");
        let put = |inlet: &mut Inlet, number| inlet.write_all((line(number) + "\n").as_bytes()).unwrap();
        // More than the pipe (64 KiB) and the queue (1 MiB) have room for.
        (0..4096).for_each(|number| put(&mut inlet, number));
        outlet.finish(Duration::from_millis(1));
        let (lost, waiting) = {
            let queue = outlet.lock();
            (queue.lost as usize, queue.lines.len())
        };
        assert!(lost >= 4096 - 1024 - 128 && waiting > 0, "{lost} lost, {waiting} wait for a reader");
        let lines: Vec<_> = reader.lines().map(Result::unwrap).collect();
        assert_eq!(lines.len() + lost, 4096);
        assert!(lines.is_sorted() && lines[0] == line(0), "{lines:?}");
    }

    #[test]
    fn the_end_waits_for_the_last_lines() {
        let (outlet, mut inlet, mut reader) = into_pipe();
        inlet.write_all(b"last words\n").unwrap();
        outlet.finish(Duration::from_secs(60));
        assert!(outlet.lock().lines.is_empty());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "last words\n");
    }
}
