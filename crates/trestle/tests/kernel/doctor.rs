//! The doctor: each fault is made for real on a host and hurts, is found, is mended by the commands that
//! are printed, and is found no more.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trestle_lab::{Lab, NetnsGuest, until};

use crate::cloud::{
    BRIDGE, DEADLINE, HOST, INTERNET, NETWORK, PROJECT, create, empty_cloud, guest, guest_on, has_link, kill,
    no_ping, ping, public_network, wait_until_host_is_whole,
};

/// A lab of one host with a guest that reaches the outside.
fn well() -> Result<(Lab, NetnsGuest)> {
    let lab = empty_cloud(1)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24", "--mtu", "1450"])?;
    let web = guest(&lab, "web")?;
    ping(&lab, &web.node, INTERNET)?;
    is_well(&lab, HOST)?;
    Ok((lab, web))
}

/// What the doctor finds on a host, what only this kernel lacks aside; its exit status must fit.
fn findings(lab: &Lab, host: &str, flags: &[&str]) -> Result<Vec<Value>> {
    let trestle = lab.running().trestle.display().to_string();
    let socket = lab.agent(host)?.socket().display().to_string();
    let argv = [&[&trestle[..], "doctor", "--json", "--agent-socket", &socket], flags].concat();
    let output = lab.exec(host, &argv)?;
    let found: Vec<Value> = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("reading what doctor says: {output:?}"))?;
    let is_broken = found.iter().any(|finding| finding["severity"] == "broken");
    ensure!(output.status.code() == Some(i32::from(is_broken)), "{output:?}");
    let is_lack = |finding: &Value| finding["code"] == "kernel_lacks" && finding["severity"] == "note";
    Ok(found.into_iter().filter(|finding| !is_lack(finding)).collect())
}

fn is_well(lab: &Lab, host: &str) -> Result<()> {
    let found = findings(lab, host, &[])?;
    ensure!(found.is_empty(), "{host} is well: {found:#?}");
    Ok(())
}

/// The findings of this code, which has to be there.
fn found(lab: &Lab, host: &str, code: &str, flags: &[&str]) -> Result<Vec<Value>> {
    let all = findings(lab, host, flags)?;
    let (found, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|finding| finding["code"] == code);
    ensure!(!found.is_empty(), "no {code} on {host} among {others:#?}");
    Ok(found)
}

/// Runs the commands that the findings give.
fn mend(lab: &Lab, host: &str, findings: &[Value]) -> Result<Vec<String>> {
    let lists = findings.iter().filter_map(|finding| finding["commands"].as_array());
    let commands: Vec<String> = lists.flatten().filter_map(|one| Some(one.as_str()?.to_owned())).collect();
    ensure!(!commands.is_empty(), "no command mends {findings:#?}");
    for command in &commands {
        lab.exec_ok(host, &["sh", "-ec", command])?;
    }
    Ok(commands)
}

fn text(findings: &[Value]) -> String {
    findings.iter().filter_map(|finding| finding["text"].as_str()).collect::<Vec<_>>().join("\n")
}

fn shell(lab: &Lab, node: &str, script: &str) -> Result<String> {
    lab.exec_ok(node, &["sh", "-ec", script])
}

