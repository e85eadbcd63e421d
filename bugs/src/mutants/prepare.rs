//! What comes before the first mutant: the builds, and what each checker comes by without one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::build;
use super::checkers::{Checker, Clean, Program, RANDOM, Sweep};
use super::mutant::{Kind, Mutant};
use super::switch::switch;
use crate::scratch::{Scratch, Unfit};

/// What was built and seen, for all later runs with the same code and mutants.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) switches: Switches,
    pub(crate) sweep: Swept,
    pub(crate) tests: Tests,
}

/// Which mutants are behind switches.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Switches {
    key: String,
    /// Those that have a build of their own, by their names.
    pub(crate) alone: BTreeSet<String>,
    /// Those that do not compile.
    pub(crate) unviable: BTreeSet<String>,
}

/// The random sweep.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Swept {
    key: String,
    pub(crate) sim: PathBuf,
    /// How many seeds were seen.
    seen: u64,
    /// By the number of the mutant, the seeds that come by it.
    pub(crate) seeds: BTreeMap<usize, BTreeSet<u64>>,
}

/// The programs of tests.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Tests {
    key: String,
    pub(crate) programs: Vec<(Program, Clean)>,
}

/// Does what was not done yet.
pub(crate) struct Preparing<'a> {
    pub(crate) scratch: &'a Scratch,
    pub(crate) workspace: &'a Path,
    pub(crate) mutants: &'a [Mutant],
    pub(crate) seeds: u64,
    pub(crate) jobs: Option<u64>,
}

