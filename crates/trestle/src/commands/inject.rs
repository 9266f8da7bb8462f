//! `trestle inject`: an instance's network, written where its guest finds it without DHCP.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use ipnet::IpNet;
use serde::Serialize;
use trestle_api::client::Client;
use trestle_api::types::{LinkName, Name};
use trestle_api::{Instance, Interface, Network};
use trestle_core::world::NetworkType;
use trestle_inject::{
    Addressing, File, Form, GuestInterface, GuestNetwork, ImageFormat, ImageOptions, IsoKind, Outcome,
    StaticAddresses, inject_image, inject_root, make_iso, render,
};

use super::Context;
use crate::error::CommandError;
use crate::printer::{self, Printer};

const EXAMPLES: &str = "\
Examples:
  trestle inject web --image /var/lib/images/web.qcow2
  trestle inject web --root /mnt
  trestle inject web --iso web-seed.iso --user-data web.yaml
  trestle inject web --print netplan";

/// Write an instance's network into its guest, for networks without DHCP
///
/// Addresses, gateways, DNS servers and MTU are written in the form that the guest reads: netplan,
/// systemd-networkd, /etc/network/interfaces, or else a seed for cloud-init. Interfaces on networks
/// with DHCP are told to use it. An image is changed in a copy that then takes its place. A second
/// run changes nothing.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InjectArgs {
    /// The instance, by name or id
    instance: String,
    /// Its project, where the name alone is not unique
    #[arg(long)]
    project: Option<String>,
    #[command(flatten)]
    place: Place,
    /// interfaces, networkd, netplan or cloud-init [default: what the guest reads]
    #[arg(long, value_name = "FORM", conflicts_with_all = ["iso", "print"])]
    format: Option<Form>,
    /// What the guest calls an interface, for the forms that match no MAC; once
    /// for each of them, in their order [default: eth0, eth1 and so on]
    #[arg(long = "name", value_name = "DEVICE")]
    names: Vec<LinkName>,
    /// raw or qcow2 [default: what the image's header says, unless it names other files]
    #[arg(long, value_name = "FORMAT", conflicts_with_all = ["root", "iso", "print"])]
    image_format: Option<ImageFormat>,
    /// The partition with the guest's root [default: the only one that has one]
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["root", "iso", "print"])]
    partition: Option<u32>,
    /// nocloud or configdrive
    #[arg(long, value_name = "TYPE", default_value = "nocloud", conflicts_with_all = ["root", "image", "print"])]
    iso_type: IsoKind,
    /// cloud-init's user data, to be put on the ISO as it is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["root", "image", "print"])]
    user_data: Option<PathBuf>,
}

/// Where it is written to.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// The folder that the guest's root is mounted on
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// The guest's disk image, raw or qcow2, with ext2, ext3 or ext4; not in use
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// An ISO to be made, which cloud-init reads when the guest has it as a disk
    #[arg(long, value_name = "FILE")]
    iso: Option<PathBuf>,
    /// Write nothing and print what this form would have
    #[arg(long, value_name = "FORM")]
    print: Option<Form>,
}

pub(crate) async fn run(args: InjectArgs, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let instance = client.instance(&args.instance, args.project.as_deref()).await?;
    let networks = networks_of(&client, &instance).await?;
    let guest = guest(&instance, &networks, &args.names)?;
    let printer = context.printer();
    let Place { root, image, iso, print } = &args.place;
    if let Some(root) = root {
        let outcome = inject_root(root, &guest, args.format)?;
        return tell(printer, &instance, root, &outcome);
    }
    if let Some(image) = image {
        let options =
            ImageOptions { form: args.format, format: args.image_format, partition: args.partition };
        let outcome = inject_image(image, &guest, &options)?;
        return tell(printer, &instance, image, &outcome);
    }
    if let Some(iso) = iso {
        return write_iso(printer, &instance, iso, &guest, &args);
    }
    print.map_or(Ok(()), |form| printer.show(&printed(render(&guest, form)), |files| shown(files)))
}

