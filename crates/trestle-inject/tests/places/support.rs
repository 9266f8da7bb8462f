//! Guests, roots and programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use trestle_core::types::Mtu;
use trestle_inject::{Addressing, GuestInterface, GuestNetwork, StaticAddresses};

/// A guest with one interface, with addresses of both families.
pub(crate) fn web1() -> GuestNetwork {
    let parsed = |text: &str| text.parse().unwrap();
    GuestNetwork {
        id: "0198f0d2-6d5c-7c1e-9a53-5b0c6f3d2e1a".parse().unwrap(),
        hostname: "web1".parse().unwrap(),
        interfaces: vec![GuestInterface {
            mac: "fa:16:3e:00:00:01".parse().unwrap(),
            name: None,
            mtu: Mtu::try_from(1450).unwrap(),
            addressing: Addressing::Static(StaticAddresses {
                addresses: ["10.0.0.5/24", "2001:db8::5/64"].map(|a| a.parse().unwrap()).to_vec(),
                gateways: ["10.0.0.1", "2001:db8::1"].map(parsed).to_vec(),
                dns: vec![parsed("10.0.0.53")],
                domain: Some("trestle.internal".parse().unwrap()),
            }),
        }],
    }
}

/// A folder with these files, as paths and texts; a path that ends in `/` is a folder, a text that
/// begins with `->` a link.
pub(crate) fn tree(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        if path.to_string_lossy().ends_with('/') {
            fs::create_dir_all(path).unwrap();
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("->") {
            Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
            None => fs::write(path, text).unwrap(),
        }
    }
    folder
}

/// Every file below a folder with its text, a link with its target.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_symlink() {
                found.insert(name, format!("->{}", fs::read_link(&path).unwrap().display()));
            } else if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.insert(name, String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

/// Runs a program that must succeed and gives what it printed.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
