//! What is counted, and the verdict.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::Add;

use crate::exceptions::Excepted;
use crate::items::Source;
use crate::lines::{Lines, Numbers};

/// The areas of `src`, in the order of the table. What lies in none of them is `the rest`.
const AREAS: [&str; 5] = ["session", "provider", "manager", "sync", "error"];
const THE_REST: &str = "the rest";
/// The areas that the floor is for.
const GATED: [&str; 3] = ["session", "provider", "manager"];

/// How many lines there are, and how many of them ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// All that have code.
    pub(crate) lines: usize,
    /// Of these, the excepted.
    pub(crate) excepted: usize,
    /// Of those that are not excepted, how many ran.
    pub(crate) reached: usize,
    /// Of those that are, how many ran.
    pub(crate) excepted_reached: usize,
}

impl Count {
    fn of(lines: &BTreeMap<usize, bool>, is_excepted: impl Fn(usize) -> bool) -> Self {
        let mut count = Self { lines: lines.len(), ..Self::default() };
        for (number, ran) in lines {
            if is_excepted(*number) {
                count.excepted += 1;
                count.excepted_reached += usize::from(*ran);
            } else {
                count.reached += usize::from(*ran);
            }
        }
        count
    }

    /// The lines that a sweep should reach.
    pub(crate) fn wanted(&self) -> usize {
        self.lines - self.excepted
    }

    /// How many percent of them ran.
    pub(crate) fn percent(&self) -> Option<f64> {
        percent(self.reached, self.wanted())
    }

    /// How many lines ran, excepted or not.
    pub(crate) fn reached_of_all(&self) -> usize {
        self.reached + self.excepted_reached
    }

    /// How many percent of all lines ran.
    pub(crate) fn percent_of_all(&self) -> Option<f64> {
        percent(self.reached_of_all(), self.lines)
    }

    /// How many percent of all lines are excepted.
    pub(crate) fn percent_excepted(&self) -> Option<f64> {
        percent(self.excepted, self.lines)
    }
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            lines: self.lines + other.lines,
            excepted: self.excepted + other.excepted,
            reached: self.reached + other.reached,
            excepted_reached: self.excepted_reached + other.excepted_reached,
        }
    }
}

/// What ran by the sweep; with `--all`, what ran by it or the tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sweep: Count,
    pub(crate) together: Option<Count>,
}

impl<'a> Sum<&'a FileCount> for Counts {
    fn sum<I: Iterator<Item = &'a FileCount>>(files: I) -> Self {
        files.map(|file| file.counts).fold(Self::default(), |one, other| Self {
            sweep: one.sweep + other.sweep,
            together: other.together.map(|other| one.together.unwrap_or_default() + other),
        })
    }
}

/// In tenths, rounded down: what is short of the floor never looks as if it were not.
fn percent(part: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| (as_float(part) * 1000.0 / as_float(of)).floor() / 10.0)
}

#[expect(clippy::cast_precision_loss, reason = "no project has so many lines")]
fn as_float(lines: usize) -> f64 {
    lines as f64
}

/// What became of a file.
#[derive(Debug)]
pub(crate) struct FileCount {
    pub(crate) name: String,
    pub(crate) area: &'static str,
    pub(crate) counts: Counts,
    /// The lines that nothing has reached: not the sweep, of those that it should; with `--all`, nor the tests, of all.
    pub(crate) missed: Numbers,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    /// In the order of the table.
    pub(crate) files: Vec<FileCount>,
    stale: Vec<String>,
}

