//! A Linux machine under Debian's stock kernel, for what the kernel here cannot do: a virtual
//! machine with this machine's own programs in it.
//!
//! It runs in a universe, as a lab does, and so dies with whoever started it. Everything in it is
//! started through its door, a TCP connection over a link that exists in that universe alone.

mod door;
mod errand;
mod frame;
mod keeper;
mod lab;
mod root;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::image::{kernel, kernel_version};
use crate::process::{Process, tail};
use crate::running::{Running, make_folder};
use crate::topology::Node;
use crate::universe::Universe;

pub use door::Door;
pub use errand::where_vlans_are;
pub use keeper::keep_door;
pub(crate) use lab::up;

/// How long an emulated machine may take to boot, where others want the processors too.
const BOOT: Duration = Duration::from_secs(180);
/// The end of the link that is in the universe; the other one is [`door::MACHINE`].
const LINK: &str = "169.254.1.1/30";

/// A machine to be booted.
#[derive(Clone, Debug)]
pub struct MachineOptions {
    /// Its name; no lab may have the same.
    pub name: String,
    /// The `trestle` program, which opens its door.
    pub trestle: PathBuf,
    /// Further programs of ours to be put into it, under the paths that they have here.
    pub programs: Vec<PathBuf>,
    /// Leave the folder with its logs behind when it ends.
    pub keep_folder: bool,
}

/// A running machine; switched off when dropped.
#[derive(Debug)]
pub struct Machine {
    process: Process,
    folder: PathBuf,
    universe: Universe,
}

impl MachineOptions {
    /// A machine for tests, under a name that no other has.
    pub fn for_test(trestle: impl Into<PathBuf>, programs: Vec<PathBuf>) -> Self {
        Self {
            name: format!("machine-{}", std::process::id()),
            trestle: trestle.into(),
            programs,
            keep_folder: std::env::var_os("TRESTLE_LAB_KEEP").is_some(),
        }
    }
}

impl Machine {
    /// Packs its root file system, boots it and waits until its door is open.
    ///
    /// # Errors
    /// Whatever step fails, with the end of its console; nothing is left behind.
    pub fn boot(options: &MachineOptions) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "a machine needs root, to make network namespaces");
        let version = kernel_version(Path::new("/boot"))?;
        let folder = make_folder(&Running::base(), &options.name, &["logs"])?;
        let universe = Universe::start(&options.trestle, &folder, options.keep_folder)?;
        let initramfs = folder.join("machine.cpio");
        let programs: Vec<PathBuf> =
            std::iter::once(&options.trestle).chain(&options.programs).cloned().collect();
        root::pack(&initramfs, &version, &programs).context("packing the machine's root file system")?;
        let entrance = universe.entrance();
        let link = format!("tuntap add dev door mode tap\naddress add {LINK} dev door\nlink set door up\n");
        entrance.ip_batch(Node::Controller, &link)?;
        let argv = qemu(&version, &initramfs, &options.trestle);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let log = folder.join("logs").join("machine.log");
        let process = Process::start("machine", entrance.command(Node::Controller, &argv), &log)?;
        let mut machine = Self { process, folder, universe };
        machine.process.wait_for(keeper::READY, BOOT)?;
        Ok(machine)
    }

    /// The way in.
    pub fn door(&self) -> Door {
        Door::new(self.universe.entrance())
    }

    /// The last lines on its serial console.
    pub fn console(&self) -> String {
        tail(self.process.log(), 40)
    }

    /// Whether it was switched off, by whomever.
    pub fn has_ended(&self) -> bool {
        self.universe.has_ended()
    }
}

/// The same line as for guests, with more memory and with the kernel's own environment telling
/// init what it needs to know.
fn qemu(version: &str, initramfs: &Path, trestle: &Path) -> Vec<String> {
    let fixed = "qemu-system-x86_64 -M q35 -accel tcg -cpu max -smp 2 -m 1536 -nodefaults -no-reboot \
                 -display none -monitor none -serial stdio \
                 -netdev tap,id=net0,ifname=door,script=no,downscript=no \
                 -device virtio-net-pci,netdev=net0,romfile=";
    let mut argv: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
    argv.extend(["-kernel".into(), kernel(version).display().to_string()]);
    argv.extend(["-initrd".into(), initramfs.display().to_string()]);
    let environment = format!("DOOR={}/30 TRESTLE={}", door::MACHINE, trestle.display());
    argv.extend(["-append".into(), format!("console=ttyS0 quiet panic=-1 {environment}")]);
    argv
}
