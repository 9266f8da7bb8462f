//! Floating IPs: public addresses that lead to instances, wherever these are, and follow them.
//!
//! Who asks is `client`, behind the router that the hosts' public segment has: a namespace of its own,
//! with no way to the hosts or guests but that.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use trestle_lab::{Lab, NetnsGuest, Process, Topology, until};

use crate::cloud::{
    BRIDGE, DEADLINE, NETWORK, PROJECT, Pinger, Watch, addresses, create_on, delete, empty_cloud, everything,
    guest_on, leaves_as, no_ping, ping, public_network, refusal, told, wait_until_host_is_whole,
};
use crate::vm::where_vlans_are;

const CLIENT: &str = "192.0.2.10";
const POOL: &str = "203.0.113.100-203.0.113.199";
const FIRST: &str = "203.0.113.100";
const SECOND: &str = "203.0.113.101";

/// A lab with the network `public`, a pool `ext`, and a client beyond the router.
fn stage(hosts: u8, network: &[&str]) -> Result<Lab> {
    let lab = empty_cloud(hosts)?;
    public_network(&lab, &[&["--cidr", "10.0.0.0/24", "--domain", "test.internal"], network].concat())?;
    lab.cli_ok(&["pool", "create", "ext", "--range", POOL])?;
    add_client(&lab)?;
    Ok(lab)
}

pub(crate) fn add_client(lab: &Lab) -> Result<()> {
    lab.exec_ok("controller", &["ip", "netns", "add", "client"])?;
    let cable = ["ip", "link", "add", "eth0", "netns", "client", "type", "veth", "peer", "eth1", "netns"];
    lab.exec_ok("controller", &[&cable[..], &["outside"]].concat())?;
    for (node, command) in [
        ("client", "ip link set lo up; ip link set eth0 up; ip address add 192.0.2.10/24 dev eth0"),
        ("outside", "ip link set eth1 up; ip address add 192.0.2.1/24 dev eth1"),
        ("client", "ip route add default via 192.0.2.1; ip address add 2001:db8:2::10/64 dev eth0 nodad"),
        ("outside", "sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"),
        (
            "outside",
            "ip address add 2001:db8:2::1/64 dev eth1 nodad; ip address add 2001:db8::1/64 dev eth0 nodad",
        ),
        ("client", "ip route add default via 2001:db8:2::1"),
    ] {
        lab.exec_ok(node, &["sh", "-ec", command])?;
    }
    Ok(())
}

fn reserve(lab: &Lab, address: &str) -> Result<()> {
    let command = ["floating-ip", "reserve", "--pool", "ext", "--project", PROJECT, "--address", address];
    lab.cli_ok(&command).map(drop)
}

fn associate(lab: &Lab, address: &str, instance: &str) -> Result<()> {
    lab.cli_ok(&["floating-ip", "associate", address, instance]).map(drop)
}

/// A guest with a floating IP.
fn served(lab: &Lab, host: &str, instance: &str, address: &str) -> Result<NetnsGuest> {
    let guest = guest_on(lab, host, instance)?;
    reserve(lab, address)?;
    associate(lab, address, instance)?;
    Ok(guest)
}

/// The hosts whose kernel has the address.
fn holders(lab: &Lab, hosts: &[&str], address: &str) -> Result<Vec<String>> {
    let mut holders = Vec::new();
    for host in hosts {
        if addresses(lab, host, "eth0")?.contains(&format!("{address}/32")) {
            holders.push((*host).to_owned());
        }
    }
    Ok(holders)
}

/// Something in a guest that answers on a TCP port with a word of its own and then with what it hears.
fn answer(lab: &Lab, node: &str, port: &str, word: &str) -> Result<Process> {
    let script = format!("exec busybox nc -ll -p {port} -e sh -c 'echo {word}; exec cat'");
    let server = lab.spawn(node, &["sh", "-c", &script])?;
    until("it listens", DEADLINE, || {
        let listening = lab.exec_ok(node, &["ss", "-Hltn", &format!("sport = :{port}")])?;
        Ok((!listening.trim().is_empty()).then_some(()))
    })?;
    Ok(server)
}

