//! Disk images, made and read by the programs of others.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use trestle_inject::{Form, ImageFormat, ImageOptions, InjectError, inject_image, render};

use crate::support::{run, tree, web1};

const MIB: u64 = 1 << 20;
const NETPLAN: &str = "etc/netplan/90-trestle.yaml";

/// A folder with a disk image in it.
struct Disk {
    folder: TempDir,
    image: PathBuf,
}

impl Disk {
    /// The whole disk is a file system with these files.
    fn whole(kind: &str, files: &[(&str, &str)]) -> Self {
        let disk = Self::empty(16);
        disk.make_file_system(kind, 0, 16, files);
        disk
    }

    fn empty(mebibytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("web1 ?,=.img");
        fs::File::create(&image).unwrap().set_len(mebibytes * MIB).unwrap();
        Self { folder, image }
    }

    fn make_file_system(&self, kind: &str, offset: u64, mebibytes: u64, files: &[(&str, &str)]) {
        let tree = tree(files);
        let plain = self.folder.path().join("plain");
        fs::rename(&self.image, &plain).unwrap();
        let offset = format!("offset={}", offset * MIB);
        let [plain, tree] = [&plain, tree.path()].map(|path| path.display().to_string());
        run(
            "/sbin/mke2fs",
            &["-q", "-F", "-t", kind, "-d", &tree, "-E", &offset, &plain, &format!("{mebibytes}M")],
        );
        fs::rename(plain, &self.image).unwrap();
    }

    /// A disk with a partition for firmware and one file system.
    fn partitioned(label: &str, files: &[(&str, &str)]) -> Self {
        let disk = Self::empty(32);
        disk.partition(&format!(
            "label: {label}\nstart=1MiB,size=1MiB,type=uefi\nstart=4MiB,size=16MiB,type=linux\n"
        ));
        disk.make_file_system("ext4", 4, 16, files);
        disk
    }

    fn partition(&self, table: &str) {
        let script = self.folder.path().join("table");
        fs::write(&script, table).unwrap();
        let command = format!("/sbin/sfdisk -q '{}' <'{}'", self.image.display(), script.display());
        run("sh", &["-c", &command]);
        fs::remove_file(script).unwrap();
    }

    /// Turns it into qcow2 and gives its path.
    fn qcow2(&self) -> PathBuf {
        let image = self.folder.path().join("web1 ?,=.qcow2");
        run("qemu-img", &["convert", "-O", "qcow2", &self.text(), &image.display().to_string()]);
        image
    }

    fn text(&self) -> String {
        self.image.display().to_string()
    }

    /// A file in the image, as debugfs reads it.
    fn read(&self, image: &Path, offset: u64, path: &str) -> String {
        let raw = self.folder.path().join("raw");
        run("qemu-img", &["convert", "-O", "raw", &image.display().to_string(), &raw.display().to_string()]);
        let device = format!("{}?offset={}", raw.display(), offset * MIB);
        run("/sbin/e2fsck", &["-f", "-n", &device]);
        let text = run("/sbin/debugfs", &["-R", &format!("cat /{path}"), &device]);
        fs::remove_file(raw).unwrap();
        text
    }

    /// What is in the folder besides the images.
    fn rest(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        names.filter(|name| !name.starts_with("web1")).collect()
    }
}

fn netplan() -> String {
    render(&web1(), Form::Netplan).remove(0).text
}

fn inject(image: &Path) -> Result<trestle_inject::Outcome, InjectError> {
    inject_image(image, &web1(), &ImageOptions::default())
}

/// It fails like this, and the image is as it was.
#[track_caller]
fn refused(disk: &Disk, options: &ImageOptions) -> String {
    let before = fs::read(&disk.image).unwrap();
    let error = inject_image(&disk.image, &web1(), options).unwrap_err();
    assert!(before == fs::read(&disk.image).unwrap(), "the image has changed");
    assert_eq!(disk.rest(), Vec::<String>::new());
    error.to_string().replace(&disk.folder.path().display().to_string(), "")
}

#[test]
fn every_ext_file_system_is_written_and_a_second_run_changes_nothing() {
    for kind in ["ext2", "ext3", "ext4"] {
        let disk = Disk::whole(kind, &[("etc/netplan/", "")]);
        assert_eq!(inject(&disk.image).unwrap().written, [NETPLAN]);
        assert_eq!(disk.read(&disk.image, 0, NETPLAN), netplan());
        assert!(inject(&disk.image).unwrap().is_unchanged());
        assert_eq!(disk.rest(), Vec::<String>::new());
    }
}

