//! The mutants of which something is known: those that are excluded, and those that survive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::mutant::Mutant;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    mutant: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    reason: String,
}

/// Names with their reasons.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    excluded: BTreeMap<String, String>,
    survivors: BTreeMap<String, String>,
}

impl Lists {
    pub(crate) fn read(folder: &Path) -> Result<Self, String> {
        let list = |name: &str| {
            let path = folder.join(name);
            let told = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
            let text = fs::read_to_string(&path).map_err(|error| told(&error))?;
            parse(&text).map_err(|why| told(&why))
        };
        Ok(Self { excluded: list("excluded.toml")?, survivors: list("survivors.toml")? })
    }

    pub(crate) fn excludes(&self, name: &str) -> bool {
        self.excluded.contains_key(name)
    }

    /// Why a mutant is known to survive.
    pub(crate) fn survives(&self, name: &str) -> Option<&str> {
        self.survivors.get(name).map(String::as_str)
    }

    /// Fails if an entry is about no mutant.
    pub(crate) fn fit(&self, mutants: &[Mutant]) -> Result<(), String> {
        let names: BTreeSet<_> = mutants.iter().map(|mutant| &mutant.name).collect();
        let entries = [("excluded.toml", &self.excluded), ("survivors.toml", &self.survivors)];
        for (file, entries) in entries {
            if let Some(name) = entries.keys().find(|name| !names.contains(name)) {
                return Err(format!("bugs/mutants/{file}: there is no mutant `{name}` any more"));
            }
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut entries = BTreeMap::new();
    for Entry { name, reason } in file.mutant {
        if reason.trim().is_empty() {
            return Err(format!("`{name}` has no reason"));
        }
        if entries.insert(name.clone(), reason).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::mutant::Kind;

    #[test]
    fn an_entry_needs_a_reason_and_a_mutant() {
        assert!(parse("[[mutant]]\nname = 'a'\nreason = ' '").unwrap_err().contains("no reason"));
        let excluded = parse("[[mutant]]\nname = 'a'\nreason = 'b'").unwrap();
        let lists = Lists { excluded, survivors: BTreeMap::new() };
        let mutant = |name: &str| Mutant {
            name: name.into(),
            kind: Kind::Drawn,
            about: String::new(),
            edits: Vec::new(),
            scenario: None,
        };
        assert!(lists.fit(&[mutant("a"), mutant("b")]).is_ok());
        assert!(lists.fit(&[mutant("b")]).unwrap_err().contains("no mutant `a` any more"));
        assert!(lists.excludes("a") && !lists.excludes("b"));
    }
}
