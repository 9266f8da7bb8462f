//! What instances ask 169.254.169.254 reaches the metadata service outside, with who asks.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::NamedTempFile;
use trestle_lab::{Lab, NetnsGuest, OUTSIDE, Process, Topology, until};

use crate::cloud::{
    BRIDGE, DEADLINE, HOST, NETWORK, Watch, cloud, create_on, empty_cloud_with, guest, guest_on, ping,
    processes, public_network, ruleset, told, wait_until_host_is_whole,
};

/// Answers each request with its headers.
const SERVICE: &str = "
import http.server, sys
class Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = (self.requestline + '\\n' + str(self.headers)).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(told)))
        self.end_headers()
        self.wfile.write(told)
http.server.ThreadingHTTPServer(('', int(sys.argv[1])), Service).serve_forever()
";

const FORGED: &str = "00000000-0000-0000-0000-00000000beef";

/// A lab with a metadata service outside, and what is to live as long.
struct Stage {
    lab: Lab,
    _service: Process,
    config: NamedTempFile,
    _secret: NamedTempFile,
}

impl Stage {
    /// So many hosts, and the network `public` by these arguments.
    fn new(hosts: u8, network: &[&str]) -> Result<Self> {
        let (config, secret) = (NamedTempFile::new()?, NamedTempFile::new()?);
        std::fs::write(&config, format!("[server]\nmetadata_host = \"{OUTSIDE}\"\n"))?;
        std::fs::write(&secret, "hunter2\n")?;
        let path = |file: &NamedTempFile| file.path().to_string_lossy().into_owned();
        let mut topology = Topology::for_test(hosts);
        topology.server_arguments.extend(["--config".into(), path(&config)]);
        topology.agent_arguments.extend(["--metadata-secret-file".into(), path(&secret)]);
        let lab = empty_cloud_with(&topology)?;
        public_network(&lab, &[&["--cidr", "10.0.0.0/24"], network].concat())?;
        let service = serve(&lab, "outside", "8775")?;
        Ok(Self { lab, _service: service, config, _secret: secret })
    }
}

/// Starts a service on this port of the node.
fn serve(lab: &Lab, node: &str, port: &str) -> Result<Process> {
    let service = lab.spawn(node, &["/usr/bin/python3", "-c", SERVICE, port])?;
    wait_until_listening(lab, node, port)?;
    Ok(service)
}

fn wait_until_listening(lab: &Lab, node: &str, port: &str) -> Result<()> {
    until(&format!("{node} listens on port {port}"), DEADLINE, || {
        let listening = lab.exec_ok(node, &["ss", "-Hltn", &format!("sport = :{port}")])?;
        Ok((!listening.trim().is_empty()).then_some(()))
    })
}

/// What is answered there.
fn fetch(lab: &Lab, node: &str, url: &str) -> Result<String> {
    let forged = format!("X-Instance-ID: {FORGED}");
    lab.exec_ok(node, &["curl", "-sS", "-m", "5", "-H", &forged, url])
}

/// That nobody is spoken to there.
fn no_fetch(lab: &Lab, node: &str, url: &str) -> Result<()> {
    no_fetch_by(lab, node, &[url])
}

/// The same, where curl is to ask in this way.
fn no_fetch_by(lab: &Lab, node: &str, arguments: &[&str]) -> Result<()> {
    let output = lab.exec(node, &[&["curl", "-sS", "-m", "1"], arguments].concat())?;
    ensure!(!output.status.success(), "{node} is answered at {arguments:?}: {output:?}");
    Ok(())
}

