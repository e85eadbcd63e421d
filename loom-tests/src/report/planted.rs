//! The planted bugs that a model catches.

use std::{fs, path::Path};

use super::programs::Model;

/// A planted bug that names a model.
pub(super) struct Bug {
    pub(super) name: String,
    target: String,
    /// What the name of a model must contain; or, if it is the name of one, be.
    filter: String,
    is_name: bool,
}

/// The bugs of this folder that one of these models catches.
///
/// # Errors
///
/// If a bug names a model that is not there.
pub(super) fn read_all(folder: &Path, models: &[Model]) -> Result<Vec<Bug>, String> {
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
        let is_name = models.iter().any(|model| model.target == target && model.name == filter);
        let bug = Bug { name, target: target.to_owned(), filter: filter.to_owned(), is_name };
        if !models.iter().any(|model| bug.is_caught_by(model)) {
            return Err(format!("{}: there is no model `{filter}` in {target}", bug.name));
        }
        bugs.push(bug);
    }
    bugs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bugs)
}

impl Bug {
    /// Whether it names this model, alone or among others.
    pub(super) fn is_caught_by(&self, model: &Model) -> bool {
        let is_named = if self.is_name { model.name == self.filter } else { model.name.contains(&self.filter) };
        self.target == model.target && is_named
    }
}
