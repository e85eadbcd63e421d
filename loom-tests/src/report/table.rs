//! The rows of the report, and their sums.

use loom_tests::{Bound, Checker, Record};
use serde_json::json;

use super::Row;

impl Row {
    fn of(&self) -> &Record {
        // The widest bound of its variants: that is all that can be said of it as a whole.
        self.records.iter().max_by_key(|record| record.bound).expect("a model explores something")
    }

    fn sum(&self, of: impl Fn(&Record) -> usize) -> usize {
        self.records.iter().map(of).sum()
    }

    fn threads(&self) -> usize {
        self.records.iter().map(|record| record.threads).max().unwrap_or_default()
    }

    fn seconds(&self) -> f64 {
        self.records.iter().map(|record| record.seconds).sum()
    }

    fn by(&self) -> String {
        let Record { checker, spurious, .. } = self.of();
        format!("{}{}", name(*checker), if *spurious { "+" } else { "" })
    }

    fn bound(&self) -> String {
        match self.of().bound {
            Bound::Exhaustive => "exhaustive".to_owned(),
            Bound::Preemptions(bound) => format!("<= {bound}"),
            Bound::Sampled => "sampled".to_owned(),
        }
    }

    fn executions(&self) -> String {
        let (executions, distinct) = (self.sum(|record| record.executions), self.sum(|record| record.distinct));
        if executions == distinct { executions.to_string() } else { format!("{executions} ({distinct})") }
    }
}

fn name(checker: Checker) -> &'static str {
    match checker {
        Checker::Loom => "loom",
        Checker::Shuttle => "shuttle",
    }
}

/// One line for each model, and the sums.
pub(super) fn print(rows: &[Row]) {
    let head = ["model", "by", "proves", "threads", "bound", "executions", "seconds", "kills"].map(str::to_owned);
    let cells = |row: &Row| {
        let kills = if row.kills.is_empty() { "-".to_owned() } else { row.kills.join(" ") };
        [
            row.model.full_name(),
            row.by(),
            row.model.proves.join(" "),
            row.threads().to_string(),
            row.bound(),
            row.executions(),
            format!("{:.2}", row.seconds()),
            kills,
        ]
    };
    let lines: Vec<_> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
    let widths: Vec<_> = (0..8).map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0)).collect();
    for line in lines {
        let padded: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", padded.join("  ").trim_end());
    }
    println!("\n{}", Sums::of(rows).sentence());
}

/// One object for each model, and one for all.
pub(super) fn print_json(rows: &[Row]) {
    for row in rows {
        let object = json!({
            "model": row.model.full_name(),
            "proves": row.model.proves,
            "variants": row.records,
            "kills": row.kills,
        });
        println!("{object}");
    }
    let Sums { models, exhaustive, bounded, sampled, executions, seconds, kills } = Sums::of(rows);
    println!(
        "{}",
        json!({
            "models": models, "exhaustive": exhaustive, "bounded": bounded, "sampled": sampled,
            "executions": executions, "seconds": seconds, "kills": kills,
        })
    );
}

struct Sums {
    models: usize,
    exhaustive: usize,
    bounded: usize,
    sampled: usize,
    executions: usize,
    seconds: f64,
    kills: usize,
}

impl Sums {
    fn of(rows: &[Row]) -> Self {
        let count = |is: fn(&Bound) -> bool| rows.iter().filter(|row| is(&row.of().bound)).count();
        let mut kills: Vec<_> = rows.iter().flat_map(|row| &row.kills).collect();
        kills.sort_unstable();
        kills.dedup();
        Self {
            models: rows.len(),
            exhaustive: count(|bound| *bound == Bound::Exhaustive),
            bounded: count(|bound| matches!(bound, Bound::Preemptions(_))),
            sampled: count(|bound| *bound == Bound::Sampled),
            executions: rows.iter().map(|row| row.sum(|record| record.executions)).sum(),
            seconds: rows.iter().map(Row::seconds).sum(),
            kills: kills.len(),
        }
    }

    fn sentence(&self) -> String {
        let Self { models, exhaustive, bounded, sampled, executions, seconds, kills } = self;
        format!(
            "{models} models: {exhaustive} exhaustive and {bounded} bounded under loom, {sampled} sampled by shuttle; \
             {executions} executions in {seconds:.0} s; {kills} planted bugs are caught by them"
        )
    }
}
