//! What a user is told when it does not work.

use crate::support::{Server, seen, trestle};

fn check(args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    seen(&trestle(folder.path()).args(args).output().unwrap(), folder.path())
}

#[test]
fn without_a_token_it_says_where_one_was_looked_for() {
    insta::assert_snapshot!(check(&["project", "list"]), @r"
    exit 1
    --- stderr
    error: there is no token to call the controller with
      caused by: cannot read [folder]/admin.token
      caused by: No such file or directory (os error 2)

    hint: run this as root on the controller's machine, or give TRESTLE_TOKEN or --token-file
    ");
    insta::assert_snapshot!(check(&["project", "list", "--token-file", "/nowhere/token"]), @r"
    exit 1
    --- stderr
    error: the token file cannot be used
      caused by: cannot read /nowhere/token
      caused by: No such file or directory (os error 2)

    hint: give --token-file a file that holds the token and that you may read
    ");
}

#[test]
fn an_empty_token_file_is_said_to_be_empty() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("admin.token"), "\n").unwrap();
    let output = trestle(folder.path()).args(["project", "list"]).output().unwrap();
    insta::assert_snapshot!(seen(&output, folder.path()), @r"
    exit 1
    --- stderr
    error: there is no token to call the controller with
      caused by: [folder]/admin.token is empty

    hint: run this as root on the controller's machine, or give TRESTLE_TOKEN or --token-file
    ");
}

#[test]
fn without_a_server_it_says_where_one_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("unix:{}/trestle.sock", folder.path().display());
    let output = trestle(folder.path()).env("TRESTLE_TOKEN", "x").args(["status", "--url", &url]).output();
    insta::assert_snapshot!(seen(&output.unwrap(), folder.path()), @r"
    exit 1
    --- stderr
    error: cannot reach the controller at unix:[folder]/trestle.sock
      caused by: No such file or directory (os error 2)

    hint: is `trestle server` running? say where with --url or TRESTLE_URL
    ");
}

#[test]
fn what_is_not_a_url_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = trestle(folder.path());
    command.env("TRESTLE_TOKEN", "x").env("TRESTLE_URL", "controller:7117").args(["host", "list"]);
    insta::assert_snapshot!(seen(&command.output().unwrap(), folder.path()), @r"
    exit 1
    --- stderr
    error: `controller:7117` is not the URL of a controller: write http://host:port, https://host:port or unix:/path
    ");
}

#[test]
fn a_wrong_command_line_is_told_apart_from_a_failure() {
    insta::assert_snapshot!(check(&["network", "creat"]), @r"
    exit 2
    --- stderr
    error: unrecognized subcommand 'creat'

      tip: a similar subcommand exists: 'create'

    Usage: trestle network [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["network", "create", "public"]), @r"
    exit 2
    --- stderr
    error: the following required arguments were not provided:
      --cidr <CIDR>

    Usage: trestle network create --cidr <CIDR> <NAME>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["instance", "create", "web", "--network", "public,ip=10.0.0.5"]), @r"
    exit 2
    --- stderr
    error: invalid value 'public,ip=10.0.0.5' for '--network <NETWORK>': `ip=10.0.0.5` is not address=ADDRESS or mac=MAC

    For more information, try '--help'.
    ");
}

#[test]
fn a_delete_without_a_terminal_needs_yes() {
    let server = Server::start();
    server.given("project create alpha");
    insta::assert_snapshot!(server.run("project delete alpha"), @r"
    exit 2
    --- stderr
    error: deleting project alpha needs a yes

    hint: give --yes
    ");
    insta::assert_snapshot!(server.run("project list"), @r"
    exit 0
    --- stdout
    NAME   CREATED
    alpha  [time]
    ");
}

#[test]
fn every_problem_of_a_request_is_listed() {
    let server = Server::start();
    insta::assert_snapshot!(
        server.run("network create Public --cidr 10.0.0.5/24 --gateway 10.1.0.1 --bridge a-very-long-bridge --mtu 100"),
        @r"
    exit 1
    --- stderr
    error: 4 things are wrong with the request
      name: `Public` is not a name: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end
      cidr: `10.0.0.5/24` has host bits set; the network is 10.0.0.0/24
      bridge: `a-very-long-bridge` is not a device name: it has 18 bytes, the kernel takes 15
      mtu: an MTU of 100 bytes is not possible: use 576 to 9216
    "
    );
}

#[test]
fn what_is_not_there_is_named() {
    let server = Server::start();
    insta::assert_snapshot!(server.run("network show public"), @r"
    exit 1
    --- stderr
    error: no network `public`
    ");
    insta::assert_snapshot!(server.run("instance create web --project alpha"), @r"
    exit 1
    --- stderr
    error: no project `alpha`
    ");
}

#[test]
fn a_wrong_token_is_refused() {
    let server = Server::start();
    let output = server.command(&["project", "list"]).env("TRESTLE_TOKEN", "wrong").output().unwrap();
    insta::assert_snapshot!(server.seen(&output), @r"
    exit 1
    --- stderr
    error: the token is not one of this controller's

    hint: `trestle token create` makes a new one
    ");
}

#[test]
fn a_member_sees_its_own_project_only() {
    let server = Server::start();
    for line in [
        "project create alpha",
        "project create beta",
        "network create public --cidr 10.0.0.0/24 --bridge br100",
        "instance create web --project beta --network public",
    ] {
        server.given(line);
    }
    let secret = server.stdout("token create --role member --project alpha");
    let member = |line: &str| {
        let args: Vec<&str> = line.split_whitespace().collect();
        server.seen(&server.command(&args).env("TRESTLE_TOKEN", secret.trim()).output().unwrap())
    };
    insta::assert_snapshot!(member("project list"), @r"
    exit 0
    --- stdout
    NAME   CREATED
    alpha  [time]
    ");
    insta::assert_snapshot!(member("instance show web --project beta"), @r"
    exit 1
    --- stderr
    error: no project `beta`
    ");
    insta::assert_snapshot!(member("host create kvm1"), @r"
    exit 1
    --- stderr
    error: making a host known is for admins
    ");
    insta::assert_snapshot!(member("instance create mine"), @r"
    exit 0
    --- stderr
    created instance mine (10.0.0.3 on public)
    ");
    insta::assert_snapshot!(member("instance list"), @r"
    exit 0
    --- stdout
    NAME  PROJECT  ADDRESSES  HOST  STATE
    mine  alpha    10.0.0.3   -     detached
    ");
}