/// Asserts that the service is told of this instance when the guest asks, and of nobody else.
fn check(lab: &Lab, guest: &NetnsGuest, instance: &str) -> Result<()> {
    let answer = fetch(lab, &guest.node, "http://169.254.169.254/latest/meta-data?x=y")?;
    let shown = told(lab, &["instance", "show", instance])?;
    let project = told(lab, &["project", "show", text(&shown, "project")?])?;
    let address = guest.lease.address.split('/').next().unwrap_or_default();
    let expected = [
        "GET /latest/meta-data?x=y HTTP/1.1".to_owned(),
        format!("x-instance-id: {}", text(&shown, "id")?),
        format!("x-tenant-id: {}", text(&project, "id")?),
        format!("x-forwarded-for: {address}"),
        format!("x-instance-id-signature: {}", signature(text(&shown, "id")?)?),
    ];
    for line in expected {
        ensure!(answer.lines().any(|told| told == line), "`{line}` is not in:\n{answer}");
    }
    ensure!(!answer.contains(FORGED), "what the guest said is in:\n{answer}");
    Ok(())
}

fn text<'a>(shown: &'a Value, key: &str) -> Result<&'a str> {
    shown[key].as_str().with_context(|| format!("{key} in {shown}"))
}

/// As openssl says.
fn signature(instance: &str) -> Result<String> {
    let script = format!("printf {instance} | openssl dgst -sha256 -hmac hunter2");
    let output = std::process::Command::new("sh").args(["-c", &script]).output()?;
    let said = String::from_utf8(output.stdout)?;
    Ok(said.rsplit(' ').next().unwrap_or_default().trim().to_owned())
}

#[test]
fn the_service_is_told_which_instance_asks_and_no_guest_can_say_otherwise() -> Result<()> {
    let stage = Stage::new(1, &[])?;
    let lab = &stage.lab;
    let web = guest(lab, "web1")?;
    lab.open_project("other")?;
    create_on(lab, "other", "db1", &[NETWORK])?;
    let db = lab.guest_netns(HOST, "db1", NETWORK)?;
    check(lab, &web, "web1")?;
    check(lab, &db, "db1")?;

    // Under another's address nothing comes to its host, not even where a guest may send from it.
    guest(lab, "web2")?;
    lab.exec_ok(&web.node, &["ip", "address", "add", "10.0.0.4/24", "dev", "eth0"])?;
    let as_another = ["--interface", "10.0.0.4", "http://169.254.169.254/"];
    no_fetch_by(lab, &web.node, &as_another)?;
    let pair = ["--allowed-address-pair", "10.0.0.4"];
    lab.cli_ok(&[&["instance", "interface", "set", "web1", NETWORK][..], &pair].concat())?;
    wait_until_host_is_whole(lab, HOST)?;
    no_fetch_by(lab, &web.node, &as_another)?;
    check(lab, &web, "web1")
}

#[test]
fn a_guest_may_ask_whatever_its_groups_say() -> Result<()> {
    let stage = Stage::new(2, &["--single-host", "--gateway-host", "host1"])?;
    let lab = &stage.lab;
    let (near, far) = (guest_on(lab, "host1", "near")?, guest_on(lab, "host2", "far")?);
    for instance in ["near", "far"] {
        lab.cli_ok(&["instance", "interface", "set", instance, NETWORK, "--security-group", ""])?;
    }
    for host in ["host1", "host2"] {
        wait_until_host_is_whole(lab, host)?;
    }
    no_fetch(lab, &far.node, &format!("http://{OUTSIDE}:8775/"))?;
    check(lab, &near, "near")?;
    check(lab, &far, "far")?;
    let listening = lab.exec_ok("host2", &["ss", "-Hltn", "sport = :7118"])?;
    ensure!(listening.trim().is_empty(), "a host that routes for nobody answers nobody: {listening}");
    Ok(())
}

#[test]
fn what_answers_is_reached_by_no_other_way() -> Result<()> {
    let stage = Stage::new(1, &[])?;
    let lab = &stage.lab;
    let web = guest(lab, "web1")?;
    check(lab, &web, "web1")?;
    lab.exec_ok("outside", &["ip", "route", "replace", "10.0.0.0/24", "via", "203.0.113.11"])?;
    ping(lab, "outside", "10.0.0.1")?;
    for from in [&web.node, "outside", HOST] {
        for address in ["10.0.0.1", "203.0.113.11"] {
            no_fetch(lab, from, &format!("http://{address}:7118/"))?;
        }
    }
    // Nobody outside is answered as a guest is.
    lab.exec_ok("outside", &["ip", "route", "add", "169.254.169.254", "via", "203.0.113.11"])?;
    no_fetch(lab, "outside", "http://169.254.169.254/")?;
    // Other ports of the address are nobody's.
    no_fetch(lab, &web.node, "http://169.254.169.254:7118/")?;
    no_fetch(lab, &web.node, "http://169.254.169.254:8775/")
}

