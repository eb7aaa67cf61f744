//! One thread that drives every connection, and how others wait for what it brings.
//!
//! Left out: stopping the thread. It lives as long as the process.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        let built = builder.worker_threads(1).thread_name("dial").enable_all().build();
        built.expect("a thread can be started")
    })
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Parks this thread until the future is done, whatever runtime the thread may belong to.
///
/// For futures that end by themselves and need no runtime to be polled: those of [`beside`].
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Waits for a future, but no longer than the limit: then there is `None`, and the future is dropped.
pub fn wait<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let _entered = runtime().enter();
    // The caller may be a task that used up its turn: then a timer would never be ready.
    block_on(tokio::task::unconstrained(tokio::time::timeout(limit, future))).ok()
}

/// Runs a future on the thread of the connections; usually a connection itself.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    runtime().spawn(future)
}

/// Runs a future beside the connections, so that it goes on while nobody waits for it.
pub fn beside<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> + Send {
    let task = spawn(future);
    async move { task.await.expect("it does not panic, and nobody stops it") }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::task::coop;

    use super::*;

    #[test]
    fn waiting_works_inside_a_runtime_and_ends() {
        let quick = Duration::from_millis(20);
        let inside = Builder::new_current_thread().build().unwrap();
        let silent = inside.block_on(async { wait(quick, std::future::pending::<()>()) });
        assert_eq!(silent, None);
        assert_eq!(wait(quick, async { wait(quick, async { 7 }) }), Some(Some(7)));
    }

    /// To a task that has used up its turn tokio shows no timer as ready, so the wait would never end.
    #[test]
    fn waiting_ends_in_a_task_that_used_up_its_turn() {
        let (done, seen) = mpsc::channel();
        std::thread::spawn(move || {
            let inside = Builder::new_current_thread().build().unwrap();
            inside.block_on(async {
                while coop::has_budget_remaining() {
                    coop::consume_budget().await;
                }
                done.send(wait(Duration::from_millis(20), std::future::pending::<()>()))
            })
        });
        assert_eq!(seen.recv_timeout(Duration::from_secs(10)), Ok(None));
    }

    #[test]
    fn what_runs_beside_goes_on_while_nobody_waits() {
        let (done, seen) = mpsc::channel();
        let beside = beside(async move { done.send(7) });
        assert_eq!(seen.recv_timeout(Duration::from_secs(10)), Ok(7));
        assert!(block_on(beside).is_ok());
    }
}
