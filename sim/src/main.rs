//! evermux on a simulated network: every run is one seed.

fn main() {}
