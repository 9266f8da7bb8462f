//! A virtual machine that boots from a disk of its own: Debian's stock cloud kernel, and a root of
//! busybox whose network comes from `/etc/network/interfaces` alone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What the kernel needs to find its disk and its network device.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_blk", "virtio_net", "crc32c_generic", "ext4"];

/// PID 1 until the disk is there.
const INITRAMFS_INIT: &str = "#!/bin/busybox sh
for module in /modules/*.ko; do /bin/busybox insmod $module; done
/bin/busybox mkdir -p /root /dev
/bin/busybox mount -t devtmpfs dev /dev
until /bin/busybox mount -t ext4 /dev/vda2 /root; do /bin/busybox usleep 100000; done
exec /bin/busybox switch_root /root /init
";

/// The guest's own PID 1: it brings its network up from its own files and reaches its routers.
const INIT: &str = "#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
ifup -a
ip addr show dev eth0
ip route
ip -6 route
cat /etc/resolv.conf
for address in 10.0.0.1 2001:db8::1; do
    until ping -c 1 -W 2 $address >/dev/null; do usleep 100000; done
    echo GUEST reaches $address
done
echo GUEST is up
read -r word
";

/// A disk with a partition for firmware and one with the guest's root.
const MAKE_DISK: &str = "truncate -s 64M disk
printf 'label: gpt\\nstart=1MiB,size=1MiB,type=uefi\\nstart=4MiB,size=48MiB,type=linux\\n' | /sbin/sfdisk -q disk
/sbin/mke2fs -q -F -t ext4 -d disk-root -E offset=4194304 disk 48M
qemu-img convert -O qcow2 disk disk.qcow2";

/// Makes `disk.qcow2` and `initramfs` in a folder, and gives the kernel that boots them.
pub(crate) fn make(folder: &Path) -> Result<PathBuf> {
    let kernels = fs::read_dir("/boot")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let versions = kernels.filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()));
    let version = versions.filter(|version| version.ends_with("-cloud-amd64")).max();
    let version = version.context("no kernel: install the Debian package linux-image-cloud-amd64")?;
    make_initramfs(folder, &version)?;
    make_disk(folder)?;
    Ok(PathBuf::from(format!("/boot/vmlinuz-{version}")))
}

fn make_initramfs(folder: &Path, version: &str) -> Result<()> {
    let root = folder.join("initramfs-root");
    furnish(&root, INITRAMFS_INIT)?;
    fs::create_dir(root.join("modules"))?;
    let mut modprobe = Command::new("/sbin/modprobe");
    modprobe.args(["--set-version", version, "--dirname", "/", "--show-depends", "--all"]).args(MODULES);
    let shown = succeed(&mut modprobe)?;
    let mut files: Vec<&str> = Vec::new();
    for file in shown.lines().filter_map(|line| line.strip_prefix("insmod ")).map(str::trim) {
        if !files.contains(&file) {
            // The script loads them in the order of their names.
            let module = root.join(format!("modules/{:03}.ko", files.len()));
            fs::copy(file, module).with_context(|| format!("copying {file}"))?;
            files.push(file);
        }
    }
    let pack = "find . | cpio -o -H newc --quiet >../initramfs";
    succeed(Command::new("sh").args(["-c", pack]).current_dir(root)).map(drop)
}

/// The guest's files know of no interface but `lo`.
fn make_disk(folder: &Path) -> Result<()> {
    let root = folder.join("disk-root");
    furnish(&root, INIT)?;
    for path in ["etc/network/if-pre-up.d", "etc/network/if-up.d", "var/run", "proc", "dev"] {
        fs::create_dir_all(root.join(path))?;
    }
    fs::write(root.join("etc/network/interfaces"), "auto lo\niface lo inet loopback\n")?;
    succeed(Command::new("sh").args(["-e", "-c", MAKE_DISK]).current_dir(folder)).map(drop)
}

fn furnish(root: &Path, init: &str) -> Result<()> {
    fs::create_dir_all(root.join("bin"))?;
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("the Debian package busybox-static")?;
    fs::write(root.join("init"), init)?;
    fs::set_permissions(root.join("init"), Permissions::from_mode(0o755)).context("making init a program")
}

fn succeed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
