//! The score: the matrix, how many were killed by whom, and those that survived.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::{Value, json};

use super::checkers::{Checker, Outcome};
use super::lists::Lists;
use super::mutant::{Area, Kind, Mutant};
use super::store::{Cell, Store};

/// Percents of all mutants that all checkers together must kill.
const GOAL_TOGETHER: f64 = 95.0;
/// Percents of mutants that nobody has seen.
const GOAL_UNSEEN: f64 = 90.0;
/// Percents of those in session, provider and manager that the random sweep alone must kill.
const GOAL_SWEEP: f64 = 70.0;

/// One mutant and what became of it.
struct Row<'a> {
    mutant: &'a Mutant,
    cells: BTreeMap<Checker, &'a Cell>,
    reason: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Killed,
    Survived,
    /// Not every checker was asked.
    Open,
    /// Nobody killed it, and with it something that looks for it does not compile.
    NotViable,
}

impl Row<'_> {
    fn is_killed_by(&self, checker: Checker) -> bool {
        self.cells.get(&checker).is_some_and(|cell| matches!(cell.outcome, Outcome::Killed { .. }))
    }

    fn fate(&self) -> Fate {
        if self.cells.keys().any(|checker| self.is_killed_by(*checker)) {
            Fate::Killed
        } else if self.cells.values().any(|cell| matches!(cell.outcome, Outcome::NotViable { .. })) {
            Fate::NotViable
        } else if Checker::ALL.iter().all(|checker| self.cells.contains_key(checker)) {
            Fate::Survived
        } else {
            Fate::Open
        }
    }

    fn cell(&self, checker: Checker) -> String {
        match self.cells.get(&checker).map(|cell| (&cell.outcome, cell.seconds)) {
            Some((Outcome::Killed { seed: Some(seed), .. }, seconds)) => format!("seed {seed} {seconds:.1}s"),
            Some((Outcome::Killed { .. }, seconds)) => format!("{seconds:.1}s"),
            Some((Outcome::Survived { .. }, _)) => "SURVIVED".into(),
            Some((Outcome::NotReached, _)) => "no way".into(),
            Some((Outcome::NotViable { .. }, _)) => "no build".into(),
            None => "-".into(),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "mutant": self.mutant.name,
            "kind": self.mutant.kind,
            "area": self.mutant.area().name(),
            "about": self.mutant.about,
            "fate": match self.fate() {
                Fate::Killed => "killed",
                Fate::Survived => "survived",
                Fate::Open => "open",
                Fate::NotViable => "not viable",
            },
            "checkers": self.cells.values().collect::<Vec<_>>(),
            "reason": self.reason,
        })
    }
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    killed: usize,
    of: usize,
}

impl Share {
    fn of(outcomes: impl Iterator<Item = bool>) -> Self {
        outcomes.fold(Self::default(), |Self { killed, of }, is_killed| Self {
            killed: killed + usize::from(is_killed),
            of: of + 1,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "mutants are few")]
    fn percent(self) -> f64 {
        if self.of == 0 { 100.0 } else { 100.0 * self.killed as f64 / self.of as f64 }
    }

    fn told(self) -> String {
        format!("{} of {} ({:.1} %)", self.killed, self.of, self.percent())
    }
}

/// A share of what is known, and one that holds whatever is found out about the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    share: Share,
    /// How many there are.
    all: usize,
}

impl Known {
    /// As if all others survived.
    fn at_least(self) -> Share {
        Share { killed: self.share.killed, of: self.all }
    }

    /// With what it is of.
    fn told(self, of: &str) -> String {
        let known = self.share.told();
        if self.share.of == self.all {
            return format!("{known}, all of them {of}");
        }
        format!("{known} that were {of}, so at least {}", self.at_least().told())
    }

    fn to_json(self) -> Value {
        let Share { killed, of } = self.share;
        json!({
            "killed": killed, "of": of, "percent": self.share.percent(),
            "all": self.all, "at_least_percent": self.at_least().percent(),
        })
    }
}

/// All mutants and what became of them.
pub(crate) struct Score<'a> {
    rows: Vec<Row<'a>>,
    /// Percents that all checkers together must kill.
    goal: f64,
}

