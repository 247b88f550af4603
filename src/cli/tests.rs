//! How command lines are read.

use clap::error::ErrorKind;

use super::*;
use crate::values::when::When;

fn read(arguments: &[&str]) -> Result<Invocation, ErrorKind> {
    let cli = Cli::try_parse_from([&["forebay"], arguments].concat());
    cli.map(Into::into).map_err(|error| error.kind())
}

fn invocation(command: Command, files: &[&str], sets: &[&str]) -> Result<Invocation, ErrorKind> {
    Ok(Invocation {
        command,
        files: files.iter().map(PathBuf::from).collect(),
        sets: sets.iter().map(|&set| set.to_owned()).collect(),
    })
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn files_and_sets_keep_their_order() {
    let arguments = ["--config", "b.yaml", "--set=x.y=1", "--config=a.yaml", "--set", "x.y=a=b"];
    assert_eq!(read(&arguments), invocation(Command::Run, &["b.yaml", "a.yaml"], &["x.y=1", "x.y=a=b"]));
    assert_eq!(read(&[]), invocation(Command::Run, &[], &[]));
}

#[test]
fn options_may_stand_before_and_after_a_subcommand() {
    for (name, command) in [
        ("validate", Command::Validate),
        ("print-config", Command::PrintConfig),
        ("schema", Command::Schema { since: 0 }),
        ("doctor", Command::Doctor { json: false }),
        ("partitions", Command::Partitions { json: false }),
        ("health", Command::Health { at_least: Ability::Ready }),
    ] {
        let arguments = [name, "--config", "a.yaml", "--set", "x=1"];
        assert_eq!(read(&arguments), invocation(command.clone(), &["a.yaml"], &["x=1"]));
        let arguments = ["--config", "a.yaml", name, "--config", "b.yaml"];
        assert_eq!(read(&arguments), invocation(command, &["a.yaml", "b.yaml"], &[]));
    }
}

#[test]
fn dead_letters_are_chosen_by_what_is_said() {
    use dead_letters::Command::{List, Purge, Retry};
    let read = |arguments: &str| {
        let arguments: Vec<_> = arguments.split(' ').collect();
        read(&[&["dead-letters"], &arguments[..]].concat()).map(|invocation| invocation.command)
    };
    let command = |command| Ok(Command::DeadLetters(command));
    let (filter, style) = (Filter::default(), Style::Lines);
    assert_eq!(read("list"), command(List { filter, limit: 50, style }));
    let filter = Filter {
        ids: vec![3, 4],
        sqlstate: Some("23514".into()),
        service: Some("shop".into()),
        since: Some(When::Ago(std::time::Duration::from_secs(60))),
    };
    let which = "--id 3 --sqlstate 23514 --id=4 --service shop --since 1m";
    let list = List { filter: filter.clone(), limit: 0, style: Style::Json };
    assert_eq!(read(&format!("list {which} --json --limit 0")), command(list));
    assert_eq!(read(&format!("retry {which}")), command(Retry { filter: filter.clone() }));
    assert_eq!(read(&format!("retry --all {which}")), command(Retry { filter: filter.clone() }));
    assert_eq!(read(&format!("purge {which} --yes")), command(Purge { filter, confirmed: true }));
    let purge = Purge { filter: Filter::default(), confirmed: false };
    assert_eq!(read("purge"), command(purge));
    assert_eq!(read("retry"), Err(ErrorKind::MissingRequiredArgument));
    assert_eq!(read("retry --sqlstate 23514"), Err(ErrorKind::MissingRequiredArgument));
    assert_eq!(read("list --since yesterday"), Err(ErrorKind::ValueValidation));
}

#[test]
fn what_is_not_understood_is_a_usage_error() {
    assert_eq!(read(&["--confg", "a"]), Err(ErrorKind::UnknownArgument));
    assert_eq!(read(&["start"]), Err(ErrorKind::InvalidSubcommand));
    assert_eq!(read(&["--config"]), Err(ErrorKind::InvalidValue));
}

#[test]
fn the_guide_names_every_variable_of_the_shipped_file() {
    let shipped = include_str!("../../otel-config.yaml");
    let keys = shipped.lines().filter(|line| !line.trim_start().starts_with('#'));
    let names: Vec<&str> = keys.filter_map(|key| key.split("${env:").nth(1)?.split(":-").next()).collect();
    assert_eq!(names.len(), 7);
    for name in names {
        assert!(GUIDE.contains(name), "{name}");
    }
}
