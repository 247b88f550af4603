//! Merges files, other sources and `--set` into one tree, as the Collector does: maps key by key, anything else is replaced.
//! Only this file reads YAML.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use serde_saphyr::UserMessageFormatter;

use super::error::{ConfigError, presentable};
use super::expand::Env;

/// The shipped configuration, which forebay uses if no file is given.
pub(super) const SHIPPED: &str = include_str!("../../otel-config.yaml");

/// The name of a source, for errors, and its text.
pub(super) type Named = (String, String);

/// Reads `files`, each of which may have one of the Collector's schemes.
pub(super) fn texts(files: &[PathBuf], env: Env<'_>) -> Result<Vec<Named>, ConfigError> {
    files.iter().map(|path| source(path, env)).collect()
}

/// Reads `file:PATH`, `env:NAME`, `yaml:TEXT`, or a path.
fn source(argument: &Path, env: Env<'_>) -> Result<Named, ConfigError> {
    let scheme = argument.to_str().and_then(|argument| argument.split_once(':'));
    match scheme {
        Some(("yaml", yaml)) => Ok(("yaml".to_owned(), yaml.to_owned())),
        Some(("env", name)) => {
            let text = env(name).ok_or_else(|| ConfigError::Unset(presentable(name)))?;
            Ok((format!("env:{name}"), text.trim_start_matches('\u{feff}').to_owned()))
        }
        Some((scheme @ ("http" | "https"), _)) => Err(ConfigError::Remote(scheme.to_owned())),
        Some(("file", path)) => Ok((path.to_owned(), text(Path::new(path))?)),
        _ => Ok((argument.display().to_string(), text(argument)?)),
    }
}

/// The tree of all `texts` in their order, or of the shipped file, with `sets` on top.
pub(super) fn tree(texts: &[Named], sets: &[String]) -> Result<Value, ConfigError> {
    let mut tree = Value::Object(Map::new());
    if texts.is_empty() {
        merge(&mut tree, document("otel-config.yaml", SHIPPED)?);
    }
    for (name, text) in texts {
        merge(&mut tree, document(name, text)?);
    }
    for argument in sets {
        set(&mut tree, argument)?;
    }
    Ok(tree)
}

/// The value of `text` as one YAML scalar. A list or a map stays text, so that a variable cannot add keys.
pub(super) fn scalar(text: String) -> Value {
    match yaml(&text) {
        Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_))) => value,
        _ => Value::String(text),
    }
}

fn text(path: &Path) -> Result<String, ConfigError> {
    let bytes = fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    crate::values::text::decode(bytes)
        .map_err(|source| ConfigError::NotText { path: path.to_owned(), source })
}

fn document(name: &str, text: &str) -> Result<Value, ConfigError> {
    let found = match yaml(text) {
        Ok(Value::Object(map)) => return Ok(unfold(map)),
        Ok(Value::Null) => "nothing",
        Ok(Value::Array(_)) => "a list",
        Ok(_) => "a single value",
        Err((line, column, problem)) => {
            return Err(ConfigError::Yaml(format!("{name}:{line}:{column}: {problem}")));
        }
    };
    Err(ConfigError::Yaml(format!(
        "{name}: found {found}, expected a map with receivers, exporters and service"
    )))
}

/// As in the Collector, a key may be a whole path: `processors::batch::timeout: 2s`.
fn unfold(map: Map<String, Value>) -> Value {
    if !map.keys().any(|key| key.contains("::")) {
        return Value::Object(map);
    }
    let mut tree = Value::Object(Map::new());
    for (key, value) in map {
        let slot = key.split("::").fold(&mut tree, |value, key| descend(value, key));
        merge(slot, value);
    }
    tree
}

/// Applies `path=value`.
fn set(tree: &mut Value, argument: &str) -> Result<(), ConfigError> {
    // Errors show only the path: the value may be a connection string.
    let (path, text) = argument.split_once('=').unwrap_or((argument, ""));
    let steps: Vec<&str> = if path.contains("::") { path.split("::") } else { path.split(".") }.collect();
    if path.len() == argument.len() || steps.iter().any(|step| step.trim().is_empty()) {
        return Err(ConfigError::Set(presentable(path)));
    }
    let value = yaml(text).map_err(|(_, column, problem)| {
        ConfigError::Yaml(format!("--set {}: column {column}: {problem}", presentable(path)))
    })?;
    let slot = steps.into_iter().fold(tree, descend);
    merge(slot, value);
    Ok(())
}

