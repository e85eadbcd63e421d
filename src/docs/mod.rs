//! Guides, one page per task. The only code here is in the examples, which are compiled and run.
//!
//! | you want | see |
//! | --- | --- |
//! | to reach programs behind NAT | [`behind_nat`] |
//! | to use it without async | [`threads`] |
//! | to restart an HTTP/2 or gRPC service without losing calls | [`graceful_shutdown`] |
//! | to see what a manager does | [`events_and_status`] |
//! | to choose settings | [`settings`] |
//! | TLS, or another transport than TCP | [`transports`] |
//! | to test a program against cuts | [`testing`] |
//! | to port a program from Go's `muxManager` | [`from_go`] |

#[doc = include_str!("behind_nat.md")]
pub mod behind_nat {}

#[doc = include_str!("threads.md")]
pub mod threads {}

#[doc = include_str!("graceful_shutdown.md")]
pub mod graceful_shutdown {}

#[doc = include_str!("events_and_status.md")]
pub mod events_and_status {}

#[doc = include_str!("settings.md")]
pub mod settings {}

#[doc = include_str!("transports.md")]
pub mod transports {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("from_go.md")]
pub mod from_go {}
