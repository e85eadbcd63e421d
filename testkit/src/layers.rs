//! Which modules of a crate import which, for tests that hold its layers.
//!
//! It reads the source, not the compiler's view of it: `use` lines and paths, outside of comment lines. A path that begins
//! with `crate::`, with the crate's own name, or with as many `super::` as lead to the root is an import of the module that
//! it names next.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules of a crate in layers, lowest first. Those of one layer know nothing of each other.
pub type Layers<'a> = &'a [&'a [&'a str]];

/// The source of a crate.
#[derive(Debug)]
pub struct Source {
    name: String,
    files: Vec<File>,
}

/// A file, which is one module.
#[derive(Debug)]
struct File {
    /// The names that lead to it from the root, which has none.
    module: Vec<String>,
    lines: usize,
    code: String,
}

impl Source {
    /// Reads every file of a crate's `src`. `program` is the module that `main.rs` counts as, in a crate that has a library
    /// as well.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    pub fn read(name: &str, src: &Path, program: &str) -> Self {
        let mut files = Vec::new();
        let mut folders = vec![(PathBuf::from(src), Vec::new())];
        while let Some((folder, of)) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder that can be read") {
                let path = entry.expect("an entry that can be read").path();
                let mut module = of.clone();
                match path.file_stem().expect("a name").to_string_lossy().as_ref() {
                    "lib" | "mod" => {}
                    "main" => module.push(program.to_owned()),
                    name => module.push(name.to_owned()),
                }
                if path.is_dir() {
                    folders.push((path, module));
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(path).expect("text");
                    files.push(File { module, lines: text.lines().count(), code: without_comments(&text) });
                }
            }
        }
        files.sort_by(|a, b| a.module.cmp(&b.module));
        Self { name: name.to_owned(), files }
    }

    /// The modules at the top that are in no layer, and those of the layers that are not there.
    pub fn not_in(&self, layers: Layers<'_>) -> Vec<String> {
        let mut absent = numbered(layers);
        let mut wrong = Vec::new();
        for top in self.files.iter().filter_map(|file| file.module.first()) {
            if !numbered(layers).contains_key(top.as_str()) {
                wrong.push(format!("{top} is in no layer"));
            }
            absent.remove(top.as_str());
        }
        wrong.dedup();
        wrong.extend(absent.into_keys().map(|module| format!("{module} is in a layer, and nowhere else")));
        wrong
    }

    /// Each import of a module at the top by another one that is not in a higher layer.
    pub fn upward(&self, layers: Layers<'_>) -> Vec<String> {
        let layer_of = numbered(layers);
        let mut wrong = Vec::new();
        for file in &self.files {
            let Some(layer) = file.module.first().and_then(|top| layer_of.get(top.as_str())) else { continue };
            for import in self.imports(file) {
                if import != file.module[0] && layer_of.get(import).is_some_and(|of_import| of_import >= layer) {
                    wrong.push(format!("{} imports {import}", file.module.join("::")));
                }
            }
        }
        wrong
    }

    /// Each import by a module from the folder that it is in, of what is not another module there.
    pub fn from_their_folder(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for file in &self.files {
            let [folder @ .., _] = file.module.as_slice() else { continue };
            if folder.is_empty() {
                continue;
            }
            let is_module = |name: &str| {
                self.files.iter().any(|other| {
                    other
                        .module
                        .strip_prefix(folder)
                        .is_some_and(|rest| rest.first().is_some_and(|first| first == name))
                })
            };
            let path = format!("crate::{}::", folder.join("::"));
            for prefix in ["super::", &path] {
                for name in after(&file.code, prefix).into_iter().flat_map(first_names) {
                    if name != "super" && !name.is_empty() && !is_module(name) {
                        wrong.push(format!("{} imports {name} of {}", file.module.join("::"), folder.join("::")));
                    }
                }
            }
        }
        wrong
    }

    /// The modules whose files have more than this many lines, those of comments included.
    pub fn longer_than(&self, lines: usize) -> Vec<String> {
        let long = self.files.iter().filter(|file| file.lines > lines);
        long.map(|file| format!("{} has {} lines", file.module.join("::"), file.lines)).collect()
    }

    /// For each folder, its modules that import each other in a circle, directly or by names that the folder itself
    /// re-exports. Tests at the end of a file do not count.
    pub fn circles(&self) -> Vec<String> {
        let mut folders = self.files.iter().filter_map(|file| Some(file.module.split_last()?.1)).collect::<Vec<_>>();
        folders.sort_unstable();
        folders.dedup();
        folders.into_iter().filter_map(|folder| self.circle_in(folder)).collect()
    }

    fn circle_in(&self, folder: &[String]) -> Option<String> {
        let child = |module: &'_ [String]| module.strip_prefix(folder).and_then(<[String]>::first).cloned();
        let children = self.files.iter().filter_map(|file| child(&file.module)).collect::<BTreeSet<_>>();
        let mut exported = BTreeMap::new();
        for path in self.files.iter().filter(|file| file.module == folder).flat_map(|file| used_paths(&file.code)) {
            let path = path.strip_prefix(&["self".to_owned()]).unwrap_or(&path);
            if let [from, .., name] = path
                && children.contains(from)
            {
                exported.insert(name.clone(), from.clone());
            }
        }
        let mut reaches = BTreeSet::new();
        for file in &self.files {
            let Some(from) = child(&file.module) else { continue };
            for path in used_paths(&file.code) {
                let to = child(&self.absolute(file, &path));
                let to = to.and_then(|to| if children.contains(&to) { Some(to) } else { exported.get(&to).cloned() });
                reaches.extend(to.filter(|to| *to != from).map(|to| (from.clone(), to)));
            }
        }
        for middle in &children {
            let (into, out): (Vec<_>, Vec<_>) = (
                reaches.iter().filter(|(_, to)| to == middle).map(|(from, _)| from.clone()).collect(),
                reaches.iter().filter(|(from, _)| from == middle).map(|(_, to)| to.clone()).collect(),
            );
            reaches.extend(into.iter().flat_map(|from| out.iter().map(|to| (from.clone(), to.clone()))));
        }
        let circle = children.into_iter().filter(|child| reaches.contains(&(child.clone(), child.clone())));
        let circle = circle.collect::<Vec<_>>();
        (!circle.is_empty()).then(|| format!("{}: {}", folder.join("::"), circle.join(", ")))
    }

    /// A path from the root of the crate. One that leads to another crate has the name of that crate first.
    fn absolute(&self, file: &File, path: &[String]) -> Vec<String> {
        let supers = path.iter().take_while(|name| *name == "super").count();
        match path.first().map(String::as_str) {
            Some("super") => {
                let above = file.module.len().saturating_sub(supers);
                [&file.module[..above], &path[supers..]].concat()
            }
            Some("self") => [&file.module, &path[1..]].concat(),
            Some(name) if name == "crate" || name == self.name => path[1..].to_vec(),
            _ => path.to_vec(),
        }
    }

    /// The names by which paths begin in a module at the top and in what is below it, of `names`: those of other crates.
    pub fn named_in<'a>(&self, module: &str, names: &'a [String]) -> Vec<&'a str> {
        let names = names.iter().map(String::as_str);
        names.filter(|name| self.code_of(module).any(|code| !after(code, &format!("{name}::")).is_empty())).collect()
    }

    /// The names by which `use` lines begin in a module at the top and in what is below it, but for those of modules there.
    pub fn used_in(&self, module: &str) -> Vec<&str> {
        let uses = self.code_of(module).flat_map(|code| after(code, "use ")).flat_map(first_names);
        let is_module = |name: &&str| self.files.iter().any(|file| file.module.get(1).is_some_and(|of| of == name));
        let mut found = uses.filter(|name| !is_module(name)).collect::<Vec<_>>();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn code_of(&self, module: &str) -> impl Iterator<Item = &str> {
        let files = self.files.iter().filter(move |file| file.module.first().is_some_and(|top| top == module));
        files.map(|file| file.code.as_str())
    }

    fn imports<'a>(&self, file: &'a File) -> Vec<&'a str> {
        let own = format!("{}::", self.name);
        let supers = "super::".repeat(file.module.len());
        ["crate::", &own, &supers]
            .into_iter()
            .flat_map(|prefix| after(&file.code, prefix))
            .flat_map(first_names)
            .collect()
    }
}

