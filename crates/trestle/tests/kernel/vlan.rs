//! VLAN: a network of its own for each project, on a VLAN of the hosts' trunk.

use anyhow::{Context, Result, ensure};
use trestle_lab::{Lab, Plug, has_802_1q, not_run, until};

use crate::cloud::{
    DEADLINE, HOST, INTERNET, PROJECT, Watch, addresses, create_on, delete, empty_cloud, everything,
    has_link, leaves_as, link, no_ping, ping, processes, refusal, told, wait_until_whole,
};
use crate::vm::where_vlans_are;

/// A lab of so many hosts with this many VLAN networks: `tenants-0` is VLAN 101 of 10.1.0.0/24, and
/// so on; one alone is `tenants`.
fn vlan_cloud(hosts: u8, networks: &str, more: &[&str]) -> Result<Lab> {
    let lab = empty_cloud(hosts)?;
    let tenants = ["network", "create", "tenants", "--cidr", "10.1.0.0/20", "--num-networks", networks];
    let size = ["--network-size", "256", "--vlan-start", "101"];
    lab.cli_ok(&[&tenants[..], &size[..], more].concat())?;
    Ok(lab)
}

/// Makes an instance that names no network.
fn create_of(lab: &Lab, project: &str, instance: &str) -> Result<()> {
    create_on(lab, project, instance, &[])
}

fn create_project(lab: &Lab, project: &str) -> Result<()> {
    lab.open_project(project)
}

/// The project that a network belongs to.
fn owner(lab: &Lab, network: &str) -> Result<Option<String>> {
    Ok(told(lab, &["network", "show", network])?["project"].as_str().map(str::to_owned))
}

#[test]
fn a_project_has_a_vlan_of_its_own_where_its_instances_are() -> Result<()> {
    where_vlans_are(|| {
        let lab = vlan_cloud(2, "2", &[])?;
        create_project(&lab, "other")?;
        let before = everything(&lab, HOST)?;
        for (project, instance) in [(PROJECT, "one"), (PROJECT, "two"), ("other", "three"), ("other", "four")]
        {
            create_of(&lab, project, instance)?;
        }
        ensure!(everything(&lab, HOST)? == before, "nothing is set up before an instance is here");
        let one = lab.guest_netns("host1", "one", "tenants-0")?;
        let two = lab.guest_netns("host2", "two", "tenants-0")?;
        let three = lab.guest_netns("host1", "three", "tenants-1")?;
        let four = lab.guest_netns("host2", "four", "tenants-1")?;
        its_devices_stand(&lab)?;
        // The second address is kept for the project's VPN.
        ensure!(one.lease.address == "10.1.0.3/24" && one.lease.router == "10.1.0.1", "{:?}", one.lease);

        let trunk = Watch::start(&lab, "switch", "trunk", "vlan and icmp")?;
        ping(&lab, &one.node, "10.1.0.4")?;
        let frames = trunk.wait_for("10.1.0.3 > 10.1.0.4")?;
        ensure!(frames.iter().all(|frame| frame.contains("802.1Q") && frame.contains("vlan 101,")));
        ping(&lab, &three.node, "10.1.1.4")?;
        trunk.wait_for("vlan 102,")?;
        leaves_as(&lab, &two.node, "203.0.113.12")?;

        for (from, target) in [(&one, "10.1.1.3"), (&one, "10.1.1.4"), (&four, "10.1.0.3")] {
            no_ping(&lab, &from.node, target)?;
        }
        // Not with a way there either: the range can be reached from inside alone.
        lab.exec_ok("outside", &["ip", "route", "add", "10.1.0.0/16", "via", "203.0.113.11"])?;
        no_ping(&lab, "outside", "10.1.0.3")?;
        leaves_as(&lab, &one.node, "203.0.113.11")?;

        // Without the rules both do: the above can fail. The agent would mend it.
        lab.agent(HOST)?.kill9()?;
        lab.exec_ok(HOST, &["nft", "flush", "chain", "inet", "trestle_groups", "isolation"])?;
        ping(&lab, "outside", "10.1.0.3")?;
        ping(&lab, &one.node, "10.1.1.3")?;
        lab.agent(HOST)?.start()?;

        delete(&lab, "one")?;
        delete(&lab, "three")?;
        until("host1 is as it was", DEADLINE, || Ok((everything(&lab, HOST)? == before).then_some(())))?;
        ensure!(processes(&lab, HOST, "dnsmasq")?.is_empty(), "the DHCP servers are gone");
        ping(&lab, &two.node, INTERNET)
    })
}

