//! `demo`: a writer and two readers at work on real data.
//!
//! ```text
//! start three processes ─► load the flights over HTTP ─► rounds ─► all equal? ─► stop, clean up
//!                                                          │
//!             a round: a few writes, then ask every copy where it stands
//!             once: kill a reader, start it again, watch it catch up
//! ```
//!
//! A round stops writing before it asks, so that positions of the same moment are compared; what it
//! shows as lag is the time from the writer's answer to the first look that finds the write there.

mod flights;
mod nodes;
mod view;

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::arguments::Demo;
use super::block_on;
use super::exit::{Exit, Failure, Outcome};
use crate::client::{PositionAnswer, Stream};
use nodes::{Node, Nodes};
use view::{Seen, Verdict};

const WRITES_A_ROUND: usize = 10;
const BETWEEN_WRITES: Duration = Duration::from_millis(40);
/// How long a round waits for a copy before it shows it as behind.
const PATIENCE: Duration = Duration::from_millis(250);
const AT_THE_END: Duration = Duration::from_secs(10);
const EVENTS: usize = 6;

/// Runs the show until its time is over or somebody interrupts it.
pub fn run(arguments: &Demo) -> Outcome {
    block_on(async {
        tokio::select! {
            outcome = show(arguments) => outcome,
            () = interrupted() => {
                println!("\nstopped; the temporary folder is gone");
                Ok(Exit::Yes)
            }
        }
    })
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => std::future::pending().await,
    }
}

async fn show(arguments: &Demo) -> Outcome {
    let nodes = Nodes::start(arguments.port).await?;
    println!("three processes share one SQLite file: a writer and two readers");
    let mut stream = nodes.writer().client.stream();
    let begin = Instant::now();
    let rows = flights::load(&mut stream).await?;
    println!("loaded {rows} rows over HTTP in {:.1} s", begin.elapsed().as_secs_f64());
    let mut stage = Stage::new(nodes, stream, arguments);
    println!("\n{}", stage.snippets());
    stage.play(arguments.duration).await?;
    stage.curtain().await
}

/// The two moments of the killed reader, counted from the first round.
#[derive(Debug, Clone, Copy)]
struct Plot {
    kill: Duration,
    back: Duration,
}

impl Plot {
    /// A quarter and a half of a short show; 8 and 12 seconds into a long one.
    fn of(length: Option<Duration>) -> Plot {
        let (kill, back) = (Duration::from_secs(8), Duration::from_secs(12));
        let length = length.unwrap_or(Duration::MAX);
        Plot { kill: kill.min(length / 4), back: back.min(length / 2) }
    }
}

/// How far the plot has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Before,
    Killed,
    Returning(Instant),
    After,
}

struct Stage {
    nodes: Nodes,
    stream: Stream,
    traffic: bool,
    terminal: bool,
    plot: Plot,
    act: Act,
    begin: Instant,
    writes: usize,
    events: VecDeque<String>,
}

impl Stage {
    fn new(nodes: Nodes, stream: Stream, arguments: &Demo) -> Stage {
        Stage {
            nodes,
            stream,
            traffic: !arguments.no_traffic,
            terminal: std::io::stdout().is_terminal(),
            plot: Plot::of(arguments.duration),
            act: Act::Before,
            begin: Instant::now(),
            writes: 0,
            events: VecDeque::new(),
        }
    }

    fn snippets(&self) -> String {
        let [writer, reader, ..] = self.nodes.all.as_slice() else { return String::new() };
        view::snippets(&writer.url, &reader.url, &writer.admin_url)
    }

    /// Round after round, until the time is over.
    async fn play(&mut self, length: Option<Duration>) -> Result<(), Failure> {
        while length.is_none_or(|length| self.begin.elapsed() < length) {
            self.write().await?;
            self.advance()?;
            let seen = self.look(PATIENCE).await;
            self.welcome_back(&seen);
            self.draw(&seen);
        }
        Ok(())
    }

    /// A round's writes, spaced as a trickle is.
    async fn write(&mut self) -> Result<(), Failure> {
        for i in 0..WRITES_A_ROUND {
            if i > 0 || !self.traffic {
                tokio::time::sleep(BETWEEN_WRITES).await;
            }
            if self.traffic {
                flights::trickle(&mut self.stream, self.writes).await?;
                self.writes += 1;
            }
        }
        Ok(())
    }