/// Every network that the instance is on, by name.
async fn networks_of(client: &Client, instance: &Instance) -> anyhow::Result<BTreeMap<Name, Network>> {
    let mut networks = BTreeMap::new();
    for interface in &instance.interfaces {
        if !networks.contains_key(&interface.network) {
            networks.insert(interface.network.clone(), client.network(interface.network.as_str()).await?);
        }
    }
    Ok(networks)
}

/// What the guest is told. There is something to tell where a network gives no addresses itself
/// (reference IN-3).
fn guest(
    instance: &Instance,
    networks: &BTreeMap<Name, Network>,
    names: &[LinkName],
) -> anyhow::Result<GuestNetwork> {
    let count = instance.interfaces.len();
    anyhow::ensure!(
        names.is_empty() || names.len() == count,
        "give --name once for each of the {} of {}",
        printer::counted(count, "interface"),
        instance.name
    );
    let mut interfaces = Vec::new();
    for (place, interface) in instance.interfaces.iter().enumerate() {
        let network = &networks[&interface.network];
        let addressing = match network.network_type {
            NetworkType::Flat => Addressing::Static(addresses(interface, network)?),
            NetworkType::FlatDhcp | NetworkType::Vlan => Addressing::Dhcp,
        };
        let name = names.get(place).cloned();
        interfaces.push(GuestInterface { mac: interface.mac, name, mtu: network.mtu, addressing });
    }
    if interfaces.iter().all(|interface| interface.addressing == Addressing::Dhcp) {
        return Err(CommandError::NothingToInject(instance.name.to_string()).into());
    }
    Ok(GuestNetwork { id: instance.id, hostname: instance.name.clone(), interfaces })
}

fn addresses(interface: &Interface, network: &Network) -> anyhow::Result<StaticAddresses> {
    let mut found = StaticAddresses {
        dns: network.dns.clone(),
        domain: Some(network.domain.clone()),
        ..StaticAddresses::default()
    };
    for address in &interface.addresses {
        let subnet = if address.is_ipv6() { &network.ipv6 } else { &network.ipv4 };
        let subnet = subnet.as_ref();
        let subnet = subnet.with_context(|| format!("{address} is not of network {}", network.name))?;
        found.addresses.push(IpNet::new(*address, subnet.cidr.net().prefix_len())?);
        let is_news = |gateway: &IpAddr| !found.gateways.contains(gateway);
        let gateway = subnet.gateway.filter(is_news);
        found.gateways.extend(gateway);
    }
    Ok(found)
}

/// What was done to a guest's files, for programs.
#[derive(Serialize)]
struct Injected {
    instance: Name,
    format: String,
    written: Vec<String>,
    removed: Vec<String>,
}

fn tell(printer: Printer, instance: &Instance, place: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    let absolute = |paths: &[String]| paths.iter().map(|path| format!("/{path}")).collect();
    let injected = Injected {
        instance: instance.name.clone(),
        format: outcome.form.to_string(),
        written: absolute(&outcome.written),
        removed: absolute(&outcome.removed),
    };
    let place = place.display();
    let text = if outcome.is_unchanged() {
        format!("{place} has the network of {} already, as {}", instance.name, outcome.form)
    } else {
        format!("wrote the network of {} into {place}, as {}", instance.name, outcome.form)
    };
    printer::say(&text);
    injected.written.iter().for_each(|path| printer::say(&format!("  wrote {path}")));
    injected.removed.iter().for_each(|path| printer::say(&format!("  removed {path}")));
    match printer {
        Printer::People => Ok(()),
        Printer::Programs => printer::print_json(&injected),
    }
}

/// What was made, for programs.
#[derive(Serialize)]
struct IsoMade<'a> {
    instance: &'a Name,
    iso: &'a Path,
}

fn write_iso(
    printer: Printer,
    instance: &Instance,
    iso: &Path,
    guest: &GuestNetwork,
    args: &InjectArgs,
) -> anyhow::Result<()> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let user_data = args.user_data.as_ref().map(read).transpose()?;
    make_iso(iso, args.iso_type, guest, user_data.as_deref())?;
    let text = format!("made {} with the network of {}", iso.display(), instance.name);
    printer.done(&IsoMade { instance: &instance.name, iso }, &text)
}

/// A file that would be written, for programs.
#[derive(Serialize)]
struct PrintedFile {
    path: String,
    text: String,
}

