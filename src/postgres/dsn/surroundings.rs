//! libpq's sources beside the connection string: environment variables, service files, the passfile.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::conninfo::Written;
use super::{DsnError, keys, refused};
use crate::values::text;

/// Looks up an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's own environment.
pub fn of_process(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Adds the keys that `written` does not set: first from the service that it or PGSERVICE names, then from the environment.
pub(super) fn filled(mut written: Written, env: Env<'_>) -> Result<Written, DsnError> {
    let is_open = |written: &Written, key: &str| !written.iter().any(|(known, _)| known == key);
    let named = |written: &Written, key: &str, variable: &str| {
        let found = written.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.clone());
        found.or_else(|| env(variable)).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    if let Some(service) = named(&written, "service", "PGSERVICE") {
        let file = named(&written, "servicefile", "PGSERVICEFILE");
        let of_service = self::service(&service, file, env)?;
        let open: Vec<_> = of_service.into_iter().filter(|(key, _)| is_open(&written, key)).collect();
        written.extend(open);
    }
    for (key, variable) in keys::variables() {
        if let Some(value) = env(variable).filter(|value| !value.is_empty() && is_open(&written, key)) {
            let value = value.trim_end_matches(['\r', '\n']);
            keys::check(key, value).map_err(|error| match error {
                DsnError::Key { key, problem } => {
                    let problem = format!("{problem} (the value is from the environment: {variable})");
                    DsnError::Key { key, problem }
                }
                other => other,
            })?;
            written.push((key.to_owned(), value.to_owned()));
        }
    }
    Ok(written)
}

/// A file in the home directory; like libpq, by HOME.
pub(super) fn at_home(env: Env<'_>, name: &str) -> Option<PathBuf> {
    env("HOME").filter(|home| !home.is_empty()).map(|home| Path::new(&home).join(name))
}

/// The pairs of a service, from the user's file or else from the system's.
fn service(name: &str, file: Option<String>, env: Env<'_>) -> Result<Written, DsnError> {
    let of_user = file.as_ref().map(PathBuf::from).or_else(|| at_home(env, ".pg_service.conf"));
    let of_system = env("PGSYSCONFDIR").map(PathBuf::from);
    let of_system = of_system.into_iter().chain(["/etc/postgresql-common".into(), "/etc".into()]);
    let mut looked = Vec::new();
    for path in of_user.into_iter().chain(of_system.map(|folder| folder.join("pg_service.conf"))) {
        let shown = path.display().to_string();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if file.as_deref().is_some_and(|file| Path::new(file) == path) => {
                return refused("service", format!("cannot read {shown}: {error}"));
            }
            Err(_) => continue,
        };
        let text = text::decode(bytes).map_err(|problem| problem.to_string());
        match text.and_then(|text| section(&text, name)) {
            Ok(Some(pairs)) => return Ok(pairs),
            Ok(None) => looked.push(shown),
            Err(problem) => return refused("service", format!("{shown}: {problem}")),
        }
    }
    let looked = if looked.is_empty() {
        "there is no service file".to_owned()
    } else {
        format!("it is not in {}", looked.join(", "))
    };
    let cure = "write it into ~/.pg_service.conf, or set PGSERVICEFILE";
    refused("service", format!("no service {name}: {looked}; {cure}"))
}

/// The pairs in the section `[name]` of a service file.
fn section(text: &str, name: &str) -> Result<Option<Written>, String> {
    let mut found: Option<Written> = None;
    for (index, line) in text.lines().map(str::trim).enumerate() {
        let problem = |what: &str| Err(format!("line {} {what}", index + 1));
        match line.strip_prefix('[').map(|rest| rest.strip_suffix(']').unwrap_or(rest)) {
            _ if line.is_empty() || line.starts_with('#') => {}
            Some(_) if found.is_some() => break,
            Some(section) => found = (section == name).then(Vec::new),
            None => {
                let Some(pairs) = &mut found else { continue };
                if line.starts_with("ldap") {
                    return problem("asks an LDAP server, which forebay does not; write the keys themselves");
                }
                let Some((key, value)) = line.split_once('=') else { return problem("is not key=value") };
                if key == "service" || key == "servicefile" {
                    return problem("names another service, which libpq does not follow either");
                }
                keys::check(key, value).map_err(|error| format!("line {}: {error}", index + 1))?;
                // As in libpq, the first of one key counts.
                if !pairs.iter().any(|(known, _)| known == key) {
                    pairs.push((key.to_owned(), value.to_owned()));
                }
            }
        }
    }
    Ok(found)
}

/// The password in the passfile at `path` for this connection. The file is read each time, since it may have changed.
pub(super) fn password(path: &Path, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    let file = path.display();
    if !metadata.is_file() {
        warn!(%file, "the passfile is not a plain file, and is ignored");
        return None;
    }
    if metadata.mode() & 0o077 != 0 {
        warn!(%file, "the passfile can be read by others than its owner, and is ignored as by libpq: chmod 600 it");
        return None;
    }
    let read = fs::read(path).map_err(|error| error.to_string());
    let text = match read.and_then(|bytes| text::decode(bytes).map_err(|problem| problem.to_string())) {
        Ok(text) => text,
        Err(error) => {
            warn!(%file, error, "the passfile cannot be read");
            return None;
        }
    };
    let wanted = [host, &port.to_string(), database, user];
    let entries = text.lines().filter(|line| !line.starts_with('#')).map(fields);
    entries.filter(|fields| fields.len() >= 5).find_map(|mut fields| {
        let fits = fields.iter().zip(wanted).all(|((raw, value), wanted)| raw == "*" || value == wanted);
        fits.then(|| fields.swap_remove(4).1).filter(|password| !password.is_empty())
    })
}

/// The fields of a line, each as written and without its backslashes.
fn fields(line: &str) -> Vec<(String, String)> {
    let mut fields = vec![(String::new(), String::new())];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == ':' {
            fields.push(Default::default());
            continue;
        }
        let (raw, value) = fields.last_mut().expect("there is one");
        raw.push(c);
        let meant = if c == '\\' { chars.next() } else { None };
        meant.inspect(|escaped| raw.push(*escaped));
        value.push(meant.unwrap_or(c));
    }
    fields
}
