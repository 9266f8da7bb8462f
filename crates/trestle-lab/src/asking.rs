//! The asynchronous API client, asked from code that blocks.

use std::future::Future;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// A runtime of our own, so that a lab works the same inside and outside of someone else's.
#[derive(Debug)]
pub(crate) struct Asking(Option<Runtime>);

impl Asking {
    pub(crate) fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Ok(Self(Some(runtime.context("starting a runtime for the API client")?)))
    }

    /// Runs it to its end; on a thread of its own, since a runtime's thread must not block.
    pub(crate) fn wait<T: Send>(&self, future: impl Future<Output = T> + Send) -> Result<T> {
        let runtime = self.0.as_ref().context("the runtime has ended")?;
        let answer = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join());
        answer.map_err(|panic| std::panic::resume_unwind(panic))
    }

    /// Ctrl-C and SIGTERM, from now on as messages instead of the end of this process.
    pub(crate) fn interrupts(&self) -> Result<Receiver<()>> {
        let runtime = self.0.as_ref().context("the runtime has ended")?;
        let _inside = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let (tell, told) = channel();
        runtime.spawn(async move {
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                if tell.send(()).is_err() {
                    return;
                }
            }
        });
        Ok(told)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        // Waiting for its threads would panic inside another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
