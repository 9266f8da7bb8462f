//! Instances as real virtual machines, under QEMU with an emulated processor: it needs nothing
//! of the machine's hardware.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use trestle_api::Attached;

use crate::guest::Lease;
use crate::image::Image;
use crate::lab::{Lab, Plug};
use crate::process::Process;

/// A virtual machine to be booted.
#[derive(Clone, Debug)]
pub struct VmOptions {
    /// The host it runs on.
    pub host: String,
    /// The instance, which exists already.
    pub instance: String,
    /// The network it joins.
    pub network: String,
    /// What it pings when it has its lease, besides its router.
    pub ping: Vec<Ipv4Addr>,
    /// What it looks up when it has its lease.
    pub resolve: Vec<String>,
    /// The user and group, by number, that QEMU runs as; root if absent.
    pub user: Option<u32>,
    /// Further arguments for QEMU.
    pub qemu_arguments: Vec<String>,
}

/// A running virtual machine; switched off when dropped.
#[derive(Debug)]
pub struct Vm {
    /// What the host said of its device.
    pub attached: Attached,
    process: Process,
    commands: u32,
}

impl VmOptions {
    /// A virtual machine that pings its router and looks nothing up.
    pub fn new(host: &str, instance: &str, network: &str) -> Self {
        Self {
            host: host.into(),
            instance: instance.into(),
            network: network.into(),
            ping: Vec::new(),
            resolve: Vec::new(),
            user: None,
            qemu_arguments: Vec::new(),
        }
    }

    /// The words before QEMU's own that make it run without privilege (setpriv(1)).
    fn change_user(&self) -> Vec<String> {
        let words = |id: u32| {
            [
                "setpriv".into(),
                format!("--reuid={id}"),
                format!("--regid={id}"),
                "--clear-groups".into(),
                "--inh-caps=-all".into(),
                "--bounding-set=-all".into(),
            ]
        };
        self.user.map(words).into_iter().flatten().collect()
    }

    fn kernel_arguments(&self) -> String {
        let mut text = String::from("console=ttyS0 quiet panic=-1");
        if !self.ping.is_empty() {
            let addresses: Vec<String> = self.ping.iter().map(ToString::to_string).collect();
            text += &format!(" guest.ping={}", addresses.join(","));
        }
        if !self.resolve.is_empty() {
            text += &format!(" guest.resolve={}", self.resolve.join(","));
        }
        text
    }
}

impl Lab {
    /// Plugs an instance in as a tap and boots a virtual machine on it. It returns when QEMU
    /// runs; see [`Vm::lease`] and [`Vm::wait_for`].
    ///
    /// # Errors
    /// Whatever step fails.
    pub fn boot_vm(&self, options: &VmOptions) -> Result<Vm> {
        let user = options.user.map(|user| user.to_string());
        let plug = user.as_deref().map_or(Plug::Tap, |user| Plug::TapOf { user });
        let attached = self.attach(&options.host, &options.instance, &options.network, plug)?;
        self.boot_attached(options, attached)
    }

    /// As [`Self::boot_vm`], for an instance that is plugged in as a tap already.
    ///
    /// # Errors
    /// Whatever step fails.
    pub fn boot_attached(&self, options: &VmOptions, attached: Attached) -> Result<Vm> {
        let image = Image::make(self.folder()).context("making the image for virtual machines")?;
        let mut argv = options.change_user();
        argv.extend(qemu(&image, &attached, &options.kernel_arguments()));
        argv.extend(options.qemu_arguments.iter().cloned());
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let name = format!("vm-{}", options.instance);
        let command = self.running().command(options.host.as_str().into(), &argv);
        let process = Process::start(&name, command, &self.running().log(&name))?;
        Ok(Vm { attached, process, commands: 0 })
    }
}

impl Vm {
    /// Waits until it has printed a line with this in it; gives that line.
    ///
    /// # Errors
    /// Where it ends before, or the deadline passes; with the end of what it printed.
    pub fn wait_for(&mut self, text: &str, deadline: Duration) -> Result<String> {
        self.process.wait_for(text, deadline)
    }

    /// Waits for its lease and gives it.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn lease(&mut self, deadline: Duration) -> Result<Lease> {
        let line = self.wait_for("GUEST address=", deadline)?;
        Lease::find(&line).with_context(|| format!("reading the lease in `{line}`"))
    }

    /// Runs a shell command in it, once it is ready, and gives what that printed.
    ///
    /// # Errors
    /// As [`Self::wait_for`]; and where the command fails.
    pub fn run(&mut self, command: &str, deadline: Duration) -> Result<String> {
        self.wait_for("GUEST ready", deadline)?;
        self.commands += 1;
        let number = self.commands;
        writeln!(self.process.input()?, "{number} {command}").context("writing to the serial console")?;
        let ended = self.wait_for(&format!("GUEST run {number} status "), deadline)?;
        let output = self.process.output()?;
        let begin = format!("GUEST run {number} begin");
        let (_, rest) = output.split_once(&begin).context("the command's output has no begin")?;
        let (printed, _) = rest.split_once(&ended).context("the command's output has no end")?;
        let printed = printed.trim().to_owned();
        if !ended.ends_with("status 0") {
            bail!("in the virtual machine, `{command}` failed ({ended}):\n{printed}");
        }
        Ok(printed)
    }

    /// It is now the machine that the other one was, which has been migrated into it and ends.
    pub fn take_over(&mut self, other: Self) {
        self.commands = other.commands;
    }

    /// Asks it to switch itself off and waits until QEMU has ended.
    ///
    /// # Errors
    /// Where it does not in time.
    pub fn power_off(mut self, deadline: Duration) -> Result<ExitStatus> {
        self.wait_for("GUEST ready", deadline)?;
        writeln!(self.process.input()?, "0 poweroff -f").context("writing to the serial console")?;
        self.process.wait(deadline)
    }

    /// Where its serial console is written to.
    pub fn console(&self) -> &Path {
        self.process.log()
    }
}

/// The options that `docs/hypervisors.md` shows.
const NETDEV: &str = "tap,id=net0,ifname=$tap,script=no,downscript=no";
const DEVICE: &str = "virtio-net-pci,netdev=net0,mac=$mac,host_mtu=$mtu";

/// The documented line, with the serial console on standard input and output. Without `romfile=`
/// QEMU wants a boot ROM that Debian has in another package.
fn qemu(image: &Image, attached: &Attached, kernel_arguments: &str) -> Vec<String> {
    let fixed = "qemu-system-x86_64 -M q35 -accel tcg -cpu max -smp 1 -m 256 -nodefaults -no-reboot \
                 -display none -monitor none -serial stdio";
    let mut argv: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
    let netdev = NETDEV.replace("$tap", attached.device.as_str());
    let device = DEVICE.replace("$mac", &attached.mac.to_string());
    let device = device.replace("$mtu", &attached.mtu.to_string()) + ",romfile=";
    argv.extend(["-netdev".into(), netdev, "-device".into(), device]);
    argv.extend(["-kernel".into(), image.kernel.display().to_string()]);
    argv.extend(["-initrd".into(), image.initramfs.display().to_string()]);
    argv.extend(["-append".into(), kernel_arguments.to_owned()]);
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_shows_the_line_that_is_run() {
        let documentation = include_str!("../../../docs/hypervisors.md").replace('"', "");
        for option in [format!("-netdev {NETDEV}"), format!("-device {DEVICE}")] {
            assert!(documentation.contains(&option), "`{option}` is not in docs/hypervisors.md");
        }
    }
}