/// The word that answers there.
fn who_answers(lab: &Lab, from: &str, address: &str, port: &str) -> Result<String> {
    let script = format!("sleep 0.3 | busybox timeout 5 busybox nc -w 2 {address} {port} | head -n 1");
    Ok(lab.exec_ok(from, &["sh", "-c", &script])?.trim().to_owned())
}

/// A TCP connection that goes on: every tick that is sent comes back.
struct Talk(Process);

impl Talk {
    fn start(lab: &Lab, from: &str, address: &str, port: &str) -> Result<Self> {
        let script = format!("while echo tick; do sleep 0.02; done | busybox nc {address} {port}");
        let talk = Self(lab.spawn(from, &["sh", "-c", &script])?);
        talk.wait_for_more(3)?;
        Ok(talk)
    }

    fn ticks(&self) -> Result<usize> {
        Ok(self.0.output()?.matches("tick").count())
    }

    fn wait_for_more(&self, number: usize) -> Result<()> {
        let wanted = self.ticks()? + number;
        until("the connection goes on", DEADLINE, || Ok((self.ticks()? >= wanted).then_some(())))
    }

    fn ends(&mut self) -> Result<()> {
        until("the connection ends", DEADLINE, || Ok(self.0.must_run().is_err().then_some(())))
    }
}

#[test]
fn a_floating_ip_leads_to_its_instance_and_the_instance_leaves_under_it() -> Result<()> {
    let lab = stage(2, &["--cidr-v6", "fd00:9::/64"])?;
    let before = everything(&lab, "host1")?;
    let web = guest_on(&lab, "host1", "web")?;
    let without = everything(&lab, "host1")?;
    ping(&lab, &web.node, CLIENT)?;
    leaves_as(&lab, &web.node, "203.0.113.11")?;
    reserve(&lab, FIRST)?;
    ensure!(holders(&lab, &["host1", "host2"], FIRST)?.is_empty(), "reserved, it is nowhere");
    no_ping(&lab, "client", FIRST)?;

    // Twice is once.
    for _ in 0..2 {
        associate(&lab, FIRST, "web")?;
    }
    ensure!(holders(&lab, &["host1", "host2"], FIRST)? == ["host1"]);
    ping(&lab, "client", FIRST)?;
    leaves_as(&lab, &web.node, FIRST)?;
    let _server = answer(&lab, &web.node, "7000", "web")?;
    ensure!(who_answers(&lab, "client", FIRST, "7000")? == "web");
    let seen = Watch::start(&lab, &web.node, "eth0", "icmp[icmptype] == icmp-echo")?;
    ping(&lab, "client", FIRST)?;
    seen.wait_for(&format!("{CLIENT} > 10.0.0.2")).context("the guest sees who asks")?;
    // The host's own services are not to be had under it.
    let _own = answer(&lab, "host1", "7001", "host")?;
    ensure!(who_answers(&lab, "client", "203.0.113.11", "7001")? == "host", "they are there");
    ensure!(
        who_answers(&lab, "client", FIRST, "7001").is_err()
            || who_answers(&lab, "client", FIRST, "7001")?.is_empty()
    );

    // Who asks all the while is answered by the guest again, not by the host.
    let pinger = Pinger::start(&lab, "client", FIRST)?;
    lab.cli_ok(&["floating-ip", "disassociate", FIRST])?;
    associate(&lab, FIRST, "web")?;
    let seen = Watch::start(&lab, &web.node, "eth0", "icmp[icmptype] == icmp-echo")?;
    seen.wait_for(&format!("{CLIENT} > 10.0.0.2"))?;
    drop(pinger);

    for _ in 0..2 {
        lab.cli_ok(&["floating-ip", "disassociate", FIRST])?;
    }
    let left = everything(&lab, "host1")?;
    let left: Vec<&str> = left.lines().filter(|line| !line.contains("timeout 2m")).collect();
    ensure!(left == without.lines().collect::<Vec<_>>(), "nothing is left of it: {left:?}");
    no_ping(&lab, "client", FIRST)?;
    leaves_as(&lab, &web.node, "203.0.113.11")?;
    lab.cli_ok(&["floating-ip", "release", FIRST])?;
    delete(&lab, "web")?;
    until("host1 is as it was", DEADLINE, || Ok((everything(&lab, "host1")? == before).then_some(())))
}

