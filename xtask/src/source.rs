//! Our source files, and their text without what is not code.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell::top;

/// A file with its path from the top of the clone.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All files with this ending below these folders, in the order of their paths.
pub(crate) fn files(folders: &[&str], ending: &str) -> Result<Vec<Source>> {
    let mut paths = Vec::new();
    for folder in folders {
        walk(&top().join(folder), &mut paths)?;
    }
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// The names of the crates: the folders below `crates`.
pub(crate) fn crates() -> Result<Vec<String>> {
    let folder = top().join("crates");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
    let folders = entries.flatten().filter(|entry| entry.path().join("Cargo.toml").exists());
    let mut names: Vec<String> =
        folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Reads a file by its path from the top of the clone.
pub(crate) fn read(path: &Path) -> Result<Source> {
    let path = top().join(path);
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let path = path.strip_prefix(top()).unwrap_or(&path).to_string_lossy().into_owned();
    Ok(Source { path, text })
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("listing {}", folder.display()))?.path();
        if path.is_dir() { walk(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

/// The text with comments and the insides of strings blanked; every line stays where it is.
pub(crate) fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = at + length_of_no_code(&text[at..]).unwrap_or(0);
        if end > at {
            code.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        } else {
            // Not inside of an identifier: there an `r` begins no raw string.
            let length =
                identifier_length(&text[at..]).max(text[at..].chars().next().map_or(1, char::len_utf8));
            code.extend(&bytes[at..at + length]);
            at += length;
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// How long the comment, string or character is that begins here.
fn length_of_no_code(rest: &str) -> Option<usize> {
    let up_to =
        |from: usize, end: &str| rest[from..].find(end).map_or(rest.len(), |found| from + found + end.len());
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(up_to(2, "*/"));
    }
    if rest.starts_with('"') {
        return Some(string_length(rest));
    }
    if let Some(raw) = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')) {
        let hashes = raw.bytes().take_while(|byte| *byte == b'#').count();
        if raw[hashes..].starts_with('"') {
            let start = rest.len() - raw.len() + hashes + 1;
            return Some(up_to(start, &format!("\"{}", "#".repeat(hashes))));
        }
    }
    let mut chars = rest.strip_prefix('\'')?.chars();
    match (chars.next()?, chars.next()) {
        ('\\', _) => Some(up_to(3, "'")),
        (only, Some('\'')) => Some(2 + only.len_utf8()),
        // A lifetime.
        _ => None,
    }
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn identifier_length(rest: &str) -> usize {
    rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

#[cfg(test)]
mod tests {
    use super::code_of;

    #[test]
    fn comments_and_strings_are_no_code() {
        let text = "let a = \"x \\\" y\"; // why\nlet b: &'a str = r#\"raw \" more\"#; /* c */ let d = '\"';\nlet var\"z\"";
        let lines: Vec<String> = code_of(text).lines().map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(lines[0].split_whitespace().collect::<String>(), "leta=;");
        assert_eq!(lines[1].split_whitespace().collect::<String>(), "letb:&'astr=;letd=;");
        assert_eq!(lines[2], "let var");
    }
}
