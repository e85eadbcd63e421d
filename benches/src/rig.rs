//! Where the ends of a connection run.

use std::{future::Future, io};

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime for each end, as two programs would have them.
pub(crate) struct Rig {
    client: Runtime,
    server: Runtime,
}

impl Rig {
    pub(crate) fn new(workers: usize) -> io::Result<Self> {
        let runtime = |name| Builder::new_multi_thread().worker_threads(workers).thread_name(name).enable_all().build();
        Ok(Self { client: runtime("client")?, server: runtime("server")? })
    }

    /// Runs a task of the client's runtime to its end.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        self.client.block_on(self.client.spawn(task)).map_err(io::Error::other)?
    }

    /// Waits for something on this thread.
    pub(crate) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.client.block_on(what)
    }

    /// The server's runtime.
    pub(crate) fn server(&self) -> Handle {
        self.server.handle().clone()
    }
}
