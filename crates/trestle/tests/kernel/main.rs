//! What Trestle does to a real kernel, asked of `ip`, `nft`, `ping`, `tcpdump` and real DHCP
//! clients, never of Trestle's own observation. Every test has a lab of its own.

mod bootable;
mod cloud;
mod crash;
mod flat_dhcp;
mod guard;
mod inject;
mod release;
mod repair;
mod vm;
