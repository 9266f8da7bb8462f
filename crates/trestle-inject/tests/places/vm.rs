//! A real virtual machine, booted from an image that was written into, where nothing answers DHCP.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use trestle_inject::{ImageOptions, inject_image};

use crate::support::{run, web1};

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

/// The guest's own PID 1: it brings its network up from its own files alone.
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

/// The outside: a namespace with the guest's routers and nothing else.
const OUTSIDE: &str = "
ip tuntap add tap0 mode tap
ip link set tap0 mtu 1450 up
ip addr add 10.0.0.1/24 dev tap0
ip addr add 2001:db8::1/64 dev tap0 nodad
mkfifo console
trap 'cat console.log' EXIT
timeout 90 qemu-system-x86_64 -M q35 -accel tcg -cpu max -smp 1 -m 256 -nodefaults -no-reboot -display none \
  -monitor none -serial stdio -kernel \"$KERNEL\" -initrd initramfs -append 'console=ttyS0 quiet panic=-1' \
  -drive file=disk.qcow2,format=qcow2,if=virtio -netdev tap,id=net0,ifname=tap0,script=no,downscript=no \
  -device virtio-net-pci,netdev=net0,mac=fa:16:3e:00:00:01,romfile= <console >console.log 2>&1 &
exec 3>console
for address in 10.0.0.5 2001:db8::5; do
    until ping -q -c 1 -W 1 $address >/dev/null; do kill -0 $! || exit 1; done
    echo OUTSIDE reaches $address
done
until grep -q 'GUEST is up' console.log; do kill -0 $! || exit 1; sleep 0.1; done
kill $!
";

#[test]
fn a_guest_without_dhcp_comes_up_with_what_was_injected() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = kernel();
    let version = kernel.file_name().unwrap().to_str().unwrap().strip_prefix("vmlinuz-").unwrap().to_owned();
    make_initramfs(&folder, &version);
    make_disk(&folder);
    inject_image(&folder.path().join("disk.qcow2"), &web1(), &ImageOptions::default()).unwrap();
    let mut outside = Command::new("unshare")
        .args(["--net", "sh", "-c", OUTSIDE])
        .current_dir(folder.path())
        .env("KERNEL", &kernel)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output: Vec<String> =
        BufReader::new(outside.stdout.take().unwrap()).lines().map_while(Result::ok).collect();
    outside.wait().unwrap();
    let output = output.join("\n");
    for expected in [
        "mtu 1450",
        "inet 10.0.0.5/24 brd 10.0.0.255",
        "inet6 2001:db8::5/64",
        "default via 10.0.0.1 dev eth0",
        "default via 2001:db8::1 dev eth0",
        "nameserver 10.0.0.53",
        "GUEST reaches 10.0.0.1",
        "GUEST reaches 2001:db8::1",
        "OUTSIDE reaches 10.0.0.5",
        "OUTSIDE reaches 2001:db8::5",
    ] {
        assert!(output.contains(expected), "`{expected}` is not in:\n{output}");
    }
}

/// The newest of Debian's cloud kernels.
fn kernel() -> PathBuf {
    let kernels = fs::read_dir("/boot").unwrap().map(|entry| entry.unwrap().path());
    let is_cloud = |path: &PathBuf| {
        let name = path.display().to_string();
        name.starts_with("/boot/vmlinuz-") && name.ends_with("-cloud-amd64")
    };
    kernels.filter(is_cloud).max().expect("the Debian package linux-image-cloud-amd64")
}

fn make_initramfs(folder: &TempDir, version: &str) {
    let root = folder.path().join("initramfs-root");
    furnish(&root, INITRAMFS_INIT);
    fs::create_dir(root.join("modules")).unwrap();
    let mut arguments = vec!["--set-version", version, "--dirname", "/", "--show-depends", "--all"];
    arguments.extend(MODULES);
    let mut files: Vec<PathBuf> = Vec::new();
    for line in run("/sbin/modprobe", &arguments).lines() {
        let Some(file) = line.strip_prefix("insmod ") else { continue };
        let file = PathBuf::from(file.trim());
        if !files.contains(&file) {
            let name = format!("{:03}-{}", files.len(), file.file_name().unwrap().display());
            fs::copy(&file, root.join("modules").join(name)).unwrap();
            files.push(file);
        }
    }
    let pack = format!("cd '{}' && find . | cpio -o -H newc --quiet >../initramfs", root.display());
    run("sh", &["-c", &pack]);
}

/// A qcow2 disk with a table of partitions, whose second one is the guest's root.
fn make_disk(folder: &TempDir) {
    let root = folder.path().join("guest-root");
    furnish(&root, INIT);
    for path in ["etc/network/if-pre-up.d", "etc/network/if-up.d", "var/run", "proc", "dev"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    fs::write(root.join("etc/network/interfaces"), "auto lo\niface lo inet loopback\n").unwrap();
    let script = "truncate -s 64M disk
        printf 'label: gpt\\nstart=1MiB,size=1MiB,type=uefi\\nstart=4MiB,size=48MiB,type=linux\\n' |
            /sbin/sfdisk -q disk
        /sbin/mke2fs -q -F -t ext4 -d guest-root -E offset=4194304 disk 48M
        qemu-img convert -O qcow2 disk disk.qcow2";
    run("sh", &["-e", "-c", &format!("cd '{}'\n{script}", folder.path().display())]);
}

fn furnish(root: &Path, init: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("the Debian package busybox-static");
    fs::write(root.join("init"), init).unwrap();
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).unwrap();
}
