//! What a sweep need not reach: `coverage/exceptions.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserialize;

use crate::items::Source;
use crate::lines::Numbers;

/// The list, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    exception: Vec<Exception>,
}

/// One entry.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exception {
    /// The path in the workspace.
    pub(crate) file: String,
    /// The item, as it is written; without one, the whole file.
    pub(crate) item: Option<String>,
    /// The item that it stands in, where several have its name.
    pub(crate) within: Option<String>,
    /// Why a sweep need not reach it, and what does.
    pub(crate) reason: String,
}

/// An entry, and the lines that it is about.
#[derive(Debug)]
pub(crate) struct Excepted {
    pub(crate) exception: Exception,
    lines: RangeInclusive<usize>,
}

impl Excepted {
    /// Whether it is about this line of its file.
    pub(crate) fn contains(&self, number: usize) -> bool {
        self.lines.contains(&number)
    }

    /// Those of these lines of its file that it is about.
    pub(crate) fn among<'a>(&'a self, numbers: impl Iterator<Item = &'a usize>) -> Numbers {
        numbers.copied().filter(|number| self.contains(*number)).collect()
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(item) = &self.item {
            write!(f, ", `{item}`")?;
        }
        if let Some(within) = &self.within {
            write!(f, " in `{within}`")?;
        }
        Ok(())
    }
}

/// Reads the list.
pub(crate) fn read(text: &str) -> Result<Vec<Exception>, String> {
    let List { exception: list } = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    for (index, exception) in list.iter().enumerate() {
        let wrong = |what: &str| Err(format!("{exception}: {what}"));
        if exception.reason.trim().is_empty() {
            return wrong("it has no reason");
        }
        if exception.within.is_some() && exception.item.is_none() {
            return wrong("`within` is for an item");
        }
        let is_same = |other: &Exception| {
            (&other.file, &other.item, &other.within) == (&exception.file, &exception.item, &exception.within)
        };
        if list.iter().take(index).any(is_same) {
            return wrong("it is there twice");
        }
    }
    Ok(list)
}

/// Finds what each is about, in these files.
pub(crate) fn resolve(list: Vec<Exception>, sources: &BTreeMap<String, Source>) -> Result<Vec<Excepted>, String> {
    let find = |exception: Exception| {
        let Some(source) = sources.get(&exception.file) else {
            return Err(format!("{exception}: src has no such file"));
        };
        let Some(item) = &exception.item else {
            return Ok(Excepted { exception, lines: 1..=usize::MAX });
        };
        let found = source.find(item, exception.within.as_deref());
        match &found[..] {
            [lines] => Ok(Excepted { lines: lines.clone(), exception }),
            [] => Err(format!("{exception}: the file has no such item")),
            [..] => {
                let places: Vec<_> =
                    found.iter().map(|lines| format!("{} to {}", lines.start(), lines.end())).collect();
                let places = places.join(", ");
                Err(format!(
                    "{exception}: several items are called that, lines {places}: write more of it, or `within`"
                ))
            }
        }
    };
    list.into_iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> BTreeMap<String, Source> {
        let text = "impl A {\n    fn drop() {\n    }\n}\nimpl B {\n    fn drop() {}\n    fn open() {}\n}\n";
        BTreeMap::from([("src/a.rs".into(), Source::read(text).unwrap())])
    }

    /// The lines that an entry is about, or what is wrong.
    fn lines(entry: &str) -> Result<RangeInclusive<usize>, String> {
        let list = read(&format!("[[exception]]\nfile = 'src/a.rs'\n{entry}\nreason = 'a reason'"))?;
        Ok(resolve(list, &sources())?.remove(0).lines)
    }

    #[test]
    fn an_entry_is_about_an_item_or_a_file() {
        assert_eq!(lines("item = 'fn open'"), Ok(7..=7));
        assert_eq!(lines("item = 'impl A'"), Ok(1..=4));
        assert_eq!(lines("item = 'fn drop'\nwithin = 'impl A'"), Ok(2..=3));
        assert_eq!(lines(""), Ok(1..=usize::MAX));
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn an_entry_that_is_about_nothing_or_several_is_an_error() {
        let wrong = |entry: &str| lines(entry).unwrap_err();
        assert!(wrong("item = 'fn gone'").contains("no such item"));
        assert!(wrong("item = 'fn open'\nwithin = 'impl A'").contains("no such item"));
        assert!(wrong("item = 'fn drop'").contains("lines 2 to 3, 6 to 6"));
        let elsewhere = read("[[exception]]\nfile = 'src/gone.rs'\nreason = 'a reason'").unwrap();
        assert!(resolve(elsewhere, &sources()).unwrap_err().contains("no such file"));
    }

    #[test]
    fn an_entry_has_a_reason_and_nothing_unknown() {
        let wrong = |entry: &str| read(&format!("[[exception]]\nfile = 'src/a.rs'\n{entry}")).unwrap_err();
        assert!(wrong("").contains("reason"));
        assert!(wrong("reason = '  '").contains("no reason"));
        assert!(wrong("reason = 'a reason'\nitems = 'fn open'").contains("items"));
        assert!(wrong("reason = 'a reason'\nwithin = 'impl A'").contains("for an item"));
        let entry = "reason = 'a reason'\n[[exception]]\nfile = 'src/a.rs'\nreason = 'another'";
        assert!(wrong(entry).contains("twice"));
    }
}
