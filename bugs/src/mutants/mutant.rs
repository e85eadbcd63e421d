//! A mutant: one small mistake, as edits of the source, wherever it comes from.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where a mutant comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Drawn from the list of cargo-mutants.
    Drawn,
    /// Chosen by hand: `bugs/mutants/enemy`.
    Enemy,
    /// A real mistake: `bugs/planted`.
    Planted,
}

/// A part of `src`, for the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Area {
    Session,
    Provider,
    Manager,
    Sync,
    /// All else.
    Other,
}

impl Area {
    pub(crate) const ALL: [Self; 5] = [Self::Session, Self::Provider, Self::Manager, Self::Sync, Self::Other];

    /// The area of a file.
    pub(crate) fn of(file: &Path) -> Self {
        let mut names = file.iter().skip(1).map(|name| name.to_string_lossy());
        match names.next().as_deref() {
            Some("session") => Self::Session,
            Some("provider") => Self::Provider,
            Some("manager") => Self::Manager,
            Some("sync") => Self::Sync,
            _ => Self::Other,
        }
    }

    /// The goal of the random sweep is about these.
    pub(crate) fn is_swept(self) -> bool {
        matches!(self, Self::Session | Self::Provider | Self::Manager)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Provider => "provider",
            Self::Manager => "manager",
            Self::Sync => "sync",
            Self::Other => "other",
        }
    }
}

/// A range of bytes of a file, and what stands there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Its path in the workspace.
    pub(crate) file: PathBuf,
    pub(crate) range: Range<usize>,
    pub(crate) text: String,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mutant {
    /// Unique, and the same in every run.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Where it stands, and what it is.
    pub(crate) about: String,
    pub(crate) edits: Vec<Edit>,
    /// For a planted bug that the simulation has to find: the arguments of the sweep that does.
    pub(crate) scenario: Option<Vec<String>>,
}

impl Mutant {
    pub(crate) fn area(&self) -> Area {
        self.edits.first().map_or(Area::Other, |edit| Area::of(&edit.file))
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Replaces ranges of a text. They must not overlap. `base` is where the text begins in the file that they are of.
pub(crate) fn apply<'a>(text: &str, base: usize, edits: impl IntoIterator<Item = &'a Edit>) -> String {
    let mut edits: Vec<_> = edits.into_iter().collect();
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let (mut whole, mut at) = (String::with_capacity(text.len()), 0);
    for edit in edits {
        whole.push_str(&text[at..edit.range.start - base]);
        whole.push_str(&edit.text);
        at = edit.range.end - base;
    }
    whole.push_str(&text[at..]);
    whole
}

/// The byte at which a column of a line begins; both are counted from 1, columns in characters.
pub(crate) fn offset(text: &str, line: usize, column: usize) -> Option<usize> {
    let begin = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum::<usize>();
    let rest = text.get(begin..)?;
    let column = column.checked_sub(1)?;
    let within = rest.char_indices().map(|(at, _)| at).chain([rest.len()]).nth(column)?;
    Some(begin + within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_applied_in_order_of_their_place() {
        let edit = |range, text: &str| Edit { file: "a.rs".into(), range, text: text.into() };
        let edits = [edit(14..15, "z"), edit(11..13, ""), edit(10..10, "x")];
        assert_eq!(apply("abcdef", 10, &edits), "xadzf");
    }

    #[test]
    fn columns_are_characters() {
        let text = "ab\nä c\n";
        assert_eq!(offset(text, 1, 1), Some(0));
        assert_eq!(offset(text, 2, 1), Some(3));
        assert_eq!(offset(text, 2, 2), Some(5));
        assert_eq!(offset(text, 2, 99), None);
    }

    #[test]
    fn the_area_is_the_folder() {
        assert_eq!(Area::of(Path::new("src/session/mod.rs")), Area::Session);
        assert_eq!(Area::of(Path::new("src/config.rs")), Area::Other);
        assert_eq!(Area::ALL.into_iter().filter(|area| area.is_swept()).count(), 3);
    }
}