#[test]
fn the_root_is_found_in_both_kinds_of_partition_table() {
    for label in ["gpt", "dos"] {
        let disk = Disk::partitioned(label, &[("etc/netplan/", "")]);
        inject(&disk.image).unwrap();
        assert_eq!(disk.read(&disk.image, 4, NETPLAN), netplan());
    }
}

#[test]
fn a_qcow2_image_is_written_and_stays_one() {
    let disk = Disk::partitioned("gpt", &[("etc/netplan/", "")]);
    let image = disk.qcow2();
    run("qemu-img", &["snapshot", "-c", "before", &image.display().to_string()]);
    inject(&image).unwrap();
    assert_eq!(disk.read(&image, 4, NETPLAN), netplan());
    run("qemu-img", &["check", &image.display().to_string()]);
    assert!(run("qemu-img", &["snapshot", "-l", &image.display().to_string()]).contains("before"));
    assert!(inject(&image).unwrap().is_unchanged());
    assert_eq!(disk.rest(), Vec::<String>::new());
}

#[test]
fn a_header_that_names_another_file_is_believed_only_if_somebody_says_so() {
    let disk = Disk::partitioned("gpt", &[("etc/netplan/", "")]);
    let base = fs::read(&disk.image).unwrap();
    let overlay = disk.folder.path().join("web1-overlay");
    let name = disk.image.file_name().unwrap().to_str().unwrap();
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", name, &overlay.display().to_string()],
    );
    assert!(matches!(inject(&overlay), Err(InjectError::NamesAnotherFile(_))));
    let options = ImageOptions { format: Some(ImageFormat::Qcow2), ..ImageOptions::default() };
    inject_image(&overlay, &web1(), &options).unwrap();
    assert_eq!(disk.read(&overlay, 4, NETPLAN), netplan());
    assert!(base == fs::read(&disk.image).unwrap(), "the base has changed");
}

