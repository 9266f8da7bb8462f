//! What Trestle does to a real kernel, asked of `ip`, `nft`, `ping`, `tcpdump` and real DHCP
//! clients, never of Trestle's own observation. Every test has a lab of its own.

mod bootable;
mod cloud;
mod crash;
mod doctor;
mod flat;
mod flat_dhcp;
mod floating_ip;
mod frames;
mod guard;
mod inject;
mod ipv6;
mod metadata;
mod moving;
mod multi_host;
mod release;
mod repair;
mod reserve;
mod security_group;
mod settings;
mod side_by_side;
mod single_host;
mod vlan;
mod vm;
mod vpn;
