//! The clock and the randomness of the operating system, simulated on the threads that ask for it.
//!
//! This module defines `clock_gettime`, `getrandom` and `getentropy`. A program that links it calls these in place of the
//! C library's, and so do std, tokio, yamux and rand inside it. On a thread that has entered a simulation they answer from
//! the simulation; on every other thread they ask the kernel.
//!
//! Simulated time is that of the tokio runtime that is running, whose paused clock turmoil moves; between runtimes it is
//! what [`set_elapsed`] was told last. So each simulated host sees time pass within a tick, and its
//! `std::time::Instant` agrees with its `tokio::time::Instant`. Runtimes on a simulated thread must be created paused:
//! the clock of any other one waits for this clock, and this one for it.
//!
//! A blocking wait with a timeout must not be used on a simulated thread: the kernel would compare a simulated deadline
//! with real time.

// Replacing C functions cannot be done without `unsafe`. It is confined to this module.
#![allow(unsafe_code)]
// It is about the very clock and randomness that are banned elsewhere.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::SysRng;
use rand::{Rng, SeedableRng, TryRng};
use rand_chacha::ChaCha8Rng;

/// When every simulation begins, since the Unix epoch: 2001-09-09T01:46:40Z.
pub const EPOCH: Duration = Duration::from_secs(1_000_000_000);

/// What the monotonic clock shows when a simulation begins. Code may subtract from an `Instant`: zero would leave no room.
const MONOTONIC_START: Duration = Duration::from_secs(1_000_000);

thread_local! {
    static STATE: State = const {
        State {
            simulated: Cell::new(false),
            elapsed: Cell::new(Duration::ZERO),
            origin: Cell::new(None),
            reading: Cell::new(false),
            random: RefCell::new(None),
            disturbance: RefCell::new(None),
        }
    };
}

/// What a thread knows of its simulation.
struct State {
    simulated: Cell<bool>,
    /// Time since the beginning, as told by [`set_elapsed`].
    elapsed: Cell<Duration>,
    /// The instant at which the simulation began.
    origin: Cell<Option<Instant>>,
    /// True while the clock asks tokio, which may ask the clock.
    reading: Cell<bool>,
    /// The generator owns nothing; what its drop would do is overwrite itself.
    random: RefCell<Option<ManuallyDrop<ChaCha8Rng>>>,
    /// How wrong each reading of the clock may be, in nanoseconds, and what draws it.
    disturbance: RefCell<Option<(u64, ManuallyDrop<ChaCha8Rng>)>>,
}

// A thread reads the clock until its very end: the state must not have a destructor, after which it could not be read.
const _: () = assert!(!std::mem::needs_drop::<State>());

/// Makes the clock and the randomness of this thread simulated until it is dropped.
#[derive(Debug)]
#[must_use = "the simulation ends when this is dropped"]
pub struct Simulated {
    /// The state belongs to the thread.
    not_send: PhantomData<*const ()>,
}

impl Simulated {
    /// Begins a simulation on this thread, at time zero. A simulation needs a fresh thread: std draws the keys of its hash
    /// maps once for each thread.
    ///
    /// # Panics
    ///
    /// When the thread is in a simulation already.
    pub fn enter(seed: u64) -> Self {
        STATE.with(|state| {
            assert!(!state.simulated.replace(true), "this thread is in a simulation already");
            state.elapsed.set(Duration::ZERO);
            *state.random.borrow_mut() = Some(ManuallyDrop::new(ChaCha8Rng::seed_from_u64(seed)));
            state.origin.set(Some(Instant::now()));
        });
        Self { not_send: PhantomData }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        STATE.with(|state| {
            state.simulated.set(false);
            state.origin.set(None);
            *state.disturbance.borrow_mut() = None;
        });
    }
}

/// Whether this thread is in a simulation.
pub fn is_simulated() -> bool {
    STATE.with(|state| state.simulated.get())
}

