//! `trestle agent` before it touches the host.

use crate::support::{seen, trestle};

fn check(flags: &[&str], file: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("trestle.toml");
    std::fs::write(&config, file).unwrap();
    let mut command = trestle(folder.path());
    command.args(["agent", "--state-dir"]).arg(folder.path().join("agent"));
    command.arg("--config").arg(&config).args(flags);
    seen(&command.output().unwrap(), folder.path())
}

#[test]
fn an_agent_wants_to_know_which_host_it_keeps() {
    insta::assert_snapshot!(check(&[], ""), @r"
    exit 1
    --- stderr
    error: nothing says which host this is

    hint: give --host NAME, as in `trestle host list`, or `host` under [agent] in the file
    ");
}

#[test]
fn an_option_that_no_agent_has_is_named() {
    insta::assert_snapshot!(check(&["--host", "kvm1"], "[agent]\nhots = \"kvm1\"\n"), @"
    exit 1
    --- stderr
    error: the options of the agent cannot be used
      caused by: unknown field `hots`, expected one of `host`, `controller`, `token_file`, `ca`, `state_dir`, `metadata_secret_file`

    hint: `trestle server --print-config` prints every option with its meaning
    ");
    insta::assert_snapshot!(check(&["--host", "kvm1"], "[agents]\n"), @r"
    exit 1
    --- stderr
    error: [folder]/trestle.toml cannot be used
      caused by: line 1: unknown field `agents`, expected `server` or `agent`

    hint: `trestle server --print-config` prints every option with its meaning
    ");
}

#[test]
fn an_agent_without_its_token_says_where_it_belongs() {
    insta::assert_snapshot!(check(&["--host", "kvm1"], ""), @r"
    exit 1
    --- stderr
    error: cannot speak to the controller
      caused by: cannot read the agent's token from [folder]/agent/agent.token
      caused by: No such file or directory (os error 2)

    hint: make one with `trestle token create --role agent --host NAME` and put it there, or give --token-file
    ");
}

#[test]
fn a_secret_that_is_not_there_is_said_at_the_start() {
    insta::assert_snapshot!(check(&["--host", "kvm1", "--metadata-secret-file", "/nowhere/secret"], ""), @"
    exit 1
    --- stderr
    error: cannot sign for instances to the metadata service
      caused by: cannot read /nowhere/secret
      caused by: No such file or directory (os error 2)
    ");
}