/// Of the first network, on the first host.
fn its_devices_stand(lab: &Lab) -> Result<()> {
    let vlan = link(lab, HOST, "vlan101")?;
    let info = &vlan["linkinfo"];
    ensure!(info["info_kind"] == "vlan" && info["info_data"]["id"] == 101, "{vlan}");
    ensure!(vlan["link"] == "eth2" && vlan["master"] == "br101", "{vlan}");
    ensure!(addresses(lab, HOST, "br101")?.into_iter().collect::<Vec<_>>() == ["10.1.0.1/24"]);
    ensure!(processes(lab, HOST, "dnsmasq")?.len() == 2, "a DHCP server for each network");
    Ok(())
}

#[test]
fn a_project_claims_a_network_at_its_first_use_and_gives_it_back() -> Result<()> {
    where_vlans_are(|| {
        let lab = vlan_cloud(1, "2", &[])?;
        for project in ["second", "third"] {
            create_project(&lab, project)?;
        }
        ensure!(owner(&lab, "tenants-0")?.is_none(), "it is free until then");
        for (project, instance, network) in [(PROJECT, "one", "tenants-0"), ("second", "two", "tenants-1")] {
            create_of(&lab, project, instance)?;
            ensure!(owner(&lab, network)?.as_deref() == Some(project), "the lowest free one is claimed");
            lab.attach(HOST, instance, network, Plug::Tap)?;
        }
        // Three projects, two networks.
        let create = ["instance", "create", "three", "--project", "third"];
        let complaint = refusal(&lab, &create)?;
        ensure!(complaint.contains("no VLAN network is free"), "{complaint}");
        let complaint = refusal(&lab, &["network", "disassociate", "tenants-0"])?;
        ensure!(complaint.contains("one"), "it names who is on it: {complaint}");
        delete(&lab, "one")?;
        ensure!(owner(&lab, "tenants-0")?.as_deref() == Some(PROJECT), "it is kept without an instance");
        lab.cli_ok(&["network", "disassociate", "tenants-0"])?;
        lab.cli_ok(&create)?;
        ensure!(owner(&lab, "tenants-0")?.as_deref() == Some("third"), "the next one has it");
        let three = lab.guest_netns(HOST, "three", "tenants-0")?;
        leaves_as(&lab, &three.node, "203.0.113.11")
    })
}

/// Four single-host networks, the first two of one project, and a host that may be no gateway.
#[test]
fn gateways_are_spread_and_join_the_networks_of_one_project() -> Result<()> {
    where_vlans_are(|| {
        let lab = vlan_cloud(3, "4", &["--single-host"])?;
        lab.cli_ok(&["host", "set", "host3", "--gateway", "no"])?;
        create_project(&lab, "other")?;
        for (number, project) in [PROJECT, PROJECT, "other", "other"].into_iter().enumerate() {
            let (network, instance) = (format!("tenants-{number}"), format!("vm-{number}"));
            lab.cli_ok(&["network", "associate", &network, "--project", project])?;
            create_on(&lab, project, &instance, &[&network])?;
        }
        let zero = lab.guest_netns("host3", "vm-0", "tenants-0")?;
        let one = lab.guest_netns("host3", "vm-1", "tenants-1")?;
        let two = lab.guest_netns("host3", "vm-2", "tenants-2")?;
        lab.attach("host3", "vm-3", "tenants-3", Plug::Tap)?;
        let servers = |host| Ok::<_, anyhow::Error>(processes(&lab, host, "dnsmasq")?.len());
        let spread = [servers("host1")?, servers("host2")?, servers("host3")?];
        ensure!(spread == [2, 2, 0], "DHCP servers on the three hosts: {spread:?}");

        // Through one gateway they reach each other, and no other project.
        for network in ["tenants-0", "tenants-1", "tenants-2"] {
            lab.cli_ok(&["network", "set-gateway", network, "host2"])?;
        }
        let arriving = Watch::start(&lab, &one.node, "eth0", "icmp[icmptype] == icmp-echo")?;
        let said = lab.exec_ok(&zero.node, &["ping", "-c", "1", "-W", "5", "10.1.1.3"])?;
        ensure!(said.contains("ttl=63"), "one router is between them: {said}");
        arriving.wait_for("10.1.0.3 > 10.1.1.3")?;
        no_ping(&lab, &zero.node, "10.1.2.3")?;
        leaves_as(&lab, &two.node, "203.0.113.12")
    })
}

