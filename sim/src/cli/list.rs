//! `sim list`.

use std::process::ExitCode;

use sim::checks::coverage::sometimes;
use sim::scenarios::{self, Group};
use sim::{faults, work};

pub(crate) fn list() -> ExitCode {
    for (group, heading) in [
        (Group::Swept, "Scenarios in every sweep:"),
        (Group::Alone, "\nScenarios by their name alone:"),
        (Group::Scripted, "\nScripted scenarios, all of them with --scenario scripted:"),
    ] {
        say!("{heading}");
        for scenario in scenarios::all().filter(|scenario| scenario.group == group) {
            say!("  {:<36}{}", scenario.name, scenario.about);
        }
    }
    say!("\nFaults:");
    for kind in faults::ALL {
        say!("  {:<36}{}", kind.name, kind.about);
    }
    say!("\nWork:");
    for work in work::ALL {
        say!("  {:<36}{}", work.name, work.about);
    }
    say!("\nCounters that a sweep must raise (--require-all):");
    for name in sometimes() {
        say!("  {name}");
    }
    ExitCode::SUCCESS
}