impl Measured {
    /// Counts what the sweep has reached, and what it and the tests have reached together, where that was asked.
    pub(crate) fn new(
        mut sweep: Lines,
        mut together: Option<Lines>,
        sources: &BTreeMap<String, Source>,
        exceptions: &[Excepted],
    ) -> Self {
        leave_out_tests(&mut sweep, sources);
        if let Some(together) = &mut together {
            leave_out_tests(together, sources);
        }
        let count = |name: &String| {
            let of_file: Vec<_> = exceptions.iter().filter(|excepted| excepted.exception.file == *name).collect();
            let is_excepted = |number: usize| of_file.iter().any(|excepted| excepted.contains(number));
            let of_sweep = sweep.get(name).cloned().unwrap_or_default();
            let of_both = together.as_ref().map(|lines| lines.get(name).cloned().unwrap_or_default());
            let counts = Counts {
                sweep: Count::of(&of_sweep, is_excepted),
                together: of_both.as_ref().map(|lines| Count::of(lines, is_excepted)),
            };
            let missed = match &of_both {
                Some(lines) => not_run(lines).collect(),
                None => not_run(&of_sweep).filter(|number| !is_excepted(*number)).collect(),
            };
            FileCount { name: name.clone(), area: area_of(name), counts, missed }
        };
        let mut files: Vec<_> = sources.keys().map(count).collect();
        // A file of nothing but declarations has no code.
        files.retain(|file| file.counts.sweep.lines + file.counts.together.unwrap_or_default().lines > 0);
        files.sort_by_key(|file| AREAS.iter().position(|area| *area == file.area).unwrap_or(AREAS.len()));
        let stale = exceptions.iter().filter_map(|excepted| stale(excepted, &sweep)).collect();
        Self { files, stale }
    }

    /// The areas, each with its files.
    pub(crate) fn areas(&self) -> impl Iterator<Item = &[FileCount]> {
        self.files.chunk_by(|one, other| one.area == other.area)
    }

    /// The whole of `src`.
    pub(crate) fn total(&self) -> Counts {
        self.files.iter().sum()
    }

    /// What the floor is for.
    pub(crate) fn gated(&self) -> Count {
        self.files.iter().filter(|file| GATED.contains(&file.area)).sum::<Counts>().sweep
    }

    /// What is wrong, with this floor.
    pub(crate) fn objections(&self, floor: f64) -> Vec<String> {
        let gated = self.gated();
        let percent = gated.percent().unwrap_or(0.0);
        let is_low = as_float(gated.reached) * 100.0 < as_float(gated.wanted()) * floor;
        let low = is_low.then(|| format!("the floor is {floor} %, and the sweep reaches {percent:.1} %"));
        low.into_iter().chain(self.stale.iter().cloned()).collect()
    }
}

/// The areas that the floor is for, for people.
pub(crate) fn gated_areas() -> String {
    let [first, second, third] = GATED;
    format!("{first}, {second} and {third}")
}

fn not_run(lines: &BTreeMap<usize, bool>) -> impl Iterator<Item = usize> {
    lines.iter().filter(|(_, ran)| !**ran).map(|(number, _)| *number)
}

/// Tests are in `src` as well, and are no part of what is measured.
fn leave_out_tests(lines: &mut Lines, sources: &BTreeMap<String, Source>) {
    let is_for_tests = |name: &str| name.split('/').any(|part| part == "tests" || part == "tests.rs");
    lines.retain(|name, _| !is_for_tests(name));
    for (name, lines) in lines {
        for range in sources.get(name).into_iter().flat_map(Source::for_tests) {
            lines.retain(|number, _| !range.contains(number));
        }
    }
}

/// `src/session/mod.rs` and `src/session.rs` are of the area `session`.
fn area_of(file: &str) -> &'static str {
    let first = file.split('/').nth(1).unwrap_or_default();
    let first = first.strip_suffix(".rs").unwrap_or(first);
    AREAS.into_iter().find(|area| *area == first).unwrap_or(THE_REST)
}

