//! `sim list`.

use std::process::ExitCode;

use sim::checks::rare::sometimes;
use sim::scenarios::{self, Group};
use sim::{faults, work};

pub(crate) fn list() -> ExitCode {
    for (group, heading) in [
        (Group::Swept, "Scenarios in every sweep:"),
        (Group::Alone, "\nScenarios by their name alone:"),
        (Group::Scripted, "\nScripted scenarios, all of them with --scenario scripted:"),
    ] {
        println!("{heading}");
        for scenario in scenarios::all().filter(|scenario| scenario.group == group) {
            println!("  {:<36}{}", scenario.name, scenario.about);
        }
    }
    println!("\nFaults:");
    for kind in faults::ALL {
        println!("  {:<36}{}", kind.name, kind.about);
    }
    println!("\nWork:");
    for work in work::ALL {
        println!("  {:<36}{}", work.name, work.about);
    }
    println!("\nCounters that a sweep must raise (--require-all):");
    for name in sometimes() {
        println!("  {name}");
    }
    ExitCode::SUCCESS
}
