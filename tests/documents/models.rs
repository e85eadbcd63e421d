//! The models are as many as the documents say, and as many of them are bounded.

use std::{fs, path::Path};

/// The models in a file, or below a folder: the text of each, from its name to the next one.
fn models(path: &Path) -> Vec<String> {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a folder that can be read");
        return entries.flat_map(|entry| models(&entry.expect("an entry that can be read").path())).collect();
    }
    let text = fs::read_to_string(path).expect("text");
    text.split("\n#[test]\n").skip(1).map(str::to_owned).collect()
}

#[test]
fn the_models_are_as_many_as_the_documents_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = models(&root.join("loom-tests/tests"));
    let of = |what: &str| all.iter().filter(|model| model.contains(what)).count();
    let sampled = models(&root.join("loom-tests/tests/crowds")).len();
    let explored = all.len() - sampled;
    let (three, four, bounded) = (of("AtMost(3)"), of("AtMost(4)"), of("AtMost("));
    assert_eq!(three + four, bounded, "another bound is in use");
    let exhaustive = explored - bounded;
    for (document, sentences) in [
        (
            "ARCHITECTURE.md",
            vec![
                format!("There are {explored} under loom and {sampled} under shuttle."),
                format!("{exhaustive} explore every execution, {three} those with at most three preemptions"),
                format!("and {four} those with at most four"),
            ],
        ),
        ("README.md", vec![format!("runs all {} models", all.len())]),
    ] {
        let text = fs::read_to_string(root.join(document)).expect("text");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for sentence in sentences {
            assert!(text.contains(&sentence), "{document} does not say: {sentence}");
        }
    }
}
