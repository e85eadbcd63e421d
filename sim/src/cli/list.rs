//! `sim list`.

use std::process::ExitCode;

use sim::checks::rare::sometimes;
use sim::{faults, scenarios, work};

pub(crate) fn list() -> ExitCode {
    println!("Scenarios (* is in every sweep):");
    for scenario in scenarios::ALL {
        println!("  {:<24}{} {}", scenario.name, if scenario.swept { '*' } else { ' ' }, scenario.about);
    }
    println!("\nFaults:");
    for kind in faults::ALL {
        println!("  {:<24}  {}", kind.name, kind.about);
    }
    println!("\nWork:");
    for work in work::ALL {
        println!("  {:<24}  {}", work.name, work.about);
    }
    println!("\nCounters that a sweep must raise (--require-all):");
    for name in sometimes() {
        println!("  {name}");
    }
    ExitCode::SUCCESS
}