/// Makes each reading of this thread's clock wrong by up to so many microseconds, drawn from the process id: the negative
/// control of the proof that runs are deterministic. Nothing that a simulation does may depend on it, and yamux does.
pub fn disturb(up_to_us: u64) {
    let rng = ManuallyDrop::new(ChaCha8Rng::seed_from_u64(std::process::id().into()));
    STATE.with(|state| {
        *state.disturbance.borrow_mut() = (up_to_us > 0).then_some((up_to_us.saturating_mul(1_000), rng));
    });
}

/// Tells the clock how much time has passed since the simulation began. It counts while no runtime is running.
pub fn set_elapsed(elapsed: Duration) {
    STATE.with(|state| state.elapsed.set(elapsed));
}

/// How much simulated time has passed on this thread since the simulation began; zero outside a simulation.
pub fn elapsed() -> Duration {
    STATE.with(|state| if state.simulated.get() { state.now() } else { Duration::ZERO })
}

impl State {
    fn now(&self) -> Duration {
        if self.reading.replace(true) {
            return self.elapsed.get();
        }
        let by_runtime = self.origin.get().and_then(|origin| {
            let _runtime = tokio::runtime::Handle::try_current().ok()?;
            tokio::time::Instant::now().into_std().checked_duration_since(origin)
        });
        self.reading.set(false);
        let now = by_runtime.unwrap_or(self.elapsed.get());
        match &mut *self.disturbance.borrow_mut() {
            Some((up_to, random)) => now + Duration::from_nanos(random.next_u64() % *up_to),
            None => now,
        }
    }

    /// Fills `buffer` if the thread is in a simulation, and says whether it did.
    fn fill(&self, buffer: &mut [u8]) -> bool {
        if !self.simulated.get() {
            return false;
        }
        match self.random.borrow_mut().as_mut() {
            Some(random) => {
                random.fill_bytes(buffer);
                true
            }
            None => false,
        }
    }
}

/// The functions of this module are not the ones that this program calls, so nothing would be deterministic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInterposed {
    what: &'static str,
}

impl fmt::Display for NotInterposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not simulated in this program (the simulation needs 64-bit Linux)", self.what)
    }
}

impl std::error::Error for NotInterposed {}

/// Looks whether std and rand see simulated time and seeded randomness in this program.
///
/// # Errors
///
/// [`NotInterposed`] names the first of the two clocks and the two sources of randomness that is real.
pub fn check() -> Result<(), NotInterposed> {
    /// What a fresh thread sees of the two clocks and of the two ways to ask for randomness.
    fn look() -> Option<(Duration, Duration, u64, u64)> {
        thread::spawn(|| {
            let _simulated = Simulated::enter(1);
            let start = Instant::now();
            set_elapsed(Duration::from_secs(5));
            let monotonic = start.elapsed();
            let real = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
            let by_std = RandomState::new().hash_one(0);
            let by_rand = SysRng.try_next_u64().ok()?;
            Some((monotonic, real, by_std, by_rand))
        })
        .join()
        .ok()?
    }

    link();
    let missing = |what| NotInterposed { what };
    let (first, second) = (look().ok_or(missing("a clock"))?, look().ok_or(missing("a clock"))?);
    let is = |holds: bool, what| if holds { Ok(()) } else { Err(missing(what)) };
    is(first.0 == Duration::from_secs(5), "std's monotonic clock")?;
    is(first.1 == EPOCH + Duration::from_secs(5), "std's real-time clock")?;
    is(first.2 == second.2, "std's randomness")?;
    is(first.3 == second.3, "rand's randomness")
}

