//! Lines of `src`, and which of them ran: what llvm-cov writes in the format of lcov.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// For each file, the lines that have code, and whether one has run. A file is named by its path in the workspace.
pub(crate) type Lines = BTreeMap<String, BTreeMap<usize, bool>>;

/// The lines of a file, by their numbers.
pub(crate) type Numbers = BTreeSet<usize>;

/// Reads the lines of `src` from lcov. A line may be told several times, as generic code is, once for each type: it has
/// run if one of them has.
pub(crate) fn read(lcov: &str, workspace: &Path) -> Result<Lines, String> {
    let mut lines = Lines::new();
    let mut file = None;
    for record in lcov.lines() {
        if let Some(path) = record.strip_prefix("SF:") {
            file = name_of(Path::new(path), workspace);
        } else if record == "end_of_record" {
            file = None;
        } else if let (Some(file), Some(line)) = (&file, record.strip_prefix("DA:")) {
            let (number, ran) = line_of(line).ok_or_else(|| format!("llvm-cov has told of no line: {record}"))?;
            *lines.entry(file.clone()).or_default().entry(number).or_default() |= ran;
        }
    }
    if lines.is_empty() {
        return Err("llvm-cov has told of no line of src".into());
    }
    Ok(lines)
}

/// The name of a file of `src`; none for another.
fn name_of(path: &Path, workspace: &Path) -> Option<String> {
    let path = path.strip_prefix(workspace).ok()?;
    path.starts_with("src").then(|| path.to_string_lossy().replace('\\', "/"))
}

/// `number,times`, and a checksum where there is one.
fn line_of(record: &str) -> Option<(usize, bool)> {
    let mut parts = record.split(',');
    let (number, times) = (parts.next()?.parse().ok()?, parts.next()?.parse::<u64>().ok()?);
    Some((number, times > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_run_if_one_of_its_instances_has() {
        let lcov = "SF:/w/src/a.rs\nFN:1,f\nDA:1,0\nDA:2,3\nDA:3,0\nend_of_record\n\
            SF:/w/src/a.rs\nDA:1,1\nDA:2,0\nDA:3,0,sum\nend_of_record\n";
        let lines = read(lcov, Path::new("/w")).unwrap();
        assert_eq!(lines["src/a.rs"], BTreeMap::from([(1, true), (2, true), (3, false)]));
    }

    #[test]
    fn only_src_counts() {
        let lcov = "SF:/w/sim/src/a.rs\nDA:1,1\nend_of_record\nSF:/elsewhere/src/b.rs\nDA:1,1\nend_of_record\n\
            SF:/w/src/b/c.rs\nDA:7,18446744073709551615\nend_of_record\n";
        assert_eq!(read(lcov, Path::new("/w")).unwrap().keys().collect::<Vec<_>>(), ["src/b/c.rs"]);
        assert!(read("SF:/w/sim/src/a.rs\nDA:1,1\nend_of_record\n", Path::new("/w")).is_err());
    }

    #[test]
    fn a_line_that_is_none_is_an_error() {
        assert!(read("SF:/w/src/a.rs\nDA:1,1\nDA:x,1\n", Path::new("/w")).is_err());
    }
}
