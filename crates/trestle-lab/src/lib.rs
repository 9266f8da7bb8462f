//! A whole cloud on one machine: hosts as network namespaces, instances as namespaces or real
//! QEMU virtual machines, with the real controller, the real agents and a host outside.
//!
//! A lab is one tree of processes in PID, mount and network namespaces of its own. Nothing of it
//! exists in the machine's own network, and whatever way it ends, by Ctrl-C, a panic or
//! `kill -9`, the kernel takes all of it away. It starts the same programs that are shipped and
//! looks at them from outside; it must never reach into them.

mod archive;
mod asking;
mod daemon;
pub mod demo;
mod guest;
mod image;
pub mod init;
mod kernel;
mod lab;
mod machine;
mod not_run;
mod process;
mod running;
mod topology;
mod universe;
pub mod up;
mod vm;
mod wait;

pub use daemon::Daemon;
pub use guest::{Lease, NetnsGuest};
pub use kernel::has_802_1q;
pub use lab::{Lab, Plug, Programs};
pub use machine::{Door, Machine, MachineOptions, keep_door, where_vlans_are};
pub use not_run::not_run;
pub use process::Process;
pub use running::Running;
pub use topology::{HostNode, INTERNET, INTERNET_NAME, Networks, Node, OUTSIDE, Topology};
pub use universe::Entrance;
pub use vm::{Vm, VmOptions};
pub use wait::until;
