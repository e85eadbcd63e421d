//! The same programs on the kernel's TCP, on the lossy one, and through a simulated kernel: what an application sees must be
//! the same.
//! Where it is not, [`table`] says what is seen, and why.

mod programs;
mod table;
mod transport;
