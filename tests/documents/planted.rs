//! The tests that planted bugs name are there. `bugs` finds out as well, but first builds a checker for each.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The arguments of `cargo test` that each planted bug names, where a test finds it.
fn named() -> Vec<(String, Vec<String>)> {
    let folder = fs::read_dir(root().join("bugs/planted")).expect("there are planted bugs");
    let patches = folder.map(|entry| entry.expect("an entry that can be read").path());
    let caught_by = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("text");
        let arguments = text.lines().find_map(|line| line.strip_prefix("caught-by: test "))?;
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        Some((name, arguments.split(' ').map(str::to_owned).collect()))
    };
    patches.filter_map(caught_by).collect()
}

/// Every function in a file or below a folder, by the names that a test of that name may have.
fn functions(path: &Path, module: &str, found: &mut Vec<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder that can be read") {
            let path = entry.expect("an entry that can be read").path();
            let module = match path.file_stem().expect("a name").to_string_lossy().as_ref() {
                "main" | "lib" | "mod" => module.to_owned(),
                name => format!("{module}{name}::"),
            };
            functions(&path, &module, found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let text = fs::read_to_string(path).expect("text");
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        for rest in text.split("fn ").skip(1) {
            let name = rest.split(|c| !is_name(c)).next().unwrap_or_default();
            found.extend([format!("{module}{name}"), format!("{module}tests::{name}")]);
        }
    }
}

#[test]
fn every_test_that_a_planted_bug_names_is_there() {
    let mut absent = Vec::new();
    let named = named();
    assert!(named.len() > 100, "{}", named.len());
    for (bug, arguments) in named {
        let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
        let ["-p", package, rest @ ..] = arguments.as_slice() else { panic!("{bug}: {arguments:?}") };
        let package = if *package == "evermux" { root().to_owned() } else { root().join(package) };
        let (path, tests) = match rest {
            ["--lib", tests @ ..] => (package.join("src"), tests),
            ["--test", program, tests @ ..] => {
                let folder = package.join("tests").join(program);
                (if folder.exists() { folder } else { folder.with_extension("rs") }, tests)
            }
            other => panic!("{bug}: {other:?}"),
        };
        let mut found = Vec::new();
        functions(&path, "", &mut found);
        // Without a name all of them are meant.
        let name = tests.first().copied().unwrap_or_default();
        if tests.len() > 1 || !found.iter().any(|test| test.contains(name)) {
            absent.push(format!("{bug}: {tests:?}"));
        }
    }
    assert_eq!(absent, [""; 0]);
}