#[test]
fn an_ipv6_floating_ip_leads_to_its_instance_too() -> Result<()> {
    let lab = stage(1, &["--cidr-v6", "fd00:9::/64"])?;
    lab.exec_ok(
        "host1",
        &["sh", "-ec", "ip address add 2001:db8::11/64 dev eth0 nodad; ip route add default via 2001:db8::1"],
    )?;
    lab.cli_ok(&["pool", "add-range", "ext", "2001:db8::100-2001:db8::1ff"])?;
    let web = guest_on(&lab, "host1", "web")?;
    crate::ipv6::dhcp6(&lab, &web.node)?;
    let address = "2001:db8::100";
    reserve(&lab, address)?;
    associate(&lab, address, "web")?;
    until("it answers", DEADLINE, || Ok(ping(&lab, "client", address).ok()))?;
    let outside = Watch::start(&lab, "client", "eth0", "icmp6 && ip6[40] == 128")?;
    ping(&lab, &web.node, "2001:db8:2::10")?;
    outside.wait_for(&format!("{address} > 2001:db8:2::10")).map(drop)
}

#[test]
fn instances_reach_each_other_by_their_floating_ips_wherever_they_are() -> Result<()> {
    instances_reach_each_other(&stage(2, &[])?)
}

/// What comes from another host and goes back to it is translated where it is bridged, if the gateway has
/// guests of the network itself, and no bridge sends a packet back by the port that it came by.
#[test]
fn instances_behind_one_gateway_reach_each_other_by_their_floating_ips() -> Result<()> {
    let lab = stage(3, &["--single-host", "--gateway-host", "host3"])?;
    instances_reach_each_other(&lab)?;
    let near = served(&lab, "host3", "near", "203.0.113.103")?;
    ping(&lab, &near.node, "203.0.113.103")?;
    ping(&lab, "vm-one", "203.0.113.103")
}

/// On one bridge, across hosts, from the host itself, and from the instance itself.
fn instances_reach_each_other(lab: &Lab) -> Result<()> {
    let one = served(lab, "host1", "one", FIRST)?;
    let two = served(lab, "host1", "two", SECOND)?;
    let far = served(lab, "host2", "far", "203.0.113.102")?;
    let bare = guest_on(lab, "host1", "bare")?;
    let servers: Result<Vec<Process>> = [(&one, "one"), (&two, "two"), (&far, "far")]
        .into_iter()
        .map(|(guest, word)| answer(lab, &guest.node, "7000", word))
        .collect();
    let _servers = servers?;
    for from in [&one.node, &two.node, &far.node, &bare.node, "host1", "host2"] {
        for (address, word) in [(FIRST, "one"), (SECOND, "two"), ("203.0.113.102", "far")] {
            ping(lab, from, address).with_context(|| format!("{from} to {word}"))?;
            let answered = who_answers(lab, from, address, "7000")?;
            ensure!(answered == word, "{from} asks {address} and hears `{answered}`");
        }
    }
    // Who asks on the same bridge is seen under its floating IP, where it has one.
    let seen = Watch::start(lab, &two.node, "eth0", "icmp[icmptype] == icmp-echo")?;
    ping(lab, &one.node, SECOND)?;
    seen.wait_for(&format!("{FIRST} > 10.0.0.3"))?;
    let seen = Watch::start(lab, &far.node, "eth0", "icmp[icmptype] == icmp-echo")?;
    ping(lab, &one.node, "203.0.113.102")?;
    seen.wait_for(&format!("{FIRST} > 10.0.0.4")).map(drop)
}

#[test]
fn a_floating_ip_of_a_single_host_network_is_at_its_gateway_and_moves_with_it() -> Result<()> {
    let lab = stage(3, &["--single-host", "--gateway-host", "host1"])?;
    let hosts = ["host1", "host2", "host3"];
    let web = served(&lab, "host2", "web", FIRST)?;
    ensure!(holders(&lab, &hosts, FIRST)? == ["host1"]);
    leaves_as(&lab, &web.node, FIRST)?;
    let pinger = Pinger::start_every(&lab, "0.01", "client", FIRST)?;
    lab.cli_ok(&["network", "set-gateway", NETWORK, "host3"])?;
    pinger.wait_for_more(20)?;
    let lost = pinger.lost()?;
    println!("a floating IP moved with its gateway: {lost} pings of 10 ms were lost");
    ensure!(lost < 200, "{lost} pings of 10 ms were lost");
    until("host3 alone has it", DEADLINE, || Ok((holders(&lab, &hosts, FIRST)? == ["host3"]).then_some(())))?;
    leaves_as(&lab, &web.node, FIRST)
}

