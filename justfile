# Short names for what CONTRIBUTING.md lists. Arguments are passed on: `just test --test sessions`.

# Name the recipes.
default:
    @just --list

# Format the code.
fmt:
    cargo fmt --all

# Check the format and run clippy, as a change must pass them.
lint:
    .ci/run fmt clippy

# Run the library's tests.
test *arguments:
    cargo test -p evermux {{ arguments }}

# Build the documentation, with warnings as errors.
doc:
    .ci/run doc

# Run the simulation: `just sim sweep --seeds 200`, `just sim replay 17`.
sim *arguments:
    cargo run --release -p sim -- {{ arguments }}

# Look for what grows: half a day of simulated faults and work, for each of some seeds.
soak seeds="2":
    cargo run --release -p sim -- sweep --scenario soak_for_hours --seeds {{ seeds }}

# Put mistakes back and check that they are caught: `just bugs NAME`.
bugs *arguments:
    cargo run --release -p bugs -- {{ arguments }}

# See which lines of src a sweep reaches: `just coverage --missed src/session`.
coverage *arguments:
    cargo run --release -p coverage -- {{ arguments }}

# Fuzz with coverage: `just fuzz wire 60`.
fuzz target="wire" seconds="60":
    fuzz/run {{ target }} {{ seconds }}

# Measure against other libraries: `just bench --quick`.
bench *arguments:
    benches/run {{ arguments }}

# Test against other yamux libraries: `just interop --quick`.
interop *arguments:
    interop/run {{ arguments }}

# Run what a change must pass, or some of its steps: `just ci fmt test`.
ci *steps:
    .ci/run {{ steps }}
