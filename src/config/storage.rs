//! The durable queue: the extension that `sending_queue.storage` means, and the keys that apply with it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::check::demand;
use super::error::KeyError;
use crate::buffer::config::{FileStorageConfig, QueueConfig, StorageConfig};
use crate::exporter::config::Config;

/// The type of the extension, and its name if it has no other.
pub(super) const TYPE: &str = "file_storage";

const KEY: &str = "exporters.postgres.sending_queue.storage";

/// The extensions in use.
type Extensions = BTreeMap<String, FileStorageConfig>;

/// The durable queue, if there is one. Its keys are taken out of `config`.
///
/// If `storage` is not written, the extension that has a directory is meant. The private PostgreSQL comes with a durable queue.
pub(super) fn storage(
    config: &mut Config,
    mut extensions: Extensions,
) -> Result<Option<StorageConfig>, KeyError> {
    let is_embedded = config.dsn.is_embedded();
    let queue = &mut config.sending_queue;
    let answers_first = queue.enabled && !queue.wait_for_result.unwrap_or(false);
    // An empty variable is an unset one.
    let written = queue.storage.take().filter(|name| !name.trim().is_empty());
    let name = match &written {
        Some(name) => named(name)?,
        None => implied(&extensions, is_embedded && answers_first)?,
    };
    let Some(name) = name else { return memory_only(queue).map(|()| None) };
    let allowed =
        "one of them: with enabled: false records are in PostgreSQL before their sender is answered";
    demand(answers_first, KEY, format!("{name} with enabled: false"), allowed)?;
    let files = extensions.remove(&name).or_else(|| written.is_none().then(FileStorageConfig::default));
    let unused = || {
        format!("{name} is not in use; write `{name}:` under extensions, and add it to service.extensions")
    };
    let mut files = files.ok_or_else(|| KeyError::new(KEY, unused()))?;
    if files.directory == PathBuf::new() {
        files.directory = config.data_dir.join("queue");
    }
    let default = StorageConfig::default();
    Ok(Some(StorageConfig {
        name,
        files,
        max_size: queue.max_size.take().unwrap_or(default.max_size),
        min_free: queue.min_free.take().unwrap_or(default.min_free),
        keep_for: queue.keep_for.take().unwrap_or(default.keep_for),
        drain: queue.drain.take().unwrap_or(default.drain),
        disk_timeout: queue.disk_timeout.take().unwrap_or(default.disk_timeout),
    }))
}

/// The extension called `name`; `none` is none.
fn named(name: &str) -> Result<Option<String>, KeyError> {
    let is_none = name.trim().eq_ignore_ascii_case("none");
    let is_known = is_none || name.split('/').next() == Some(TYPE);
    demand(is_known, KEY, name, "file_storage, file_storage/NAME or none")?;
    Ok((!is_none).then(|| name.to_owned()))
}

/// The extension that is meant if none is named.
fn implied(extensions: &Extensions, by_itself: bool) -> Result<Option<String>, KeyError> {
    let names: Vec<_> = extensions
        .iter()
        .filter(|(_, files)| files.directory != PathBuf::new())
        .map(|(name, _)| name.as_str())
        .collect();
    match names[..] {
        [] => Ok(by_itself.then(|| TYPE.to_owned())),
        [name] => Ok(Some(name.to_owned())),
        _ => Err(KeyError::new(KEY, format!("missing; write one of {}", names.join(", ")))),
    }
}

/// Refuses the keys that only a durable queue has.
fn memory_only(queue: &QueueConfig) -> Result<(), KeyError> {
    let written = [
        ("max_size", queue.max_size.is_some()),
        ("min_free", queue.min_free.is_some()),
        ("keep_for", queue.keep_for.is_some()),
        ("drain", queue.drain.is_some()),
        ("disk_timeout", queue.disk_timeout.is_some()),
    ];
    let problem = "this key is for a queue on disk; set storage: file_storage as well, or remove it";
    match written.into_iter().find(|(_, is_written)| *is_written) {
        Some((key, _)) => Err(KeyError::new(&format!("exporters.postgres.sending_queue.{key}"), problem)),
        None => Ok(()),
    }
}