/// Names the functions, so that the linker takes the object that holds them whatever its order of archives.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn link() {
    std::hint::black_box(linux::clock_gettime as *const ());
    std::hint::black_box(linux::getrandom as *const ());
    std::hint::black_box(linux::getentropy as *const ());
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn link() {}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod linux {
    use libc::{c_int, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

    use super::{Duration, EPOCH, MONOTONIC_START, STATE};

    /// The most bytes that `getentropy` may be asked for.
    const ENTROPY_MAX: size_t = 256;

    /// `clock_gettime(2)`. Clocks that count the time of a process or a thread are always real.
    ///
    /// # Safety
    ///
    /// As in C: `time` points to a `timespec` that may be written, or is null.
    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
        let start = match clock {
            libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_BOOTTIME => {
                Some(MONOTONIC_START)
            }
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Some(EPOCH),
            _ => None,
        };
        let simulated = STATE.with(|state| {
            let start = start.filter(|_| state.simulated.get())?;
            Some(start + state.now())
        });
        match simulated {
            Some(now) if !time.is_null() => {
                // SAFETY: the caller gives a pointer that may be written, and it is not null.
                unsafe { time.write(timespec_of(now)) };
                0
            }
            // SAFETY: the kernel gets what the caller gave, and checks the pointer itself. The result is -1, 0 or a small
            // number, so nothing is cut off.
            #[allow(clippy::cast_possible_truncation)]
            _ => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int },
        }
    }

    /// `getrandom(2)`.
    ///
    /// # Safety
    ///
    /// As in C: `length` bytes at `buffer` may be written.
    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
        // SAFETY: the same promise by the caller.
        if unsafe { fill(buffer, length) } {
            return length.cast_signed();
        }
        // SAFETY: the kernel gets what the caller gave, and checks the pointer itself.
        #[allow(clippy::cast_possible_truncation)]
        unsafe {
            libc::syscall(libc::SYS_getrandom, buffer, length, flags) as ssize_t
        }
    }

    /// `getentropy(3)`.
    ///
    /// # Safety
    ///
    /// As in C: `length` bytes at `buffer` may be written.
    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn getentropy(buffer: *mut c_void, length: size_t) -> c_int {
        if length > ENTROPY_MAX {
            // SAFETY: the C library gives the address of this thread's `errno`.
            unsafe { *libc::__errno_location() = libc::EIO };
            return -1;
        }
        // SAFETY: the same promise by the caller.
        let filled = unsafe { getrandom(buffer, length, 0) };
        if filled == length.cast_signed() { 0 } else { -1 }
    }

    /// Fills the buffer if the thread is in a simulation.
    ///
    /// # Safety
    ///
    /// `length` bytes at `buffer` may be written.
    unsafe fn fill(buffer: *mut c_void, length: size_t) -> bool {
        if buffer.is_null() {
            return false;
        }
        STATE.with(|state| {
            if !state.simulated.get() {
                return false;
            }
            // SAFETY: the caller promises that the bytes may be written; they may be uninitialized, so they are set before
            // a slice of them is made.
            let bytes = unsafe {
                buffer.cast::<u8>().write_bytes(0, length);
                std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length)
            };
            state.fill(bytes)
        })
    }

    fn timespec_of(time: Duration) -> timespec {
        timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_thread_sees_simulated_time_and_others_see_the_real_one() {
        check().unwrap();
        let before = Instant::now();
        thread::sleep(Duration::from_millis(2));
        assert!(before.elapsed() >= Duration::from_millis(2));
        assert!(SystemTime::now().duration_since(UNIX_EPOCH).unwrap() > EPOCH * 3 / 2);
    }

    #[test]
    fn a_real_thread_gets_real_randomness() {
        assert_ne!(SysRng.try_next_u64().unwrap(), SysRng.try_next_u64().unwrap());
    }

    #[test]
    fn time_moves_with_the_runtime_that_is_running() {
        thread::spawn(|| {
            let _simulated = Simulated::enter(1);
            set_elapsed(Duration::from_secs(3));
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let (std, tokio) = (Instant::now(), tokio::time::Instant::now());
                tokio::time::sleep(Duration::from_millis(1_500)).await;
                assert_eq!(std.elapsed(), tokio.elapsed());
                assert!(elapsed() >= Duration::from_millis(4_500));
            });
            assert_eq!(elapsed(), Duration::from_secs(3));
        })
        .join()
        .unwrap();
    }
}
