//! Runs programs to their end, and ends servers.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

use super::error::Error;

/// How often a file or a process is looked at while something is waited for.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// How long a program may take that only has to say its version or where it is, which takes milliseconds.
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(10);

/// How a server is ended. What does not end in time is ended by the next means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Sessions are cut off, then everything is written out (SIGINT).
    Fast,
    /// At once; the next start recovers (SIGQUIT).
    Immediate,
    /// As the kernel does when memory runs out: the server learns nothing of it (SIGKILL).
    Kill,
}

impl Stop {
    /// The means, in order of force: the signal and how long it is given. The shutdown's checkpoint may have a few
    /// hundred megabytes to write, so the first has the most.
    const STEPS: [(Self, Signal, Duration); 3] = [
        (Self::Fast, Signal::INT, Duration::from_secs(15)),
        (Self::Immediate, Signal::QUIT, Duration::from_secs(5)),
        (Self::Kill, Signal::KILL, Duration::from_secs(5)),
    ];
}

/// Ends the server `pid`, beginning with `stop`, until `gone` says so.
pub(super) async fn end(pid: Pid, stop: Stop, mut gone: impl FnMut() -> bool) -> Result<(), Error> {
    for (_, signal, limit) in Stop::STEPS.into_iter().filter(|&(step, ..)| step >= stop) {
        if gone() {
            return Ok(());
        }
        // It can only fail if the process has ended, which is noticed below.
        let _ = kill_process(pid, signal);
        let given = Instant::now() + limit;
        while Instant::now() < given {
            if gone() {
                return Ok(());
            }
            sleep(POLL).await;
        }
    }
    Err(Error::Unstoppable { pid: pid.as_raw_nonzero().get() })
}

/// Whether `pid` is a running PostgreSQL server on the cluster in `data`. A number from a file may be that of another process,
/// since numbers are reused.
pub(super) fn serves(pid: Pid, data: &Path) -> bool {
    let pid = pid.as_raw_nonzero();
    let data = data.as_os_str().as_encoded_bytes();
    if Path::new("/proc/self/cmdline").exists() {
        // Empty for a process that has ended and was not waited for.
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        return line.split(|&byte| byte == 0).any(|argument| argument == data);
    }
    let answer = Command::new("ps").args(["-o", "args=", "-p", &pid.to_string()]).output();
    let line = answer.map(|output| output.stdout).unwrap_or_default();
    line.windows(data.len()).any(|part| part == data)
}

/// The server processes that survived their killed postmaster: those in the cluster in `data` with a title that only PostgreSQL
/// gives. They notice that end only when they wait, so a busy one may go on for long.
pub(super) fn orphans(data: &Path) -> Vec<Pid> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let is_orphan = |pid: &Pid| {
        let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
        fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == data)
            && fs::read(process.join("cmdline")).is_ok_and(|title| title.starts_with(b"postgres: "))
    };
    pids.filter(is_orphan).collect()
}

/// Runs `command` to its end, with `input`, for at most `limit`; what it printed, or the error it printed.
pub(super) async fn run(command: Command, input: &str, limit: Duration) -> Result<String, Error> {
    let program = command.get_program().to_owned();
    let failed = |status: String, output: &str| Error::Program {
        program: program.to_string_lossy().into_owned(),
        status,
        output: output.trim().to_owned(),
    };
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(Error::io("run", Path::new(&program)))?;
    let ended = timeout(limit, async {
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends early does not read all of it; its exit status says why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    });
    let output = ended
        .await
        .map_err(|_| failed("ended by forebay".to_owned(), &format!("not done after {limit:?}")))?
        .map_err(Error::io("run", Path::new(&program)))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed(output.status.to_string(), &String::from_utf8_lossy(&output.stderr)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[tokio::test]
    async fn a_program_is_fed_and_heard() {
        assert_eq!(run(Command::new("cat"), "a line\n", Duration::from_secs(10)).await.unwrap(), "a line\n");
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo heard; echo why >&2; exit 3"]);
        let error = run(failing, "unread", Duration::from_secs(10)).await.unwrap_err().to_string();
        assert!(error.contains("why") && error.contains('3'), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("600");
        let error = run(command, "", Duration::from_millis(50)).await.unwrap_err();
        assert!(error.to_string().contains("not done after 50ms"), "{error}");
    }

    #[tokio::test]
    async fn ending_takes_the_means_it_is_told_to_begin_with() {
        use std::os::unix::process::ExitStatusExt;
        for (stop, signal) in
            [(Stop::Fast, Signal::INT), (Stop::Immediate, Signal::QUIT), (Stop::Kill, Signal::KILL)]
        {
            // Who runs the tests in the background may have them ignore signals, and with them their children.
            let mut child = Command::new("env").args(["--default-signal", "sleep", "600"]).spawn().unwrap();
            let pid = Pid::from_child(&child);
            let name = format!("/proc/{}/comm", child.id());
            while std::fs::read_to_string(&name).unwrap() != "sleep\n" {
                tokio::task::yield_now().await;
            }
            let mut status = None;
            end(pid, stop, || {
                status = status.or(child.try_wait().unwrap());
                status.is_some()
            })
            .await
            .unwrap();
            assert_eq!(status.unwrap().signal(), Some(signal.as_raw()));
        }
    }

    #[test]
    fn a_process_serves_a_cluster_only_if_it_was_told_to() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo; read line", "sh", "-D", "/a/cluster"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // A process that has only just been made has no arguments for a moment.
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pid = Pid::from_child(&child);
        assert!(serves(pid, Path::new("/a/cluster")));
        assert!(!serves(pid, Path::new("/a")));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!serves(pid, Path::new("/a/cluster")));
    }
}
