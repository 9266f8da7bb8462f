//! The Debian packages that a command needs: found missing by what they bring, then installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell::{has_program, succeed};

/// What a package is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Run,
    Test,
    Bench,
}

/// How one sees that a package is there.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// A program on the path.
    Program(&'static str),
    /// A file; `*` stands for anything within one part of the path.
    File(&'static str),
}

struct Package {
    name: &'static str,
    sign: Sign,
    why: &'static str,
    purposes: &'static [Purpose],
}

use Purpose::{Bench, Run, Test};
use Sign::{File, Program};

const ALL: &[Purpose] = &[Run, Test, Bench];

#[rustfmt::skip]
const PACKAGES: &[Package] = &[
    Package { name: "dnsmasq-base", sign: Program("dnsmasq"), why: "the DHCP and DNS server of every network", purposes: ALL },
    Package { name: "dnsmasq-utils", sign: Program("dhcp_release"), why: "frees a released address at once", purposes: ALL },
    Package { name: "nftables", sign: Program("nft"), why: "brings libnftables, and shows the rules", purposes: ALL },
    Package { name: "iproute2", sign: Program("ip"), why: "makes the lab's network namespaces", purposes: ALL },
    Package { name: "iputils-ping", sign: Program("ping"), why: "asks whether instances are reached", purposes: ALL },
    Package { name: "procps", sign: Program("sysctl"), why: "shows processes and kernel settings in the lab", purposes: ALL },
    Package { name: "busybox-static", sign: Program("busybox"), why: "the guests' DHCP client and all that is in a virtual machine", purposes: ALL },
    Package { name: "qemu-system-x86", sign: Program("qemu-system-x86_64"), why: "runs virtual machines", purposes: &[Run, Test] },
    Package { name: "linux-image-cloud-amd64", sign: File("/boot/vmlinuz-*-cloud-amd64"), why: "the kernel of virtual machines", purposes: &[Run, Test] },
    Package { name: "kmod", sign: Program("modprobe"), why: "finds that kernel's virtio modules", purposes: &[Run, Test] },
    Package { name: "cpio", sign: Program("cpio"), why: "reads and packs root file systems, beside the lab", purposes: &[Test] },
    Package { name: "e2fsprogs", sign: Program("debugfs"), why: "writes into guests' disk images", purposes: &[Run, Test] },
    Package { name: "xorriso", sign: Program("xorriso"), why: "makes the ISOs that tell guests their network", purposes: &[Run, Test] },
    Package { name: "qemu-utils", sign: Program("qemu-img"), why: "makes qcow2 images to write into", purposes: &[Test] },
    Package { name: "fdisk", sign: Program("sfdisk"), why: "makes disk images with partitions", purposes: &[Test] },
    Package { name: "netplan.io", sign: Program("netplan"), why: "reads what guests with netplan are told", purposes: &[Test] },
    Package { name: "isc-dhcp-client", sign: Program("dhclient"), why: "a guest's DHCPv6 client", purposes: &[Test] },
    Package { name: "openvpn", sign: Program("openvpn"), why: "the VPNs of projects, and their clients", purposes: ALL },
    Package { name: "wireguard-tools", sign: Program("wg"), why: "the same of WireGuard", purposes: ALL },
    Package { name: "wireguard-go", sign: Program("wireguard-go"), why: "WireGuard where the kernel has none", purposes: ALL },
    Package { name: "openssl", sign: Program("openssl"), why: "makes and reads certificates, beside the controller", purposes: &[Test] },
    Package { name: "curl", sign: Program("curl"), why: "a guest's HTTP client", purposes: &[Test] },
    Package { name: "python3", sign: File("/usr/bin/python3"), why: "answers for a metadata service", purposes: &[Test] },
    Package { name: "tcpdump", sign: Program("tcpdump"), why: "watches what goes over a link", purposes: &[Test] },
    Package { name: "conntrack", sign: Program("conntrack"), why: "shows which flows the kernel translates", purposes: &[Test, Bench] },
    Package { name: "iptables", sign: Program("iptables"), why: "makes rules like those of other programs", purposes: &[Test] },
    Package { name: "postgresql", sign: File("/usr/lib/postgresql/*/bin/initdb"), why: "the other database that the store runs on", purposes: &[Test, Bench] },
    Package { name: "openssl", sign: Program("openssl"), why: "makes certificates for the TLS tests", purposes: &[Test] },
    Package { name: "containernetworking-plugins", sign: File("/usr/lib/cni/bridge"), why: "the CNI bridge plugin, to compare with", purposes: &[Bench] },
    Package { name: "netavark", sign: File("/usr/lib/podman/netavark"), why: "Podman's network program, to compare with", purposes: &[Bench] },
];

/// Installs what is missing for this purpose, or says how to.
pub(crate) fn install(purpose: Purpose) -> Result<()> {
    // Twice: a program of a newer release than the others may have to make room for them.
    for _ in 0..2 {
        let missing = missing(purpose);
        if missing.is_empty() {
            return Ok(());
        }
        install_all(&missing)?;
    }
    match missing(purpose).first() {
        Some(package) => bail!("{} is installed, but it did not bring {:?}", package.name, package.sign),
        None => Ok(()),
    }
}

fn missing(purpose: Purpose) -> Vec<&'static Package> {
    let needed = PACKAGES.iter().filter(|package| package.purposes.contains(&purpose));
    needed.filter(|package| !is_there(package.sign)).collect()
}

fn install_all(packages: &[&Package]) -> Result<()> {
    println!("Debian packages that are missing:");
    for package in packages {
        println!("  {:<28} {}", package.name, package.why);
    }
    let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
    if !is_root() {
        bail!(
            "packages are missing\nhint: run `sudo apt-get install --no-install-recommends {}`",
            names.join(" ")
        );
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        // A machine that updates itself may hold the lock for a while.
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
        command
    };
    succeed(apt().arg("update"))?;
    succeed(apt().args(["install", "-y", "--no-install-recommends"]).args(&names))
}

fn is_there(sign: Sign) -> bool {
    match sign {
        Program(name) => has_program(name),
        File(pattern) => exists(Path::new("/"), pattern.trim_start_matches('/')),
    }
}

/// Whether a path that matches is there.
fn exists(folder: &Path, pattern: &str) -> bool {
    let (part, rest) = pattern.split_once('/').map_or((pattern, None), |(part, rest)| (part, Some(rest)));
    let candidates: Vec<PathBuf> = match part.split_once('*') {
        None => vec![folder.join(part)],
        Some((start, end)) => {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let matches = |name: &str| {
                name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
            };
            entries
                .filter(|entry| matches(&entry.file_name().to_string_lossy()))
                .map(|entry| entry.path())
                .collect()
        }
    };
    candidates.iter().any(|path| match rest {
        Some(rest) => exists(path, rest),
        None => path.exists(),
    })
}

/// Our effective uid is the owner of what /proc shows of us.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|of_us| of_us.uid() == 0)
}
