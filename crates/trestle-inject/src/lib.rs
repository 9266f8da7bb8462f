//! Writes a guest's network configuration where the guest finds it without DHCP: into its root
//! file system, mounted or in a disk image, or onto an ISO that cloud-init reads.
//!
//! A guest's files are hostile: no path is followed out of its root, no image format is believed
//! that could make this machine's files part of the disk, and what is not Trestle's is kept. An
//! image is never changed in place: a copy of it is, which then takes its name.

mod error;
mod ext;
mod files;
mod guest;
mod image;
mod iso;
mod lock;
mod partitions;
mod place;
mod program;
mod qcow2;
mod render;
mod root;
mod stanzas;

pub use error::InjectError;
pub use guest::{Addressing, GuestInterface, GuestNetwork, StaticAddresses};
pub use image::{ImageFormat, ImageOptions, InvalidImageFormat, inject_image};
pub use iso::{InvalidIsoKind, IsoKind, make_iso};
pub use place::Outcome;
pub use render::{File, Form, InvalidForm, render};
pub use root::inject_root;
