//! The synchronization core.
