//! The sizes of the engine's groups, as its own metrics tell them: no second way of counting is needed.

use std::sync::{Arc, Mutex};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use crate::Result;

/// What one histogram of the engine was told.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<f64>>>);

/// The sizes of groups, how long each took, and how long its COMMIT.
#[derive(Clone, Default)]
pub struct GroupSizes {
    sizes: Heard,
    groups: Heard,
    commits: Heard,
}

impl GroupSizes {
    /// Listens from now on.
    pub fn install() -> Result<Self> {
        let sizes = GroupSizes::default();
        metrics::set_global_recorder(sizes.clone()).map_err(|e| e.to_string())?;
        Ok(sizes)
    }

    /// Forgets what the set-up brought.
    pub fn forget(&self) {
        for heard in [&self.sizes, &self.groups, &self.commits] {
            heard.take();
        }
    }

    /// The sizes since the last call.
    pub fn take(&self) -> Vec<u64> {
        let (groups, commits) = (self.groups.take(), self.commits.take());
        let mean = |all: &[f64]| 1e3 * all.iter().sum::<f64>() / all.len().max(1) as f64;
        println!("groups took {:.3} ms, their COMMIT {:.3} ms", mean(&groups), mean(&commits));
        self.sizes.take().into_iter().map(|size| size as u64).collect()
    }
}

impl Heard {
    fn take(&self) -> Vec<f64> {
        std::mem::take(&mut self.0.lock().expect("no one panics with it"))
    }
}

impl HistogramFn for Heard {
    fn record(&self, value: f64) {
        self.0.lock().expect("no one panics with it").push(value);
    }
}

impl Recorder for GroupSizes {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match key.name() {
            "syncline_group_size" => Histogram::from_arc(Arc::new(self.sizes.clone())),
            "syncline_commit_seconds" => Histogram::from_arc(Arc::new(self.groups.clone())),
            "syncline_sync_seconds" => Histogram::from_arc(Arc::new(self.commits.clone())),
            _ => Histogram::noop(),
        }
    }
}
