//! The commands that ask a host's agent, with an agent that the test plays.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Output;

use tempfile::TempDir;

use crate::support::{seen, trestle};

/// Answers one request with this line; gives the request and what the user sees.
fn check(args: &[&str], reply: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
    let reply = reply.to_owned();
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = String::new();
        BufReader::new(&stream).read_line(&mut request).unwrap();
        writeln!(stream, "{reply}").unwrap();
        request
    });
    let seen = seen(&run(&folder, args), folder.path());
    // Wakes an agent that was never asked.
    drop(UnixStream::connect(folder.path().join("agent.sock")));
    format!("asked {}{seen}", agent.join().unwrap())
}

fn run(folder: &TempDir, args: &[&str]) -> Output {
    let socket = folder.path().join("agent.sock");
    trestle(folder.path()).env("TRESTLE_AGENT_SOCKET", socket).args(args).output().unwrap()
}

const ATTACHED: &str = r#"{"instance":"web","network":"public","interface":"01926b2e-8f4e-7c1a-9d0b-5b8f3a2c1d4e","device":"tr-5b8f3a2c1d4e","mac":"fa:16:3e:00:00:09","addresses":["10.0.0.9/24","fd00::9/64"],"gateways":["10.0.0.1","fd00::1"],"dns":["10.0.0.1","fd00::1"],"domain":"trestle.internal","bridge":"br100","mtu":1500,"host":"kvm1","generation":7}"#;

#[test]
fn attach_prints_what_a_hypervisor_needs() {
    let reply = format!(r#"{{"attached":{ATTACHED}}}"#);
    insta::assert_snapshot!(check(&["attach", "web", "--network", "public", "--user", "root"], &reply), @r#"
    asked {"attach":{"instance":"web","network":"public","plug":{"type":"tap","owner":0}}}
    exit 0
    --- stdout
    {
      "instance": "web",
      "network": "public",
      "interface": "[id]",
      "device": "[device]",
      "mac": "[mac]",
      "addresses": [
        "10.0.0.9/24",
        "fd00::9/64"
      ],
      "gateways": [
        "10.0.0.1",
        "fd00::1"
      ],
      "dns": [
        "10.0.0.1",
        "fd00::1"
      ],
      "domain": "trestle.internal",
      "bridge": "br100",
      "mtu": 1500,
      "host": "kvm1",
      "generation": 7
    }
    --- stderr
    attached web to public (device [device], 10.0.0.9/24, fd00::9/64)
    "#);
}

#[test]
fn attach_into_a_namespace_takes_any_path() {
    let reply = format!(r#"{{"attached":{ATTACHED}}}"#);
    let args = ["attach", "web", "--netns", "/dev/null", "--name", "eth1"];
    let seen = check(&args, &reply);
    insta::assert_snapshot!(seen.lines().next().unwrap(), @r#"asked {"attach":{"instance":"web","plug":{"type":"veth","netns":"/dev/null","name":"eth1"}}}"#);
}

#[test]
fn detach_says_what_was_done() {
    let reply = format!(r#"{{"detached":{ATTACHED}}}"#);
    insta::assert_snapshot!(check(&["detach", "web", "--project", "alpha"], &reply), @r#"
    asked {"detach":{"instance":"web","project":"alpha"}}
    exit 0
    --- stderr
    detached web from public
    "#);
}

#[test]
fn a_refusal_of_the_agent_is_an_error() {
    let reply = r#"{"error":{"code":"attached_elsewhere","message":"web is attached on kvm2","hint":"detach it there first"}}"#;
    insta::assert_snapshot!(check(&["attach", "web"], reply), @r#"
    asked {"attach":{"instance":"web","plug":{"type":"tap"}}}
    exit 1
    --- stderr
    error: web is attached on kvm2

    hint: detach it there first
    "#);
}

#[test]
fn who_and_where_are_looked_up_before_the_agent_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let check = |args: &[&str]| seen(&run(&folder, args), folder.path());
    insta::assert_snapshot!(check(&["attach", "web", "--user", "nobody-of-this-name"]), @r"
    exit 2
    --- stderr
    error: there is no user `nobody-of-this-name`

    hint: give the name or the uid of a user of this host
    ");
    insta::assert_snapshot!(check(&["attach", "web", "--netns", "no-such-namespace"]), @r"
    exit 2
    --- stderr
    error: there is no network namespace `no-such-namespace`: /run/netns/no-such-namespace does not exist

    hint: `ip netns list` shows the named ones; any path works too
    ");
    insta::assert_snapshot!(check(&["attach", "web", "--netns", "x", "--user", "root"]), @r"
    exit 2
    --- stderr
    error: the argument '--netns <NAMESPACE>' cannot be used with '--user <USER>'

    Usage: trestle attach --netns <NAMESPACE> --agent-socket <PATH> <INSTANCE>

    For more information, try '--help'.
    ");
}

#[test]
fn without_an_agent_it_says_where_one_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(seen(&run(&folder, &["plan"]), folder.path()), @r"
    exit 1
    --- stderr
    error: cannot reach the agent at [folder]/agent.sock
      caused by: No such file or directory (os error 2)

    hint: is `trestle agent` running on this host, and are you root? name its socket with --agent-socket
    ");
}

#[test]
fn a_plan_is_one_step_per_line_and_its_problems() {
    let reply = r#"{"plan":{"steps":["create bridge br100","start dnsmasq public"],"problems":[{"key":"uplink/eth1","code":"interface_missing","detail":"there is no device `eth1`"}]}}"#;
    insta::assert_snapshot!(check(&["plan"], reply), @r#"
    asked "plan"
    exit 0
    --- stdout
    create bridge br100
    start dnsmasq public
    problem: uplink/eth1: there is no device `eth1`
    "#);
    insta::assert_snapshot!(check(&["plan"], r#"{"plan":{"steps":[],"problems":[]}}"#), @r#"
    asked "plan"
    exit 0
    --- stderr
    nothing to do
    "#);
}
