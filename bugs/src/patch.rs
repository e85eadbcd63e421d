//! A planted bug: a header of `key: value` lines, a blank line, and a diff.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What the header has to look like, told with every mistake in one.
pub(crate) const HEADER: &str = "\
scenario: half_open_forever
guarantee: G10
caught-by: sim --scenario random
expect: G10 G1
about: one sentence, what the mistake is and what a user would see.";

/// Arguments of `sim sweep` that this program gives itself.
const OURS: [&str; 5] = ["--from", "--seeds", "--json", "--keep-going", "--jobs"];

/// What a checker may name beside a guarantee. The last three count only where they are expected.
pub(crate) const BESIDE_GUARANTEES: [&str; 6] = ["liveness", "panic", "scenario", "hang", "lost", "diverged"];

/// One mistake, and who has to find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Patch {
    /// The name of its file, without the ending.
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    /// What really happened once.
    pub(crate) scenario: String,
    /// What it breaks.
    pub(crate) guarantee: String,
    pub(crate) caught_by: CaughtBy,
    /// What the checker must name, if it matters.
    pub(crate) expect: Vec<String>,
    pub(crate) about: String,
    pub(crate) diff: String,
}

/// Who has to find a bug.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CaughtBy {
    /// `sim sweep`, with these arguments.
    Sim(Vec<String>),
    /// `cargo test`, with these arguments.
    Test(Vec<String>),
}

impl fmt::Display for CaughtBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sim(arguments) => write!(f, "sim sweep {}", arguments.join(" ")),
            Self::Test(arguments) => write!(f, "cargo test {}", arguments.join(" ")),
        }
    }
}

/// What is wrong with a patch, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Counted from 1.
    line: usize,
    what: String,
}

impl Malformed {
    fn new(line: usize, what: impl Into<String>) -> Self {
        Self { line, what: what.into() }
    }
}

impl Patch {
    /// Whether a checker that names this has named what it should.
    pub(crate) fn expects(&self, named: &str) -> bool {
        let is_expected = self.expect.iter().any(|expected| expected == named);
        match self.caught_by {
            // A test names no guarantee.
            CaughtBy::Test(_) => is_expected || named == "test",
            CaughtBy::Sim(_) if self.expect.is_empty() => !matches!(named, "hang" | "lost" | "diverged"),
            CaughtBy::Sim(_) => is_expected,
        }
    }
}

/// Reads every patch of a directory, in the order of their names.
pub(crate) fn read_all(directory: &Path) -> Result<Vec<Patch>, String> {
    let entries = fs::read_dir(directory).map_err(|error| {
        format!(
            "the planted bugs cannot be read: {}: {error}\n  they are expected there, one NAME.patch each",
            directory.display()
        )
    })?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| format!("{}: {error}", directory.display()))?.path();
        if file.extension().is_some_and(|extension| extension == "patch") {
            files.push(file);
        }
    }
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Result<Patch, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    parse(&name, file, &text).map_err(|Malformed { line, what }| format!("{}:{line}: {what}", file.display()))
}

