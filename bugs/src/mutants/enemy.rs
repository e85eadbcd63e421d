//! Mutants chosen by hand: `bugs/mutants/enemy/*.toml`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::mutant::{Edit, Kind, Mutant};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    mutant: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    file: PathBuf,
    /// Occurs once in the file; what is replaced is the first after it.
    after: Option<String>,
    find: String,
    replace: String,
    /// What a user would see.
    about: String,
}

/// Reads every file of a directory, in the order of their names.
pub(crate) fn read_all(directory: &Path, workspace: &Path) -> Result<Vec<Mutant>, String> {
    let unread = |path: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| unread(directory, &error))? {
        files.push(entry.map_err(|error| unread(directory, &error))?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut mutants = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(|error| unread(&file, &error))?;
        let read = |path: &Path| fs::read_to_string(workspace.join(path)).map_err(|error| unread(path, &error));
        mutants.append(&mut parse(&text, read).map_err(|error| unread(&file, &error))?);
    }
    Ok(mutants)
}

fn parse(text: &str, mut read: impl FnMut(&Path) -> Result<String, String>) -> Result<Vec<Mutant>, String> {
    let entries: Entries = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut mutants = Vec::new();
    for entry in entries.mutant {
        let source = read(&entry.file).map_err(|error| format!("{}: {error}", entry.name))?;
        let start = find(&source, entry.after.as_deref(), &entry.find)
            .map_err(|why| format!("{}: in {}, {why}", entry.name, entry.file.display()))?;
        let range = start..start + entry.find.len();
        let edits = vec![Edit { file: entry.file, range, text: entry.replace }];
        mutants.push(Mutant { name: entry.name, kind: Kind::Enemy, about: entry.about, edits, scenario: None });
    }
    Ok(mutants)
}

fn find(source: &str, after: Option<&str>, find: &str) -> Result<usize, String> {
    if find.is_empty() {
        return Err("nothing is to be found".into());
    }
    let from = match after {
        None => 0,
        Some(after) => match source.matches(after).count() {
            1 => source.find(after).unwrap_or_default() + after.len(),
            count => return Err(format!("`{after}` occurs {count} times; `after` must occur once")),
        },
    };
    let rest = &source[from..];
    let Some(at) = rest.find(find) else { return Err(format!("`{find}` does not occur")) };
    match rest.matches(find).count() {
        count if after.is_none() && count > 1 => {
            Err(format!("`{find}` occurs {count} times; say `after` what it comes"))
        }
        _ => Ok(from + at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "fn f() { a(); b(); }\nfn g() { a(); }\n";

    fn read(fields: &str) -> Result<Vec<Mutant>, String> {
        let text = format!("[[mutant]]\nname = \"n\"\nfile = \"src/a.rs\"\nabout = \"\"\nreplace = \"\"\n{fields}");
        parse(&text, |_| Ok(SOURCE.into()))
    }

    #[test]
    fn what_is_replaced_must_be_plain() {
        assert_eq!(read("find = 'b();'").unwrap()[0].edits[0].range, 14..18);
        assert!(read("find = 'a();'").unwrap_err().contains("occurs 2 times"));
        assert!(read("find = 'c();'").unwrap_err().contains("does not occur"));
        assert!(read("find = ''").unwrap_err().contains("nothing"));
    }

    #[test]
    fn an_anchor_names_one_of_several() {
        assert_eq!(read("after = 'fn g'\nfind = 'a();'").unwrap()[0].edits[0].range, 30..34);
        assert!(read("after = 'fn'\nfind = 'a();'").unwrap_err().contains("must occur once"));
    }

    #[test]
    fn a_key_that_is_unknown_is_refused() {
        assert!(read("find = 'b();'\nwhat = 1").is_err());
    }
}
