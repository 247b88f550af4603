//! `dsn: embedded`: a private PostgreSQL that comes, stays and goes with forebay.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::process::Command;

use crate::support::forebay::{Forebay, arguments, command};
use crate::support::records::numbered_request;

fn in_directory(dir: &Path) -> Command {
    let mut command = command();
    command.current_dir(dir).args(arguments(&[]));
    command
}

/// The rows that the printed psql line finds.
async fn rows(forebay: &Forebay) -> String {
    let said = forebay.said();
    let line = said.iter().find_map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        event["message"].as_str()?.strip_prefix("to look in: ").map(str::to_owned)
    });
    let line = line.expect("the psql line is printed");
    let script = format!("{line} -Atc 'SELECT count(*) FROM otel.logs'");
    let output = Command::new("bash").args(["-c", &script]).output().await.unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Scenario: started in a directory that only its owner can enter; ended by SIGTERM, by SIGKILL, and started again.
/// Guarantee: records are kept, the left-over server is taken care of, the psql line works as printed.
#[tokio::test(flavor = "multi_thread")]
async fn data_is_kept_over_the_end_and_over_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let forebay = Forebay::spawn(in_directory(dir.path())).await;
    forebay.becomes_ready().await;
    forebay.sender().await.send(numbered_request(0..100)).await.unwrap();
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");

    let mut forebay = Forebay::spawn(in_directory(dir.path())).await;
    forebay.becomes_ready().await;
    assert_eq!(rows(&forebay).await, "100");
    forebay.sender().await.send(numbered_request(100..150)).await.unwrap();
    forebay.settles().await;
    let second = in_directory(dir.path()).output().await.unwrap();
    assert_eq!(second.status.code(), Some(1), "a second forebay has no place here");
    forebay.signal("KILL").await;
    forebay.ends().await;

    let forebay = Forebay::spawn(in_directory(dir.path())).await;
    forebay.becomes_ready().await;
    assert_eq!(rows(&forebay).await, "150");
    assert_eq!(forebay.terminate().await.0, Some(0));
}
