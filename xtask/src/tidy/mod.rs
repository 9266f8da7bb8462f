//! `cargo xtask tidy`: what the compiler does not check.

mod decisions;
mod edges;
mod layers;
mod sizes;
mod words;

use anyhow::{Result, bail};

/// Runs every check and lists all that is wrong, not the first thing.
pub(crate) fn run() -> Result<()> {
    let mut wrong = edges::check()?;
    wrong.extend(layers::check()?);
    wrong.extend(sizes::check()?);
    wrong.extend(words::check()?);
    wrong.extend(decisions::check()?);
    for complaint in &wrong {
        println!("tidy: {complaint}");
    }
    if !wrong.is_empty() {
        bail!("not tidy, {} times", wrong.len());
    }
    println!("tidy: all is well");
    Ok(())
}
