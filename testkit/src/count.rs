//! What this process holds, for tests that look for leaks.
//!
//! All but [`tasks`] read `/proc/self`; where there is none they give `None`. They count the whole process: a test that
//! uses them needs a process of its own, which for cargo is a file in `tests/` with one test.

use std::fs;

/// How many file descriptors are open, sockets among them.
pub fn open_files() -> Option<usize> {
    // Looking takes a descriptor itself, which is in the list.
    fs::read_dir("/proc/self/fd").ok()?.count().checked_sub(1)
}

/// How many bytes of memory are resident.
pub fn resident_bytes() -> Option<u64> {
    // In KiB there, so that the size of a page need not be known.
    status("VmRSS:")?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// How many threads there are. One that was joined may be counted for a moment longer.
pub fn threads() -> Option<usize> {
    status("Threads:")?.parse().ok()
}

/// How many tasks of the tokio runtime here have not ended; `None` outside a runtime. One that was joined may be counted
/// for a moment longer.
pub fn tasks() -> Option<usize> {
    tokio::runtime::Handle::try_current().ok().map(|runtime| runtime.metrics().num_alive_tasks())
}

fn status(name: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
}
