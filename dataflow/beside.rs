//! What runs beside a worker on a thread of its own, and ends when it is told to.

use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

/// A thread beside a worker.
pub struct Beside {
    name: &'static str,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// Whether to stop.
#[derive(Clone)]
pub struct Stopped(watch::Receiver<bool>);

impl Beside {
    /// Starts the thread, with what `run` makes of the sign to stop on it.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub fn start<F: Future<Output = ()>>(
        name: &'static str,
        run: impl FnOnce(Stopped) -> F + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let runtime = Handle::current();
        let run = move || runtime.block_on(run(Stopped(stopped)));
        let thread = std::thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self { name, stop, thread })
    }

    /// Lets it come to its end.
    pub async fn end(self) {
        self.stop.send_replace(true);
        let Self { name, thread, .. } = self;
        if !tokio::task::spawn_blocking(move || thread.join()).await.is_ok_and(|ended| ended.is_ok()) {
            tracing::error!(
                "the thread of {name} died of a broken invariant; the log says which. The next process goes on"
            );
        }
    }
}

impl Stopped {
    /// Whether it was told.
    pub fn is_so(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is told.
    pub async fn wait(&mut self) {
        // Where the sender is gone, so is whoever served.
        self.0.wait_for(|stopped| *stopped).await.ok();
    }

    /// Waits for a while; whether it was told meanwhile.
    pub async fn is_so_within(&mut self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.wait()).await.is_ok()
    }
}