#[test]
fn answering_goes_on_after_the_agent_was_away_and_ends_with_the_last_instance() -> Result<()> {
    let stage = Stage::new(1, &[])?;
    let lab = &stage.lab;
    let before = ruleset(lab, HOST)?;
    let web = guest(lab, "web1")?;
    let agent = lab.agent(HOST)?;
    agent.kill9()?;
    no_fetch(lab, &web.node, "http://169.254.169.254/")?;
    ping(lab, &web.node, crate::cloud::INTERNET)?;
    agent.start()?;
    wait_until_listening(lab, HOST, "7118")?;
    check(lab, &web, "web1")?;
    lab.detach(HOST, "web1", NETWORK)?;
    let listening = lab.exec_ok(HOST, &["ss", "-Hltn", "sport = :7118"])?;
    ensure!(listening.trim().is_empty(), "{listening}");
    ensure!(
        ruleset(lab, HOST)? == before && processes(lab, HOST, "dnsmasq")?.is_empty(),
        "something is left"
    );
    Ok(())
}

#[test]
fn hosts_follow_the_option() -> Result<()> {
    let stage = Stage::new(1, &[])?;
    let lab = &stage.lab;
    let web = guest(lab, "web1")?;
    let _other = serve(lab, "outside", "8776")?;
    let restart = |options: &str| -> Result<()> {
        std::fs::write(&stage.config, format!("[server]\n{options}"))?;
        lab.controller().kill9()?;
        lab.controller().start()
    };
    restart(&format!("metadata_host = \"{OUTSIDE}\"\nmetadata_port = 8776\n"))?;
    until("the other service is asked", DEADLINE, || {
        // In between nobody answers.
        let answer = fetch(lab, &web.node, "http://169.254.169.254/").unwrap_or_default();
        Ok(answer.contains(&format!("host: {OUTSIDE}:8776\n")).then_some(()))
    })?;
    restart("")?;
    until("nobody is asked", DEADLINE, || {
        let listening = lab.exec_ok(HOST, &["ss", "-Hltn", "sport = :7118"])?;
        Ok(listening.trim().is_empty().then_some(()))
    })?;
    wait_until_host_is_whole(lab, HOST)?;
    no_fetch(lab, &web.node, "http://169.254.169.254/")
}

/// A host may itself be a guest of a cloud, whose metadata are its own alone.
#[test]
fn without_a_service_nobody_answers_and_nothing_leaves() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    let web = guest(&lab, "web1")?;
    lab.exec_ok("outside", &["ip", "address", "add", "169.254.169.254/32", "dev", "eth0"])?;
    lab.exec_ok(HOST, &["ip", "address", "add", "169.254.1.1/32", "dev", "lo"])?;
    let _services = [serve(&lab, "outside", "80")?, serve(&lab, HOST, "80")?];
    fetch(&lab, HOST, "http://169.254.169.254/")?;
    let outside = Watch::start(&lab, "outside", "eth0", "tcp or icmp")?;
    for address in ["169.254.169.254", "169.254.1.1"] {
        no_fetch(&lab, &web.node, &format!("http://{address}/"))?;
    }
    // What comes after them is seen, so they would have been.
    ping(&lab, &web.node, crate::cloud::INTERNET)?;
    let frames = outside.wait_for("echo request")?;
    ensure!(!frames.iter().any(|frame| frame.contains("169.254.169.254")), "{}", frames.join("\n"));
    ensure!(
        !ruleset(&lab, HOST)?.contains(&format!("\"{BRIDGE}\" . {}", web.attached.mac)),
        "no way leads there"
    );
    Ok(())
}
