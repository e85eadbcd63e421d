//! Writes all mutants into one source, each behind a switch that the environment turns on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::blocks::{blocks, is_block, smallest};
use super::mutant::{Edit, Mutant, apply};

/// The number of the mutant that is on.
pub(crate) const ACTIVE: &str = "EVERMUX_MUTANT";
/// A directory: each process writes there which mutants it has reached, and none is on.
pub(crate) const REACHED: &str = "EVERMUX_MUTANTS_REACHED";
/// The module that the copy has and the workspace has not.
const MODULE: &str = "mutant_switch";

/// The files of the copy that differ from the workspace.
pub(crate) struct Switched {
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    /// Which lines of which file stand for which mutants, counted from 1. The wider come first.
    lines: BTreeMap<PathBuf, Vec<Lines>>,
    /// The mutants that no switch can turn on, by their index.
    pub(crate) left: BTreeSet<usize>,
}

/// Lines, and the mutants that they stand for.
struct Lines {
    range: Range<usize>,
    mutants: BTreeSet<usize>,
    /// They are the text of one mutant, and nothing else.
    is_own: bool,
}

/// One block with the mutants that change it.
struct Site {
    inside: Range<usize>,
    /// By the index of the mutant.
    mutants: Vec<(usize, Vec<Edit>)>,
}

/// Puts mutants behind switches, but for those without. The number of a mutant is its index and one.
pub(crate) fn switch(workspace: &Path, mutants: &[Mutant], without: &BTreeSet<usize>) -> Result<Switched, String> {
    let mut texts = BTreeMap::new();
    for file in mutants.iter().flat_map(|mutant| &mutant.edits).map(|edit| &edit.file) {
        if !texts.contains_key(file) {
            let text =
                fs::read_to_string(workspace.join(file)).map_err(|error| format!("{}: {error}", file.display()))?;
            let blocks = blocks(&text).map_err(|error| format!("{}: {error}", file.display()))?;
            texts.insert(file.clone(), (text, blocks));
        }
    }
    let mut left = without.clone();
    let mut sites: BTreeMap<PathBuf, Vec<Site>> = BTreeMap::new();
    for (index, mutant) in mutants.iter().enumerate() {
        if without.contains(&index) {
            continue;
        }
        let Some(found) = sites_of(mutant, &texts) else {
            left.insert(index);
            continue;
        };
        for (file, inside, edits) in found {
            let sites = sites.entry(file).or_default();
            match sites.iter_mut().find(|site| site.inside == inside) {
                Some(site) => site.mutants.push((index, edits)),
                None => sites.push(Site { inside, mutants: vec![(index, edits)] }),
            }
        }
    }
    let mut switched = Switched { files: BTreeMap::new(), lines: BTreeMap::new(), left };
    for (file, mut sites) in sites {
        let text = &texts[&file].0;
        sites.sort_by_key(|site| (site.inside.start, usize::MAX - site.inside.end));
        let mut writer = Writer { text, sites: &sites, out: String::with_capacity(text.len() * 2), lines: Vec::new() };
        writer.copy(0..text.len(), &mut 0);
        switched.lines.insert(file.clone(), writer.lines);
        switched.files.insert(file, writer.out.into_bytes());
    }
    let library = PathBuf::from("src/lib.rs");
    let text = match switched.files.get(&library) {
        Some(text) => String::from_utf8_lossy(text).into_owned(),
        None => fs::read_to_string(workspace.join(&library)).map_err(|error| format!("src/lib.rs: {error}"))?,
    };
    switched.files.insert(library, format!("{text}\n#[doc(hidden)]\npub mod {MODULE};\n").into_bytes());
    switched.files.insert(format!("src/{MODULE}.rs").into(), module(mutants.len()).into_bytes());
    Ok(switched)
}

type Found = Vec<(PathBuf, Range<usize>, Vec<Edit>)>;

