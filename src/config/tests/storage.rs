//! The durable queue: when there is one, and where.

use super::*;
use crate::buffer::config::Drain;
use crate::values::percent::Percent;
use crate::values::size::ByteSize;

const NAMED: &str = "exporters.postgres.dsn=postgres://h/db";
const QUEUE: &str = "exporters.postgres.sending_queue";
const USED: [&str; 2] =
    ["extensions.file_storage={directory: /q}", "service.extensions=[health_check, file_storage]"];

/// The durable queue of the minimal configuration with `sets` on top.
fn storage(sets: &[&str]) -> Result<Option<StorageConfig>, String> {
    minimal(sets, &none).map(|config| config.storage)
}

/// Scenario: nothing is said of a queue on disk. Promise: the private PostgreSQL has one, beside its files; a named database
/// has none, and neither has a queue whose senders wait for PostgreSQL.
#[test]
fn the_private_store_has_a_queue_on_disk_by_itself() {
    assert_eq!(storage(&[]), Ok(Some(storage_in(".forebay/queue"))));
    assert_eq!(storage(&["exporters.postgres.data_dir=/x"]), Ok(Some(storage_in("/x/queue"))));
    for set in [
        NAMED,
        "exporters.postgres.sending_queue.enabled=false",
        "exporters.postgres.sending_queue.wait_for_result=true",
        "exporters.postgres.sending_queue.storage=none",
        "exporters.postgres.sending_queue.storage=None",
    ] {
        assert_eq!(storage(&[set]), Ok(None), "{set}");
    }
    let unset = ["exporters.postgres.sending_queue.storage="];
    assert_eq!(storage(&unset), Ok(Some(storage_in(".forebay/queue"))), "no value is no setting");
}

/// Scenario: the extension is in use, and `storage` names it or nothing. Promise: its directory is used.
#[test]
fn an_extension_in_use_is_the_queue_on_disk() {
    let named = format!("{QUEUE}.storage=file_storage");
    for sets in [&[&USED[..], &[NAMED]].concat()[..], &[&USED[..], &[NAMED, &named]].concat(), &USED] {
        assert_eq!(storage(sets), Ok(Some(storage_in("/q"))), "{sets:?}");
    }
    let without = ["extensions.file_storage=", USED[1], NAMED];
    assert_eq!(storage(&without), Ok(None), "without a directory it has to be named");
    let sets = [&without[..], &[&named]].concat();
    assert_eq!(storage(&sets), Ok(Some(storage_in(".forebay/queue"))));
    let off = format!("{QUEUE}.storage=none");
    assert_eq!(storage(&[&USED[..], &[&off]].concat()), Ok(None));
}

#[test]
fn extensions_with_names_are_told_apart() {
    let sets = [
        "extensions.file_storage/a={directory: /a, fsync: false}",
        "extensions.file_storage/b={directory: /b, create_directory: no}",
        "service.extensions=[file_storage/a, file_storage/b]",
    ];
    let which = storage(&sets).unwrap_err();
    assert_eq!(which, format!("{QUEUE}.storage: missing; write one of file_storage/a, file_storage/b"));
    let named = |name: &str| storage(&[&sets[..], &[&format!("{QUEUE}.storage={name}")]].concat());
    let [a, b] = ["file_storage/a", "file_storage/b"].map(|name| named(name).unwrap().unwrap());
    assert_eq!((a.name.as_str(), a.files.fsync, a.files.create_directory), ("file_storage/a", false, true));
    assert_eq!((b.name.as_str(), b.files.fsync, b.files.create_directory), ("file_storage/b", true, false));
    assert_eq!(b.files.directory, PathBuf::from("/b"));
    let refused = named("file_storage").unwrap_err();
    let expected = "file_storage is not in use; write `file_storage:` under extensions, and add it to service.extensions";
    assert_eq!(refused, format!("{QUEUE}.storage: {expected}"));
}

#[test]
fn the_shipped_file_has_one_variable_for_it() {
    let variables =
        [("LOG_BUFFER_STORAGE_DIRECTORY", "/var/lib/forebay/queue\n"), ("DATABASE_URL", "postgres://h/db")];
    let found = |variables| load_with(&[], &[], &of(variables)).map(|config| config.storage);
    assert_eq!(found(&variables).unwrap(), Some(storage_in("/var/lib/forebay/queue")));
    assert_eq!(found(&variables[..1]).unwrap(), Some(storage_in("/var/lib/forebay/queue")));
    assert_eq!(found(&variables[1..]).unwrap(), None);
    let refused = found(&[variables[0], ("LOG_BUFFER_ASYNC_ENABLED", "false")]).unwrap_err().to_string();
    assert!(
        refused.starts_with(&format!("{QUEUE}.storage: found file_storage with enabled: false, ")),
        "{refused}"
    );
}

#[test]
fn all_keys_of_a_queue_on_disk() {
    let keys = format!(
        "{QUEUE}={{max_size: 50GiB, min_free: 5, keep_for: 0s, drain: FIFO, disk_timeout: 500ms, storage: file_storage}}"
    );
    let expected = StorageConfig {
        max_size: ByteSize::mib(50 * 1024),
        min_free: Percent(5),
        keep_for: GoDuration(Duration::ZERO),
        drain: Drain::Fifo,
        disk_timeout: GoDuration(Duration::from_millis(500)),
        ..storage_in("/q")
    };
    let config = minimal(&[&USED[..], &[&keys]].concat(), &none).unwrap();
    assert_eq!(config.storage, Some(expected));
    assert_eq!(config.exporter.sending_queue, QueueConfig::default());
    assert_eq!(config.to_string().split(" -> ").nth(1), Some("10000 records in memory, 50GiB in /q"));
    let share = |text: &str| storage(&[&format!("{QUEUE}.min_free={text}")]).unwrap().unwrap().min_free;
    assert_eq!((share("5%"), share("'5 %'"), share("5")), (Percent(5), Percent(5), Percent(5)));
}

#[test]
fn keys_of_a_queue_on_disk_need_one() {
    let said = "this key is for a queue on disk; set storage: file_storage as well, or remove it";
    for key in ["max_size=1GiB", "min_free=1%", "keep_for=1s", "drain=fair", "disk_timeout=1s"] {
        let name = key.split('=').next().unwrap();
        let refused = storage(&[NAMED, &format!("{QUEUE}.{key}")]).unwrap_err();
        assert_eq!(refused, format!("{QUEUE}.{name}: {said}"));
        assert!(storage(&[&format!("{QUEUE}.{key}")]).unwrap().is_some(), "{key} without a named database");
    }
}

/// Scenario: what has changed since the start, for the warning of a reload. Promise: the keys are named as they are written.
#[test]
fn changes_name_the_keys() {
    let config = |set: &str| minimal(&[&USED[..], &[NAMED, set]].concat(), &none).unwrap();
    let on = config("extensions.file_storage.fsync=true");
    let change = |set: &str| on.changes(&config(set));
    assert_eq!(change(&format!("{QUEUE}.max_size=1GiB")), [format!("{QUEUE}.max_size")]);
    assert_eq!(change("extensions.file_storage.fsync=false"), ["extensions.file_storage.fsync"]);
    assert!(change(&format!("{QUEUE}.storage=none")).contains(&format!("{QUEUE}.storage")));
}
