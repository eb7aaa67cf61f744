//! News from a server: whoever reads its database looks when something was committed there.
//!
//! Left out: what the news says. Looking tells.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::store::{News, ServerPlace};

/// How often the thread looks whether it is wanted.
const LOOK: Duration = Duration::from_millis(200);
/// After a connection was lost, or could not be made: the first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Listening, until it is dropped.
pub struct NewsStream {
    over: Arc<AtomicBool>,
}

impl Drop for NewsStream {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Calls `look` after each commit at `place`, and whenever a connection was made anew: something may
/// have been missed.
pub fn news_stream(
    place: Arc<dyn ServerPlace>,
    look: impl Fn() + Send + 'static,
) -> io::Result<NewsStream> {
    let over = Arc::new(AtomicBool::new(false));
    let stream = NewsStream { over: over.clone() };
    let listen = move || {
        let mut pause = PAUSES.0;
        while !over.load(Ordering::Relaxed) {
            match place.listen() {
                Ok(news) => {
                    pause = PAUSES.0;
                    look();
                    hear(news, &over, &look);
                }
                Err(error) => tracing::debug!(%error, "cannot listen to the backing database"),
            }
            sleep_unless(&over, pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    };
    thread::Builder::new().name("news".into()).spawn(listen)?;
    Ok(stream)
}

/// Until the connection is lost, or nobody listens any more.
fn hear(mut news: Box<dyn News>, over: &AtomicBool, look: &impl Fn()) {
    while !over.load(Ordering::Relaxed) {
        match news.wait(LOOK) {
            Ok(true) => look(),
            Ok(false) => {}
            Err(_) => return,
        }
    }
}

fn sleep_unless(over: &AtomicBool, pause: Duration) {
    let mut left = pause;
    while !left.is_zero() && !over.load(Ordering::Relaxed) {
        let step = left.min(LOOK);
        thread::sleep(step);
        left -= step;
    }
}