#[test]
fn a_floating_ip_follows_its_instance_to_another_host() -> Result<()> {
    let lab = stage(2, &[])?;
    let web = served(&lab, "host1", "web", FIRST)?;
    let _server = answer(&lab, &web.node, "7000", "web")?;
    let pinger = Pinger::start_every(&lab, "0.01", "client", FIRST)?;
    lab.cli_ok(&["instance", "move", "web", "--to", "host2"])?;
    lab.exec_ok(&web.node, &["ip", "link", "set", "eth0", "up"])?;
    lab.dhcp(&web.node)?;
    pinger.wait_for_more(20)?;
    println!("a floating IP followed its instance: {} pings of 10 ms were lost", pinger.lost()?);
    ensure!(holders(&lab, &["host1", "host2"], FIRST)? == ["host2"]);
    leaves_as(&lab, &web.node, FIRST)?;
    lab.detach("host2", "web", NETWORK)?;
    ensure!(
        holders(&lab, &["host1", "host2"], FIRST)?.is_empty(),
        "where its instance is nowhere, it is too"
    );
    let shown = told(&lab, &["floating-ip", "show", FIRST])?;
    ensure!(shown["state"] == "detached" && shown["instance"] == "web", "{shown}");
    Ok(())
}

/// It answers from the new instance within a second; what went to the old one ends, and nothing else.
#[test]
fn a_floating_ip_moves_to_an_instance_on_another_host_at_once_and_others_do_not_notice() -> Result<()> {
    let lab = stage(2, &[])?;
    let blue = served(&lab, "host1", "blue", FIRST)?;
    let green = guest_on(&lab, "host2", "green")?;
    let other = served(&lab, "host1", "other", SECOND)?;
    let _servers = [
        answer(&lab, &blue.node, "7000", "blue")?,
        answer(&lab, &green.node, "7000", "green")?,
        answer(&lab, &other.node, "7000", "other")?,
    ];
    let mut to_blue = Talk::start(&lab, "client", FIRST, "7000")?;
    let bystander = Talk::start(&lab, "client", SECOND, "7000")?;
    let announced = Watch::start(&lab, "outside", "eth0", "arp")?;
    for (instance, host) in [("green", "host2"), ("blue", "host1"), ("green", "host2")] {
        let pinger = Pinger::start_every(&lab, "0.01", "client", FIRST)?;
        let begun = Instant::now();
        lab.cli_ok(&["floating-ip", "move", FIRST, instance])?;
        until("the new instance answers", DEADLINE, || {
            Ok((who_answers(&lab, "client", FIRST, "7000")? == instance).then_some(()))
        })?;
        let took = begun.elapsed();
        // Who has forgotten where it is is told by its new host, though that had it before and yielded it.
        lab.exec_ok("outside", &["ip", "neigh", "flush", "to", FIRST])?;
        ensure!(who_answers(&lab, "client", FIRST, "7000")? == instance);
        pinger.wait_for_more(20)?;
        let lost = pinger.lost()?;
        println!("a floating IP moved: {lost} pings of 10 ms were lost, asked until answered {took:?}");
        ensure!(lost < 100, "{lost} pings of 10 ms were lost");
        ensure!(holders(&lab, &["host1", "host2"], FIRST)? == [host]);
        bystander.wait_for_more(20)?;
    }
    announced.wait_for(&format!("Request who-has {FIRST} tell {FIRST}"))?;
    to_blue.ends()?;
    leaves_as(&lab, &green.node, FIRST)?;
    leaves_as(&lab, &blue.node, "203.0.113.11")?;

    // On one host, nothing but where it leads to changes.
    lab.cli_ok(&["floating-ip", "move", FIRST, "other"])?;
    lab.cli_ok(&["floating-ip", "move", FIRST, "blue"])?;
    ensure!(who_answers(&lab, "client", FIRST, "7000")? == "blue");
    bystander.wait_for_more(20)
}

