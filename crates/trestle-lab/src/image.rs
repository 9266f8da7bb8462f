//! What a lab's virtual machines boot: Debian's stock cloud kernel as it is, and a root file
//! system. Here is the one of guests: busybox, the kernel's modules for virtio and two scripts.

use std::fs::read_dir;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::archive::Archive;
use crate::guest::LEASE_SCRIPT;

/// What a network device of QEMU needs, in the order of loading.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_net"];
const BUSYBOX: &str = "/bin/busybox";

/// A kernel and a root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
}

impl Image {
    /// Makes the one of guests in this folder, if it is not there.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let version = kernel_version(Path::new("/boot"))?;
        let initramfs = folder.join(format!("guest-{version}.cpio"));
        if !initramfs.exists() {
            furnish(&initramfs, &version)?;
        }
        Ok(Self { kernel: kernel(&version), initramfs })
    }
}

/// Where Debian puts a kernel.
pub(crate) fn kernel(version: &str) -> PathBuf {
    PathBuf::from(format!("/boot/vmlinuz-{version}"))
}

/// The newest of Debian's cloud kernels here.
pub(crate) fn kernel_version(boot: &Path) -> Result<String> {
    let entries = read_dir(boot).with_context(|| format!("listing {}", boot.display()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let versions = names.filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()));
    let numbers = |version: &String| -> Vec<u32> {
        version.split(['.', '-']).filter_map(|part| part.parse().ok()).collect()
    };
    let newest = versions.filter(|version| version.ends_with("cloud-amd64")).max_by_key(numbers);
    newest.context(
        "no kernel for virtual machines in /boot: install the Debian package linux-image-cloud-amd64",
    )
}

fn furnish(initramfs: &Path, version: &str) -> Result<()> {
    let mut archive = Archive::create(initramfs)?;
    archive
        .copy(Path::new(BUSYBOX), Path::new("/bin/busybox"))
        .context("no /bin/busybox for guests: install the Debian package busybox-static")?;
    archive.script(Path::new("/init"), include_str!("guest/init.sh"))?;
    archive.script(Path::new("/lease.sh"), LEASE_SCRIPT)?;
    for (number, module) in modules(version)?.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        // The script loads them in the order of their names.
        archive.copy(module, Path::new(&format!("/modules/{number:03}-{name}")))?;
    }
    archive.finish()
}

/// The files of our modules and of what they need, each behind what it needs.
fn modules(version: &str) -> Result<Vec<PathBuf>> {
    let mut command = Command::new("modprobe");
    command.args(["--set-version", version, "--dirname", "/", "--show-depends", "--all"]).args(MODULES);
    let output = command.output().context("starting modprobe: install the Debian package kmod")?;
    if !output.status.success() {
        bail!("modprobe --show-depends: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some(file) = line.trim().strip_prefix("insmod ") else { continue };
        let file = PathBuf::from(file.trim());
        if !files.contains(&file) {
            files.push(file);
        }
    }
    Ok(files)
}