#[test]
fn a_hosts_own_vlan_interface_wins_and_one_without_any_is_told_at_once() -> Result<()> {
    where_vlans_are(|| {
        let lab = vlan_cloud(1, "1", &[])?;
        create_of(&lab, PROJECT, "one")?;
        let before = everything(&lab, HOST)?;
        let attach = || lab.attach(HOST, "one", "tenants", Plug::Tap);
        let complaint =
            || Ok::<_, anyhow::Error>(format!("{:#}", attach().err().context("it went through")?));
        lab.cli_ok(&["host", "set", HOST, "--vlan-interface", ""])?;
        let said = complaint()?;
        ensure!(said.contains("--vlan-interface"), "{said}");
        ensure!(everything(&lab, HOST)? == before, "something was done");

        lab.cli_ok(&["host", "set", HOST, "--vlan-interface", "eth9"])?;
        let said = complaint()?;
        ensure!(said.contains("eth9 does not exist"), "{said}");
        lab.exec_ok(HOST, &["ip", "link", "set", "eth2", "down"])?;
        lab.exec_ok(HOST, &["ip", "link", "set", "eth2", "name", "eth9"])?;
        lab.exec_ok(HOST, &["ip", "link", "set", "eth9", "up"])?;
        until("it is made when the device comes", DEADLINE, || {
            Ok(has_link(&lab, HOST, "vlan101")?.then_some(()))
        })?;
        wait_until_whole(&lab)?;
        attach()?;
        lab.detach(HOST, "one", "tenants")?;
        delete(&lab, "one")?;

        let other = ["network", "create", "other", "--project", PROJECT, "--cidr", "10.2.0.0/24"];
        lab.cli_ok(&[&other[..], &["--vlan", "102", "--bridge-interface", "eth1"]].concat())?;
        create_on(&lab, PROJECT, "two", &["other"])?;
        lab.attach(HOST, "two", "other", Plug::Tap)?;
        ensure!(link(&lab, HOST, "vlan102")?["link"] == "eth9", "its own wins over the network's");
        lab.detach(HOST, "two", "other")?;
        lab.cli_ok(&["host", "set", HOST, "--vlan-interface", ""])?;
        lab.attach(HOST, "two", "other", Plug::Tap)?;
        ensure!(link(&lab, HOST, "vlan102")?["link"] == "eth1", "which holds where the host names none");
        Ok(())
    })
}

#[test]
fn a_host_whose_kernel_has_no_802_1q_says_so_before_anything_is_asked_of_it() -> Result<()> {
    if has_802_1q()? {
        let why = "this kernel has 802.1Q, which the test needs to be missing";
        return not_run(
            "vlan::a_host_whose_kernel_has_no_802_1q_says_so_before_anything_is_asked_of_it",
            why,
        );
    }
    let lab = vlan_cloud(1, "1", &[])?;
    create_of(&lab, PROJECT, "one")?;
    let before = everything(&lab, HOST)?;
    let spec = lab.cli_ok(&["host", "spec", HOST])?;
    let refused = lab.attach(HOST, "one", "tenants", Plug::Tap);
    let complaint = format!("{:#}", refused.err().context("the attach went through")?);
    ensure!(complaint.contains("802.1Q") && complaint.contains(HOST), "{complaint}");
    ensure!(everything(&lab, HOST)? == before, "something was done");
    ensure!(lab.cli_ok(&["host", "spec", HOST])? == spec, "something was asked of it");
    let shown = lab.cli_ok(&["host", "show", HOST])?;
    ensure!(shown.contains("802.1Q"), "its status says so: {shown}");
    Ok(())
}
