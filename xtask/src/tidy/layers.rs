//! Inside the controller: `http → app → store`, never back.

use anyhow::Result;

use crate::source::{code_of, files};

/// A layer and those it must not know.
const MUST_NOT_SEE: &[(&str, &[&str])] = &[("store", &["app", "http"]), ("app", &["http"])];

pub(super) fn check() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for file in files(&["crates/trestle-controller/src"], ".rs")? {
        let Some(layer) = file.path.split('/').nth(3).map(|part| part.trim_end_matches(".rs")) else {
            continue;
        };
        let Some((_, forbidden)) = MUST_NOT_SEE.iter().find(|(name, _)| *name == layer) else { continue };
        for (line, seen) in modules_seen(&code_of(&file.text)) {
            if forbidden.contains(&seen.as_str()) {
                wrong.push(format!("{}:{line}: {layer} must not know {seen}", file.path));
            }
        }
    }
    Ok(wrong)
}

/// The first parts of all paths below `crate::`, grouped imports too, each with its line.
fn modules_seen(code: &str) -> Vec<(usize, String)> {
    let mut seen = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let line = code[..at].lines().count().max(1);
        let rest = &code[at + found.len()..];
        let parts = match rest.strip_prefix('{') {
            Some(group) => first_parts(group),
            None => vec![identifier(rest)],
        };
        seen.extend(parts.into_iter().map(|part| (line, part.to_owned())));
    }
    seen
}

/// The first parts of the paths in a group, up to its closing brace.
fn first_parts(group: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut depth = 0;
    let mut start = Some(0);
    for (at, character) in group.char_indices() {
        match character {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => start = Some(at + 1),
            _ if !character.is_whitespace() => {
                if let Some(from) = start.take() {
                    parts.push(identifier(group[from..].trim_start()));
                }
            }
            _ => {}
        }
    }
    parts
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::modules_seen;

    #[test]
    fn grouped_imports_are_seen_through() {
        let code = "use crate::app::App;\nuse crate::{\n    http::{Request, routes},\n    store,\n};\n";
        let seen: Vec<String> =
            modules_seen(code).into_iter().map(|(line, name)| format!("{line} {name}")).collect();
        assert_eq!(seen, ["1 app", "2 http", "2 store"]);
    }
}