/// The paths that the `use` lines of a file import, in full, and those that its code names from `crate` or `super` on.
fn used_paths(code: &str) -> Vec<Vec<String>> {
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut paths = Vec::new();
    for tree in after(code, "use ").into_iter().filter_map(|rest| rest.split(';').next()) {
        flatten(&[], tree, &mut paths);
    }
    for prefix in ["crate::", "super::"] {
        for path in after(code, prefix) {
            let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(path.len());
            flatten(&[prefix[..5].to_owned()], &path[..end], &mut paths);
        }
    }
    paths
}

/// The paths of a tree of imports, each after `prefix`.
fn flatten(prefix: &[String], tree: &str, paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    match tree.split_once('{') {
        None => {
            let path = tree.split(" as ").next().unwrap_or_default();
            paths.push(prefix.iter().cloned().chain(path.split("::").map(|name| name.trim().to_owned())).collect());
        }
        Some((head, group)) => {
            let heads = head.trim_end_matches("::").split("::").map(|name| name.trim().to_owned());
            let prefix = prefix.iter().cloned().chain(heads.filter(|name| !name.is_empty())).collect::<Vec<_>>();
            let group = group.strip_suffix('}').unwrap_or(group);
            let (mut depth, mut begin) = (0, 0);
            for (at, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        flatten(&prefix, &group[begin..at], paths);
                        begin = at + 1;
                    }
                    _ => {}
                }
            }
            if !group[begin..].trim().is_empty() {
                flatten(&prefix, &group[begin..], paths);
            }
        }
    }
}

