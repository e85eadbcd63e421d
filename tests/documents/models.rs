//! The models are as many as the documents say.

use std::{fs, path::Path};

/// How many tests there are in a file, or below a folder.
fn tests(path: &Path) -> usize {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a folder that can be read");
        return entries.map(|entry| tests(&entry.expect("an entry that can be read").path())).sum();
    }
    fs::read_to_string(path).expect("text").lines().filter(|line| line.trim() == "#[test]").count()
}

#[test]
fn the_models_are_as_many_as_the_documents_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = tests(&root.join("loom-tests/tests"));
    let sampled = tests(&root.join("loom-tests/tests/crowds"));
    for (document, sentence) in [
        ("ARCHITECTURE.md", format!("There are {} under loom\nand {sampled} under shuttle", all - sampled)),
        ("README.md", format!("runs all {all} models")),
    ] {
        let text = fs::read_to_string(root.join(document)).expect("text");
        assert!(text.contains(&sentence), "{document} does not say: {sentence}");
    }
}