/// The blocks that a mutant changes. None where a change is in no block, or leaves none.
fn sites_of(mutant: &Mutant, texts: &BTreeMap<PathBuf, (String, Vec<Range<usize>>)>) -> Option<Found> {
    let mut found: Found = Vec::new();
    for edit in &mutant.edits {
        let inside = smallest(&texts[&edit.file].1, &edit.range)?;
        found.push((edit.file.clone(), inside, vec![edit.clone()]));
    }
    // Of blocks within each other the outer is switched.
    found.sort_by_key(|(file, inside, _)| (file.clone(), inside.start, usize::MAX - inside.end));
    found.dedup_by(|(file, inside, edits), (outer_file, outer, outer_edits)| {
        let is_within = file == outer_file && outer.start <= inside.start && inside.end <= outer.end;
        if is_within {
            outer_edits.append(edits);
        }
        is_within
    });
    let fits = |(file, inside, edits): &(PathBuf, Range<usize>, Vec<Edit>)| {
        is_block(&apply(&texts[file].0[inside.clone()], inside.start, edits))
    };
    found.iter().all(fits).then_some(found)
}

struct Writer<'a> {
    text: &'a str,
    /// In the order of where they begin, the outer first.
    sites: &'a [Site],
    out: String,
    lines: Vec<Lines>,
}

impl Writer<'_> {
    /// Copies a part of the text, with the switches in it. `next` is the first site that was not written.
    fn copy(&mut self, range: Range<usize>, next: &mut usize) {
        let mut at = range.start;
        while let Some(site) = self.sites.get(*next).filter(|site| site.inside.end <= range.end) {
            *next += 1;
            self.out.push_str(&self.text[at..site.inside.start]);
            at = site.inside.end;
            let first = self.line();
            let slot = self.lines.len();
            let mutants = site.mutants.iter().map(|(index, _)| *index).collect();
            self.lines.push(Lines { range: first..first, mutants, is_own: false });
            for (index, edits) in &site.mutants {
                let _ = writeln!(self.out, "if crate::{MODULE}::on({}) {{", index + 1);
                let first = self.line();
                self.out.push_str(&apply(&self.text[site.inside.clone()], site.inside.start, edits));
                self.out.push_str("\n} else ");
                self.lines.push(Lines { range: first..self.line(), mutants: [*index].into(), is_own: true });
            }
            self.out.push('{');
            self.copy(site.inside.clone(), next);
            self.out.push_str("\n}");
            self.lines[slot].range.end = self.line() + 1;
        }
        self.out.push_str(&self.text[at..range.end]);
    }

    /// The line that is written now.
    fn line(&self) -> usize {
        self.out.matches('\n').count() + 1
    }
}

impl Switched {
    /// The mutants that an error at this line is about, and whether it can only be about them: of what is written
    /// there, the smallest.
    pub(crate) fn at(&self, file: &Path, line: usize) -> (BTreeSet<usize>, bool) {
        let lines = self.lines.get(file).into_iter().flatten();
        let smallest = lines.rev().filter(|lines| lines.range.contains(&line)).min_by_key(|lines| lines.range.len());
        smallest.map_or_else(Default::default, |lines| (lines.mutants.clone(), lines.is_own))
    }
}

