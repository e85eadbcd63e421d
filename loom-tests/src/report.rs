//! The report of all models.

mod planted;
mod programs;
mod table;

use std::{
    io::{self, IsTerminal},
    path::Path,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use loom_tests::Record;

use self::programs::{Model, Ran};
use crate::Options;

/// One model, and what its run told of itself: a record for each variant.
struct Row {
    model: Model,
    records: Vec<Record>,
    kills: Vec<String>,
}

/// Runs the models, and prints the report. Returns whether all have passed.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.parent().ok_or("this program was built in no workspace")?;
    let models = programs::models(workspace, package)?;
    let bugs = planted::read_all(&workspace.join("bugs/planted"), &models)?;
    let chosen: Vec<_> = models
        .into_iter()
        .filter(|model| options.name.as_deref().is_none_or(|name| model.full_name().contains(name)))
        .collect();
    if chosen.is_empty() {
        return Err("no model has such a name".to_owned());
    }
    let progress = Progress::new(chosen.len());
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for model in chosen {
        progress.begins(&model.full_name());
        match model.run(options)? {
            Ran::Passed(records) if records.is_empty() => {
                return Err(format!("{} explores nothing", model.full_name()));
            }
            Ran::Passed(records) => {
                let kills = bugs.iter().filter(|bug| bug.is_caught_by(&model)).map(|bug| bug.name.clone()).collect();
                progress.ends(&model.full_name(), &records);
                rows.push(Row { model, records, kills });
            }
            Ran::Failed(output) => failures.push((model.full_name(), output)),
        }
    }
    progress.finish();
    if options.json {
        table::print_json(&rows);
    } else {
        table::print(&rows);
    }
    for (name, output) in &failures {
        eprintln!("{name} FAILED:\n{output}");
    }
    Ok(failures.is_empty())
}

/// A bar on a terminal, and a line for each model where there is none.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn new(models: usize) -> Self {
        Self(io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed}, {eta} left  {msg}");
            let target = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(Some(models as u64), target);
            bar.enable_steady_tick(Duration::from_secs(1));
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        }))
    }

    fn begins(&self, model: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(model.to_owned());
        }
    }

    fn ends(&self, model: &str, records: &[Record]) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        } else {
            let executions: usize = records.iter().map(|record| record.executions).sum();
            let seconds: f64 = records.iter().map(|record| record.seconds).sum();
            eprintln!("{model}: {executions} executions, {seconds:.1} s");
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
