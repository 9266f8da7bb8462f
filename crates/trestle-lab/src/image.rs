//! The image that a lab's virtual machines boot: Debian's stock cloud kernel as it is, and a
//! root file system of busybox, the kernel's modules for virtio and two scripts.

use std::fs::{DirBuilder, copy, read_dir};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::guest::{LEASE_SCRIPT, write_script};

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
    /// Makes it in this folder, if it is not there.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let version = kernel_version(Path::new("/boot"))?;
        let kernel = PathBuf::from(format!("/boot/vmlinuz-{version}"));
        let initramfs = folder.join(format!("guest-{version}.cpio"));
        if !initramfs.exists() {
            let root = folder.join("guest-root");
            furnish(&root, &version)?;
            pack(&root, &initramfs)?;
        }
        Ok(Self { kernel, initramfs })
    }
}

/// The newest of Debian's cloud kernels here.
fn kernel_version(boot: &Path) -> Result<String> {
    let entries = read_dir(boot).with_context(|| format!("listing {}", boot.display()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let versions = names.filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()));
    let numbers = |version: &String| -> Vec<u32> {
        version.split(['.', '-']).filter_map(|part| part.parse().ok()).collect()
    };
    let newest = versions.filter(|version| version.ends_with("cloud-amd64")).max_by_key(numbers);
    newest.context("no kernel for guests in /boot: install the Debian package linux-image-cloud-amd64")
}

fn furnish(root: &Path, version: &str) -> Result<()> {
    for part in ["bin", "modules"] {
        let path = root.join(part);
        DirBuilder::new()
            .recursive(true)
            .create(&path)
            .with_context(|| format!("making {}", path.display()))?;
    }
    copy(BUSYBOX, root.join("bin/busybox"))
        .context("no /bin/busybox for guests: install the Debian package busybox-static")?;
    write_script(&root.join("init"), include_str!("guest/init.sh"))?;
    write_script(&root.join("lease.sh"), LEASE_SCRIPT)?;
    for (number, module) in modules(version)?.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        // The script loads them in the order of their names.
        let target = root.join(format!("modules/{number:03}-{name}"));
        copy(module, target).with_context(|| format!("copying {}", module.display()))?;
    }
    Ok(())
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

/// The format is Documentation/driver-api/early-userspace/buffer-format.rst's; not compressed, since
/// an emulated processor takes longer to unpack it than to read it.
fn pack(root: &Path, archive: &Path) -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", r#"find . | cpio -o -H newc --quiet >"$1""#, "sh"]).arg(archive).current_dir(root);
    let output = command.output().context("starting sh")?;
    if !output.status.success() {
        bail!(
            "packing the guests' root with cpio (Debian package cpio): {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