fn module(mutants: usize) -> String {
    format!(
        r#"//! Turns on one mutant, or records which are reached.
#![allow(missing_docs, clippy::pedantic)]

use std::{{
    io::Write as _,
    sync::atomic::{{AtomicBool, AtomicU32, Ordering::Relaxed}},
}};

const UNREAD: u32 = u32::MAX;
const RECORDS: u32 = u32::MAX - 1;
static ACTIVE: AtomicU32 = AtomicU32::new(UNREAD);
static REACHED: [AtomicBool; {size}] = [const {{ AtomicBool::new(false) }}; {size}];

#[inline]
pub fn on(mutant: u32) -> bool {{
    match ACTIVE.load(Relaxed) {{
        UNREAD => begin(mutant),
        RECORDS => record(mutant),
        active => active == mutant,
    }}
}}

#[cold]
fn begin(mutant: u32) -> bool {{
    let active = match std::env::var("{ACTIVE}") {{
        Ok(number) => number.parse().expect("the number of a mutant"),
        Err(_) if std::env::var_os("{REACHED}").is_some() => RECORDS,
        Err(_) => 0,
    }};
    ACTIVE.store(active, Relaxed);
    on(mutant)
}}

#[cold]
fn record(mutant: u32) -> bool {{
    if !REACHED[mutant as usize].swap(true, Relaxed) {{
        let folder = std::path::PathBuf::from(std::env::var_os("{REACHED}").expect("a folder"));
        // A run of the simulation is `sim replay SEED`.
        let seed = std::env::args().nth(2).filter(|seed| seed.parse::<u64>().is_ok()).unwrap_or_default();
        let file = folder.join(format!("{{seed}}-{{}}", std::process::id()));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
        file.and_then(|mut file| file.write_all(format!("{{mutant}}\n").as_bytes())).expect("a file to write to");
    }}
    false
}}
"#,
        size = mutants + 1
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::mutants::mutant::Kind;

    const TEXT: &str = "fn f(a: u8) -> u8 {\n    if a > 1 {\n        2\n    } else {\n        3 // three\n    }\n}\n\
        const C: u8 = 4;\n";

    fn mutant(name: &str, edits: &[(&str, &str)]) -> Mutant {
        let edit = |(find, text): &(&str, &str)| {
            let start = TEXT.find(find).unwrap();
            Edit { file: "src/a.rs".into(), range: start..start + find.len(), text: (*text).into() }
        };
        let edits = edits.iter().map(edit).collect();
        Mutant { name: name.into(), kind: Kind::Enemy, about: String::new(), edits, scenario: None }
    }

    fn switched(mutants: &[Mutant]) -> (String, Switched) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("bugs-switch-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("src")).unwrap();
        fs::write(folder.join("src/a.rs"), TEXT).unwrap();
        fs::write(folder.join("src/lib.rs"), "mod a;\n").unwrap();
        let switched = switch(&folder, mutants, &BTreeSet::new()).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let text = String::from_utf8(switched.files[Path::new("src/a.rs")].clone()).unwrap();
        (text, switched)
    }

    #[test]
    fn each_mutant_is_behind_its_switch() {
        let (text, switched) = switched(&[mutant("outer", &[("a > 1", "a > 2")]), mutant("inner", &[("3", "5")])]);
        let file = syn::parse_file(&text);
        assert!(file.is_ok(), "{text}");
        assert_eq!(text.matches("on(1)").count(), 1);
        // Nothing of one mutant is in another.
        assert!(text.contains("if crate::mutant_switch::on(1) {\n\n    if a > 2 {\n        2\n"), "{text}");
        assert!(text.contains("if crate::mutant_switch::on(2) {\n\n        5 // three\n"), "{text}");
        assert!(switched.left.is_empty());
    }

    #[test]
    fn what_is_in_no_block_is_left() {
        let (_, switched) = switched(&[
            mutant("constant", &[("4", "5")]),
            mutant("broken", &[("a > 1", "a >")]),
            mutant("both", &[("a > 1", "a < 1"), ("3", "6")]),
        ]);
        assert_eq!(switched.left, [0, 1].into());
    }

    #[test]
    fn an_error_is_about_the_mutant_at_its_line() {
        let (text, switched) = switched(&[mutant("outer", &[("a > 1", "a > x")]), mutant("inner", &[("3", "y")])]);
        let line = |what: &str| text.lines().position(|line| line.contains(what)).unwrap() + 1;
        let at = |what| switched.at(Path::new("src/a.rs"), line(what));
        assert_eq!(at("a > x"), ([0].into(), true));
        assert_eq!(at("y // three"), ([1].into(), true));
        assert_eq!(switched.at(Path::new("src/a.rs"), 1), ([0].into(), false));
        assert!(switched.at(Path::new("src/b.rs"), 1).0.is_empty());
    }
}
