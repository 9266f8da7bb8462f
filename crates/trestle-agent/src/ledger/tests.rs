use std::collections::{BTreeMap, BTreeSet};

use tempfile::TempDir;
use trestle_core::spec::{Key, Object};

use super::*;

fn update(base: Option<u64>, generation: u64, names: &[&str]) -> SpecUpdate {
    let put = names.iter().map(|name| (Key::Sysctl((*name).to_owned()), Object::Sysctl("1".to_owned())));
    SpecUpdate { base, generation, put: put.collect(), gone: BTreeSet::new() }
}

fn updates() -> Vec<SpecUpdate> {
    let gone = BTreeSet::from([Key::Sysctl("a".to_owned())]);
    let without_a = SpecUpdate { base: Some(5), generation: 9, put: BTreeMap::new(), gone };
    vec![update(None, 3, &["a", "b"]), update(Some(3), 5, &["c"]), without_a]
}

/// The folder, with a ledger that was given these.
fn written(updates: &[SpecUpdate]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(dir.path()).unwrap();
    for update in updates {
        ledger.append(&Line::new(update)).unwrap();
    }
    dir
}

fn bytes(dir: &TempDir) -> Vec<u8> {
    std::fs::read(dir.path().join("ledger")).unwrap()
}

/// What a ledger with these bytes says, as text.
fn says(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ledger"), bytes).unwrap();
    text(&Ledger::open(dir.path()).unwrap().1)
}

fn text(content: &Content) -> String {
    match content {
        Content::Nothing => "nothing".to_owned(),
        Content::Spec(spec) => {
            let keys: Vec<String> = spec.objects.keys().map(ToString::to_string).collect();
            format!("{}: {}", spec.generation, keys.join(" "))
        }
        Content::Damaged(damage) => crate::error_chain(damage),
    }
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    insta::assert_snapshot!(says(&bytes(&written(&updates()))), @"9: sysctl/b sysctl/c");
    insta::assert_snapshot!(says(b""), @"nothing");
}

#[test]
fn a_ledger_torn_at_any_byte_says_what_its_whole_lines_say() {
    let all = bytes(&written(&updates()));
    let whole = |length: usize| all[..length].iter().filter(|byte| **byte == b'\n').count();
    let expected =
        ["nothing", "3: sysctl/a sysctl/b", "5: sysctl/a sysctl/b sysctl/c", "9: sysctl/b sysctl/c"];
    for length in 0..=all.len() {
        assert_eq!(says(&all[..length]), expected[whole(length)], "torn after {length} bytes");
    }
}

#[test]
fn a_torn_ledger_is_appended_to_after_its_last_good_line() {
    let dir = written(&updates()[..2]);
    let torn = bytes(&dir);
    std::fs::write(dir.path().join("ledger"), &torn[..torn.len() - 7]).unwrap();
    let (mut ledger, _) = Ledger::open(dir.path()).unwrap();
    ledger.append(&Line::new(&update(Some(3), 4, &["d"]))).unwrap();
    insta::assert_snapshot!(says(&bytes(&dir)), @"4: sysctl/a sysctl/b sysctl/d");
}

#[test]
fn any_flipped_bit_in_a_line_that_is_not_the_last_is_damage() {
    let all = bytes(&written(&updates()));
    let before_last = all[..all.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    for position in 0..before_last {
        let mut flipped = all.clone();
        flipped[position] ^= 1;
        let says = says(&flipped);
        assert!(says.ends_with("of the ledger is damaged"), "byte {position}: {says}");
    }
}

#[test]
fn a_missing_line_is_damage() {
    let all = bytes(&written(&updates()));
    let mut lines = all.split_inclusive(|byte| *byte == b'\n');
    let without_second = [lines.next().unwrap(), lines.nth(1).unwrap()].concat();
    insta::assert_snapshot!(says(&without_second), @"line 2 of the ledger does not follow from those before: the update is a change to generation 5, held is 3");
}

#[tokio::test]
async fn a_ledger_that_was_replaced_says_the_same_and_goes_on() {
    let dir = written(&updates());
    let (mut ledger, content) = Ledger::open(dir.path()).unwrap();
    let Content::Spec(spec) = content else { panic!("{content:?}") };
    let before = bytes(&dir).len();
    ledger.replace(&spec).await.unwrap();
    assert!(bytes(&dir).len() < before);
    ledger.append(&Line::new(&update(Some(9), 10, &["d"]))).unwrap();
    insta::assert_snapshot!(says(&bytes(&dir)), @"10: sysctl/b sysctl/c sysctl/d");
}

#[tokio::test]
async fn a_ledger_is_replaced_when_it_is_large_and_mostly_past() {
    let dir = written(&[update(None, 1, &["a"])]);
    let (mut ledger, _) = Ledger::open(dir.path()).unwrap();
    let large = "x".repeat(100_000);
    let mut generation = 1;
    while !ledger.wants_replacing() {
        ledger.append(&Line::new(&update(Some(generation), generation + 1, &[&large]))).unwrap();
        generation += 1;
    }
    assert_eq!(generation, 12);
    let mut spec = HostSpec::default();
    spec.apply(update(None, generation, &["a", &large])).unwrap();
    ledger.replace(&spec).await.unwrap();
    assert!(!ledger.wants_replacing());
    assert!(bytes(&dir).len() < 110_000);
}

/// `/dev/full` refuses every byte (full(4)).
#[tokio::test]
async fn a_full_disk_is_said_once_and_the_ledger_is_whole_when_there_is_room() {
    let dir = written(&updates());
    let (mut ledger, content) = Ledger::open(dir.path()).unwrap();
    let Content::Spec(mut spec) = content else { panic!("{content:?}") };
    ledger.file = Arc::new(disk::open_for_appending(Path::new("/dev/full")).unwrap());
    let next = update(Some(9), 10, &["d"]);
    let error = ledger.append(&Line::new(&next)).unwrap_err();
    let said = crate::error_chain(&error).replace(dir.path().to_str().unwrap(), "STATE");
    insta::assert_snapshot!(said, @"cannot append to STATE/ledger: No space left on device (os error 28)");
    ledger.append(&Line::new(&update(Some(10), 11, &["e"]))).unwrap();
    insta::assert_snapshot!(says(&bytes(&dir)), @"9: sysctl/b sysctl/c");

    assert!(ledger.wants_replacing());
    spec.apply(next).unwrap();
    spec.apply(update(Some(10), 11, &["e"])).unwrap();
    ledger.replace(&spec).await.unwrap();
    insta::assert_snapshot!(says(&bytes(&dir)), @"11: sysctl/b sysctl/c sysctl/d sysctl/e");
}
