//! The planted bugs that a model catches.

use std::{fs, path::Path};

use super::programs::Model;

/// A planted bug that names a model.
pub(super) struct Bug {
    pub(super) name: String,
    target: String,
    /// What the name of a model must contain.
    filter: String,
}

/// The bugs of this folder that a model catches.
pub(super) fn read_all(folder: &Path) -> Result<Vec<Bug>, String> {
    let told = |error| format!("{}: {error}", folder.display());
    let mut bugs = Vec::new();
    for entry in fs::read_dir(folder).map_err(told)? {
        let path = entry.map_err(told)?.path();
        let text = fs::read_to_string(&path).map_err(told)?;
        let Some(arguments) = text.lines().find_map(|line| line.strip_prefix("caught-by: test -p loom-tests --test "))
        else {
            continue;
        };
        let (target, filter) = arguments.split_once(' ').unwrap_or((arguments, ""));
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        bugs.push(Bug { name, target: target.to_owned(), filter: filter.to_owned() });
    }
    bugs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bugs)
}

/// Checks that each names a model that is there.
pub(super) fn check(bugs: &[Bug], models: &[Model]) -> Result<(), String> {
    match bugs.iter().find(|bug| !models.iter().any(|model| bug.is_caught_by(model))) {
        Some(Bug { name, target, filter }) => Err(format!("{name}: there is no model `{filter}` in {target}")),
        None => Ok(()),
    }
}

impl Bug {
    /// Whether it names this model, alone or among others.
    pub(super) fn is_caught_by(&self, model: &Model) -> bool {
        self.target == model.target && model.name.contains(&self.filter)
    }
}
