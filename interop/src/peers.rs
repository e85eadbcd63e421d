//! The peers: which there are, in which version, and which of them are here.

use std::{env, fs, io, path::Path};

use crate::{
    behaviours::Controls,
    cast::{By, EVERMUX, Program},
    peer::{Made, OWN},
};

/// The Go peer, without which the quick form has failed.
pub(crate) const GO: &str = "go-yamux";

/// The crate that evermux stands on.
const CRATE: &str = "yamux-0.14";

/// Libraries that stand for another than evermux and the peer, in the order in which they are tried.
const THIRDS: &[&str] = &[GO, "tokio-yamux"];

/// The peers that `interop/run` installs, in the order of the table, and whether the quick form has them.
const INSTALLED: &[(&str, bool)] =
    &[(GO, true), ("evermux-3083646", true), ("js-yamux-7", false), ("js-yamux-8", false), ("py-libp2p", false)];

/// A peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// The library, and its version as found when the run began.
    pub(crate) version: String,
    pub(crate) is_quick: bool,
    /// Or why it is not here.
    pub(crate) program: Result<Program, String>,
    /// Whether its own library in our place says something. An evermux of another time says nothing of whether the fault
    /// is evermux's, and neither does a script of ours.
    is_own_control: bool,
}

/// All peers.
///
/// `installed` is where `interop/run` has left a file for each: a line with the version, then the words of the command, one
/// a line; or `skipped` and the reason.
pub(crate) fn all(installed: &Path) -> io::Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for own in OWN {
        peers.push(Peer {
            name: own.name,
            version: version(&own.made),
            is_quick: true,
            program: Ok(own_program(own.name)?),
            is_own_control: matches!(own.made, Made::Of { .. }),
        });
    }
    for (name, is_quick) in INSTALLED {
        let told = fs::read_to_string(installed.join(name)).unwrap_or_default();
        let (version, program) = parse(name, &told);
        peers.push(Peer { name, version, is_quick: *is_quick, program, is_own_control: !name.starts_with(EVERMUX) });
    }
    Ok(peers)
}

/// What is looked at.
pub(crate) fn evermux() -> io::Result<Program> {
    own_program(EVERMUX)
}

impl Peer {
    /// Its own library, which plays in our place when a run has failed.
    pub(crate) fn own_control(&self) -> Option<Program> {
        self.program.as_ref().ok().filter(|_| self.is_own_control).cloned()
    }
}

/// Libraries that play in our place where the peer's own library has no fault, or cannot play: third ones, which have
/// nothing to do with evermux or the peer. The yamux crate is one only where nothing but limits is looked at: evermux stands
/// on it, and has its faults.
pub(crate) fn thirds(peers: &[Peer], peer: &Peer, controls: Controls, by: By) -> Vec<Program> {
    let libraries = if controls == Controls::None { &[] } else { THIRDS };
    let with_crate = controls == Controls::LibrariesAndCrate && by == By::It;
    let names = libraries.iter().copied().chain(with_crate.then_some(CRATE));
    let others = names.filter(|name| *name != peer.name);
    let thirds = others.filter_map(|name| peers.iter().find(|third| third.name == name));
    thirds.filter_map(|third| third.program.as_ref().ok().cloned()).collect()
}

fn own_program(name: &str) -> io::Result<Program> {
    Ok(Program { name: name.into(), command: vec![env::current_exe()?, "peer".into(), name.into()] })
}

fn parse(name: &str, told: &str) -> (String, Result<Program, String>) {
    let mut lines = told.lines();
    match lines.next() {
        None => ("-".into(), Err("interop/run has not installed it".into())),
        Some(first) => match first.strip_prefix("skipped ") {
            Some(why) => ("-".into(), Err(why.into())),
            None => (first.into(), Ok(Program { name: name.into(), command: lines.map(Into::into).collect() })),
        },
    }
}

/// The version of a crate is that which this program was built with.
fn version(made: &Made) -> String {
    let (package, release) = match made {
        Made::Like(library) => return (*library).to_owned(),
        Made::Of { package, release } => (package, release),
    };
    let lock = include_str!("../../Cargo.lock");
    let named = format!("\nname = \"{package}\"\n");
    let versions = lock
        .split("[[package]]")
        .filter(|entry| entry.contains(&named))
        .filter_map(|entry| entry.lines().find_map(|line| line.strip_prefix("version = ")))
        .map(|version| version.trim_matches('"'));
    let found = versions.into_iter().find(|version| version.starts_with(release));
    format!("{package} {}", found.unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_all_crates_are_known() {
        for own in OWN {
            let version = version(&own.made);
            assert_eq!(version.matches('.').count(), 2, "{version}");
        }
    }

    #[test]
    fn a_peer_that_is_not_here_says_why() {
        let (_, program) = parse("x", "skipped there is no Go");
        assert_eq!(program.unwrap_err(), "there is no Go");
        assert!(parse("x", "").1.is_err());
        let (version, program) = parse("x", "lib 1.2\nnode\npeer.mjs\n");
        assert_eq!((version.as_str(), program.unwrap().command.len()), ("lib 1.2", 2));
    }

    #[test]
    fn third_libraries_are_neither_the_peers_nor_missing() {
        let mut peers = all(Path::new("nowhere")).unwrap();
        let thirds = |peers: &[Peer], name: &str, controls, by| {
            let peer = peers.iter().find(|peer| peer.name == name).unwrap();
            super::thirds(peers, peer, controls, by).into_iter().map(|program| program.name).collect::<Vec<_>>()
        };
        assert_eq!(thirds(&peers, CRATE, Controls::LibrariesAndCrate, By::It), ["tokio-yamux"]);
        assert!(thirds(&peers, "tokio-yamux", Controls::Libraries, By::It).is_empty());
        for peer in &mut peers {
            peer.program = own_program(peer.name).map_err(|error| error.to_string());
        }
        assert_eq!(thirds(&peers, "tokio-yamux", Controls::Libraries, By::It), [GO]);
        assert_eq!(thirds(&peers, GO, Controls::LibrariesAndCrate, By::Us), ["tokio-yamux"]);
        assert_eq!(thirds(&peers, "js-yamux-8", Controls::LibrariesAndCrate, By::It), [GO, "tokio-yamux", CRATE]);
        assert!(thirds(&peers, "js-yamux-8", Controls::None, By::It).is_empty());
    }

    #[test]
    fn neither_an_evermux_of_another_time_nor_a_script_is_a_control_of_its_own() {
        let peers = all(Path::new("nowhere")).unwrap();
        for mut peer in peers {
            let name = peer.name;
            peer.program = own_program(name).map_err(|error| error.to_string());
            let control = peer.own_control().map(|program| program.name);
            let is_library = !["evermux-3083646", "hashicorp-0.1"].contains(&name);
            assert_eq!(control.as_deref(), is_library.then_some(name));
        }
    }
}
