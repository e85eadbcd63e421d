//! Property and state-machine tests of evermux, and the reference model of its slot.