#[test]
fn a_policy_that_drops_is_found_whoever_made_it() -> Result<()> {
    const CASES: [(&str, &str, &str); 6] = [
        (
            "nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'",
            "chain FORWARD of table ip filter drops",
            "iptables -I FORWARD -i br100 -j ACCEPT",
        ),
        (
            "nft 'add table inet site; add chain inet site transit { type filter hook forward priority 10; policy drop; };
                add rule inet site transit ct state vmap { established : accept, related : accept, invalid : drop }'",
            "chain transit of table inet site drops",
            r#"nft 'insert rule inet site transit iifname "br100" accept'"#,
        ),
        (
            "iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER
            iptables -A DOCKER-USER -j RETURN
            iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
            "Docker's chain FORWARD of table ip filter drops",
            "iptables -I DOCKER-USER -i br100 -j ACCEPT",
        ),
        (
            "iptables -P FORWARD ACCEPT
            nft 'add chain ip filter own { type filter hook forward priority 5; policy drop; }'",
            "chain own of table ip filter drops",
            r#"nft 'insert rule ip filter own iifname "br100" accept'"#,
        ),
        (
            "iptables-legacy -P FORWARD DROP",
            "chain FORWARD of legacy table ip filter drops",
            "iptables-legacy -I FORWARD -i br100 -j ACCEPT",
        ),
        (
            "iptables -A FORWARD -i br+ -j REJECT",
            "(-A FORWARD -i br+ -j REJECT --reject-with icmp-port-unreachable)",
            "iptables -I FORWARD -i br100 -j ACCEPT",
        ),
    ];
    let (lab, web) = well()?;
    for (rules, says, mended_by) in CASES {
        shell(&lab, HOST, rules)?;
        no_ping(&lab, &web.node, INTERNET)?;
        let found = found(&lab, HOST, "packets_dropped", &[])?;
        ensure!(text(&found).contains(says), "{rules}: {found:#?}");
        ensure!(found[0]["bridges"] == serde_json::json!([BRIDGE]), "{found:#?}");
        ensure!(found[0]["instances"] == serde_json::json!(["web"]), "{found:#?}");
        let commands = mend(&lab, HOST, &found)?;
        ensure!(commands.iter().any(|command| command == mended_by), "{commands:?}");
        ping(&lab, &web.node, INTERNET)?;
        is_well(&lab, HOST).context(rules)?;
        shell(
            &lab,
            HOST,
            "iptables-legacy -F; iptables-legacy -P FORWARD ACCEPT; nft delete table ip filter || true
            nft delete table inet site 2>/dev/null || true",
        )?;
    }
    Ok(())
}

