//! ISOs, read by the programs of others.

use std::fs;
use std::path::Path;

use trestle_inject::{InjectError, IsoKind, make_iso};

use crate::support::{contents, run, tree, web1};

/// The label of an ISO and what is on it.
fn read(iso: &Path) -> (String, String) {
    let label = run("/sbin/blkid", &["-p", "-o", "value", "-s", "LABEL", &iso.display().to_string()]);
    let folder = tree(&[]);
    let target = folder.path().join("on");
    let [iso, on] = [iso, &target].map(|path| path.display().to_string());
    run("xorriso", &["-osirrox", "on", "-indev", &iso, "-extract", "/", &on]);
    let files = contents(&target).into_keys().collect::<Vec<_>>().join(" ");
    let _ = run("chmod", &["-R", "u+w", &on]);
    (label.trim().to_owned(), files)
}

#[test]
fn an_iso_has_the_label_and_the_files_of_its_kind() {
    let folder = tree(&[]);
    let iso = folder.path().join("seed.iso");
    make_iso(&iso, IsoKind::NoCloud, &web1(), None).unwrap();
    assert_eq!(read(&iso), ("cidata".into(), "meta-data network-config user-data".into()));
    make_iso(&iso, IsoKind::ConfigDrive, &web1(), Some("#cloud-config\n")).unwrap();
    let files =
        ["meta_data.json", "network_data.json", "user_data"].map(|name| format!("openstack/latest/{name}"));
    assert_eq!(read(&iso), ("config-2".into(), files.join(" ")));
    assert_eq!(contents(folder.path()).into_keys().collect::<Vec<_>>(), ["seed.iso"]);
}

#[test]
fn the_same_network_gives_the_same_bytes() {
    let folder = tree(&[]);
    let make = |name: &str| {
        let iso = folder.path().join(name);
        make_iso(&iso, IsoKind::NoCloud, &web1(), None).unwrap();
        fs::read(iso).unwrap()
    };
    assert!(make("a") == make("b"));
}

#[test]
fn a_file_that_is_no_iso_is_kept() {
    let large = "x".repeat(40_000);
    let folder = tree(&[("small", "precious"), ("large", &large)]);
    let before = contents(folder.path());
    for name in ["small", "large"] {
        let error = make_iso(&folder.path().join(name), IsoKind::NoCloud, &web1(), None).unwrap_err();
        assert!(matches!(error, InjectError::NotAnIso(_)), "{error}");
    }
    assert_eq!(contents(folder.path()), before);
}
