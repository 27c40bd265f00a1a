//! Reader threads, so that request handlers never wait for a disk.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tokio::sync::{mpsc, oneshot};

use crate::history::{Answer, HistoryError};

/// Reads that may wait in the queue. Further ones wait for a place in it.
const QUEUE: usize = 1024;

type Work = Box<dyn FnOnce() + Send>;

/// A handle to the threads. They end with the last handle.
#[derive(Debug, Clone)]
pub(super) struct Readers(mpsc::Sender<Work>);

impl Readers {
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let (queue, work) = mpsc::channel(QUEUE);
        let work = Arc::new(Mutex::new(work));
        for _ in 0..count.max(1) {
            let work = work.clone();
            thread::Builder::new().name("tidegate-reader".to_owned()).spawn(move || read(&work))?;
        }
        Ok(Self(queue))
    }

    /// Runs `read` on one of the threads.
    pub(super) fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, HistoryError> + Send + 'static,
    ) -> Answer<T> {
        let queue = self.0.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let work = Box::new(move || {
                // A read is skipped if its caller no longer waits.
                if !reply.is_closed() {
                    let _ = reply.send(read());
                }
            });
            let ended = || HistoryError::Unavailable("its readers have ended".to_owned());
            queue.send(work).await.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())?
        })
    }
}

fn read(work: &Mutex<mpsc::Receiver<Work>>) {
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(work) = next else { return };
        // A panic drops the reply, so the caller receives an error. The thread continues.
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}
