//! Words that say nothing, in names of files, types, functions and variables; and notes to
//! oneself anywhere.

use anyhow::Result;

use crate::source::{code_of, files};

const EMPTY_WORDS: &[&str] = &["manager", "managers", "helper", "helpers", "util", "utils"];
const NOTES: &[&str] = &["TODO", "FIXME"];
/// Names of other people's crates that we must write as they are.
const FOREIGN: &[&str] = &["hyper_util", "futures_util", "http_body_util"];

pub(super) fn check() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for file in files(&["crates", "xtask", ".ci"], "")? {
        if let Some(word) = empty_word(&file.path) {
            wrong.push(format!("{}: `{word}` in a file's name says nothing", file.path));
        }
        let is_this = file.path == "xtask/src/tidy/words.rs";
        for (number, line) in file.text.lines().enumerate().filter(|_| !is_this) {
            if let Some(note) = NOTES.iter().find(|note| line.contains(**note)) {
                wrong.push(format!("{}:{}: `{note}`: do it or leave it out", file.path, number + 1));
            }
        }
        if file.path.ends_with(".rs") {
            wrong.extend(in_code(&file.path, &file.text));
        }
    }
    Ok(wrong)
}

fn in_code(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, line) in code_of(text).lines().enumerate() {
        let names = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in names.filter(|name| !FOREIGN.contains(name)) {
            if let Some(word) = empty_word(name) {
                wrong.push(format!("{path}:{}: `{word}` in `{name}` says nothing", number + 1));
            }
        }
    }
    wrong
}

/// The first empty word in a name in `snake_case`, `CamelCase` or of a path.
fn empty_word(name: &str) -> Option<String> {
    let mut spaced = String::with_capacity(name.len() + 8);
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            spaced.push(' ');
        }
        spaced.push(if character.is_ascii_alphanumeric() { character } else { ' ' });
    }
    let lower = spaced.to_ascii_lowercase();
    // Names in capitals fall apart into letters above.
    let capitals = name.to_ascii_lowercase();
    let words = lower.split_whitespace().chain(capitals.split('_'));
    words.into_iter().find(|word| EMPTY_WORDS.contains(word)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::in_code;

    #[test]
    fn empty_words_are_found_in_names_only() {
        let text = "// a manager\nstruct NetManager;\nfn helper_of() { let s = \"util\"; }\nuse hyper_util::x;\nconst UTIL: u8 = 1;\nfn managed() {}\n";
        assert_eq!(
            in_code("a.rs", text),
            [
                "a.rs:2: `manager` in `NetManager` says nothing",
                "a.rs:3: `helper` in `helper_of` says nothing",
                "a.rs:5: `util` in `UTIL` says nothing",
            ]
        );
    }
}