/// Reads one patch.
fn parse(name: &str, file: &Path, text: &str) -> Result<Patch, Malformed> {
    let mut fields = BTreeMap::new();
    let mut end = 0;
    for (index, line) in text.lines().enumerate() {
        end = index + 1;
        if line.trim().is_empty() {
            break;
        }
        let Some((key, value)) = line.split_once(": ") else {
            return Err(Malformed::new(
                end,
                format!(
                    "`{line}` is no `key: value` line; a header ends with a blank line, and looks like this:\n{HEADER}"
                ),
            ));
        };
        if !["scenario", "guarantee", "caught-by", "expect", "about"].contains(&key) {
            return Err(Malformed::new(end, format!("there is no key `{key}`; a header looks like this:\n{HEADER}")));
        }
        if fields.insert(key, (end, value.trim())).is_some() {
            return Err(Malformed::new(end, format!("`{key}` is given twice; once is right")));
        }
    }
    let field = |key: &str| match fields.get(key) {
        Some((_, "")) | None => {
            Err(Malformed::new(end, format!("the header has no `{key}`; a header looks like this:\n{HEADER}")))
        }
        Some((line, value)) => Ok((*line, *value)),
    };
    let (_, scenario) = field("scenario")?;
    let (line, guarantee) = field("guarantee")?;
    if let Some(wrong) = guarantee.split_whitespace().find(|name| !is_guarantee(name)) {
        return Err(Malformed::new(line, format!("`{wrong}` is no guarantee; they are G1 to G19")));
    }
    let (line, caught_by) = field("caught-by")?;
    let caught_by = parse_caught_by(line, caught_by)?;
    let (line, expect) = fields.get("expect").copied().unwrap_or_default();
    let expect: Vec<String> = expect.split_whitespace().map(str::to_owned).collect();
    if let Some(wrong) = expect.iter().find(|name| !is_guarantee(name) && !BESIDE_GUARANTEES.contains(&name.as_str())) {
        let beside = BESIDE_GUARANTEES.join(", ");
        return Err(Malformed::new(line, format!("no checker names `{wrong}`; they name G1 to G19, {beside}")));
    }
    let (_, about) = field("about")?;
    let diff: String = text.lines().skip(end).flat_map(|line| [line, "\n"]).collect();
    check_diff(end + 1, &diff)?;
    Ok(Patch {
        name: name.into(),
        file: file.into(),
        scenario: scenario.into(),
        guarantee: guarantee.into(),
        caught_by,
        expect,
        about: about.into(),
        diff,
    })
}

fn is_guarantee(name: &str) -> bool {
    name.strip_prefix('G').and_then(|number| number.parse().ok()).is_some_and(|number: u8| (1..=19).contains(&number))
}