/// The value of `key` in `value`, which becomes a map unless it is a list with that element.
fn descend<'v>(value: &'v mut Value, key: &str) -> &'v mut Value {
    let index = key.parse::<usize>().ok().filter(|index| value.get(index).is_some());
    match (value, index) {
        (Value::Array(items), Some(index)) => &mut items[index],
        (value, _) => {
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            &mut value[key]
        }
    }
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// Parses one YAML document; an error is the line, the column and the reason.
fn yaml(text: &str) -> Result<Value, (u64, u64, String)> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        let message = error.without_snippet().render_with_formatter(&UserMessageFormatter);
        let reason = message.split(" at line ").next().unwrap_or(&message);
        (line, column, presentable(reason))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tree(files: &[PathBuf], sets: &[String]) -> Result<Value, ConfigError> {
        super::tree(&texts(files, &|_| None)?, sets)
    }

    fn file(folder: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn sets(arguments: &[&str]) -> Vec<String> {
        arguments.iter().map(|&argument| argument.to_owned()).collect()
    }

    #[test]
    fn later_files_go_over_earlier_ones() {
        let folder = tempfile::tempdir().unwrap();
        let first = file(&folder, "first.yaml", "a: {b: 1, c: [1, 2]}\nd: {e: 1}\nf: {g: 1}\n");
        let second = file(&folder, "second.yaml", "a: {c: [3]}\nd: 5\nf:\nh: new\n");
        assert_eq!(
            tree(&[first, second], &[]).unwrap(),
            json!({"a": {"b": 1, "c": [3]}, "d": 5, "f": null, "h": "new"})
        );
    }

    #[test]
    fn a_file_of_a_windows_editor_is_read_as_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, "a.yaml", "\u{feff}a: {b: 1}\r\nc: \"d\"   \r\n");
        assert_eq!(tree(&[path], &[]).unwrap(), json!({"a": {"b": 1}, "c": "d"}));
        let env = |_: &str| Some("\u{feff}a: {b: 2}\r\n".to_owned());
        let texts = texts(&["env:ANY".into()], &env).unwrap();
        assert_eq!(super::tree(&texts, &[]).unwrap(), json!({"a": {"b": 2}}));
    }

    #[test]
    fn sources_have_the_collectors_schemes() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, "a.yaml", "a: {b: 1}\n");
        let sources = [
            PathBuf::from(format!("file:{}", path.display())),
            "env:SECOND".into(),
            "yaml:a::c: 3".into(),
            "yaml:{a::d::e: {x: 1}, a::d::f: [2]}".into(),
        ];
        let env = |name: &str| (name == "SECOND").then(|| "a: {b: 2}".to_owned());
        let texts = texts(&sources, &env).unwrap();
        assert_eq!(
            super::tree(&texts, &[]).unwrap(),
            json!({"a": {"b": 2, "c": 3, "d": {"e": {"x": 1}, "f": [2]}}})
        );
        let refusal = |source: &str| super::texts(&[source.into()], &env).unwrap_err().to_string();
        assert_eq!(refusal("env:FIRST"), "--config env:FIRST: the environment variable FIRST is not set");
        assert!(
            refusal("https://me:hunter2@h/a").starts_with("--config https:…: forebay loads no configuration")
        );
        assert!(refusal("file:/none").starts_with("cannot read the configuration file /none: "));
    }

    #[test]
    fn set_goes_over_files_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, "a.yaml", "a: {b: 1, list: [{x: 1}, {x: 2}]}\n");
        let sets = sets(&[
            "a.b=two",
            "a::b=3",
            "a.list.1.x=9",
            "new.text=postgres://u:p@h/db?a=b",
            "new.flow={y: [1], z: 2}",
            "new.flow.z=true",
            "new.none=",
        ]);
        assert_eq!(
            tree(&[path], &sets).unwrap(),
            json!({
                "a": {"b": 3, "list": [{"x": 1}, {"x": 9}]},
                "new": {
                    "text": "postgres://u:p@h/db?a=b",
                    "flow": {"y": [1], "z": true},
                    "none": null,
                },
            })
        );
    }

    #[test]
    fn only_scalars_come_out_of_a_variable() {
        let read = |text: &str| scalar(text.to_owned());
        assert_eq!(read("10000"), json!(10000));
        assert_eq!(read(" 7 "), json!(7));
        assert_eq!(read("0.5"), json!(0.5));
        assert_eq!(read("TRUE"), json!(true));
        assert_eq!(read(""), Value::Null);
        for text in
            ["[1, 2]", "{a: 1}", "a: 1", "- 1", "yes", "0755", "*x", "\"q\"", "postgres://h/db", "a\nb: 1"]
        {
            assert_eq!(read(text), json!(text));
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display().to_string();
        let refusal = |path: PathBuf| tree(&[path], &[]).unwrap_err().to_string().replace(&root, "");
        let no_map = "expected a map with receivers, exporters and service";
        for (name, bytes, expected) in [
            ("utf16", &b"\xff\xfea\0:\0"[..], "/utf16: it is UTF-16; save the file as UTF-8"),
            ("latin", b"a: caf\xe9", "/latin: byte 6 is not UTF-8; save the file as UTF-8"),
            ("empty", b"", &format!("/empty: found nothing, {no_map}")),
            ("notes", b"# a\n", &format!("/notes: found nothing, {no_map}")),
            ("list", b"- a\n", &format!("/list: found a list, {no_map}")),
            ("word", b"hello", &format!("/word: found a single value, {no_map}")),
            ("open", b"a: 1\nb: [1\nc: 2\n", "/open:3:2: illegal placement of ':' indicator"),
            ("quote", b"a: \"x\n", "/quote:1:4: unclosed quote"),
            ("twice", b"a: 1\na: 2\n", "/twice:2:1: duplicate mapping key `a` is not allowed here"),
            ("two", b"a: 1\n---\nb: 1\n", "/two:3:1: only single YAML document expected but multiple found"),
        ] {
            assert_eq!(refusal(file(&folder, name, bytes)), expected);
        }
        let unread = "cannot read the configuration file";
        let missing = format!("{unread} /none: No such file or directory (os error 2)");
        assert_eq!(refusal(folder.path().join("none")), missing);
        assert_eq!(refusal(folder.path().to_owned()), format!("{unread} : Is a directory (os error 21)"));
    }

    #[test]
    fn a_malformed_set_is_named_without_its_value() {
        let refusal = |argument: &str| tree(&[], &sets(&[argument])).unwrap_err().to_string();
        let example = "expected path=value, such as exporters.postgres.pool_size=4";
        assert_eq!(refusal("a.b"), format!("--set a.b: {example}"));
        assert_eq!(refusal("=1"), format!("--set : {example}"));
        assert_eq!(refusal("a..b=1"), format!("--set a..b: {example}"));
        assert_eq!(refusal("a.b=[secret"), "--set a.b: column 1: unclosed bracket '['");
    }
}
