//! Persistent taps, by `/dev/net/tun` (the kernel's `Documentation/networking/tuntap.rst`):
//! rtnetlink does not make them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::libc::{IFF_NO_PI, IFF_TAP, IFF_VNET_HDR, c_int, ifreq};
use trestle_core::types::LinkName;

/// `IFF_TUN_EXCL`: fail if the device exists, instead of opening it.
const IFF_TUN_EXCL: c_int = 0x8000;

mod ioctl {
    use nix::libc::{c_int, c_ulong, ifreq};

    // All four are declared as taking an int; the first takes a struct (`linux/if_tun.h`).
    nix::ioctl_write_ptr_bad!(set_device, nix::request_code_write!(b'T', 202, size_of::<c_int>()), ifreq);
    nix::ioctl_write_int_bad!(
        set_persistent,
        nix::request_code_write!(b'T', 203, size_of::<c_int>()) as c_ulong
    );
    nix::ioctl_write_int_bad!(set_owner, nix::request_code_write!(b'T', 204, size_of::<c_int>()) as c_ulong);
}

/// Makes a tap that outlives us, in the network namespace of the calling thread. Fails with
/// `EBUSY` if the device exists.
pub(super) fn create(name: &LinkName, owner: Option<u32>) -> io::Result<()> {
    let tun = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut request = empty_request();
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *to = from as _;
    }
    // What does not fit is not an interface flag: all four are below 2^16.
    request.ifr_ifru.ifru_flags = (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL) as _;
    // SAFETY: `tun` is open and `request` is a whole `ifreq` that outlives the call.
    unsafe { ioctl::set_device(tun.as_raw_fd(), &raw const request) }?;
    if let Some(uid) = owner {
        // SAFETY: `tun` is open; the argument is a number.
        unsafe { ioctl::set_owner(tun.as_raw_fd(), uid as c_int) }?;
    }
    // SAFETY: as above.
    unsafe { ioctl::set_persistent(tun.as_raw_fd(), 1) }?;
    Ok(())
}

fn empty_request() -> ifreq {
    // SAFETY: all zeros are a valid `ifreq`: integers, and a union of integers and a pointer.
    unsafe { std::mem::zeroed() }
}