/// A rule that asks what is not known here, or that is about a part, is told of and taken for no more than
/// it is.
#[test]
fn rules_that_may_drop_are_told_of() -> Result<()> {
    const SETS: &str = "add set ip fw2 bad { type ipv4_addr; }; add element ip fw2 bad { 10.0.0.2 };
        add set ip fw2 ifs { type ifname; }; add element ip fw2 ifs { \"br100\" };";
    let make = |rule: &str| {
        format!(
            "nft 'add table ip fw2; {SETS}
                add chain ip fw2 c {{ type filter hook forward priority 0; }}; add rule ip fw2 c {rule}'"
        )
    };
    let (lab, web) = well()?;
    for rule in ["ip saddr @bad drop", "iifname @ifs drop", "ip protocol icmp drop"] {
        shell(&lab, HOST, &make(rule))?;
        no_ping(&lab, &web.node, INTERNET)?;
        let found = found(&lab, HOST, "packets_dropped", &[])?;
        ensure!(found[0]["severity"] == "may_break", "{rule}: {found:#?}");
        ensure!(text(&found).contains("chain c of table ip fw2 may drop some of"), "{rule}: {found:#?}");
        mend(&lab, HOST, &found)?;
        ping(&lab, &web.node, INTERNET)?;
        is_well(&lab, HOST).context(rule)?;
        shell(&lab, HOST, "nft delete table ip fw2")?;
    }
    for nobody_s in ["iifname docker0 ip saddr @bad drop", "ct state invalid drop", "oifname virbr0 drop"] {
        shell(&lab, HOST, &make(nobody_s))?;
        is_well(&lab, HOST).context(nobody_s)?;
        shell(&lab, HOST, "nft delete table ip fw2")?;
    }
    Ok(())
}

#[test]
fn requests_to_the_gateway_that_others_drop_are_found() -> Result<()> {
    let (lab, web) = well()?;
    shell(&lab, HOST, "iptables -P INPUT DROP; iptables -A INPUT -i lo -j ACCEPT")?;
    create(&lab, "late")?;
    ensure!(lab.guest_netns(HOST, "late", NETWORK).is_err(), "no lease gets past it");
    no_ping(&lab, &web.node, "10.0.0.1")?;
    let found = found(&lab, HOST, "packets_dropped", &[])?;
    ensure!(text(&found).contains("instances' requests for an address"), "{found:#?}");
    mend(&lab, HOST, &found)?;
    lab.dhcp("vm-late")?;
    ping(&lab, &web.node, "10.0.0.1")?;
    is_well(&lab, HOST)
}

#[test]
fn what_is_bridged_and_dropped_by_rules_of_ip_is_found() -> Result<()> {
    let (lab, web) = well()?;
    guest(&lab, "db")?;
    let on = "sysctl -w net.bridge.bridge-nf-call-iptables=1";
    shell(&lab, HOST, on)?;
    let filtered = found(&lab, HOST, "bridges_filtered", &[])?;
    ensure!(filtered[0]["severity"] == "may_break", "alone it harms nobody: {filtered:#?}");
    ping(&lab, &web.node, "10.0.0.3")?;
    shell(
        &lab,
        HOST,
        "iptables -P FORWARD DROP; iptables -A FORWARD ! -o br100 -j ACCEPT
        iptables -A FORWARD ! -i br100 -j ACCEPT",
    )?;
    no_ping(&lab, &web.node, "10.0.0.3")?;
    let dropped = found(&lab, HOST, "packets_dropped", &[])?;
    ensure!(text(&dropped).contains("what instances on one bridge send to each other"), "{dropped:#?}");
    mend(&lab, HOST, &dropped)?;
    ping(&lab, &web.node, "10.0.0.3")?;
    let left = findings(&lab, HOST, &[])?;
    ensure!(left == filtered, "{left:#?}");
    mend(&lab, HOST, &filtered)?;
    // Its own bridges are filtered whatever the setting for all of them is.
    ping(&lab, &web.node, "10.0.0.3")?;
    is_well(&lab, HOST)
}

#[test]
fn frames_that_a_chain_of_bridges_drops_are_found() -> Result<()> {
    let (lab, web) = well()?;
    guest(&lab, "db")?;
    shell(
        &lab,
        HOST,
        "nft 'add table bridge site; add chain bridge site transit { type filter hook forward priority 0; policy drop; }'",
    )?;
    no_ping(&lab, &web.node, "10.0.0.3")?;
    mend(&lab, HOST, &found(&lab, HOST, "packets_dropped", &[])?)?;
    ping(&lab, &web.node, "10.0.0.3")?;
    is_well(&lab, HOST)
}

#[test]
fn forwarding_that_is_off_is_found_with_and_without_the_agent() -> Result<()> {
    let (lab, web) = well()?;
    // The agent does not look after the setting of one device.
    shell(&lab, HOST, "sysctl -w net.ipv4.conf.br100.forwarding=0")?;
    no_ping(&lab, &web.node, INTERNET)?;
    mend(&lab, HOST, &found(&lab, HOST, "forwarding_off", &[])?)?;
    ping(&lab, &web.node, INTERNET)?;
    is_well(&lab, HOST)?;
    lab.agent(HOST)?.stop()?;
    shell(&lab, HOST, "sysctl -w net.ipv4.ip_forward=0")?;
    no_ping(&lab, &web.node, INTERNET)?;
    let off = found(&lab, HOST, "forwarding_off", &[])?;
    ensure!(off[0]["instances"] == serde_json::json!([web.attached.device]), "{off:#?}");
    ensure!(mend(&lab, HOST, &off)? == ["sysctl -w net.ipv4.ip_forward=1"]);
    ping(&lab, &web.node, INTERNET)?;
    let left = findings(&lab, HOST, &[])?;
    ensure!(left.len() == 1 && left[0]["code"] == "agent_unreachable", "{left:#?}");
    lab.agent(HOST)?.start()?;
    until("the doctor finds nothing", DEADLINE, || Ok(is_well(&lab, HOST).ok()))
}

/// What instances begin themselves passes, and what is begun outside does not.
#[test]
fn what_is_sent_to_floating_ips_and_dropped_is_found() -> Result<()> {
    const FLOATING: &str = "203.0.113.20";
    let (lab, web) = well()?;
    lab.cli_ok(&["pool", "create", "ext", "--range", "203.0.113.20-203.0.113.29"])?;
    lab.cli_ok(&["floating-ip", "reserve", "--pool", "ext", "--project", PROJECT, "--address", FLOATING])?;
    lab.cli_ok(&["floating-ip", "associate", FLOATING, "web"])?;
    until("it answers", DEADLINE, || Ok(ping(&lab, "outside", FLOATING).ok()))?;
    is_well(&lab, HOST)?;
    shell(
        &lab,
        HOST,
        "iptables -P FORWARD DROP; iptables -A FORWARD -i br100 -j ACCEPT
        iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    )?;
    ping(&lab, &web.node, INTERNET)?;
    no_ping(&lab, "outside", FLOATING)?;
    let dropped = found(&lab, HOST, "packets_dropped", &[])?;
    ensure!(text(&dropped).contains("drops what is sent to floating IPs (policy drop)"), "{dropped:#?}");
    ensure!(mend(&lab, HOST, &dropped)? == ["iptables -I FORWARD -o br100 -j ACCEPT"]);
    ping(&lab, "outside", FLOATING)?;
    is_well(&lab, HOST)
}

#[test]
fn ipv6_is_looked_at_like_ipv4() -> Result<()> {
    let lab = empty_cloud(1)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24", "--cidr-v6", "fd00:9::/64"])?;
    guest(&lab, "web")?;
    wait_until_host_is_whole(&lab, HOST)?;
    is_well(&lab, HOST)?;
    shell(&lab, HOST, "ip6tables -P FORWARD DROP")?;
    let dropped = found(&lab, HOST, "packets_dropped", &[])?;
    ensure!(text(&dropped).contains("chain FORWARD of table ip6 filter"), "{dropped:#?}");
    let commands = mend(&lab, HOST, &dropped)?;
    ensure!(commands.contains(&"ip6tables -I FORWARD -i br100 -j ACCEPT".to_owned()), "{commands:?}");
    lab.agent(HOST)?.stop()?;
    shell(&lab, HOST, "sysctl -w net.ipv6.conf.all.forwarding=0")?;
    let off = found(&lab, HOST, "forwarding_off", &[])?;
    ensure!(mend(&lab, HOST, &off)? == ["sysctl -w net.ipv6.conf.all.forwarding=1"]);
    let left = findings(&lab, HOST, &[])?;
    ensure!(left.len() == 1 && left[0]["code"] == "agent_unreachable", "{left:#?}");
    Ok(())
}

/// Without a right to look, nothing is taken for well.
#[test]
fn what_cannot_be_looked_at_is_a_finding() -> Result<()> {
    let (lab, _web) = well()?;
    let trestle = lab.running().trestle.display().to_string();
    let socket = lab.agent(HOST)?.socket().display().to_string();
    let powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let argv = [&powerless[..], &[&trestle, "doctor", "--json", "--agent-socket", &socket]].concat();
    let output = lab.exec(HOST, &argv)?;
    let found: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let not_looked = found.iter().filter(|finding| finding["code"] == "not_looked").count();
    ensure!(not_looked >= 2, "neither the rules nor the features: {found:#?}");
    Ok(())
}

/// Instances leave by the public interface, and the host itself by another: answers come in by what the
/// host would not answer by.
#[test]
fn a_strict_reverse_path_filter_that_drops_answers_is_found() -> Result<()> {
    let (lab, web) = well()?;
    shell(
        &lab,
        HOST,
        "ip address add 10.99.0.2/24 dev eth2; ip route replace default via 10.99.0.1 dev eth2
        ip route add default via 203.0.113.1 dev eth0 table 100; ip rule add fwmark 1 lookup 100
        nft 'add table inet site; add chain inet site pre { type filter hook prerouting priority -150; };
            add rule inet site pre iifname \"br100\" meta mark set 1'",
    )?;
    ping(&lab, &web.node, INTERNET)?;
    is_well(&lab, HOST)?;
    shell(&lab, HOST, "sysctl -w net.ipv4.conf.all.rp_filter=1")?;
    no_ping(&lab, &web.node, INTERNET)?;
    let strict = found(&lab, HOST, "reverse_path_strict", &[])?;
    ensure!(mend(&lab, HOST, &strict)? == ["sysctl -w net.ipv4.conf.eth0.rp_filter=2"]);
    ping(&lab, &web.node, INTERNET)?;
    is_well(&lab, HOST)
}

#[test]
fn a_device_that_carries_less_than_the_network_is_found() -> Result<()> {
    let lab = empty_cloud(2)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24", "--mtu", "1450"])?;
    let (one, _two) = (guest_on(&lab, "host1", "one")?, guest_on(&lab, "host2", "two")?);
    let large =
        || lab.exec_ok(&one.node, &["ping", "-c", "1", "-W", "2", "-M", "do", "-s", "1400", "10.0.0.3"]);
    large()?;
    for device in ["eth1", one.attached.device.as_str()] {
        shell(&lab, "host1", &format!("ip link set dev {device} mtu 1300"))?;
        if device == "eth1" {
            ensure!(large().is_err(), "large packets are lost");
            let small = found(&lab, "host1", "mtu_too_small", &[])?;
            ensure!(mend(&lab, "host1", &small)? == ["ip link set dev eth1 mtu 1450"]);
        }
        // What is Trestle's own the agent has put right before anybody could look.
        until("large packets pass", DEADLINE, || Ok(large().ok()))?;
        is_well(&lab, "host1")?;
    }
    is_well(&lab, "host2")
}

#[test]
fn a_foreign_dhcp_server_is_found_only_when_asked_for() -> Result<()> {
    let lab = empty_cloud(2)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24", "--single-host", "--gateway-host", "host1"])?;
    guest_on(&lab, "host1", "one")?;
    guest_on(&lab, "host2", "two")?;
    let ours = findings(&lab, "host2", &["--probe"])?;
    ensure!(ours.is_empty(), "the gateway's own server on host1 is none: {ours:#?}");
    shell(&lab, "switch", "ip address add 10.0.0.200/24 dev flat")?;
    let server = lab.spawn(
        "switch",
        &[
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--pid-file=",
            "--no-ping",
            "--interface=flat",
            "--bind-interfaces",
            "--dhcp-range=10.0.0.210,10.0.0.220",
            "--user=root",
            "--dhcp-leasefile=/dev/null",
            "--log-facility=-",
        ],
    )?;
    until("the server listens", DEADLINE, || Ok(server.output()?.contains("DHCP").then_some(())))?;
    is_well(&lab, "host2")?;
    // Even where its own server is away for a moment: what another one gives a guest is not its address.
    lab.agent("host1")?.stop()?;
    kill(&lab, "host1", "dnsmasq")?;
    ensure!(lab.dhcp("vm-two").is_err(), "the other is not heard");
    for host in ["host2", "host1"] {
        let foreign = found(&lab, host, "foreign_dhcp", &["--probe"])?;
        ensure!(text(&foreign).contains("10.0.0.200 at "), "{foreign:#?}");
        mend(&lab, host, &foreign)?;
        let left = findings(&lab, host, &["--probe"])?;
        ensure!(left.iter().all(|finding| finding["code"] == "agent_unreachable"), "{left:#?}");
    }
    lab.agent("host1")?.start()?;
    wait_until_host_is_whole(&lab, "host1")?;
    ensure!(lab.dhcp("vm-two")?.server == "10.0.0.1");
    ensure!(has_link(&lab, "host1", BRIDGE)?, "nothing else changed");
    Ok(())
}

#[test]
fn what_the_agent_cannot_do_is_found() -> Result<()> {
    let (lab, _web) = well()?;
    lab.cli_ok(&["host", "set", HOST, "--public-interface", "eth9"])?;
    until("the agent says so", DEADLINE, || {
        let all = findings(&lab, HOST, &[])?;
        Ok(all.iter().any(|finding| finding["code"] == "host_problem").then_some(()))
    })?;
    lab.cli_ok(&["host", "set", HOST, "--public-interface", "eth0"])?;
    until("the doctor finds nothing", DEADLINE, || Ok(is_well(&lab, HOST).ok()))?;
    lab.controller().stop()?;
    until("the agent has noticed", DEADLINE, || {
        Ok(found(&lab, HOST, "controller_unreachable", &[]).ok().map(drop))
    })
}
