//! sim is a tree: a module imports only those of lower layers.

use std::path::Path;

use testkit::layers::{Layers, Source};

/// The modules of `src`, lowest layer first. The first lines of `src/lib.rs` say what they are.
const LAYERS: Layers<'static> = &[
    &["verdict", "counters", "random", "interpose", "watch", "timeline", "usage", "yields"],
    &["plan", "history", "memory", "panics"],
    &["trace", "net", "bounds", "reached", "parts"],
    &["process"],
    &["stage", "outcome", "context", "work"],
    &["world", "caller", "serve", "foreign"],
    &["faults", "fleet", "node"],
    &["checks", "draw"],
    &["play", "totals", "mutate"],
    &["scenarios"],
    &["run", "subprocess"],
    &["sweep", "search", "shrink", "capsule"],
    &["cli"],
];

/// What the program's arguments and its commands, or a page and its parts, share is in the folder itself.
const FOLDERS_THAT_ARE_ONE: [&str; 2] = ["cli::", "timeline::"];

fn source() -> Source {
    Source::read("sim", &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "cli")
}

#[test]
fn a_module_imports_only_those_of_lower_layers() {
    assert_eq!(source().upward(LAYERS), [""; 0]);
}

#[test]
fn every_module_is_in_a_layer() {
    assert_eq!(source().not_in(LAYERS), [""; 0]);
}

#[test]
fn the_first_lines_of_the_library_have_the_same_layers() {
    let rows = include_str!("../src/lib.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let modules = rows.filter_map(|row| row.split('|').nth(1)).map(|cell| cell.split('`').skip(1).step_by(2).collect());
    // The first two rows are the head of the table.
    assert_eq!(modules.skip(2).collect::<Vec<Vec<_>>>(), LAYERS);
}

/// So each folder is a tree as well: what its modules share is a module of its own.
#[test]
fn a_module_imports_nothing_from_the_folder_that_it_is_in() {
    let of_a_tree = |import: &String| !FOLDERS_THAT_ARE_ONE.iter().any(|folder| import.starts_with(folder));
    // Its tests may.
    let of_code = |import: &String| !import.contains("::tests ");
    let wrong = source().from_their_folder().into_iter().filter(of_a_tree).filter(of_code).collect::<Vec<_>>();
    assert_eq!(wrong, [""; 0]);
}
