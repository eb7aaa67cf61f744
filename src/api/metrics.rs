//! `GET /metrics`: Prometheus text.
//!
//! The engine records what happens as it happens (histograms and counters, through the `metrics`
//! macros); what can be asked for is asked for when somebody looks.
//!
//! | name | is |
//! | --- | --- |
//! | `syncline_position_version`, `syncline_verified_version` | where the copy stands, and is proved to stand |
//! | `syncline_lag_commits`, `syncline_lag_seconds` | how far it is behind its source |
//! | `syncline_held` | things held |
//! | `syncline_digest_mismatch_total`, `syncline_heal_total{rung}` | since start |
//! | `syncline_commit_seconds`, `syncline_group_size`, `syncline_sync_seconds` | histograms |
//! | `syncline_connections`, `syncline_streams` | open now, of the node |
//!
//! Left out: requests by status (that is the proxy's to count).

use std::sync::OnceLock;
use std::time::Duration;

use hyper::StatusCode;
use metrics::{counter, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::health::statuses;
use super::node::Node;
use super::reply::{self, Answer};
use crate::engine::Status;
use crate::error::{Error, Kind};

/// From 50 µs to 10 s.
const SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
    2.0, 10.0,
];
/// Commits that shared a sync.
const SIZES: [f64; 12] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

/// How often recorded samples are folded into their buckets.
const FOLD_EVERY: Duration = Duration::from_secs(5);

/// The process's recorder: there can be only one, however many servers there are. None, if the
/// program that we are a library of has one of its own.
fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let suffix = |text: &str| Matcher::Suffix(text.to_owned());
        PrometheusBuilder::new()
            .set_buckets_for_metric(suffix("_seconds"), &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(suffix("_size"), &SIZES))
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|error| tracing::debug!(%error, "metrics are recorded elsewhere"))
            .ok()
    };
    RECORDER.get_or_init(install).as_ref()
}

/// Begins to record metrics, for `GET /metrics` to tell.
///
/// A server does so by itself when it begins to serve; but a database asks for its histograms when
/// it is opened, and what is asked for before goes nowhere: call this first.
pub fn record_metrics() {
    recorder();
}

/// Folds samples for as long as it is polled: they would pile up until somebody looks.
pub(super) async fn fold() {
    let Some(recorder) = recorder() else { return std::future::pending().await };
    let mut tick = tokio::time::interval(FOLD_EVERY);
    loop {
        tick.tick().await;
        recorder.run_upkeep();
    }
}

/// Answers with everything recorded.
pub(super) async fn render(node: &Node) -> Answer {
    let recorder = recorder().ok_or_else(|| {
        Error::new(
            Kind::Unavailable,
            "METRICS_ELSEWHERE",
            "this program records its metrics itself",
        )
    })?;
    statuses(node).await?.iter().for_each(observe);
    gauge!("syncline_connections").set(node.connections.count() as f64);
    gauge!("syncline_streams").set(node.streams.count() as f64);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(reply::full(StatusCode::OK, kind, recorder.render()))
}

fn observe(status: &Status) {
    let set = |name: &'static str, value: f64| {
        gauge!(name, "database" => status.name.clone()).set(value);
    };
    let behind = status.source_version.0.saturating_sub(status.position.version.0);
    set("syncline_position_version", status.position.version.0 as f64);
    set("syncline_verified_version", status.verified.0 as f64);
    set("syncline_lag_commits", behind as f64);
    set("syncline_lag_seconds", status.stale.as_secs_f64());
    set("syncline_held", status.held as f64);
    // The engine counts these as they happen; told as they stand, they are there from the start.
    counter!("syncline_digest_mismatch_total", "database" => status.name.clone())
        .absolute(status.mismatches);
    for (rung, times) in ["incremental", "rewind", "diff", "full"].into_iter().zip(status.healed) {
        counter!("syncline_heal_total", "database" => status.name.clone(), "rung" => rung)
            .absolute(times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acknowledge::Level;
    use crate::change::{Position, Version};
    use crate::engine::{Role, State};

    #[test]
    fn what_status_says_is_what_metrics_say() {
        let recorder = recorder().expect("nobody else records in this test");
        metrics::histogram!("syncline_commit_seconds", "database" => "m").record(0.003);
        metrics::histogram!("syncline_group_size", "database" => "m").record(64.0);
        observe(&Status {
            name: "m".into(),
            role: Role::Reader,
            state: State::Ok,
            note: String::new(),
            position: Position { version: Version(40), ..Position::default() },
            verified: Version(39),
            source_version: Version(42),
            stale: Duration::from_millis(1500),
            acknowledge: Level::Disk,
            writer: None,
            tables: vec![],
            held: 3,
            healed: [5, 1, 0, 2],
            mismatches: 1,
            readers: vec![],
        });
        let text = recorder.render();
        for line in [
            r#"syncline_position_version{database="m"} 40"#,
            r#"syncline_verified_version{database="m"} 39"#,
            r#"syncline_lag_commits{database="m"} 2"#,
            r#"syncline_lag_seconds{database="m"} 1.5"#,
            r#"syncline_held{database="m"} 3"#,
            r#"syncline_digest_mismatch_total{database="m"} 1"#,
            r#"syncline_heal_total{database="m",rung="rewind"} 1"#,
            r#"syncline_heal_total{database="m",rung="full"} 2"#,
            r#"syncline_commit_seconds_bucket{database="m",le="0.005"} 1"#,
            r#"syncline_commit_seconds_bucket{database="m",le="0.002"} 0"#,
            r#"syncline_group_size_bucket{database="m",le="64"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line} in\n{text}");
        }
    }
}
