//! The root file system of the machine that a lab runs in, packed from this machine: the
//! programs that a lab and its tests run, under the paths they have here, and the kernel's
//! modules for networks.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::archive::Archive;

/// Programs without which there is no lab, each with its Debian package.
const NEEDED: [(&str, &str); 13] = [
    ("sh", "dash"),
    ("bash", "bash"),
    ("busybox", "busybox-static"),
    ("dhcp_release", "dnsmasq-utils"),
    ("dnsmasq", "dnsmasq-base"),
    ("ip", "iproute2"),
    ("modprobe", "kmod"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("ping", "iputils-ping"),
    ("setpriv", "util-linux"),
    ("sysctl", "procps"),
    ("unshare", "util-linux"),
];

/// Programs to look around with, and what some tests need.
const WELCOME: [&str; 16] = [
    "arping",
    "bridge",
    "conntrack",
    "dhcp_release6",
    "openvpn",
    "perl",
    "pgrep",
    "pkill",
    "ps",
    "script",
    "sleep",
    "ss",
    "tcpdump",
    "timeout",
    "wg",
    "wireguard-go",
];

/// What programs read at run time.
const FILES: [&str; 5] =
    ["/etc/group", "/etc/nsswitch.conf", "/etc/passwd", "/etc/protocols", "/etc/services"];
const FOLDERS: [&str; 3] = ["/etc/iproute2", "/usr/share/iproute2", "/lib/terminfo"];

/// Where a kernel's modules for networks are, and what those need.
const MODULES: [&str; 14] = [
    "arch/x86/crypto",
    "crypto",
    "drivers/net",
    "drivers/virtio",
    "lib",
    "net/802",
    "net/8021q",
    "net/bridge",
    "net/core",
    "net/ipv4",
    "net/ipv6",
    "net/llc",
    "net/netfilter",
    "net/sched",
];

/// Packs it; `ours` are programs of our own, which keep their paths and lose their symbols.
pub(super) fn pack(initramfs: &Path, kernel: &str, ours: &[PathBuf]) -> Result<()> {
    let mut root = Root { archive: Archive::create(initramfs)? };
    root.lay_out()?;
    for (program, package) in NEEDED {
        let path = find(program).with_context(|| {
            format!("no program `{program}` for a machine: install the Debian package {package}")
        })?;
        root.program(&path)?;
    }
    for path in WELCOME.iter().filter_map(|program| find(program)) {
        root.program(&path)?;
    }
    for (number, path) in ours.iter().enumerate() {
        let bare = initramfs.with_extension(format!("program-{number}"));
        root.our_program(path, &bare)?;
    }
    root.modules(kernel)?;
    root.archive.finish()
}

struct Root {
    archive: Archive,
}

impl Root {
    fn lay_out(&mut self) -> Result<()> {
        for name in ["bin", "lib", "lib64", "sbin"] {
            let folder = Path::new("/").join(name);
            // As here, so that every path leads to the same file.
            if let Ok(target) = std::fs::read_link(&folder) {
                self.archive.folder(&std::fs::canonicalize(&folder).context("a link in / leads nowhere")?)?;
                self.archive.link(&folder, &target)?;
            }
        }
        self.archive.script(Path::new("/init"), include_str!("init.sh"))?;
        // The resolver that a lab puts its own in the place of.
        self.archive.script(Path::new("/etc/resolv.conf"), "")?;
        self.archive.folder(Path::new("/var/lib/misc"))?;
        for file in FILES.map(Path::new).into_iter().filter(|file| file.exists()) {
            self.archive.copy(file, file)?;
        }
        for folder in FOLDERS.iter().filter_map(|folder| std::fs::canonicalize(folder).ok()) {
            self.archive.copy_tree(&folder)?;
        }
        Ok(())
    }

    /// A program of this machine with its shared libraries.
    fn program(&mut self, path: &Path) -> Result<()> {
        self.archive.copy(path, &place(path)?)?;
        self.libraries(path)
    }

    /// A program of ours, with its shared libraries and without its symbols: they are most of it.
    fn our_program(&mut self, path: &Path, bare: &Path) -> Result<()> {
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(bare).arg(path).stdout(Stdio::null()).stderr(Stdio::null());
        let is_stripped = strip.status().is_ok_and(|status| status.success());
        self.archive.copy(if is_stripped { bare } else { path }, path)?;
        if is_stripped {
            std::fs::remove_file(bare).with_context(|| format!("removing {}", bare.display()))?;
        }
        self.libraries(path)
    }

    fn libraries(&mut self, program: &Path) -> Result<()> {
        let output = Command::new("ldd").arg(program).output().context("starting ldd")?;
        // It fails for what is not linked dynamically: that needs nothing.
        let listed = String::from_utf8_lossy(&output.stdout);
        if listed.contains("=> not found") {
            bail!("{} has libraries missing:\n{listed}", program.display());
        }
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new) {
            self.archive.copy(library, &place(library)?)?;
        }
        Ok(())
    }

    fn modules(&mut self, kernel: &str) -> Result<()> {
        let folder =
            std::fs::canonicalize("/lib/modules").context("finding the kernel's modules")?.join(kernel);
        let entries = std::fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_index(path)) {
            self.archive.copy(&path, &path)?;
        }
        for part in MODULES.iter().map(|part| folder.join("kernel").join(part)).filter(|part| part.is_dir()) {
            self.archive.copy_tree(&part)?;
        }
        Ok(())
    }
}

/// The lists of what modules there are.
fn is_index(path: &Path) -> bool {
    path.is_file() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("modules."))
}

/// The path of a file with no link in its folders.
fn place(path: &Path) -> Result<PathBuf> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let folder = std::fs::canonicalize(parent).with_context(|| format!("finding {}", parent.display()))?;
    Ok(folder.join(path.file_name().unwrap_or_default()))
}

/// A program on the path, or where Debian puts those for root.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}