#[test]
fn ports_of_one_address_lead_to_several_instances() -> Result<()> {
    let lab = stage(1, &[])?;
    let (one, two) = (guest_on(&lab, "host1", "one")?, guest_on(&lab, "host1", "two")?);
    let _servers = [answer(&lab, &one.node, "8080", "one")?, answer(&lab, &two.node, "8080", "two")?];
    let names =
        ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--port=5353"];
    let _names =
        lab.spawn(&two.node, &[&names[..], &["--no-resolv", "--address=/two.test/192.0.2.2"]].concat())?;
    reserve(&lab, FIRST)?;
    for (port, to) in [("tcp/80", "one:8080"), ("tcp/81", "two:8080"), ("udp/53", "two:5353")] {
        for _ in 0..2 {
            lab.cli_ok(&["floating-ip", "forward", FIRST, port, to])?;
        }
    }
    for from in ["client", &one.node, &two.node, "host1"] {
        ensure!(who_answers(&lab, from, FIRST, "80")? == "one", "from {from}");
        ensure!(who_answers(&lab, from, FIRST, "81")? == "two", "from {from}");
    }
    let resolved = until("the name is answered", DEADLINE, || {
        Ok(lab.exec_ok("client", &["busybox", "nslookup", "-type=a", "two.test", FIRST]).ok())
    })?;
    ensure!(resolved.contains("192.0.2.2"), "{resolved}");
    leaves_as(&lab, &one.node, "203.0.113.11").context("only answers leave under it")?;
    let complaint = refusal(&lab, &["floating-ip", "forward", FIRST, "tcp/80", "two:8080"])?;
    ensure!(complaint.contains("port tcp/80"), "{complaint}");

    // With the rest going to one of them, the ports still go where they went.
    associate(&lab, FIRST, "two")?;
    ensure!(
        who_answers(&lab, "client", FIRST, "80")? == "one"
            && who_answers(&lab, "client", FIRST, "8080")? == "two"
    );
    lab.cli_ok(&["floating-ip", "unforward", FIRST, "tcp/80"])?;
    ensure!(who_answers(&lab, "client", FIRST, "80").map_or(true, |said| said.is_empty()));
    ensure!(who_answers(&lab, "client", FIRST, "81")? == "two");
    Ok(())
}

/// The host's agent is dead while its floating IP goes to another host: it knows nothing of it, and is
/// silent all the same; when the agent is back, it lets go before it says a word.
#[test]
fn a_host_that_is_away_does_not_answer_for_what_another_host_was_given() -> Result<()> {
    let lab = stage(2, &[])?;
    let _old = served(&lab, "host1", "old", FIRST)?;
    let new = guest_on(&lab, "host2", "new")?;
    let _server = answer(&lab, &new.node, "7000", "new")?;
    let [mac_one, mac_two] = ["host1", "host2"].map(|host| {
        let link = crate::cloud::link(&lab, host, "eth0")?;
        Ok::<_, anyhow::Error>(link["address"].as_str().context("a MAC")?.to_owned())
    });
    let (mac_one, mac_two) = (mac_one?, mac_two?);
    lab.agent("host1")?.kill9()?;
    lab.cli_ok(&["floating-ip", "move", FIRST, "new"])?;
    ensure!(holders(&lab, &["host1", "host2"], FIRST)? == ["host1", "host2"], "nobody told host1");

    let wire = Watch::start(&lab, "outside", "eth0", &format!("arp and host {FIRST}"))?;
    let ask = |times: usize| -> Result<()> {
        for _ in 0..times {
            lab.exec_ok("outside", &["ip", "neigh", "flush", "to", FIRST])?;
            ensure!(who_answers(&lab, "client", FIRST, "7000")? == "new");
        }
        Ok(())
    };
    ask(5)?;
    // The same after a reboot of the host that knows nothing but its ledger, without a controller.
    lab.controller().kill9()?;
    lab.exec_ok("host1", &["ip", "address", "del", &format!("{FIRST}/32"), "dev", "eth0"])?;
    lab.exec_ok("host1", &["nft", "flush", "ruleset"])?;
    lab.agent("host1")?.start()?;
    until("host1 has the rest", DEADLINE, || {
        Ok(addresses(&lab, "host1", BRIDGE)?.contains("10.0.0.1/24").then_some(()))
    })?;
    ask(5)?;
    lab.controller().start()?;
    wait_until_host_is_whole(&lab, "host1")?;
    until("host2 alone has it", DEADLINE, || {
        Ok((holders(&lab, &["host1", "host2"], FIRST)? == ["host2"]).then_some(()))
    })?;
    ask(2)?;
    let said = wire.frames()?;
    ensure!(said.iter().any(|frame| frame.contains(&format!("{FIRST} is-at {mac_two}"))), "{said:?}");
    let wrong: Vec<&String> =
        said.iter().filter(|frame| frame.contains(&format!("is-at {mac_one}"))).collect();
    ensure!(wrong.is_empty(), "host1 answered: {wrong:?}");
    Ok(())
}

