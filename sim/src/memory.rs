//! How much memory a run takes, and how much of it is left when it is over (G19).

use peak_alloc::PeakAlloc;

use crate::verdict::Violation;

/// What threads and libraries keep for the rest of a process. A session that is never freed is more than this.
const LEFT_MAX: usize = 48 << 10;
/// The same for each of many managers: tracing keeps what its spans were written down in.
const LEFT_OF_ONE_MAX: usize = 2 << 10;
/// What hosts and sessions take at most: buffers of 64 KiB each way, twice while one drains, and what is on its way.
const PEAK_MAX: usize = 16 << 20;
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// How many bytes of the heap are in use.
pub fn in_use() -> usize {
    HEAP.current_usage()
}

/// The heap of this process at one moment. A run is alone in its process.
#[derive(Clone, Copy, Debug)]
pub struct Ledger {
    begin: usize,
}

impl Ledger {
    /// Opens the ledger.
    pub fn open() -> Self {
        HEAP.reset_peak_usage();
        Self { begin: HEAP.current_usage() }
    }

    /// Looks at what a run took, when all of it has been dropped but `kept` bytes. The work in it may take `work` bytes, and
    /// libraries keep something for each of so many managers.
    ///
    /// # Errors
    ///
    /// What was too much.
    pub fn check(self, kept: usize, work: usize, managers: usize) -> Result<(), Violation> {
        let left = HEAP.current_usage().saturating_sub(self.begin).saturating_sub(kept);
        let peak = HEAP.peak_usage().saturating_sub(self.begin).saturating_sub(kept);
        let peak_max = PEAK_MAX + work;
        if left > LEFT_MAX + managers * LEFT_OF_ONE_MAX {
            return Err(Violation::new("G19", format!("{left} bytes were left when all hosts were gone")));
        }
        if peak > peak_max {
            let text = format!("{peak} bytes were in use at once, and {peak_max} would be enough");
            return Err(Violation::new("G19", text));
        }
        Ok(())
    }
}
