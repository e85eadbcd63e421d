//! What the user sees: progress, the table, JSON, and the part of the README that a full run writes.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, IsTerminal, Write as _},
    path::Path,
    sync::Mutex,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    behaviours::Behaviour,
    cast::By,
    peers::Peer,
    verdict::{Judgement, Verdict},
};

/// The marks in the README between which a full run writes.
const BEGIN: &str = "<!-- table: begin -->";
const END: &str = "<!-- table: end -->";

/// One behaviour of one peer.
pub(crate) struct Row {
    pub(crate) peer: &'static str,
    pub(crate) behaviour: &'static Behaviour,
    pub(crate) cells: Vec<Cell>,
}

/// One run: who dials, who acts, and what is said of it.
pub(crate) struct Cell {
    pub(crate) peer_dials: bool,
    pub(crate) by: By,
    pub(crate) judgement: Judgement,
    pub(crate) took: Duration,
}

impl Cell {
    /// `dial, open`: what we do.
    fn place(&self) -> &'static str {
        match (self.peer_dials, self.by) {
            (false, By::Us) => "we dial, we act",
            (false, By::It) => "we dial, it acts",
            (true, By::Us) => "it dials, we act",
            (true, By::It) => "it dials, it acts",
        }
    }
}

impl Row {
    pub(crate) fn verdict(&self) -> Verdict {
        self.cells.iter().map(|cell| cell.judgement.verdict).max().unwrap_or(Verdict::Ok)
    }

    /// What was told, each text once, with the runs that it is of.
    fn told(&self) -> Vec<(Verdict, Vec<&'static str>, &str)> {
        let mut told = Vec::<(Verdict, Vec<_>, &str)>::new();
        for cell in &self.cells {
            let Judgement { verdict, told: text } = &cell.judgement;
            match told.iter_mut().find(|(known, _, known_text)| known == verdict && *known_text == text) {
                Some((_, places, _)) => places.push(cell.place()),
                None => told.push((*verdict, vec![cell.place()], text)),
            }
        }
        told
    }