fn printed(files: Vec<File>) -> Vec<PrintedFile> {
    files.into_iter().map(|file| PrintedFile { path: format!("/{}", file.path), text: file.text }).collect()
}

/// Files as one text. All forms have comments that begin with `#`.
fn shown(files: &[PrintedFile]) -> String {
    let texts: Vec<String> = files.iter().map(|file| format!("# {}\n{}", file.path, file.text)).collect();
    texts.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn network(name: &str, network_type: &str) -> Network {
        let subnet = |cidr: &str, gateway: &str, start: &str| json!({ "cidr": cidr, "gateway": gateway, "dhcp_start": start, "total": 9, "used": 0, "free": 9 });
        let network = json!({
            "id": "0198f0d2-6d5c-7c1e-9a53-5b0c6f3d2e1a", "name": name, "type": network_type,
            "ipv4": subnet("10.0.0.0/24", "10.0.0.1", "10.0.0.2"),
            "ipv6": subnet("2001:db8::/64", "2001:db8::1", "2001:db8::2"),
            "multi_host": false, "share_address": false, "bridge": "br100", "dns": ["10.0.0.53"],
            "domain": "trestle.internal", "mtu": 1450, "dhcp_options": [], "reserved": [],
            "created_at": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(network).unwrap()
    }

    fn instance(networks: &[&str]) -> Instance {
        let interface = |(number, network): (usize, &&str)| {
            json!({
                "id": "0198f0d2-6d5c-7c1e-9a53-5b0c6f3d2e1b", "network": network,
                "mac": format!("fa:16:3e:00:00:0{number}"), "device": "tr-1", "state": "detached",
                "addresses": ["10.0.0.5", "10.0.0.6", "2001:db8::5"],
            })
        };
        let interfaces: Vec<_> = networks.iter().enumerate().map(interface).collect();
        let instance = json!({
            "id": "0198f0d2-6d5c-7c1e-9a53-5b0c6f3d2e1c", "name": "web1", "project": "alpha",
            "interfaces": interfaces, "created_at": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(instance).unwrap()
    }

    fn told(networks: &[&str], names: &[&str]) -> anyhow::Result<GuestNetwork> {
        let known = [network("office", "flat"), network("public", "flat_dhcp")];
        let known = known.into_iter().map(|network| (network.name.clone(), network)).collect();
        let names: Vec<LinkName> = names.iter().map(|name| name.parse().unwrap()).collect();
        guest(&instance(networks), &known, &names)
    }

    #[test]
    fn what_a_network_gives_no_addresses_for_is_written_and_the_rest_is_left_to_dhcp() {
        let guest = told(&["public", "office"], &["ens3", "ens4"]).unwrap();
        insta::assert_snapshot!(shown(&printed(render(&guest, Form::Interfaces))), @r"
        # /etc/network/interfaces.d/trestle
        # The network of web1, written by trestle inject.

        # fa:16:3e:00:00:00
        auto ens3
        iface ens3 inet dhcp

        # fa:16:3e:00:00:01
        auto ens4
        iface ens4 inet static
            address 10.0.0.5
            netmask 255.255.255.0
            broadcast 10.0.0.255
            gateway 10.0.0.1
            mtu 1450
            dns-nameservers 10.0.0.53
            dns-search trestle.internal
            up ip addr add 10.0.0.6/24 dev ens4
        iface ens4 inet6 static
            address 2001:db8::5
            netmask 64
            gateway 2001:db8::1
            accept_ra 0

        # /etc/resolv.conf
        # written by trestle inject
        search trestle.internal
        nameserver 10.0.0.53
        ");
    }

    #[test]
    fn an_instance_with_dhcp_everywhere_is_refused() {
        let error = told(&["public"], &[]).unwrap_err();
        insta::assert_snapshot!(error, @"instance web1 has no interface on a network of type flat");
    }

    #[test]
    fn names_are_given_to_all_interfaces_or_to_none() {
        let error = told(&["public", "office"], &["ens3"]).unwrap_err();
        insta::assert_snapshot!(error, @"give --name once for each of the 2 interfaces of web1");
    }
}
