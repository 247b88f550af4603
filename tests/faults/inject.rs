//! What faults are made of: sessions that are ended, processes that are stopped.

use std::process::Command;

use support::eventually;
use tokio_postgres::Client;

/// The server processes of forebay's sessions in the database of `client`.
pub async fn sessions(client: &Client) -> Vec<u32> {
    let ours = "SELECT pid FROM pg_stat_activity \
                WHERE application_name = 'forebay' AND datname = current_database()";
    let rows = client.query(ours, &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, i32>(0) as u32).collect()
}

/// Ends forebay's sessions in the database of `client`; gives how many there were.
pub async fn terminate_sessions(client: &Client) -> u64 {
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE application_name = 'forebay' AND datname = current_database()";
    client.query_one(terminate, &[]).await.unwrap().get::<_, i64>(0) as u64
}

/// Sends a signal to a process; gives whether it was there.
pub fn signal(name: &str, pid: u32) -> bool {
    let kill = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).output();
    kill.expect("kill runs").status.success()
}

/// Processes that are stopped for as long as this lives.
pub struct Frozen(Vec<u32>);

impl Frozen {
    /// Stops them. Those that have ended meanwhile are passed over.
    pub fn freeze(pids: Vec<u32>) -> Self {
        Self(pids.into_iter().filter(|pid| signal("STOP", *pid)).collect())
    }

    /// How many were stopped.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            signal("CONT", *pid);
        }
    }
}

/// Waits until a session of forebay, as `client` sees it, is where `condition` says, a condition on
/// `pg_stat_activity`.
pub async fn session_where(client: &Client, condition: &str) -> u32 {
    let ours = format!(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'forebay' \
         AND datname = current_database() AND {condition} LIMIT 1"
    );
    let what = format!("a session of forebay is where {condition}");
    eventually(&what, || async {
        client.query_opt(&ours, &[]).await.unwrap().map(|row| row.get::<_, i32>(0) as u32)
    })
    .await
}
