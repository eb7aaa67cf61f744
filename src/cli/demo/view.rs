//! What the demo shows: pure text from what was observed.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::shell::table;
use crate::client::PositionAnswer;

/// A node as it was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its name.
    pub name: &'static str,
    /// `writer` or `reader`.
    pub role: &'static str,
    /// Where it serves.
    pub url: String,
    /// Where it stands; none: it does not answer.
    pub position: Option<PositionAnswer>,
    /// How long after the writer's answer the last write was visible here; none: not yet.
    pub lag: Option<Duration>,
}

/// How a copy compares to the writer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Same history, same rows.
    Equal,
    /// On its way.
    Behind(u64),
    /// Same place, other rows or other history: what must never be.
    Different,
    /// Does not answer.
    Away,
}

impl Seen {
    /// Compares with the writer's position at the same moment.
    pub fn verdict(&self, writer: Option<&PositionAnswer>) -> Verdict {
        let (Some(mine), Some(theirs)) = (&self.position, writer) else { return Verdict::Away };
        match theirs.number().saturating_sub(mine.number()) {
            0 if mine.chain == theirs.chain && mine.digest == theirs.digest => Verdict::Equal,
            0 => Verdict::Different,
            behind => Verdict::Behind(behind),
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Equal => f.write_str("equal"),
            Verdict::Behind(n) => write!(f, "{n} behind"),
            Verdict::Different => f.write_str("DIFFERENT"),
            Verdict::Away => f.write_str("away"),
        }
    }
}

/// The table of a terminal.
pub fn full(nodes: &[Seen], commits: usize) -> String {
    let writer = nodes[0].position.clone();
    let row = |node: &Seen| {
        let part = |get: &dyn Fn(&PositionAnswer) -> String| {
            node.position.as_ref().map_or("-".into(), get)
        };
        let verdict = node.verdict(writer.as_ref()).to_string();
        vec![
            node.name.to_string(),
            node.url.clone(),
            part(&|p| p.version.clone()),
            part(&|p| p.verified.clone()),
            lag(node),
            part(&|p| p.digest.chars().take(16).collect()),
            if node.role == "writer" { "the source".into() } else { verdict },
        ]
    };
    let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
    let head = ["NODE", "ADDRESS", "VERSION", "VERIFIED", "LAG", "DIGEST", "IN STEP"];
    let mut out = table::align(&head, &rows);
    let _ = writeln!(out, "\n{commits} writes since the data was loaded");
    out
}

/// One line for a log.
pub fn line(nodes: &[Seen], at: Duration) -> String {
    let writer = nodes[0].position.clone();
    let one = |node: &Seen| match (&node.position, node.role) {
        (None, _) => format!("{} away", node.name),
        (Some(p), "writer") => format!("writer at {} digest {:.16}", p.version, p.digest),
        (Some(p), _) => {
            format!(
                "{} at {} {} {}",
                node.name,
                p.version,
                node.verdict(writer.as_ref()),
                lag(node)
            )
        }
    };
    let parts: Vec<String> = nodes.iter().map(one).collect();
    format!("[{:5.1} s] {}", at.as_secs_f64(), parts.join(" | "))
}

fn lag(node: &Seen) -> String {
    match (node.role, node.lag) {
        ("writer", _) | (_, None) => "-".into(),
        (_, Some(lag)) => format!("{:.1} ms", lag.as_secs_f64() * 1e3),
    }
}

/// What to try while the demo runs.
pub fn snippets(writer: &str, reader: &str, admin: &str) -> String {
    format!(
        r#"Try it in another terminal. Readers take writes too: they forward them.

  curl -s {reader}/v2/pipeline -H 'content-type: application/json' -d \
    '{{"requests":[{{"type":"execute","stmt":{{"sql":"SELECT origin, round(avg(temp), 1) AS f FROM weather GROUP BY 1"}}}},{{"type":"close"}}]}}'

  // npm install @libsql/client
  import {{ createClient }} from "@libsql/client";
  const db = createClient({{ url: "{reader}" }});
  await db.execute("INSERT INTO sightings VALUES (NULL, 'N10156', 'JFK', datetime('now'))");
  console.log((await db.execute("SELECT * FROM sightings ORDER BY id DESC LIMIT 3")).rows);

  syncline shell {writer}
  syncline status {admin}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(role: &'static str, version: Option<u64>, digest: &str) -> Seen {
        let position = version.map(|version| PositionAnswer {
            epoch: "1".into(),
            version: version.to_string(),
            chain: format!("chain at {version}"),
            digest: digest.into(),
            verified: "1".into(),
            tables: Default::default(),
        });
        let lag = (role == "reader").then(|| Duration::from_micros(1_500));
        Seen { name: role, role, url: "http://h:1".into(), position, lag }
    }

    #[test]
    fn only_the_same_rows_at_the_same_place_are_equal() {
        let writer = seen("writer", Some(9), "aa").position;
        let verdict = |version, digest| seen("reader", version, digest).verdict(writer.as_ref());
        assert_eq!(verdict(Some(9), "aa"), Verdict::Equal);
        assert_eq!(verdict(Some(9), "ab"), Verdict::Different);
        assert_eq!(verdict(Some(7), "aa"), Verdict::Behind(2));
        assert_eq!(verdict(None, "aa"), Verdict::Away);
    }

    #[test]
    fn a_node_that_is_away_is_shown_so() {
        let nodes = [
            seen("writer", Some(9), "aa"),
            seen("reader", Some(9), "aa"),
            seen("reader", None, ""),
        ];
        insta::assert_snapshot!(line(&nodes, Duration::from_secs(3)), @"[  3.0 s] writer at 9 digest aa | reader at 9 equal 1.5 ms | reader away");
        insta::assert_snapshot!(full(&nodes, 5), @r"
        NODE    ADDRESS     VERSION  VERIFIED  LAG     DIGEST  IN STEP
        writer  http://h:1  9        1         -       aa      the source
        reader  http://h:1  9        1         1.5 ms  aa      equal
        reader  http://h:1  -        -         1.5 ms  -       away

        5 writes since the data was loaded
        ");
    }
}