fn numbered(layers: Layers<'_>) -> BTreeMap<&str, usize> {
    let layers = layers.iter().enumerate();
    layers.flat_map(|(layer, modules)| modules.iter().map(move |module| (*module, layer))).collect()
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// What follows `prefix`, where no other name ends with it.
fn after<'a>(code: &'a str, prefix: &str) -> Vec<&'a str> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let starts = code.match_indices(prefix).filter(|(at, _)| !code[..*at].ends_with(is_path));
    starts.map(|(at, _)| &code[at + prefix.len()..]).collect()
}

/// With what a path goes on: `a` of `a::b`, and `a` and `c` of `{a::b, c}`.
fn first_names(path: &str) -> Vec<&str> {
    let name = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let Some(group) = path.strip_prefix('{') else { return vec![&path[..name(path)]] };
    let (mut names, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let part = group[begin..at].trim_start();
                // After the last comma there may be nothing.
                names.extend((!part.is_empty()).then(|| &part[..name(part)]));
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(files: &[(&str, &str)]) -> Source {
        let file = |(path, code): &(&str, &str)| File {
            module: path.split("::").map(str::to_owned).collect(),
            lines: code.lines().count(),
            code: without_comments(code),
        };
        Source { name: "house".into(), files: files.iter().map(file).collect() }
    }

    #[test]
    fn an_import_is_found_in_whatever_way_it_is_written() {
        let found = |path: &str, code: &str| {
            let source = source(&[(path, code)]);
            source.imports(&source.files[0]).join(" ")
        };
        assert_eq!(found("low", "use crate::high::{A, b};"), "high");
        assert_eq!(found("low", "use crate::{\n    a::{B, c},\n    high,\n    d::e,\n};"), "a high d");
        assert_eq!(found("low", "let a = crate::high::ALL[0];"), "high");
        assert_eq!(found("low", "use house::{high, a};"), "high a");
        assert_eq!(found("low", "use super::high::A;"), "high");
        assert_eq!(found("low::a", "use super::b::A;"), "");
        assert_eq!(found("low::a", "use super::super::high::A;"), "high");
        assert_eq!(found("low", "// use crate::high::A;\nuse other::house::high;"), "");
    }

    #[test]
    fn what_is_not_below_is_told() {
        let files = [("low", ""), ("beside", "use crate::low;"), ("high", "use crate::low::A;"), ("high::a", "")];
        assert_eq!(source(&files).upward(&[&["low"], &["beside", "high"]]), [""; 0]);
        assert_eq!(source(&files).upward(&[&["low", "beside"], &["high"]]), ["beside imports low"]);
        assert_eq!(source(&files).upward(&[&["high"], &["low", "beside"]]), ["beside imports low", "high imports low"]);
        assert_eq!(source(&files).not_in(&[&["low", "beside"], &["high"]]), [""; 0]);
        assert_eq!(
            source(&files).not_in(&[&["low", "gone"], &["high"]]),
            ["beside is in no layer", "gone is in a layer, and nowhere else"]
        );
    }

    #[test]
    fn a_circle_by_a_name_that_the_folder_exports_is_found() {
        let circles = |head: &str| {
            let files = [("a", head), ("a::b", "use super::{C, e::E};"), ("a::c", "use super::b::B;"), ("a::e", "")];
            source(&files).circles().join("; ")
        };
        assert_eq!(circles("mod b;\nmod c;"), "");
        assert_eq!(circles("pub use self::{b::B, c::C};"), "a: b, c");
        assert_eq!(circles("pub use c::{D, C};"), "a: b, c");
    }

    #[test]
    fn long_files_are_found() {
        let files = [("a::b", "// One.\n\nuse c;"), ("d", "")];
        assert_eq!(source(&files).longer_than(2), ["a::b has 3 lines"]);
        assert_eq!(source(&files).longer_than(3), [""; 0]);
    }

    #[test]
    fn what_is_taken_from_the_folder_is_told() {
        let files =
            [("a", ""), ("a::b", "use super::c::D;\nuse super::Shared;"), ("a::c", "use crate::a::{Other, b::E};")];
        assert_eq!(source(&files).from_their_folder(), ["a::b imports Shared of a", "a::c imports Other of a"]);
    }

    #[test]
    fn a_circle_of_modules_is_found_in_whatever_way_they_are_imported() {
        let circles = |b: &str, c: &str| {
            let files =
                [("a", "use super::a::b::B;"), ("a::b", b), ("a::c", ""), ("a::c::d", c), ("a::e", "use super::b::B;")];
            source(&files).circles().join("; ")
        };
        assert_eq!(circles("use super::c::D;", ""), "");
        assert_eq!(circles("use super::c::D;", "use super::super::b::B;"), "a: b, c");
        assert_eq!(circles("use crate::{x, a::{y::Z, c::{self, D}}};", "use crate::a::b::B;"), "a: b, c");
        assert_eq!(circles("use house::a::c::{D as E};", "fn f() { crate::a::e::g() }"), "a: b, c, e");
        assert_eq!(circles("use super::c;", "#[cfg(test)]\nmod tests {\n    use crate::a::b::B;\n}"), "");
        assert_eq!(circles("use super::c;", "use other::a::b::B;\nuse super::e2::b;"), "");
    }
}
