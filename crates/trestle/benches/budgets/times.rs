//! What many measurements come to.

use std::time::Duration;

pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    /// The value that this share of the measurements does not exceed, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((self.0.len() * percent / 100).min(last)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    pub(crate) fn row(&self, what: &str) -> String {
        format!("| {what} | {:.2} | {:.2} | {} |", self.percentile(50), self.percentile(99), self.0.len())
    }
}

pub(crate) fn head(title: &str) {
    println!("\n### {title}\n\n| what | p50 ms | p99 ms | runs |\n|---|---|---|---|");
}
