//! The synchronization core of evermux under loom: one model for each race.
