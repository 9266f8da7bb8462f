//! Decision pages are numbered without gaps: `docs/decisions/0001-what-was-decided.md`.

use anyhow::Result;

use crate::source::files;

pub(super) fn check() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (place, file) in files(&["docs/decisions"], "")?.iter().enumerate() {
        let number = place + 1;
        let name = file.path.rsplit('/').next().unwrap_or_default();
        if !name.starts_with(&format!("{number:04}-")) || !name.ends_with(".md") {
            wrong.push(format!("{}: the decision page after {place} is {number:04}-NAME.md", file.path));
        }
        if !file.text.starts_with("# ") {
            wrong.push(format!("{}: a decision page begins with its title", file.path));
        }
    }
    Ok(wrong)
}
