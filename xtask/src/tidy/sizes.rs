//! No file over 600 lines without its tests, unless it has a reason.

use anyhow::Result;

use crate::source::files;

const MOST_LINES: usize = 600;

/// Longer files, each with the reason.
const LONGER: &[(&str, &str)] = &[];

pub(super) fn check() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for file in files(&["crates", "xtask"], ".rs")? {
        let is_test = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
        let is_excused = LONGER.iter().any(|(path, _reason)| *path == file.path);
        let lines = lines_without_tests(&file.text);
        if lines > MOST_LINES && !is_test && !is_excused {
            wrong.push(format!("{}: {lines} lines without its tests, more than {MOST_LINES}", file.path));
        }
    }
    Ok(wrong)
}

fn lines_without_tests(text: &str) -> usize {
    let tests = ["\n#[cfg(test)]\nmod tests {", "\n#[cfg(test)]\npub(crate) mod tests {"];
    let end = tests.iter().filter_map(|tests| text.find(tests)).min().unwrap_or(text.len());
    text[..end].lines().count()
}
