//! What the documents say is true.
#![allow(missing_docs, reason = "test names say it")]

mod guarantees;
mod layers;
mod limits;
mod models;
mod planted;
