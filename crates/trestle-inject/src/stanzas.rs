//! What others wrote into interfaces(5) files: what of it stays beside ours.

use crate::render::interfaces::{PART, PARTS};

/// The text without what it says of these interfaces; everything else stays to the letter.
pub(crate) fn without(text: &str, names: &[String]) -> String {
    let mut kept = String::new();
    let mut is_ours = false;
    for line in logical_lines(text) {
        let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "\\").collect();
        match &words[..] {
            [] => kept += line,
            [first, ..] if first.starts_with('#') => kept += line,
            ["iface", name, ..] => {
                is_ours = is_one_of(names, name);
                if !is_ours {
                    kept += line;
                }
            }
            [verb, listed @ ..] if *verb == "auto" || verb.starts_with("allow-") => {
                is_ours = false;
                kept += &listing(line, verb, listed, names);
            }
            [verb, ..] if BEGINNINGS.contains(verb) => {
                is_ours = false;
                kept += line;
            }
            _ if is_ours => {}
            _ => kept += line,
        }
    }
    kept
}

/// Whether the text makes ifup(8) read our file.
pub(crate) fn sources_ours(text: &str) -> bool {
    let absolute = |path: &str| match path.strip_prefix('/') {
        Some(path) => path.to_owned(),
        None => format!("etc/network/{path}"),
    };
    logical_lines(text).iter().any(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["source", path] => absolute(path) == PART || absolute(path) == format!("{PARTS}/*"),
        ["source-directory" | "source-dir", path] => absolute(path).trim_end_matches(['/', '*']) == PARTS,
        _ => false,
    })
}

/// What ends a stanza, besides `iface`, `auto` and `allow-`.
const BEGINNINGS: [&str; 8] = [
    "mapping",
    "source",
    "source-directory",
    "source-dir",
    "template",
    "rename",
    "no-auto-down",
    "no-scripts",
];

/// A line of `auto` or `allow-`, without our interfaces; nothing if it had no others.
fn listing(line: &str, verb: &str, listed: &[&str], names: &[String]) -> String {
    let others: Vec<&str> = listed.iter().copied().filter(|name| !is_one_of(names, name)).collect();
    if others.len() == listed.len() {
        line.to_owned()
    } else if others.is_empty() {
        String::new()
    } else {
        format!("{verb} {}\n", others.join(" "))
    }
}

fn is_one_of(names: &[String], name: &str) -> bool {
    names.iter().any(|ours| ours == name)
}

/// Lines with those that a backslash joins to them, ends of lines included.
fn logical_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        end += line.len();
        if !line.ends_with("\\\n") {
            lines.push(&text[start..end]);
            start = end;
        }
    }
    if start < end {
        lines.push(&text[start..end]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(without(text, &["eth0".to_owned(), "eth1".to_owned()]), expected);
    }

    #[test]
    fn what_is_said_of_other_interfaces_stays() {
        check(
            "# by hand\nauto lo\niface lo inet loopback\n\nauto eth0 \\\n eth7\niface eth0 inet dhcp\n  hostname x\n\
             # seven\niface eth7 inet dhcp\n  metric 7\n",
            "# by hand\nauto lo\niface lo inet loopback\n\nauto eth7\n# seven\niface eth7 inet dhcp\n  metric 7\n",
        );
    }

    #[test]
    fn a_stanza_ends_where_another_one_begins() {
        check(
            "allow-hotplug eth1\niface eth1 inet static\n address 10.0.0.9 \\\n  \nmapping eth2\n script x\nsource y\n",
            "mapping eth2\n script x\nsource y\n",
        );
    }

    #[test]
    fn a_text_without_our_interfaces_stays_to_the_letter() {
        let text = "iface  br0 inet\tstatic\n bridge_ports eth0\n\\";
        check(text, text);
    }

    #[test]
    fn our_file_is_read_by_its_name_by_a_pattern_and_with_its_folder() {
        for line in [
            "source /etc/network/interfaces.d/*",
            "source interfaces.d/*",
            "source /etc/network/interfaces.d/trestle",
            "source-directory /etc/network/interfaces.d",
            "source-directory interfaces.d/",
        ] {
            assert!(sources_ours(&format!("auto lo\n{line}\n")), "{line}");
        }
        for line in
            ["# source interfaces.d/*", "source /etc/network/interfaces.d/*.cfg", "source-directory /run/x"]
        {
            assert!(!sources_ours(line), "{line}");
        }
    }
}