#[test]
fn names_of_instances_and_addresses_are_known_on_every_host_of_their_project() -> Result<()> {
    let lab = stage(2, &[])?;
    let web = served(&lab, "host1", "web", FIRST)?;
    let far = guest_on(&lab, "host2", "far")?;
    lab.cli_ok(&["dns", "domain", "create", "example.com"])?;
    lab.cli_ok(&["dns", "record", "set", "www", "--domain", "example.com", "--address", FIRST])?;
    for guest in [&web, &far] {
        for (asked, told) in [
            ("web.test.internal", "10.0.0.2"),
            ("far.test.internal", "10.0.0.3"),
            ("www.example.com", FIRST),
            (FIRST, "www.example.com"),
            ("10.0.0.2", "web.test.internal"),
        ] {
            until(&format!("{asked} is {told} on {}", guest.node), DEADLINE, || {
                // Of the one type only: others of what is not the network's own are asked outside.
                let kind =
                    if asked.ends_with(|last: char| last.is_numeric()) { &[][..] } else { &["-type=a"] };
                let question = [&["busybox", "nslookup"], kind, &[asked, "10.0.0.1"]].concat();
                let said = lab.exec_ok(&guest.node, &question);
                Ok(said.is_ok_and(|said| said.contains(told)).then_some(()))
            })?;
        }
    }
    delete(&lab, "far")?;
    lab.cli_ok(&["dns", "record", "delete", "www", "--domain", "example.com"])?;
    for gone in ["far.test.internal", "www.example.com"] {
        until(&format!("{gone} is gone"), DEADLINE, || {
            Ok(lab.exec_ok(&web.node, &["busybox", "nslookup", gone, "10.0.0.1"]).is_err().then_some(()))
        })?;
    }
    Ok(())
}

#[test]
fn instances_without_a_floating_ip_leave_as_their_host_says() -> Result<()> {
    let lab = stage(1, &[])?;
    let web = guest_on(&lab, "host1", "web")?;
    lab.exec_ok("host1", &["ip", "address", "add", "203.0.113.50/32", "dev", "eth0"])?;
    lab.cli_ok(&["host", "set", "host1", "--routing-source-ip", "203.0.113.50"])?;
    leaves_as(&lab, &web.node, "203.0.113.50")?;
    lab.cli_ok(&["host", "set", "host1", "--routing-source-ip", "none"])?;
    let outside = Watch::start(&lab, "outside", "eth0", "icmp[icmptype] == icmp-echo")?;
    no_ping(&lab, &web.node, crate::cloud::INTERNET)?;
    outside.wait_for("10.0.0.2 > ")?;
    lab.cli_ok(&["host", "set", "host1", "--routing-source-ip", "device"])?;
    leaves_as(&lab, &web.node, "203.0.113.11")
}