    /// `ok`, or how many runs have which verdict.
    fn short(&self) -> String {
        let mut counts = BTreeMap::<Verdict, usize>::new();
        for cell in &self.cells {
            *counts.entry(cell.judgement.verdict).or_default() += 1;
        }
        match counts.len() {
            1 => self.verdict().word().into(),
            _ => counts
                .iter()
                .rev()
                .map(|(verdict, count)| format!("{count} {}", verdict.word()))
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    fn to_json(&self) -> Value {
        let cells = self.cells.iter().map(|cell| {
            json!({
                "dials": if cell.peer_dials { "peer" } else { "evermux" },
                "acts": if cell.by == By::Us { "evermux" } else { "peer" },
                "verdict": cell.judgement.verdict,
                "told": cell.judgement.told,
                "seconds": cell.took.as_secs_f64(),
            })
        });
        json!({
            "peer": self.peer,
            "behaviour": self.behaviour.name,
            "verdict": self.verdict(),
            "runs": cells.collect::<Vec<_>>(),
        })
    }
}

/// Says what happens.
pub(crate) struct Report {
    json: bool,
    /// On a terminal.
    bar: Option<ProgressBar>,
    done: Mutex<usize>,
    all: usize,
}

impl Report {
    pub(crate) fn new(rows: usize, json: bool) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(rows as u64), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { json, bar, done: Mutex::new(0), all: rows }
    }

    /// Who is there.
    pub(crate) fn heading(&self, peers: &[&Peer]) {
        for peer in peers {
            match (&peer.program, self.json) {
                (program, true) => self.say(
                    &json!({ "peer": peer.name, "version": peer.version, "skipped": program.as_ref().err() })
                        .to_string(),
                ),
                (Ok(_), false) => self.say(&format!("{:<18} {}", peer.name, peer.version)),
                (Err(why), false) => self.say(&format!("{:<18} skipped: {why}", peer.name)),
            }
        }
        if !self.json {
            self.say(&format!(
                "\n{:<18} {:<30} {:<8} {:<8} {:<8} {:<8}\n{:<18} {:<30} {:<17} {:<17}",
                "", "", "we dial", "", "it dials", "", "peer", "behaviour", "we act   it acts", "we act   it acts"
            ));
        }
    }

    /// A row that is done. Rows come in any order; they are printed in theirs.
    pub(crate) fn progress(&self, peer: &str, behaviour: &Behaviour, verdict: Verdict) {
        let mut done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *done += 1;
        match &self.bar {
            Some(bar) => {
                bar.set_position(*done as u64);
                bar.set_message(format!("{peer} {}", behaviour.name));
            }
            None => eprintln!("{:>4}/{} {peer} {}: {}", *done, self.all, behaviour.name, verdict.word()),
        }
    }

    pub(crate) fn row(&self, row: &Row) {
        if self.json {
            self.say(&row.to_json().to_string());
            return;
        }
        let word = |peer_dials, by| {
            let cell = row.cells.iter().find(|cell| cell.peer_dials == peer_dials && cell.by == by);
            cell.map_or("-", |cell| cell.judgement.verdict.word())
        };
        let mut line = format!(
            "{:<18} {:<30} {:<8} {:<8} {:<8} {:<8}",
            row.peer,
            row.behaviour.name,
            word(false, By::Us),
            word(false, By::It),
            word(true, By::Us),
            word(true, By::It)
        );
        for (verdict, places, text) in row.told() {
            if verdict != Verdict::Ok && verdict != Verdict::Skipped {
                let _ = write!(line, "\n    {} ({}): {text}", verdict.word(), places.join("; "));
            }
        }
        self.say(line.trim_end());
    }

    pub(crate) fn summary(&self, rows: &[Row], took: Duration) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let counts = Verdict::ALL.map(|verdict| {
            let cells = rows.iter().flat_map(|row| &row.cells);
            (verdict.word(), cells.filter(|cell| cell.judgement.verdict == verdict).count())
        });
        if self.json {
            let counts = counts.into_iter().collect::<BTreeMap<_, _>>();
            self.say(&json!({ "summary": { "runs": counts, "seconds": took.as_secs_f64() } }).to_string());
        } else {
            let counts = counts.map(|(word, count)| format!("{count} {word}"));
            self.say(&format!("\n{} rows; runs: {}; {} s", rows.len(), counts.join(", "), took.as_secs()));
        }
    }

    fn say(&self, text: &str) {
        // Whoever reads may have seen enough.
        let print = || drop(writeln!(io::stdout(), "{text}"));
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

/// Lists the behaviours.
pub(crate) fn list(behaviours: &[&Behaviour], peers: &[&Peer]) {
    for behaviour in behaviours {
        println!("{:<30} {}", behaviour.name, behaviour.about);
    }
    for peer in peers {
        println!("{:<30} {}", peer.name, peer.version);
    }
}

/// Writes the table into the README.
pub(crate) fn write_readme(path: &Path, peers: &[&Peer], behaviours: &[&Behaviour], rows: &[Row]) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let text = replace(&text, &table(peers, behaviours, rows))
        .ok_or_else(|| io::Error::other(format!("`{BEGIN}` and `{END}` are not in {}", path.display())))?;
    fs::write(path, text)
}

/// Puts `table` between the two marks.
fn replace(text: &str, table: &str) -> Option<String> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text[begin..].find(END)?;
    Some(format!("{}\n\n{table}\n{}", &text[..begin], &text[end..]))
}

