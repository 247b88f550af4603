//! Finds circles of imports among the files of `src`.
//!
//! A file imports another one where it names something in it. A name that a `mod.rs` hands on is looked up where it comes from. A
//! `mod.rs` and the files below it are one thing: it is their face, and they may name what it has.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;
use super::source::{code, paths, tokens};

/// The files by their modules, with what each of them names.
struct Graph {
    modules: BTreeSet<Vec<String>>,
    /// What a module hands on: the name, and the path that it stands for.
    handed: BTreeMap<(Vec<String>, String), Vec<String>>,
    /// Who imports whom, and in which line.
    imports: BTreeMap<Vec<String>, BTreeMap<Vec<String>, usize>>,
}

/// The circles, each as the modules on its way: the first imports the second, and the last the first.
pub(crate) fn circles(files: &[Source]) -> Vec<Vec<(String, usize)>> {
    let graph = Graph::of(files);
    let mut found = Vec::new();
    let mut done = BTreeSet::new();
    for module in &graph.modules {
        graph.walk(module, &mut Vec::new(), &mut done, &mut found);
    }
    found
}

impl Graph {
    fn of(files: &[Source]) -> Self {
        let files: Vec<_> = files.iter().filter(|file| !file.is_test()).collect();
        let modules = files.iter().map(|file| file.steps()).collect();
        let mut graph = Self { modules, handed: BTreeMap::new(), imports: BTreeMap::new() };
        let named: Vec<_> = files.iter().map(|file| (file.steps(), graph.named(file))).collect();
        for (module, names) in &named {
            for (_, path) in names.iter().filter(|(_, path)| path.len() > 1) {
                let name = path.last().expect("it has steps").clone();
                graph.handed.insert((module.clone(), name), path.clone());
            }
        }
        for (module, names) in named {
            let mut imports = BTreeMap::new();
            for (line, path) in names {
                if let Some(to) = graph.found(&path)
                    && !to.starts_with(&module)
                    && !module.starts_with(&to)
                {
                    imports.entry(to).or_insert(line);
                }
            }
            graph.imports.insert(module, imports);
        }
        graph
    }

    /// What `file` names, from the crate on.
    fn named(&self, file: &Source) -> Vec<(usize, Vec<String>)> {
        let code = code(&file.text);
        let tokens = tokens(&code);
        let module = file.steps();
        let from_here = |(line, path): (usize, Vec<&str>)| {
            let ups = path.iter().take_while(|step| **step == "super").count();
            let base = match path[0] {
                "crate" => Vec::new(),
                "super" => module[..module.len().checked_sub(ups)?].to_vec(),
                first => {
                    let child = [&module[..], &[first.to_owned()]].concat();
                    return self.modules.contains(&child).then(|| {
                        (
                            line,
                            [&module[..], &path.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>()]
                                .concat(),
                        )
                    });
                }
            };
            let rest =
                path.iter().skip(ups.max(usize::from(path[0] == "crate"))).map(|step| (*step).to_owned());
            Some((line, base.into_iter().chain(rest).collect()))
        };
        paths(&tokens).into_iter().filter_map(from_here).collect()
    }

    /// The module that has what `path` names.
    fn found(&self, path: &[String]) -> Option<Vec<String>> {
        let length = (1..=path.len()).rev().find(|length| self.modules.contains(&path[..*length]))?;
        let module = path[..length].to_vec();
        let name = path.get(length)?;
        match self.handed.get(&(module.clone(), name.clone())) {
            Some(origin) if origin[..] != *path => self.found(origin).or(Some(module)),
            _ => Some(module),
        }
    }

    /// Follows the imports of `module`, which is reached by `way`.
    fn walk(
        &self,
        module: &Vec<String>,
        way: &mut Vec<Vec<String>>,
        done: &mut BTreeSet<Vec<String>>,
        found: &mut Vec<Vec<(String, usize)>>,
    ) {
        if let Some(begin) = way.iter().position(|earlier| earlier == module) {
            let circle = &way[begin..];
            let next = |at: usize| circle.get(at + 1).unwrap_or(module);
            let step = |(at, from): (usize, &Vec<String>)| (from.join("/"), self.imports[from][next(at)]);
            found.push(circle.iter().enumerate().map(step).collect());
            return;
        }
        if done.contains(module) {
            return;
        }
        way.push(module.clone());
        for next in self.imports.get(module).into_iter().flatten().map(|(next, _)| next) {
            self.walk(next, way, done, found);
        }
        way.pop();
        done.insert(module.clone());
    }
}
