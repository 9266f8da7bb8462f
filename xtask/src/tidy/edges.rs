//! Who may import whom, read from the manifests. A new edge needs a decision page.

use std::path::Path;

use anyhow::Result;

use crate::source::{crates, read};

/// A crate of ours and those of ours that it may see.
const MAY_SEE: &[(&str, &[&str])] = &[
    ("trestle-core", &[]),
    ("trestle-api", &["trestle-core"]),
    ("trestle-controller", &["trestle-core", "trestle-api"]),
    ("trestle-agent", &["trestle-core", "trestle-api"]),
    ("trestle-inject", &["trestle-core"]),
    ("trestle-lab", &["trestle-api"]),
    (
        "trestle",
        &[
            "trestle-core",
            "trestle-api",
            "trestle-controller",
            "trestle-agent",
            "trestle-inject",
            "trestle-lab",
        ],
    ),
];

/// The same of what tests may see besides.
const TESTS_MAY_SEE: &[(&str, &[&str])] = &[("trestle-agent", &["trestle-lab"])];

/// What one crate alone may use: SQL and the HTTP server, netlink and nftables.
const ONLY_IN: &[(&str, &str)] = &[
    ("sqlx", "trestle-controller"),
    ("axum", "trestle-controller"),
    ("utoipa-axum", "trestle-controller"),
    ("rtnetlink", "trestle-agent"),
    ("netlink-", "trestle-agent"),
    ("libloading", "trestle-agent"),
];

pub(super) fn check() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for name in crates()? {
        let manifest = read(Path::new(&format!("crates/{name}/Cargo.toml")))?;
        wrong.extend(complaints(&name, &dependencies(&manifest.text)));
    }
    Ok(wrong)
}

fn complaints(name: &str, dependencies: &[Dependency]) -> Vec<String> {
    let Some((_, may_see)) = MAY_SEE.iter().find(|(known, _)| *known == name) else {
        return vec![format!("crates/{name}: a new crate needs a decision page and a line in tidy/edges.rs")];
    };
    let mut wrong = Vec::new();
    let tests_may_see = TESTS_MAY_SEE.iter().find(|(known, _)| *known == name);
    let tests_may_see = tests_may_see.map_or(&[][..], |(_, theirs)| theirs);
    for Dependency { name: dependency, is_for_tests } in dependencies {
        let is_seen = may_see.contains(&dependency.as_str())
            || (*is_for_tests && tests_may_see.contains(&dependency.as_str()));
        if dependency.starts_with("trestle") && !is_seen {
            wrong.push(format!("crates/{name}: must not depend on {dependency}"));
        }
        for (theirs, owner) in ONLY_IN {
            let is_theirs = dependency == theirs || (theirs.ends_with('-') && dependency.starts_with(theirs));
            if is_theirs && name != *owner {
                wrong.push(format!("crates/{name}: only {owner} may depend on {dependency}"));
            }
        }
    }
    wrong
}

/// A crate that another one depends on.
struct Dependency {
    name: String,
    is_for_tests: bool,
}

/// What stands in every table of dependencies, those for tests and builds too.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut all = Vec::new();
    let (mut is_inside, mut is_for_tests) = (false, false);
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            is_inside = table.trim_end_matches(']').ends_with("dependencies");
            is_for_tests = table.starts_with("dev-");
        } else if is_inside
            && !line.starts_with('#')
            && let Some((name, _)) = line.split_once(['.', '=', ' '])
        {
            all.push(Dependency { name: name.to_owned(), is_for_tests });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_edges_are_named() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\ntrestle-controller.workspace = true\n\
                        sqlx = \"0.9\"\nserde.workspace = true\n[dev-dependencies]\nnetlink-sys = \"0.9\"\n";
        assert_eq!(
            complaints("trestle-lab", &dependencies(manifest)),
            [
                "crates/trestle-lab: must not depend on trestle-controller",
                "crates/trestle-lab: only trestle-controller may depend on sqlx",
                "crates/trestle-lab: only trestle-agent may depend on netlink-sys",
            ]
        );
    }

    #[test]
    fn tests_may_see_what_the_crate_itself_may_not() {
        let complaints = |table: &str| {
            complaints("trestle-agent", &dependencies(&format!("[{table}]\ntrestle-lab.workspace = true\n")))
        };
        assert!(complaints("dev-dependencies").is_empty());
        assert_eq!(complaints("dependencies"), ["crates/trestle-agent: must not depend on trestle-lab"]);
    }
}