fn parse_caught_by(line: usize, text: &str) -> Result<CaughtBy, Malformed> {
    let mut words = text.split_whitespace();
    let who = words.next();
    let arguments: Vec<String> = words.map(str::to_owned).collect();
    match who {
        Some("sim") => {
            let ours = arguments.iter().find(|word| {
                OURS.iter()
                    .any(|ours| word.strip_prefix(ours).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')))
            });
            match ours {
                Some(ours) => Err(Malformed::new(line, format!("`{ours}` is set by this program; leave it out"))),
                None => Ok(CaughtBy::Sim(arguments)),
            }
        }
        Some("test") => Ok(CaughtBy::Test(arguments)),
        _ => Err(Malformed::new(
            line,
            format!("`{text}` is no checker; right are `sim ARGUMENTS-OF-SWEEP` and `test ARGUMENTS-OF-CARGO-TEST`"),
        )),
    }
}

/// A patch changes the library and nothing else: a checker that was changed finds what it likes.
fn check_diff(first_line: usize, diff: &str) -> Result<(), Malformed> {
    let mut paths = 0;
    for (index, line) in diff.lines().enumerate() {
        let line_number = first_line + index;
        for path in paths_of(line) {
            paths += 1;
            let is_ours = path.starts_with("src/") && Path::new(path).extension().is_some_and(|end| end == "rs");
            if !is_ours || path.split('/').any(|part| part == "..") {
                let what = format!(
                    "the patch changes {path}; right is Rust code in src/ alone: a planted bug never touches a checker"
                );
                return Err(Malformed::new(line_number, what));
            }
        }
    }
    if paths == 0 {
        let what = "no diff follows the blank line; right is the output of `git diff`, from the root of the workspace";
        return Err(Malformed::new(first_line, what));
    }
    Ok(())
}

/// The files that a line of a diff names.
fn paths_of(line: &str) -> Vec<&str> {
    let names: Vec<_> = if let Some(rest) = line.strip_prefix("diff --git ") {
        rest.split(' ').collect()
    } else {
        // A removed line that begins with `-- ` looks like a file's name: such a line is not in `src`.
        ["--- ", "+++ ", "rename from ", "rename to ", "copy from ", "copy to "]
            .iter()
            .filter_map(|prefix| line.strip_prefix(prefix))
            .filter_map(|rest| rest.split('\t').next())
            .collect()
    };
    let bare = |name| ["a/", "b/"].iter().find_map(|side| str::strip_prefix(name, side)).unwrap_or(name);
    names.into_iter().filter(|name| *name != "/dev/null").map(bare).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "\
diff --git a/src/a.rs b/src/a.rs
--- a/src/a.rs
+++ b/src/a.rs
@@ -1 +1 @@
-good
+bad
";

    fn parsed(header: &str, diff: &str) -> Result<Patch, String> {
        parse("name", Path::new("name.patch"), &format!("{header}\n\n{diff}"))
            .map_err(|Malformed { line, what }| format!("{line}: {what}"))
    }

    fn refused(header: &str, diff: &str) -> String {
        parsed(header, diff).unwrap_err()
    }

    #[test]
    fn a_header_is_read() {
        let patch = parsed(HEADER, DIFF).unwrap();
        assert_eq!((patch.name.as_str(), patch.scenario.as_str()), ("name", "half_open_forever"));
        assert_eq!(patch.guarantee, "G10");
        assert_eq!(patch.caught_by, CaughtBy::Sim(vec!["--scenario".into(), "random".into()]));
        assert_eq!(patch.expect, ["G10", "G1"]);
        assert!(patch.about.starts_with("one sentence, what"));
        assert_eq!(patch.diff, DIFF);
    }

    #[test]
    fn what_is_wrong_with_a_header_is_told_with_its_line() {
        let without = |key: &str| {
            let lines = HEADER.lines().filter(|line| !line.starts_with(key));
            lines.collect::<Vec<_>>().join("\n")
        };
        assert!(refused(&without("about"), DIFF).starts_with("5: the header has no `about`"));
        assert!(parsed(&without("expect"), DIFF).unwrap().expect.is_empty());
        assert!(refused("scenario half_open", DIFF).starts_with("1: `scenario half_open` is no `key: value` line"));
        assert!(refused(&HEADER.replace("about:", "abuot:"), DIFF).starts_with("5: there is no key `abuot`"));
        assert!(refused(&format!("{HEADER}\nexpect: G1"), DIFF).starts_with("6: `expect` is given twice"));
        assert!(refused(&HEADER.replace("G10\n", "G20\n"), DIFF).starts_with("2: `G20` is no guarantee"));
        assert!(refused(&HEADER.replace("G10 G1", "G10 slow"), DIFF).starts_with("4: no checker names `slow`"));
        assert!(refused(&HEADER.replace("sim --", "sam --"), DIFF).starts_with("3: `sam --scenario random` is no"));
        assert!(refused(&HEADER.replace("random", "random --from=3"), DIFF).starts_with("3: `--from=3` is set by"));
        assert!(refused(HEADER, "").starts_with("7: no diff follows"));
    }

    #[test]
    fn a_checker_is_not_patched() {
        for path in [
            "sim/src/run.rs",
            "loom-tests/src/lib.rs",
            "proptests/src/slot.rs",
            "Cargo.toml",
            "src/../sim/a.rs",
            "src/a.rs.orig",
        ] {
            let refused = refused(HEADER, &DIFF.replace("src/a.rs", path));
            assert!(
                refused.starts_with(&format!("7: the patch changes {path}; right is Rust code in src/ alone")),
                "{refused}"
            );
        }
        let renamed = "diff --git a/src/a.rs b/src/a.rs\nrename from src/a.rs\nrename to sim/src/a.rs\n";
        assert!(refused(HEADER, renamed).starts_with("9: the patch changes sim/src/a.rs"));
        let new = DIFF.replace("--- a/src/a.rs", "--- /dev/null");
        assert!(parsed(HEADER, &new).is_ok());
    }

    #[test]
    fn a_hang_counts_only_where_it_is_expected() {
        let mut patch = parsed(HEADER, DIFF).unwrap();
        assert!(patch.expects("G1") && !patch.expects("G3") && !patch.expects("hang") && !patch.expects("panic"));
        patch.expect.clear();
        assert!(patch.expects("G3") && patch.expects("panic") && !patch.expects("hang") && !patch.expects("lost"));
        patch.expect.push("hang".into());
        assert!(patch.expects("hang") && !patch.expects("G3"));
        patch.caught_by = CaughtBy::Test(Vec::new());
        assert!(patch.expects("hang") && patch.expects("test"));
        patch.expect.clear();
        assert!(!patch.expects("hang") && patch.expects("test"));
    }
}
