//! Lines on their way to a stream that may block: a stderr whose reader is stuck must not hold up who has something to say.
//!
//! Lines wait in a queue with a bound, and one thread writes them. Lines for which there is no room are lost, and their
//! number is said as soon as the stream takes lines again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The queue, for both ends.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines for which there was no room.
    lost: u64,
    is_writing: bool,
    is_closed: bool,
}

/// The end that takes lines, one with each write.
#[derive(Debug)]
pub(super) struct Inlet(pub(super) Arc<Outlet>);

/// The most bytes that wait.
const MOST: usize = 1 << 20;

impl Outlet {
    /// Writes lines to `out` until it is closed. It blocks as `out` does, and is for a thread of its own.
    pub(super) fn run(&self, mut out: impl Write) {
        let mut told = 0;
        loop {
            let is_idle = |queue: &mut Queue| queue.lines.is_empty() && !queue.is_closed;
            let queue = self.changed.wait_while(self.lock(), is_idle);
            let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
            let Some(line) = queue.lines.pop_front() else { return };
            queue.bytes -= line.len();
            queue.is_writing = true;
            drop(queue);
            // There is nobody left to tell.
            let _ = out.write_all(&line);
            let mut queue = self.lock();
            queue.is_writing = false;
            let lost = queue.lost;
            drop(queue);
            self.changed.notify_all();
            if lost > told {
                tracing::warn!(lost = lost - told, "messages were lost, because nobody read stderr");
                told = lost;
            }
        }
    }

    /// Closes the queue, and waits for its last lines, for `patience` at most.
    pub(super) fn finish(&self, patience: Duration) {
        let mut queue = self.lock();
        queue.is_closed = true;
        self.changed.notify_all();
        let is_busy = |queue: &mut Queue| !queue.lines.is_empty() || queue.is_writing;
        let _ = self.changed.wait_timeout_while(queue, patience, is_busy);
    }

    fn put(&self, line: &[u8]) {
        let mut queue = self.lock();
        if queue.bytes + line.len() > MOST {
            queue.lost += 1;
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_vec());
        drop(queue);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Inlet {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
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

    /// Scenario: a pipe that nobody reads, then somebody does. Guarantee: who writes is never held up, the lines come whole
    /// and in order, and those that had no room are counted.
    #[test]
    fn a_pipe_that_nobody_reads_holds_up_nobody() {
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
