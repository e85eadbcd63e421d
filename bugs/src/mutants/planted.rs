//! The planted bugs as mutants: their diffs as edits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::mutant::{Edit, Kind, Mutant};
use crate::patch::{CaughtBy, Patch};

/// Makes a mutant of a planted bug.
pub(crate) fn mutant(patch: &Patch, read: impl FnMut(&Path) -> Result<String, String>) -> Result<Mutant, String> {
    let edits = edits(&patch.diff, read).map_err(|error| format!("{}: {error}", patch.name))?;
    let scenario = match &patch.caught_by {
        CaughtBy::Sim(arguments) => Some(arguments.clone()),
        CaughtBy::Test(_) => None,
    };
    Ok(Mutant { name: patch.name.clone(), kind: Kind::Planted, about: patch.about.clone(), edits, scenario })
}

fn edits(diff: &str, mut read: impl FnMut(&Path) -> Result<String, String>) -> Result<Vec<Edit>, String> {
    let mut texts = BTreeMap::new();
    let mut edits: Vec<Edit> = Vec::new();
    let mut lines = diff.lines().peekable();
    let mut file = PathBuf::new();
    while let Some(line) = lines.next() {
        if let Some(path) = line.strip_prefix("+++ b/") {
            file = path.trim_end().into();
            if !texts.contains_key(&file) {
                texts.insert(file.clone(), read(&file)?);
            }
        }
        let Some(begin) = line.strip_prefix("@@ -") else { continue };
        let begin = begin.split([',', ' ']).next().and_then(|number| number.parse::<usize>().ok());
        let begin = begin.ok_or_else(|| format!("`{line}` names no line"))?;
        let mut hunk = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("@@ ") && !line.starts_with("diff ")) {
            // An empty line of context may have lost its space.
            let (sign, rest) = line.split_at_checked(1).unwrap_or((" ", ""));
            if matches!(sign, " " | "-" | "+") {
                hunk.push((sign, rest));
            }
        }
        let text = texts.get(&file).ok_or("a hunk without a file")?;
        let old = hunk.iter().filter(|(sign, _)| *sign != "+").flat_map(|(_, line)| [*line, "\n"]).collect::<String>();
        let mut at = nearest(text, &old, begin).ok_or_else(|| {
            format!("the patch does not apply any more: line {begin} of {} is another", file.display())
        })?;
        let mut is_open = false;
        for (sign, line) in hunk {
            if sign == " " {
                is_open = false;
                at += line.len() + 1;
                continue;
            }
            if !is_open {
                edits.push(Edit { file: file.clone(), range: at..at, text: String::new() });
                is_open = true;
            }
            let Some(edit) = edits.last_mut() else { continue };
            if sign == "-" {
                at += line.len() + 1;
                edit.range.end = at;
            } else {
                edit.text.push_str(line);
                edit.text.push('\n');
            }
        }
    }
    if edits.is_empty() { Err("the patch changes nothing".into()) } else { Ok(edits) }
}

/// Where these lines stand: of several places the nearest to a line, counted from 1.
fn nearest(text: &str, lines: &str, line: usize) -> Option<usize> {
    let expected: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let begins = |at: &usize| *at == 0 || text[..*at].ends_with('\n');
    text.match_indices(lines).map(|(at, _)| at).filter(begins).min_by_key(|at| at.abs_diff(expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::mutant::apply;

    const DIFF: &str = "\
diff --git a/src/a.rs b/src/a.rs
--- a/src/a.rs
+++ b/src/a.rs
@@ -2,5 +2,5 @@ fn f() {
     one();
-    two();
+    2();
     three();
-    four();
     five();
+    six();
";
    const TEXT: &str =
        "// It was moved.\nfn f() {\n    one();\n    two();\n    three();\n    four();\n    five();\n}\n";

    #[test]
    fn a_diff_becomes_edits() {
        let edits = edits(DIFF, |_| Ok(TEXT.into())).unwrap();
        assert_eq!(edits.len(), 3);
        let changed = apply(TEXT, 0, &edits);
        assert_eq!(
            changed,
            "// It was moved.\nfn f() {\n    one();\n    2();\n    three();\n    five();\n    six();\n}\n"
        );
    }

    #[test]
    fn a_diff_that_does_not_fit_is_refused() {
        let error = edits(DIFF, |_| Ok("fn f() {}\n".into())).unwrap_err();
        assert!(error.contains("does not apply any more"), "{error}");
        assert!(edits("", |_| Ok(TEXT.into())).is_err());
    }

    #[test]
    fn of_equal_places_the_nearest_is_taken() {
        assert_eq!(nearest("a\nb\na\nb\n", "a\n", 3), Some(4));
        assert_eq!(nearest("ba\na\n", "a\n", 1), Some(3));
    }
}