#[test]
fn exempt_ranges_are_reached_as_one_is_and_forced_ones_never() -> Result<()> {
    let config = tempfile::NamedTempFile::new()?;
    let ranges = "[server]\ndmz_cidr = [\"192.0.2.0/24\"]\nforce_snat_range = [\"192.0.2.10/32\"]\n";
    std::fs::write(&config, ranges)?;
    let mut topology = Topology::for_test(1);
    topology.server_arguments.extend(["--config".into(), config.path().to_string_lossy().into_owned()]);
    let lab = crate::cloud::cloud_with("10.0.0.0/24", &topology)?;
    lab.cli_ok(&["pool", "create", "ext", "--range", POOL])?;
    add_client(&lab)?;
    lab.exec_ok("outside", &["ip", "route", "add", "10.0.0.0/24", "via", "203.0.113.11"])?;
    let web = served(&lab, "host1", "web", FIRST)?;
    for (target, source) in
        [(crate::cloud::INTERNET, FIRST), ("192.0.2.1", "10.0.0.2"), (CLIENT, "203.0.113.11")]
    {
        let outside = Watch::start(&lab, "outside", "eth0", "icmp[icmptype] == icmp-echo")?;
        ping(&lab, &web.node, target)?;
        outside.wait_for(&format!("{source} > {target}"))?;
    }
    Ok(())
}

#[test]
fn a_network_that_nobody_outside_reaches_is_reached_by_a_floating_ip() -> Result<()> {
    where_vlans_are(|| {
        let lab = empty_cloud(2)?;
        add_client(&lab)?;
        lab.cli_ok(&["pool", "create", "ext", "--range", POOL])?;
        lab.open_project("other")?;
        let networks = ["network", "create", "v", "--cidr", "10.1.0.0/20", "--num-networks", "2"];
        lab.cli_ok(&[&networks[..], &["--network-size", "256", "--vlan-start", "101"]].concat())?;
        create_on(&lab, PROJECT, "one", &[])?;
        create_on(&lab, "other", "two", &[])?;
        let one = lab.guest_netns("host1", "one", "v-0")?;
        let two = lab.guest_netns("host1", "two", "v-1")?;
        no_ping(&lab, &two.node, "10.1.0.3")?;
        reserve(&lab, FIRST)?;
        associate(&lab, FIRST, "one")?;
        // From outside, from the other project's network on the same host, and by nothing else.
        for from in ["client", "host1", "host2", &two.node] {
            ping(&lab, from, FIRST).with_context(|| format!("from {from}"))?;
        }
        no_ping(&lab, &two.node, "10.1.0.3")?;
        leaves_as(&lab, &one.node, FIRST)
    })
}

/// Never two who have it and never nobody, once it has settled, whoever dies when.
#[test]
fn kills_at_random_during_moves_end_with_one_holder() -> Result<()> {
    let lab = stage(2, &[])?;
    let hosts = ["host1", "host2"];
    let blue = served(&lab, "host1", "blue", FIRST)?;
    let green = guest_on(&lab, "host2", "green")?;
    let bystander = served(&lab, "host1", "other", SECOND)?;
    let _servers = [
        answer(&lab, &blue.node, "7000", "blue")?,
        answer(&lab, &green.node, "7000", "green")?,
        answer(&lab, &bystander.node, "7000", "other")?,
    ];
    let talk = Talk::start(&lab, "client", SECOND, "7000")?;
    for turn in 0..24_u64 {
        let (instance, host) = [("green", "host2"), ("blue", "host1")][(turn % 2) as usize];
        std::thread::scope(|scope| -> Result<()> {
            let kill = scope.spawn(|| kill_something(&lab, turn));
            until(&format!("turn {turn} is answered"), DEADLINE * 3, || {
                Ok(lab.cli_ok(&["floating-ip", "move", FIRST, instance]).ok())
            })?;
            kill.join().expect("the killer does not panic")
        })?;
        until(&format!("{host} alone has it in turn {turn}"), DEADLINE * 2, || {
            Ok((holders(&lab, &hosts, FIRST)? == [host]).then_some(()))
        })?;
        until(&format!("{instance} answers in turn {turn}"), DEADLINE, || {
            Ok((who_answers(&lab, "client", FIRST, "7000")? == instance).then_some(()))
        })?;
    }
    talk.wait_for_more(20)
}

/// In most turns one of the programs dies somewhere within the call and is started again.
fn kill_something(lab: &Lab, turn: u64) -> Result<()> {
    let dice = (turn + 7).wrapping_mul(6_364_136_223_846_793_005) >> 33;
    std::thread::park_timeout(Duration::from_millis(dice % 60));
    let victim = match dice % 4 {
        0 => lab.agent("host1")?,
        1 => lab.agent("host2")?,
        2 => lab.controller(),
        _ => return Ok(()),
    };
    victim.kill9()?;
    victim.start()
}
