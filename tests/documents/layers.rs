//! Knowledge flows one way in `src`, as ARCHITECTURE says under "Module dependencies".

use std::{fs, path::Path};

use testkit::layers::{Layers, Source};

/// The modules of `src`, lowest layer first.
const LAYERS: Layers<'static> = &[
    &["sync", "error", "random", "deadline"],
    &["blocking", "config", "events"],
    &["session"],
    &["provider"],
    &["manager"],
    &["docs"],
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source() -> Source {
    Source::read("evermux", &root().join("src"), "")
}

#[test]
fn a_module_imports_only_those_of_lower_layers() {
    assert_eq!(source().upward(LAYERS), [""; 0]);
    assert_eq!(source().not_in(LAYERS), [""; 0]);
}

/// But for a slot, its readers and its reservations, which are one: they share its state.
#[test]
fn no_files_of_a_folder_import_each_other_in_a_circle() {
    assert_eq!(source().circles(), ["sync: reader, reservation, slot"]);
}

#[test]
fn the_core_imports_std_alone() {
    let source = source();
    let own = ["crate", "self", "std", "super"];
    let foreign = source.used_in("sync").into_iter().filter(|name| !own.contains(name)).collect::<Vec<_>>();
    assert_eq!(foreign, [""; 0]);
    // A path needs no `use`.
    assert_eq!(source.named_in("sync", &dependencies()), [""; 0]);
}

/// The crates that `src` may name.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("there is a manifest");
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").expect("it has dependencies");
    let lines = dependencies.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.split(['.', ' ']).next()).map(|name| name.replace('-', "_"));
    let names = names.collect::<Vec<_>>();
    assert!(names.iter().any(|name| name == "tokio"), "{names:?}");
    names
}

#[test]
fn no_file_has_more_than_500_lines() {
    assert_eq!(source().longer_than(500), [""; 0]);
}