/// Why an exception should go, if it should.
fn stale(excepted: &Excepted, sweep: &Lines) -> Option<String> {
    let lines = sweep.get(&excepted.exception.file);
    let about = excepted.among(lines.into_iter().flat_map(|lines| lines.keys()));
    let is_reached = |number: &usize| lines.is_some_and(|lines| lines.get(number) == Some(&true));
    let exception = &excepted.exception;
    if about.is_empty() {
        Some(format!("the exception {exception} should go: it is about no line of code"))
    } else if about.iter().all(is_reached) {
        Some(format!("the exception {exception} should go: the sweep reaches all its lines ({})", about.len()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exceptions;

    const SESSION: &str = "fn open() {\n    one();\n    two();\n}\nfn wait() {\n    park();\n}\n\
        #[cfg(test)]\nmod tests {\n    fn test() {}\n}\n";

    fn sources() -> BTreeMap<String, Source> {
        let files =
            [("src/config.rs", "fn settings() {}\n"), ("src/session/mod.rs", SESSION), ("src/sync/tests.rs", "")];
        files.into_iter().map(|(name, text)| (name.into(), Source::read(text).unwrap())).collect()
    }

    fn lines(reached: &[usize]) -> Lines {
        let of = |numbers: &[usize]| numbers.iter().map(|number| (*number, reached.contains(number))).collect();
        Lines::from([
            ("src/config.rs".into(), of(&[1])),
            ("src/session/mod.rs".into(), of(&[1, 2, 3, 4, 5, 6, 7, 10])),
            ("src/sync/tests.rs".into(), of(&[1, 2])),
        ])
    }

    fn measured(reached: &[usize], together: Option<&[usize]>, list: &str) -> Measured {
        let exceptions = exceptions::resolve(exceptions::read(list).unwrap(), &sources()).unwrap();
        Measured::new(lines(reached), together.map(lines), &sources(), &exceptions)
    }

    const WAIT: &str = "[[exception]]\nfile = 'src/session/mod.rs'\nitem = 'fn wait'\nreason = 'a reason'";

    #[test]
    fn only_what_is_wanted_counts() {
        let measured = measured(&[1, 2, 4, 5], None, WAIT);
        let count = Count { lines: 7, excepted: 3, reached: 3, excepted_reached: 1 };
        assert_eq!(measured.gated(), count);
        assert_eq!(measured.gated().percent(), Some(75.0));
        assert_eq!(measured.files.iter().map(|file| file.area).collect::<Vec<_>>(), ["session", "the rest"]);
        assert_eq!(measured.files[0].missed, Numbers::from([3]));
        assert_eq!(measured.total().sweep.lines, 8);
        assert_eq!(measured.total().together, None);
    }

    #[test]
    fn the_floor_is_kept_or_not() {
        let measured = measured(&[1, 2, 4], None, WAIT);
        assert!(measured.objections(75.0).is_empty());
        assert_eq!(measured.objections(75.1), ["the floor is 75.1 %, and the sweep reaches 75.0 %"]);
    }

    #[test]
    fn an_exception_that_the_sweep_reaches_should_go() {
        let [objection] = &measured(&[1, 2, 3, 4, 5, 6, 7], None, WAIT).objections(97.0)[..] else {
            panic!("there is one");
        };
        assert!(objection.contains("`fn wait` should go: the sweep reaches all its lines (3)"), "{objection}");
        assert!(measured(&[1, 2, 3, 4, 5, 6], None, WAIT).objections(97.0).is_empty());
    }

    #[test]
    fn an_exception_of_no_code_should_go() {
        let list = "[[exception]]\nfile = 'src/session/mod.rs'\nitem = 'mod tests'\nreason = 'a reason'";
        assert_eq!(measured(&[1, 2, 3, 4, 5, 6, 7, 10], None, list).objections(97.0).len(), 1);
    }

    #[test]
    fn together_counts_all_lines() {
        let measured = measured(&[1, 2], Some(&[1, 2, 4, 5, 6]), WAIT);
        let count = Count { lines: 7, excepted: 3, reached: 3, excepted_reached: 2 };
        assert_eq!(measured.files[0].counts.together, Some(count));
        assert_eq!(count.percent_of_all(), Some(71.4));
        assert_eq!(measured.gated().reached, 2);
        assert_eq!(measured.files[0].missed, Numbers::from([3, 7]));
    }

    #[test]
    fn a_share_is_never_rounded_up() {
        assert_eq!(percent(969_999, 1_000_000), Some(96.9));
        assert_eq!(percent(0, 0), None);
    }
}
