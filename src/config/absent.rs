//! Keys that the Collector has and forebay does not have, each with what to do instead.

/// A section in brackets, then its keys, parted by spaces, with a sentence; `*` is any key that is not like a known one. In a
/// section, `*` is any step.
const ABSENT: &str = include_str!("absent.txt");

/// Section, keys and sentence of each line.
fn absent() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let mut section = "";
    ABSENT.lines().filter_map(move |line| {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        line.split_once(": ").map(|(keys, instead)| (section, keys, instead))
    })
}

/// The sentence for the key at `path`; `None` if the Collector has no such key either.
pub(super) fn instead(path: &[String]) -> Option<&'static str> {
    find(path, |keys, key| keys.split(' ').any(|known| known == key))
}

/// The same for a key of any name.
pub(super) fn instead_of_any(path: &[String]) -> Option<&'static str> {
    find(path, |keys, _| keys == "*")
}

fn find(path: &[String], matches: impl Fn(&str, &str) -> bool) -> Option<&'static str> {
    let (key, section) = path.split_last()?;
    let is_section = |pattern: &str| {
        let mut steps = pattern.split('.').filter(|step| !step.is_empty());
        // A component may have a name behind its type.
        let is = |known: &str, step: &str| known == "*" || step.split('/').next() == Some(known);
        section.iter().all(|step| steps.next().is_some_and(|known| is(known, step))) && steps.next().is_none()
    };
    absent()
        .find(|(section, keys, _)| is_section(section) && matches(keys, key))
        .map(|(_, _, instead)| instead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sentence_is_one() {
        let is_row = |line: &&str| !line.starts_with('[');
        assert_eq!(absent().count(), ABSENT.lines().filter(is_row).count());
        for (section, keys, instead) in absent() {
            let at = format!("{section}.{keys}");
            assert!(!instead.ends_with('.') && !instead.contains(". "), "{at}");
            let path: Vec<_> =
                section.split('.').chain([keys.split(' ').next().unwrap()]).map(str::to_owned).collect();
            let path = if section.is_empty() { &path[1..] } else { &path[..] };
            let found = if keys == "*" { instead_of_any(path) } else { super::instead(path) };
            assert_eq!(found, Some(instead), "{at}");
        }
    }

    #[test]
    fn the_guide_to_migrating_has_each_sentence() {
        let guide = include_str!("../../docs/migrating.md");
        for (section, keys, instead) in absent() {
            let row = guide.lines().find(|line| {
                line.ends_with(&format!("| {instead} |"))
                    && keys.split(' ').all(|key| key == "*" || line.contains(&format!("`{key}`")))
                    && line.contains(&section.replace(".*", "[]"))
            });
            assert!(row.is_some(), "docs/migrating.md has no row for {section}.{keys}: {instead}");
        }
    }

    #[test]
    fn what_the_collector_does_not_have_either_is_not_explained() {
        let path = ["exporters", "postgres", "poolsize"].map(str::to_owned);
        assert_eq!(instead(&path).or(instead_of_any(&path)), None);
    }
}
