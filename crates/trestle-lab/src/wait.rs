//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks again and again until the condition gives something; an error ends it at once.
///
/// # Errors
/// The condition's own, or that the deadline has passed; `what` says what was awaited.
pub fn until<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    /// Long enough to cost nothing, short enough not to be seen.
    const BETWEEN: Duration = Duration::from_millis(3);
    let started = Instant::now();
    loop {
        if let Some(found) = condition()? {
            return Ok(found);
        }
        if started.elapsed() > deadline {
            bail!("{what}: not within {} s", deadline.as_secs_f32());
        }
        std::thread::park_timeout(BETWEEN);
    }
}