/// The table of the README: versions, one line for each behaviour, and what is to be told of single rows.
fn table(peers: &[&Peer], behaviours: &[&Behaviour], rows: &[Row]) -> String {
    let mut text = String::from("| peer | library |\n| --- | --- |\n");
    for peer in peers {
        let library =
            peer.program.as_ref().map_or_else(|why| format!("skipped: {}", cell(why)), |_| peer.version.clone());
        let _ = writeln!(text, "| {} | {library} |", peer.name);
    }
    let names = peers.iter().map(|peer| peer.name).collect::<Vec<_>>();
    let _ = writeln!(text, "\n| | {} |\n|{}", names.join(" | "), " --- |".repeat(names.len() + 1));
    let found =
        |peer: &str, behaviour: &str| rows.iter().find(|row| row.peer == peer && row.behaviour.name == behaviour);
    for behaviour in behaviours {
        let cells = names.iter().map(|peer| found(peer, behaviour.name).map_or("-".into(), Row::short));
        let _ = writeln!(text, "| {} | {} |", behaviour.name, cells.collect::<Vec<_>>().join(" | "));
    }
    text.push_str("\n| behaviour | |\n| --- | --- |\n");
    for behaviour in behaviours {
        let _ = writeln!(text, "| {} | {} |", behaviour.name, cell(behaviour.about));
    }
    for (heading, wanted) in
        [("Wrong", Verdict::Wrong), ("The peer's own", Verdict::Peer), ("Not there", Verdict::NotAvailable)]
    {
        section(&mut text, heading, rows, |_, verdict| verdict == wanted);
    }
    section(&mut text, "Facts", rows, |row, verdict| verdict == Verdict::Ok && row.behaviour.tells);
    text
}

fn section(text: &mut String, heading: &str, rows: &[Row], wanted: impl Fn(&Row, Verdict) -> bool) {
    // One line for each behaviour and text, with the peers that it is of.
    let mut lines = Vec::<(&str, String, Vec<&str>)>::new();
    for row in rows {
        for (verdict, places, told) in row.told() {
            if !wanted(row, verdict) || told.is_empty() {
                continue;
            }
            let places = if places.len() == row.cells.len() { "all runs".into() } else { places.join("; ") };
            let told = format!("{places}: {}", cell(told));
            match lines.iter_mut().find(|(name, known, _)| *name == row.behaviour.name && *known == told) {
                Some((_, _, peers)) => peers.push(row.peer),
                None => lines.push((row.behaviour.name, told, vec![row.peer])),
            }
        }
    }
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n### {heading}\n");
    for (behaviour, told, peers) in lines {
        let _ = writeln!(text, "- `{behaviour}`, {} ({told})", peers.join(", "));
    }
}

/// Text for Markdown.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behaviours;

    fn row(verdicts: &[(bool, By, Verdict, &str)]) -> Row {
        let cells = verdicts
            .iter()
            .map(|(peer_dials, by, verdict, told)| Cell {
                peer_dials: *peer_dials,
                by: *by,
                judgement: Judgement { verdict: *verdict, told: (*told).into() },
                took: Duration::ZERO,
            })
            .collect();
        Row { peer: "yamux-0.14", behaviour: &behaviours::ALL[0], cells }
    }

    #[test]
    fn the_worst_run_is_the_verdict_of_a_row() {
        let row = row(&[
            (false, By::Us, Verdict::Ok, ""),
            (false, By::It, Verdict::Peer, "it: lost"),
            (true, By::Us, Verdict::Wrong, "we: lost"),
        ]);
        assert_eq!(row.verdict(), Verdict::Wrong);
        assert_eq!(row.short(), "1 wrong, 1 peer, 1 ok");
    }

    #[test]
    fn what_is_told_twice_is_written_once() {
        let row = row(&[(false, By::Us, Verdict::Peer, "lost"), (true, By::Us, Verdict::Peer, "lost")]);
        assert_eq!(row.told().len(), 1);
        assert_eq!(row.short(), "peer");
        let mut text = String::new();
        section(&mut text, "The peer's own", &[row], |_, verdict| verdict == Verdict::Peer);
        assert_eq!(text, "\n### The peer's own\n\n- `echo-1`, yamux-0.14 (all runs: lost)\n");
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replace(&text, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replace(&new, "new\n").unwrap(), new);
        assert_eq!(replace("no marks", "new"), None);
    }
}