impl Preparing<'_> {
    /// What is known, and nothing else.
    pub(crate) fn known(&self) -> Result<Prepared, String> {
        let key = self.key()?;
        let switches = self.read::<Switches>("switches.json").filter(|known| known.key == key);
        let switches = switches.ok_or("nothing is prepared for this code and these mutants: see `--prepare`")?;
        Ok(Prepared { switches, ..Prepared::default() })
    }

    /// For these checkers.
    pub(crate) fn prepare(&self, checkers: &[Checker]) -> Result<Prepared, String> {
        let key = self.key()?;
        let switches = match self.read::<Switches>("switches.json").filter(|known| known.key == key) {
            Some(known) => known,
            None => self.switch(&key)?,
        };
        let left = [&switches.alone, &switches.unviable];
        let is_left = |index: &usize| left.iter().any(|names| names.contains(&self.mutants[*index].name));
        let copy = switch(self.workspace, self.mutants, &(0..self.mutants.len()).filter(is_left).collect())?;
        self.scratch.refresh_with(&copy.files)?;
        let mut prepared = Prepared { switches, ..Prepared::default() };
        let is_sweep = |checker: &Checker| matches!(checker, Checker::Sweep | Checker::Scenario);
        if checkers.iter().any(is_sweep) {
            let known = self.read::<Swept>("sweep.json").filter(|known| known.key == key && known.sim.is_file());
            prepared.sweep = self.sweep(known, &key)?;
        }
        if !checkers.iter().all(is_sweep) {
            let known = self.read::<Tests>("tests.json").filter(|known| known.key == key);
            prepared.tests = self.tests(known, &key)?;
        }
        Ok(prepared)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str(&fs::read_to_string(self.scratch.beside(name)).ok()?).ok()
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), String> {
        let file = self.scratch.beside(name);
        let text = serde_json::to_string(value).map_err(|error| error.to_string())?;
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Of the code and of the mutants.
    fn key(&self) -> Result<String, String> {
        let mut hasher = XxHash3_64::new();
        let is_built = |file: &&PathBuf| {
            let is_code = file.extension().is_some_and(|extension| extension == "rs" || extension == "toml");
            is_code && !["bugs", "interop", "benches", "fuzz"].iter().any(|folder| file.starts_with(folder))
        };
        for file in self.scratch.files().iter().filter(is_built) {
            let bytes = fs::read(self.workspace.join(file)).map_err(|error| format!("{}: {error}", file.display()))?;
            hasher.write(&bytes);
        }
        for mutant in self.mutants {
            hasher.write(mutant.name.as_bytes());
            hasher.write(format!("{:?}", mutant.edits).as_bytes());
        }
        Ok(format!("{:016x}", hasher.finish()))
    }

    fn switch(&self, key: &str) -> Result<Switches, String> {
        let tell = |line: &str| eprintln!("{line}");
        let (whole, broken) = build::switch_all(self.scratch, self.workspace, self.mutants, BTreeSet::new(), tell)?;
        let mut switches = Switches { key: key.into(), ..Switches::default() };
        let mut viable = Viable::read(self.scratch, self.workspace)?;
        let mut wrong = Vec::new();
        for (done, index) in whole.left.iter().enumerate() {
            let mutant = &self.mutants[*index];
            let is_viable = match viable.is_known(mutant) {
                _ if mutant.kind == Kind::Drawn && broken.contains(index) => false,
                Some(is_viable) => is_viable,
                None => {
                    eprintln!("{} of {} that cannot be switched: {mutant}", done + 1, whole.left.len());
                    let is_viable = build::compiles(self.scratch, self.workspace, mutant)?;
                    viable.learn(mutant, is_viable)?;
                    is_viable
                }
            };
            match (is_viable, mutant.kind) {
                (true, _) => drop(switches.alone.insert(mutant.name.clone())),
                (false, Kind::Drawn) => drop(switches.unviable.insert(mutant.name.clone())),
                (false, Kind::Enemy | Kind::Planted) => wrong.push(mutant.name.as_str()),
            }
        }
        if !wrong.is_empty() {
            return Err(format!("these do not compile: {}", wrong.join(", ")));
        }
        self.write("switches.json", &switches)?;
        Ok(switches)
    }

    fn sweep(&self, known: Option<Swept>, key: &str) -> Result<Swept, String> {
        let mut swept = match known {
            Some(known) => known,
            None => {
                eprintln!("building the simulation");
                let told = |unfit: Unfit| match unfit {
                    Unfit::DoesNotApply(what) | Unfit::DoesNotCompile(what) => {
                        format!("the copy does not build: {what}")
                    }
                };
                let built = self.scratch.build_sim()?.map_err(told)?;
                // Those with a build of their own are built where this one was.
                let sim = self.scratch.beside(&format!("sim-switched{}", std::env::consts::EXE_SUFFIX));
                fs::copy(&built, &sim).map_err(|error| format!("{}: {error}", sim.display()))?;
                Swept { key: key.into(), sim, ..Swept::default() }
            }
        };
        if swept.seen < self.seeds {
            let arguments = RANDOM.map(str::to_owned).to_vec();
            let sweep = Sweep { sim: swept.sim.clone(), arguments, jobs: self.jobs };
            let (seconds, reached) =
                sweep.clean(swept.seen..self.seeds, &self.scratch.beside("reached-by-the-sweep"))?;
            for (mutant, seeds) in reached {
                swept.seeds.entry(mutant).or_default().extend(seeds);
            }
            swept.seen = self.seeds;
            eprintln!("sweep to seed {}: {seconds:.1} s, comes by {}", self.seeds, swept.seeds.len());
            self.write("sweep.json", &swept)?;
        }
        Ok(swept)
    }

    fn tests(&self, known: Option<Tests>, key: &str) -> Result<Tests, String> {
        let mut tests = match known {
            Some(known) => known,
            None => {
                eprintln!("building the tests");
                let programs = build::programs(self.scratch, &Checker::ALL)?;
                let programs = programs.into_iter().map(|program| (program, Clean::default())).collect();
                Tests { key: key.into(), programs }
            }
        };
        let notes = self.scratch.beside("reached-by-tests");
        for index in 0..tests.programs.len() {
            let (program, clean) = &mut tests.programs[index];
            if clean.seconds > 0.0 {
                continue;
            }
            // On a busy machine a test with a real clock may fail once.
            *clean = program.clean(&notes).or_else(|_| program.clean(&notes))?;
            let name = program.path.file_name().unwrap_or_default().to_string_lossy();
            eprintln!("{}, {name}: {:.1} s, comes by {}", program.checker.name(), clean.seconds, clean.reached.len());
            self.write("tests.json", &tests)?;
        }
        Ok(tests)
    }
}

/// Which mutants compile when they are alone, from run to run.
struct Viable {
    file: PathBuf,
    code: u64,
    known: BTreeMap<String, bool>,
}

impl Viable {
    fn read(scratch: &Scratch, workspace: &Path) -> Result<Self, String> {
        let mut hasher = XxHash3_64::new();
        for file in scratch.files().iter().filter(|file| file.starts_with("src")) {
            hasher.write(&fs::read(workspace.join(file)).map_err(|error| format!("{}: {error}", file.display()))?);
        }
        let file = scratch.beside("viable.json");
        let known = fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str(&text).ok());
        Ok(Self { file, code: hasher.finish(), known: known.unwrap_or_default() })
    }

    fn key(&self, mutant: &Mutant) -> String {
        let mut hasher = XxHash3_64::with_seed(self.code);
        mutant.edits.iter().for_each(|edit| hasher.write(format!("{edit:?}").as_bytes()));
        format!("{:016x}", hasher.finish())
    }

    fn is_known(&self, mutant: &Mutant) -> Option<bool> {
        self.known.get(&self.key(mutant)).copied()
    }

    fn learn(&mut self, mutant: &Mutant, is_viable: bool) -> Result<(), String> {
        self.known.insert(self.key(mutant), is_viable);
        let text = serde_json::to_string(&self.known).map_err(|error| error.to_string())?;
        fs::write(&self.file, text).map_err(|error| format!("{}: {error}", self.file.display()))
    }
}