impl<'a> Score<'a> {
    pub(crate) fn new(
        mutants: &'a [Mutant],
        chosen: &[usize],
        store: &'a Store,
        lists: &'a Lists,
        is_seen: bool,
    ) -> Self {
        let row = |index: &usize| {
            let mutant = &mutants[*index];
            let all = Checker::ALL.into_iter().chain([Checker::Scenario]);
            let cells = all.filter_map(|checker| Some((checker, store.find(mutant, checker)?)));
            Row { mutant, cells: cells.collect(), reason: lists.survives(&mutant.name) }
        };
        Self { rows: chosen.iter().map(row).collect(), goal: if is_seen { GOAL_TOGETHER } else { GOAL_UNSEEN } }
    }

    /// Those that count.
    fn viable<'s>(&'s self, of: impl Fn(&Row<'_>) -> bool + 's) -> impl Iterator<Item = &'s Row<'a>> + 's {
        self.rows.iter().filter(move |row| row.fate() != Fate::NotViable && of(row))
    }

    /// Those of which the outcome is known. One that is killed is known sooner than one that is not, so the share of
    /// them is the better the fewer checkers were asked.
    fn together(&self, of: impl Fn(&Row<'_>) -> bool) -> Known {
        let rows: Vec<_> = self.viable(of).collect();
        let decided = rows.iter().filter(|row| row.fate() != Fate::Open);
        Known { share: Share::of(decided.map(|row| row.fate() == Fate::Killed)), all: rows.len() }
    }

    /// Of those that this checker was asked about.
    fn by(&self, checker: Checker, of: impl Fn(&Row<'_>) -> bool) -> Known {
        let rows: Vec<_> = self.viable(of).collect();
        let asked = rows.iter().filter(|row| row.cells.contains_key(&checker));
        Known { share: Share::of(asked.map(|row| row.is_killed_by(checker))), all: rows.len() }
    }

    fn is_complete(&self) -> bool {
        let swept = |row: &Row<'_>| !row.mutant.area().is_swept() || row.cells.contains_key(&Checker::Sweep);
        self.viable(|_| true).all(|row| row.fate() != Fate::Open && swept(row))
    }

    fn is_reached(&self) -> bool {
        // The planted bugs were made for checks that there are: they are no measure.
        let counts = |row: &Row<'_>| row.mutant.kind != Kind::Planted;
        let swept = |row: &Row<'_>| counts(row) && row.mutant.area().is_swept();
        let (together, by_sweep) = (self.together(counts).at_least(), self.by(Checker::Sweep, swept).at_least());
        self.is_complete()
            && together.of > 0
            && together.percent() >= self.goal
            && by_sweep.of > 0
            && by_sweep.percent() >= GOAL_SWEEP
    }

    /// Prints it. Returns whether the goal is reached.
    pub(crate) fn tell(&self, as_json: bool) -> bool {
        let text = if as_json { self.json() } else { self.text() };
        // Whoever reads may have seen enough.
        drop(io::stdout().write_all(text.as_bytes()));
        self.is_reached()
    }

    fn json(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let _ = writeln!(text, "{}", row.to_json());
        }
        let checkers = Checker::ALL.into_iter().map(|checker| (checker.name(), self.by(checker, |_| true).to_json()));
        let areas = Area::ALL.into_iter().map(|area| {
            let of = |row: &Row<'_>| row.mutant.area() == area;
            (
                area.name(),
                json!({ "together": self.together(of).to_json(), "sweep": self.by(Checker::Sweep, of).to_json() }),
            )
        });
        let summary = json!({ "score": {
            "mutants": self.rows.len(),
            "not_viable": self.rows.len() - self.viable(|_| true).count(),
            "together": self.together(|_| true).to_json(),
            "checkers": checkers.collect::<BTreeMap<_, _>>(),
            "areas": areas.collect::<BTreeMap<_, _>>(),
            "complete": self.is_complete(),
            "reached": self.is_reached(),
        }});
        let _ = writeln!(text, "{summary}");
        text
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |words: String| text.push_str(&(words + "\n"));
        line(format!(
            "{:<10} {:<10} {:<10} {:<16} {:<10} {:<16} kind     mutant",
            "unit", "properties", "loom", "sweep", "tests", "scenario"
        ));
        for row in &self.rows {
            let [unit, properties, loom, sweep, tests] = Checker::ALL.map(|checker| row.cell(checker));
            let kind = format!("{:?}", row.mutant.kind).to_lowercase();
            let (scenario, mutant) = (row.cell(Checker::Scenario), row.mutant);
            line(format!(
                "{unit:<10} {properties:<10} {loom:<10} {sweep:<16} {tests:<10} {scenario:<16} {kind:<8} {mutant}"
            ));
        }
        line(String::new());
        for kind in [Kind::Drawn, Kind::Enemy, Kind::Planted] {
            let of = |row: &Row<'_>| row.mutant.kind == kind;
            let swept = |row: &Row<'_>| of(row) && row.mutant.area().is_swept();
            line(format!(
                "{:<8} killed by all together: {}; by the sweep alone, of the first three areas: {}",
                format!("{kind:?}").to_lowercase(),
                self.together(of).told("decided"),
                self.by(Checker::Sweep, swept).told("swept"),
            ));
        }
        for area in Area::ALL {
            let of = |row: &Row<'_>| row.mutant.area() == area && row.mutant.kind != Kind::Planted;
            let sweep = self.by(Checker::Sweep, of).told("swept");
            line(format!(
                "{:<8} killed by all together: {}; by the sweep alone: {sweep}",
                area.name(),
                self.together(of).told("decided")
            ));
        }
        for checker in Checker::ALL {
            let by = self.by(checker, |row| row.mutant.kind != Kind::Planted);
            line(format!("{:<10} killed {} that it was asked about", checker.name(), by.share.told()));
        }
        let open = self.rows.iter().filter(|row| row.fate() == Fate::Open).count();
        if open > 0 {
            line(format!("\n{open} mutants are open: nobody killed them, and not every checker was asked"));
        }
        self.list(&mut text, "are not viable, and do not count", |row| row.fate() == Fate::NotViable);
        self.list(&mut text, "survived all", |row| row.fate() == Fate::Survived);
        self.list(
            &mut text,
            "survived the sweep in session, provider and manager, and were killed by another",
            |row| {
                let asked = row.cells.contains_key(&Checker::Sweep) && !row.is_killed_by(Checker::Sweep);
                row.mutant.area().is_swept() && asked && row.fate() == Fate::Killed
            },
        );
        let reached = if self.is_reached() { "reached" } else { "not reached" };
        let goal = self.goal;
        let _ = writeln!(text, "\nThe goal is {reached}: {goal} % by all together, {GOAL_SWEEP} % by the sweep alone.");
        text
    }

    fn list(&self, text: &mut String, what: &str, of: impl Fn(&Row<'_>) -> bool) {
        let rows: Vec<_> = self.rows.iter().filter(|row| of(row)).collect();
        let _ = writeln!(text, "\n{} {what}{}", rows.len(), if rows.is_empty() { "" } else { ":" });
        for row in rows {
            let _ = writeln!(text, "  {}: {}", row.mutant.about, row.reason.unwrap_or("no reason is known"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_nothing_is_all() {
        assert!((Share::default().percent() - 100.0).abs() < f64::EPSILON);
        assert_eq!(Share::of([true, false, true].into_iter()), Share { killed: 2, of: 3 });
        assert_eq!(Share { killed: 2, of: 3 }.told(), "2 of 3 (66.7 %)");
    }

    #[test]
    fn what_is_not_known_yet_may_survive() {
        let known = Known { share: Share { killed: 3, of: 4 }, all: 6 };
        assert_eq!(known.told("decided"), "3 of 4 (75.0 %) that were decided, so at least 3 of 6 (50.0 %)");
        assert_eq!(Known { all: 4, ..known }.told("swept"), "3 of 4 (75.0 %), all of them swept");
    }

    #[test]
    fn what_does_not_compile_is_neither_killed_nor_does_it_survive() {
        let mutant =
            Mutant { name: String::new(), kind: Kind::Enemy, about: String::new(), edits: Vec::new(), scenario: None };
        let fate = |outcomes: &[(Checker, Outcome)]| {
            let cell = |(checker, outcome): &(Checker, Outcome)| Cell {
                mutant: String::new(),
                key: String::new(),
                checker: *checker,
                outcome: outcome.clone(),
                seconds: 0.0,
            };
            let cells: Vec<_> = outcomes.iter().map(cell).collect();
            let cells = cells.iter().map(|cell| (cell.checker, cell)).collect();
            Row { mutant: &mutant, cells, reason: None }.fate()
        };
        let not_viable = (Checker::Unit, Outcome::NotViable { why: "no such field".into() });
        let killed = (Checker::Sweep, Outcome::Killed { by: "G5".into(), seed: Some(1) });
        let survived = Checker::ALL.map(|checker| (checker, Outcome::Survived { seeds: None }));
        assert_eq!(fate(&[]), Fate::Open);
        assert_eq!(fate(&survived), Fate::Survived);
        assert_eq!(fate(&[not_viable.clone(), survived[3].clone()]), Fate::NotViable);
        assert_eq!(fate(&[not_viable, killed]), Fate::Killed);
    }
}
