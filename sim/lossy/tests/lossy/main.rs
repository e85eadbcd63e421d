//! The TCP of the simulation lives through loss, and ends as the kernel's does.

mod ends;
mod faults;
mod network;
mod opening;
mod transfer;
