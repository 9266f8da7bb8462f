//! The doctor in a network namespace where nothing is, with an agent that the test plays.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::seen;

/// Runs the doctor where the kernel forwards nothing.
fn doctor(folder: &Path, flags: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_trestle");
    let script = format!("echo 0 >/proc/sys/net/ipv4/ip_forward; exec {program} doctor {flags}");
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--net", "--", "sh", "-ec", &script])
        .env("TRESTLE_AGENT_SOCKET", folder.join("agent.sock"));
    command.output().unwrap()
}

/// What is found, what depends on the machine's kernel aside.
fn findings(output: &Output) -> String {
    let mut found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of_kernel = ["kernel_lacks", "br_netfilter_missing", "bridges_filtered"];
    found.retain(|finding| !of_kernel.iter().any(|code| finding["code"] == *code));
    serde_json::to_string_pretty(&found).unwrap()
}

/// Answers requests with these lines, one after the other, whatever is asked.
fn agent(folder: &Path, replies: [&'static str; 2]) -> std::thread::JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(folder.join("agent.sock")).unwrap();
    std::thread::spawn(move || {
        let answer = |reply: &str| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            writeln!(stream, "{reply}").unwrap();
            request.trim().to_owned()
        };
        replies.map(answer).into()
    })
}

#[test]
fn without_an_agent_that_is_what_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let mut output = doctor(folder.path(), "--json");
    let found = findings(&output).replace(&folder.path().display().to_string(), "[folder]");
    insta::assert_snapshot!(found, @r#"
    [
      {
        "bridges": [],
        "code": "agent_unreachable",
        "commands": [
          "systemctl restart trestle-agent"
        ],
        "instances": [],
        "mend": "start it; its log says why it ended. Name its socket with --agent-socket if that is elsewhere",
        "severity": "broken",
        "text": "the agent does not answer: nothing is repaired or plugged in here, and what only it knows (the public interface, the networks' MTUs) is not checked: cannot reach the agent at [folder]/agent.sock: No such file or directory (os error 2)"
      }
    ]
    "#);
    output.stdout.clear();
    insta::assert_snapshot!(seen(&output, folder.path()), @"
    exit 1
    --- stderr
    error: 1 thing on this host is broken
    ");
    let output = doctor(folder.path(), "");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("\nbroken    agent_unreachable  -        -\n  the agent does not answer"),
        "{text}"
    );
}

#[test]
fn what_the_agent_says_is_looked_at_too() {
    const STATUS: &str = r#"{"status":{"host":"kvm1","generation_held":7,"generation":7,"controller":{"connected":false,"since":"2026-01-02T03:04:05Z","error":"connection refused"},"problems":[{"key":"uplink/eth1","code":"interface_missing","detail":"there is no device `eth1`"},{"key":"link/br100","code":"blocked","detail":"waits for uplink/eth1"}],"agent_problems":[],"objects":3,"interfaces":1,"leases":0,"dnsmasqs":[{"network":"public","bridge":"br100","running":false}],"agent_version":"0"}}"#;
    const SPEC: &str = r#"{"spec":{"generation":7,"objects":{"address/br100/10.0.0.1/24":"address","link/br100":{"link":{"kind":"bridge","mac":null,"mtu":1500,"master":null,"up":true}},"link/tr-0000000000aa":{"link":{"kind":{"tap":{"owner":null}},"mac":null,"mtu":1500,"master":"br100","up":true}},"dhcp-host/public/fa:16:3e:00:00:02":{"dhcp_host":{"address":"10.0.0.2","hostname":"web"}},"element/guard_mac/tr-0000000000aa . fa:16:3e:00:00:02":"element"}}}"#;
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path(), [STATUS, SPEC]);
    let output = doctor(folder.path(), "--json");
    assert_eq!(agent.join().unwrap(), [r#""status""#, r#""spec""#]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(findings(&output), @r#"
    [
      {
        "bridges": [],
        "code": "host_problem",
        "commands": [],
        "instances": [],
        "mend": "make the device, or name another with `trestle host set`",
        "severity": "broken",
        "text": "uplink/eth1: there is no device `eth1`"
      },
      {
        "bridges": [
          "br100"
        ],
        "code": "dnsmasq_not_running",
        "commands": [],
        "instances": [
          "web"
        ],
        "mend": "the agent starts it again by itself; networks/public/log in its state folder says why it ended",
        "severity": "broken",
        "text": "the dnsmasq of network public does not run: no instance there gets an address"
      },
      {
        "bridges": [
          "br100"
        ],
        "code": "forwarding_off",
        "commands": [
          "sysctl -w net.ipv4.ip_forward=1"
        ],
        "instances": [
          "web"
        ],
        "mend": "turn it on, and put it into a file in /etc/sysctl.d to keep it",
        "severity": "broken",
        "text": "this host routes for instances and its kernel forwards no IPv4"
      },
      {
        "bridges": [],
        "code": "controller_unreachable",
        "commands": [],
        "instances": [],
        "mend": "instances go on and nothing new can be asked for; look whether `trestle server` runs and can be reached from here",
        "severity": "may_break",
        "text": "the agent does not reach the controller since 2026-01-02T03:04:05Z: connection refused"
      }
    ]
    "#);
}
