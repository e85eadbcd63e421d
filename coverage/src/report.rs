//! What is printed: a table, lines that were not reached, and the verdict.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::gate::{Count, Counts, FileCount, Measured, gated_areas};

/// The columns of numbers are this wide.
const WIDTH: usize = 9;

/// Prints.
pub(crate) struct Report<'a> {
    pub(crate) json: bool,
    pub(crate) measured: &'a Measured,
}

impl Report<'_> {
    /// Prints each area, and each of its files.
    pub(crate) fn table(&self) {
        let files = &self.measured.files;
        if self.json {
            return files.iter().for_each(|file| say(&file_to_json(file).to_string()));
        }
        let width = files.iter().map(|file| file.name.len() + 2).max().unwrap_or_default();
        let row = |name: &str, cells: &[String]| {
            let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:>WIDTH$}")).collect();
            say(&format!("{name:<width$}{}", cells.concat()));
        };
        row("", &self.headings());
        for area in self.measured.areas() {
            row(area.first().map_or("", |file| file.area), &Self::cells(&area.iter().sum()));
            for file in area {
                row(&format!("  {}", file.name), &Self::cells(&file.counts));
            }
        }
        row("total", &Self::cells(&self.measured.total()));
    }

    /// Prints the lines that were not reached, of files that are wanted.
    pub(crate) fn missed(&self, is_wanted: impl Fn(&str) -> bool, texts: &BTreeMap<String, String>) {
        for file in self.measured.files.iter().filter(|file| is_wanted(&file.name)) {
            let lines: Vec<_> = texts.get(&file.name).map_or("", String::as_str).lines().collect();
            for number in &file.missed {
                let text = number.checked_sub(1).and_then(|index| lines.get(index)).unwrap_or(&"").trim_end();
                say(&if self.json {
                    json!({ "file": file.name, "line": number, "text": text.trim_start() }).to_string()
                } else {
                    format!("{}:{number}: {text}", file.name)
                });
            }
        }
    }

    /// Prints the verdict: `objections` says what is wrong.
    pub(crate) fn verdict(&self, floor: f64, objections: &[String], failed_tests: &[String]) {
        let (gated, total) = (self.measured.gated(), self.measured.total());
        let passed = objections.is_empty() && failed_tests.is_empty();
        if self.json {
            let summary = json!({
                "gated": to_json(&Counts { sweep: gated, together: None }),
                "total": to_json(&total),
                "floor": floor,
                "passed": passed,
                "objections": objections,
                "failed_tests": failed_tests,
            });
            return say(&json!({ "summary": summary }).to_string());
        }
        say(&format!(
            "\nThe sweep reaches {} % of {}: {} of {} lines. Of {} lines there {} are excepted ({} %).",
            told(gated.percent()),
            gated_areas(),
            gated.reached,
            gated.wanted(),
            gated.lines,
            gated.excepted,
            told(gated.percent_excepted()),
        ));
        if let Some(together) = total.together {
            say(&format!(
                "It and the tests reach {} % of src: {} of {} lines; of the {} that are excepted, {}.",
                told(together.percent_of_all()),
                together.reached_of_all(),
                together.lines,
                together.excepted,
                together.excepted_reached,
            ));
        }
        for test in failed_tests {
            say(&format!("FAILED: the test {test}"));
        }
        for objection in objections {
            say(&format!("FAILED: {objection}"));
        }
        if passed {
            say(&format!("Passed: the floor is {floor} %."));
        }
    }

    fn headings(&self) -> Vec<String> {
        let mut names = vec!["lines", "excepted", "reached", "%"];
        if self.measured.total().together.is_some() {
            names.extend(["all", "reached", "%"]);
        }
        names.into_iter().map(str::to_owned).collect()
    }

    fn cells(counts: &Counts) -> Vec<String> {
        let Count { lines, excepted, reached, .. } = counts.sweep;
        let mut cells = [lines, excepted, reached].map(|number| number.to_string()).to_vec();
        cells.push(told(counts.sweep.percent()));
        if let Some(together) = &counts.together {
            cells.extend([together.lines, together.reached_of_all()].map(|number| number.to_string()));
            cells.push(told(together.percent_of_all()));
        }
        cells
    }
}

fn file_to_json(file: &FileCount) -> Value {
    let mut value = to_json(&file.counts);
    value["file"] = json!(file.name);
    value["area"] = json!(file.area);
    value["missed"] = json!(file.missed);
    value
}

fn to_json(counts: &Counts) -> Value {
    let Count { lines, excepted, reached, .. } = counts.sweep;
    let percent = counts.sweep.percent();
    let mut value = json!({ "lines": lines, "excepted": excepted, "reached": reached, "percent": percent });
    if let Some(together) = &counts.together {
        value["together"] = json!({
            "lines": together.lines,
            "excepted": together.excepted,
            "excepted_reached": together.excepted_reached,
            "reached": together.reached_of_all(),
            "percent": together.percent_of_all(),
        });
    }
    value
}

/// With one decimal; `-` where there is nothing to reach.
fn told(percent: Option<f64>) -> String {
    percent.map_or("-".into(), |percent| format!("{percent:.1}"))
}

fn say(text: &str) {
    // Whoever reads may have seen enough.
    drop(writeln!(io::stdout(), "{text}"));
}
