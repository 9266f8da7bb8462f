//! A real virtual machine on a network without DHCP: its address is in its own files.

use anyhow::{Result, ensure};
use trestle_lab::{Lab, Networks, Plug, Programs, Topology, until};

use crate::bootable;
use crate::cloud::{DEADLINE, HOST};

/// QEMU on the instance's tap and the injected disk. Its console never ends by itself.
const BOOT: &str = "sleep infinity | timeout 120 qemu-system-x86_64 -M q35 -accel tcg -cpu max -smp 1 -m 256 \
     -nodefaults -no-reboot -display none -monitor none -serial stdio -kernel \"$1\" -initrd initramfs \
     -append 'console=ttyS0 quiet panic=-1' -drive file=disk.qcow2,format=qcow2,if=virtio \
     -netdev tap,id=net0,ifname=\"$2\",script=no,downscript=no \
     -device virtio-net-pci,netdev=net0,mac=\"$3\",romfile=";

#[test]
fn a_guest_without_dhcp_comes_up_with_what_was_injected() -> Result<()> {
    let topology = Topology { networks: Some(Networks::Flat), ..Topology::for_test(1) };
    let lab = Lab::up(&topology, &Programs { trestle: env!("CARGO_BIN_EXE_trestle").into() })?;
    // The administrator's own router.
    lab.exec_ok(HOST, &["ip", "address", "add", "10.0.0.1/24", "dev", "br-flat"])?;
    lab.exec_ok(HOST, &["ip", "address", "add", "2001:db8::1/64", "dev", "br-flat", "nodad"])?;
    make_instance(&lab)?;
    let attached = lab.attach(HOST, "web", "lan", Plug::Tap)?;
    let kernel = bootable::make(lab.folder())?.display().to_string();
    let disk = lab.folder().join("disk.qcow2").display().to_string();
    lab.cli_ok(&["inject", "web", "--image", &disk])?;

    let boot = format!("cd '{}'; {BOOT}", lab.folder().display());
    let mac = attached.mac.to_string();
    let mut vm = lab.spawn(HOST, &["sh", "-c", &boot, "sh", &kernel, attached.device.as_str(), &mac])?;
    until("the guest is up", DEADLINE * 6, || {
        vm.must_run()?;
        Ok(vm.output()?.contains("GUEST is up").then_some(()))
    })?;
    let said = vm.output()?;
    for address in &attached.addresses {
        ensure!(said.contains(address), "{address} is not in:\n{said}");
        let address = address.split('/').next().unwrap_or_default();
        until(&format!("{address} answers"), DEADLINE, || {
            Ok(lab.exec(HOST, &["ping", "-c", "1", "-W", "1", address])?.status.success().then_some(()))
        })?;
    }
    ensure!(said.contains("mtu 1450") && said.contains("default via 10.0.0.1 dev eth0"), "{said}");
    Ok(())
}

fn make_instance(lab: &Lab) -> Result<()> {
    lab.open_project("demo")?;
    let network = ["network", "create", "lan", "--type", "flat", "--bridge", "br-flat", "--mtu", "1450"];
    let ipv4 = ["--cidr", "10.0.0.0/24", "--gateway", "10.0.0.1"];
    let ipv6 = ["--cidr-v6", "2001:db8::/64", "--gateway-v6", "2001:db8::1"];
    lab.cli_ok(&[&network[..], &ipv4, &ipv6].concat())?;
    lab.cli_ok(&["instance", "create", "web", "--project", "demo", "--network", "lan"]).map(drop)
}
