//! What was found so far: lines of JSON that a later run reads.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::hash::Hasher;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::checkers::{Checker, Outcome};
use super::mutant::Mutant;
use crate::scratch::Scratch;

/// One cell of the matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) mutant: String,
    /// Of the mutant's text, and of what the checker is made of.
    pub(crate) key: String,
    pub(crate) checker: Checker,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    pub(crate) seconds: f64,
}

/// The cells of the matrix that are known.
pub(crate) struct Store {
    file: File,
    cells: BTreeMap<(String, Checker), Cell>,
    trees: BTreeMap<Checker, u64>,
    seeds: u64,
}

impl Store {
    /// Reads every file of a folder, and opens one for what will be found. What the sweep found with a seed past these
    /// does not count.
    pub(crate) fn open(
        folder: &Path,
        name: &str,
        scratch: &Scratch,
        workspace: &Path,
        seeds: u64,
    ) -> Result<Self, String> {
        let told = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        fs::create_dir_all(folder).map_err(|error| told(folder, error))?;
        let mut cells = BTreeMap::new();
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| told(folder, error))? {
            files.push(entry.map_err(|error| told(folder, error))?.path());
        }
        files.sort();
        for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")) {
            let text = fs::read_to_string(path).map_err(|error| told(path, error))?;
            // The last line of a run that was stopped may be half a line.
            for cell in text.lines().filter_map(|line| serde_json::from_str::<Cell>(line).ok()) {
                cells.insert((cell.key.clone(), cell.checker), cell);
            }
        }
        let path = folder.join(name);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(|error| told(&path, error))?;
        let tree = |checker: Checker| Ok((checker, hash_of(scratch, workspace, checker.folders())?));
        let trees = Checker::ALL.into_iter().chain([Checker::Scenario]).map(tree).collect::<Result<_, String>>()?;
        Ok(Self { file, cells, trees, seeds })
    }

    pub(crate) fn find(&self, mutant: &Mutant, checker: Checker) -> Option<&Cell> {
        let cell = self.cells.get(&(self.key(mutant, checker), checker))?;
        let is_past = matches!(cell.outcome, Outcome::Killed { seed: Some(seed), .. } if seed >= self.seeds);
        (!is_past).then_some(cell)
    }

    /// Keeps what was found.
    pub(crate) fn add(
        &mut self,
        mutant: &Mutant,
        checker: Checker,
        outcome: Outcome,
        seconds: f64,
    ) -> Result<(), String> {
        let key = self.key(mutant, checker);
        let cell = Cell { mutant: mutant.name.clone(), key: key.clone(), checker, outcome, seconds };
        let line = serde_json::to_string(&cell).map_err(|error| error.to_string())?;
        // In one piece: a run that is stopped leaves whole lines.
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|error| format!("the results: {error}"))?;
        self.cells.insert((key, checker), cell);
        Ok(())
    }

    fn key(&self, mutant: &Mutant, checker: Checker) -> String {
        let mut hasher = XxHash3_64::new();
        hasher.write_u64(self.trees[&checker]);
        for edit in &mutant.edits {
            hasher.write(edit.file.as_os_str().as_encoded_bytes());
            hasher.write(format!("\0{:?}\0{}\0", edit.range, edit.text).as_bytes());
        }
        format!("{:016x}", hasher.finish())
    }
}

/// A hash of `src` and of these folders.
fn hash_of(scratch: &Scratch, workspace: &Path, folders: &[&str]) -> Result<u64, String> {
    let mut hasher = XxHash3_64::new();
    for file in scratch.files() {
        let is_code = file.extension().is_some_and(|extension| extension == "rs" || extension == "toml");
        if is_code && (file.starts_with("src") || folders.iter().any(|folder| file.starts_with(folder))) {
            let bytes = fs::read(workspace.join(file)).map_err(|error| format!("{}: {error}", file.display()))?;
            hasher.write(file.as_os_str().as_encoded_bytes());
            hasher.write_usize(bytes.len());
            hasher.write(&bytes);
        }
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_read_as_it_was_written() {
        for outcome in [
            Outcome::Killed { by: "G5: late".into(), seed: Some(3) },
            Outcome::Survived { seeds: Some(60) },
            Outcome::NotReached,
        ] {
            let cell = Cell { mutant: "m".into(), key: "k".into(), checker: Checker::Sweep, outcome, seconds: 0.5 };
            let line = serde_json::to_string(&cell).unwrap();
            assert_eq!(serde_json::from_str::<Cell>(&line).unwrap(), cell);
        }
    }
}