    /// Kills the reader, or brings it back, when its moment has come.
    fn advance(&mut self) -> Result<(), Failure> {
        let now = self.begin.elapsed();
        match self.act {
            Act::Before if now >= self.plot.kill => {
                let victim = self.nodes.victim();
                let name = victim.name;
                victim.kill();
                self.act = Act::Killed;
                self.tell(format!("{name} is killed (SIGKILL); the writer does not wait for it"));
            }
            Act::Killed if now >= self.plot.back => self.bring_back()?,
            _ => {}
        }
        Ok(())
    }

    fn bring_back(&mut self) -> Result<(), Failure> {
        let victim = self.nodes.victim();
        let name = victim.name;
        victim.start()?;
        self.act = Act::Returning(Instant::now());
        self.tell(format!("{name} is started again"));
        Ok(())
    }

    /// Tells when the killed reader is in step again.
    fn welcome_back(&mut self, seen: &[Seen]) {
        let (Act::Returning(since), [writer, .., victim]) = (self.act, seen) else { return };
        if victim.verdict(writer.position.as_ref()) == Verdict::Equal {
            let took = since.elapsed().as_secs_f64();
            self.act = Act::After;
            self.tell(format!("{} is in step again, {took:.1} s after its start", victim.name));
        }
    }

    fn tell(&mut self, event: String) {
        let event = format!("[{:5.1} s] {event}", self.begin.elapsed().as_secs_f64());
        if !self.terminal {
            println!("{event}");
        }
        self.events.push_back(event);
        if self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }

    /// Asks the writer, then every reader until it is as far or `patience` is over.
    async fn look(&self, patience: Duration) -> Vec<Seen> {
        let begin = Instant::now();
        let writer = see(self.nodes.writer(), None, patience, begin).await;
        let target = writer.position.clone();
        let readers = &self.nodes.all[1..];
        let readers = readers.iter().map(|node| see(node, target.as_ref(), patience, begin));
        let readers = join_all(readers).await;
        std::iter::once(writer).chain(readers).collect()
    }

    fn draw(&self, seen: &[Seen]) {
        if !self.terminal {
            println!("{}", view::line(seen, self.begin.elapsed()));
            return;
        }
        let events: Vec<&str> = self.events.iter().map(String::as_str).collect();
        print!("\x1b[H\x1b[2J");
        println!("{}", self.snippets());
        println!("{}", view::full(seen, self.writes));
        println!("{}\n\nCtrl-C stops all and cleans up.", events.join("\n"));
    }

    /// The end: every copy must be equal.
    async fn curtain(mut self) -> Outcome {
        if self.act == Act::Killed {
            self.bring_back()?;
        }
        let begin = Instant::now();
        let mut seen = self.look(AT_THE_END).await;
        while !all_equal(&seen) && begin.elapsed() < AT_THE_END {
            seen = self.look(AT_THE_END).await;
        }
        self.welcome_back(&seen);
        print!("\n{}", view::full(&seen, self.writes));
        let equal = all_equal(&seen);
        println!("{}", if equal { "all copies are equal" } else { "the copies are NOT equal" });
        Ok(if equal { Exit::Yes } else { Exit::No })
    }
}

fn all_equal(seen: &[Seen]) -> bool {
    let writer = seen[0].position.as_ref();
    seen.iter().all(|node| node.verdict(writer) == Verdict::Equal)
}

/// Looks at a node until it has reached `target` (if there is one), or `patience` is over.
async fn see(
    node: &Node,
    target: Option<&PositionAnswer>,
    patience: Duration,
    since: Instant,
) -> Seen {
    let mut seen =
        Seen { name: node.name, role: node.role, url: node.url.clone(), position: None, lag: None };
    loop {
        seen.position = node.client.position("flights").await.ok();
        let reached = |position: &PositionAnswer| {
            target.is_none_or(|target| position.number() >= target.number())
        };
        if seen.position.as_ref().is_some_and(reached) {
            seen.lag = Some(since.elapsed());
            return seen;
        }
        if since.elapsed() > patience {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plot_fits_into_a_short_show() {
        let short = Plot::of(Some(Duration::from_secs(4)));
        assert_eq!((short.kill, short.back), (Duration::from_secs(1), Duration::from_secs(2)));
        let long = Plot::of(None);
        assert_eq!((long.kill, long.back), (Duration::from_secs(8), Duration::from_secs(12)));
    }
}