#[test]
fn an_image_that_qemu_has_open_is_refused() {
    let disk = Disk::whole("ext4", &[("etc/netplan/", "")]);
    let image = disk.qcow2();
    let file =
        format!("file={},if=none,id=disk,format=qcow2", image.display().to_string().replace(',', ",,"));
    let mut qemu = Command::new("qemu-system-x86_64")
        .args([
            "-S",
            "-nodefaults",
            "-display",
            "none",
            "-M",
            "q35",
            "-accel",
            "tcg",
            "-m",
            "64",
            "-drive",
            &file,
        ])
        .args(["-device", "virtio-blk-pci,drive=disk", "-qmp", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It greets when it has opened its disks.
    let mut greeting = String::new();
    BufReader::new(qemu.stdout.as_mut().unwrap()).read_line(&mut greeting).unwrap();
    assert!(greeting.contains("QMP"), "{greeting}");
    let refusal = inject(&image).unwrap_err().to_string();
    let text = refusal.replace(&disk.folder.path().display().to_string(), "");
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    assert_eq!(text, "/web1 ?,=.qcow2 is in use");
    inject(&image).unwrap();
}

#[test]
fn what_is_in_the_way_is_said_and_the_image_stays_as_it_was() {
    let options = ImageOptions::default();
    let swap = Disk::empty(16);
    run("/sbin/mkswap", &["-q", &swap.text()]);
    let none = Disk::whole("ext4", &[("etc/hostname", "x")]);
    let data = Disk::whole("ext4", &[("pictures/cat", "x")]);
    let full = Disk::whole("ext2", &[("etc/netplan/", ""), ("full", "x")]);
    fill(&full);
    let damaged = Disk::whole("ext2", &[("etc/netplan/", ""), ("etc/hostname", "x\n")]);
    run("/sbin/debugfs", &["-w", "-R", "sif /etc/hostname block[0] 999999999", &plain(&damaged)]);
    fs::rename(plain(&damaged), &damaged.image).unwrap();
    let damage = refused(&damaged, &options);
    assert!(damage.starts_with("the file system of /web1 ?,=.img has errors: "), "{damage}");
    let partition = ImageOptions { partition: Some(7), ..options };
    let no_partition = refused(&Disk::partitioned("gpt", &[("etc/netplan/", "")]), &partition);
    insta::assert_snapshot!(no_partition, @"/web1 ?,=.img has no root file system that can be written: it has no such partition");
    let texts = [swap, none, data, full, Disk::empty(1)].map(|disk| refused(&disk, &options));
    insta::assert_snapshot!(texts.join("\n"), @r"
    /web1 ?,=.img has no root file system that can be written: it holds swap
    the guest has none of the places where a network is configured: it has no /etc/netplan, no /etc/systemd/system/multi-user.target.wants/systemd-networkd.service, no /etc/network/interfaces, no /etc/cloud/cloud.cfg
    /web1 ?,=.img has no root file system that can be written: it holds ext4 without a folder /etc
    the guest's file system has no space left
    /web1 ?,=.img has no root file system that can be written: it holds nothing known
    ");
}

#[test]
fn of_several_roots_one_must_be_named() {
    let disk = Disk::partitioned("gpt", &[("etc/netplan/", "")]);
    disk.partition("label: gpt\nstart=1MiB,size=3MiB,type=linux\nstart=4MiB,size=16MiB,type=linux\n");
    disk.make_file_system("ext2", 1, 3, &[("etc/netplan/", "")]);
    assert_eq!(
        refused(&disk, &ImageOptions::default()),
        "/web1 ?,=.img has several root file systems, on partitions 1 and 2"
    );
    inject_image(&disk.image, &web1(), &ImageOptions { partition: Some(2), ..ImageOptions::default() })
        .unwrap();
    assert_eq!(disk.read(&disk.image, 4, NETPLAN), netplan());
    assert_eq!(disk.read(&disk.image, 1, NETPLAN), "");
}

#[test]
fn what_an_interrupted_run_has_left_is_cleared_away() {
    let disk = Disk::whole("ext4", &[("etc/netplan/", "")]);
    fs::write(disk.folder.path().join(".web1 ?,=.img.trestle-inject"), "half").unwrap();
    inject(&disk.image).unwrap();
    assert_eq!(disk.read(&disk.image, 0, NETPLAN), netplan());
    assert_eq!(disk.rest(), Vec::<String>::new());
}

#[test]
fn a_folder_that_is_there_keeps_its_permissions_and_a_missing_one_is_made() {
    let disk = Disk::whole("ext4", &[("etc/netplan/", "")]);
    let stat = |path: &str| run("/sbin/debugfs", &["-R", &format!("stat /{path}"), &plain(&disk)]);
    run("/sbin/debugfs", &["-w", "-R", "sif /etc/netplan mode 040700", &plain(&disk)]);
    fs::rename(plain(&disk), &disk.image).unwrap();
    inject(&disk.image).unwrap();
    let options = ImageOptions { form: Some(Form::Networkd), ..ImageOptions::default() };
    inject_image(&disk.image, &web1(), &options).unwrap();
    for (path, mode) in [("etc/netplan", "0700"), ("etc/systemd", "0755"), ("etc/systemd/network", "0755")] {
        let stat = stat(path);
        assert!(stat.contains("Type: directory") && stat.contains(&format!("Mode:  {mode}")), "{stat}");
    }
}

#[test]
fn a_device_is_not_replaced() {
    assert!(matches!(inject(Path::new("/dev/null")), Err(InjectError::NotAnImage(_))));
}

/// Moves the image to where debugfs finds no `?` in its name.
fn plain(disk: &Disk) -> String {
    let plain = disk.folder.path().join("plain");
    if disk.image.exists() {
        fs::rename(&disk.image, &plain).unwrap();
    }
    plain.display().to_string()
}

/// Leaves no free block.
fn fill(disk: &Disk) {
    let large = disk.folder.path().join("large");
    fs::write(&large, vec![1; 15 * MIB as usize]).unwrap();
    let device = plain(disk);
    let script = disk.folder.path().join("script");
    // The second one fails in the middle, when nothing is left.
    fs::write(&script, format!("write {0} a\nwrite {0} b\n", large.display())).unwrap();
    run("/sbin/debugfs", &["-w", "-f", &script.display().to_string(), &device]);
    Command::new("/sbin/e2fsck").args(["-y", "-f", &device]).output().unwrap();
    fs::remove_file(large).unwrap();
    fs::remove_file(script).unwrap();
    fs::rename(device, &disk.image).unwrap();
}
