//! Frames made by hand, as hexadecimal text.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use trestle_lab::{Lab, Process, until};

use crate::cloud::DEADLINE;

/// Everybody on the link (RFC 4291 §2.7.1).
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// Sends one frame as it is, from `eth0` of the namespace (packet(7)).
pub(crate) fn send(lab: &Lab, from: &str, frame: &str) -> Result<()> {
    const PROGRAM: &str = r#"
        my ($index, $frame) = @ARGV;
        socket(my $s, 17, 3, 0) or die "socket: $!";
        my $to = pack("S n i S C C a8", 17, 0x0003, $index, 0, 0, 6, "\xff" x 6);
        send($s, pack("H*", $frame), 0, $to) or die "send: $!";
    "#;
    let index = lab.exec_ok(from, &["cat", "/sys/class/net/eth0/ifindex"])?;
    lab.exec_ok(from, &["perl", "-e", PROGRAM, index.trim(), frame]).map(drop)
}

/// A victim's ears: everything its interface receives.
pub(crate) fn listen(lab: &Lab, at: &str) -> Result<Process> {
    let process = lab.spawn(at, &["tcpdump", "-n", "-e", "-l", "-Q", "in", "-i", "eth0"])?;
    until("tcpdump listens", DEADLINE, || Ok(process.output()?.contains("listening").then_some(())))?;
    Ok(process)
}

pub(crate) fn hex_mac(mac: &str) -> String {
    mac.replace(':', "")
}

pub(crate) fn hex_ip(address: &str) -> Result<String> {
    Ok(format!("{:08x}", address.parse::<Ipv4Addr>()?.to_bits()))
}

pub(crate) fn hex_ip6(address: Ipv6Addr) -> String {
    format!("{:032x}", address.to_bits())
}

/// A UDP datagram to everybody on the link; its payload is the mark.
pub(crate) fn udp(mac: &str, source: &str, ports: (u16, u16)) -> Result<String> {
    let header = format!("450000200000000040110000{}ffffffff", hex_ip(source)?);
    let sum = checksum(&header);
    let header = header.replacen("40110000", &format!("4011{sum:04x}"), 1);
    Ok(format!("ffffffffffff{}0800{header}{:04x}{:04x}000c00006d61726b", hex_mac(mac), ports.0, ports.1))
}

/// An ARP request of everybody, from this sender.
pub(crate) fn arp(frame_mac: &str, sender_mac: &str, sender: &str) -> Result<String> {
    let (frame_mac, sender_mac, sender) = (hex_mac(frame_mac), hex_mac(sender_mac), hex_ip(sender)?);
    Ok(format!(
        "ffffffffffff{frame_mac}08060001080006040001{sender_mac}{sender}0000000000000a0000fe{:036}",
        0
    ))
}

/// A UDP datagram to all nodes of the link, by IPv6.
pub(crate) fn udp6(mac: &str, source: Ipv6Addr, ports: (u16, u16)) -> String {
    let datagram = format!("{:04x}{:04x}000c00006d61726b", ports.0, ports.1);
    ip6(mac, source, UDP, &summed(source, ALL_NODES, UDP, &datagram, 6))
}

/// An ICMPv6 message to all nodes of the link, with its checksum.
pub(crate) fn icmp6(mac: &str, source: Ipv6Addr, message: &str) -> String {
    ip6(mac, source, ICMPV6, &summed(source, ALL_NODES, ICMPV6, message, 2))
}

/// The same behind options for the destination (RFC 8200 §4.6), which a filter must look past.
pub(crate) fn hidden_icmp6(mac: &str, source: Ipv6Addr, message: &str) -> String {
    const DESTINATION_OPTIONS: u8 = 60;
    let message = summed(source, ALL_NODES, ICMPV6, message, 2);
    ip6(mac, source, DESTINATION_OPTIONS, &format!("{ICMPV6:02x}00010400000000{message}"))
}

/// An IPv6 packet to all nodes of the link (RFC 8200 §3).
fn ip6(mac: &str, source: Ipv6Addr, next_header: u8, payload: &str) -> String {
    let (from, to, length) = (hex_ip6(source), hex_ip6(ALL_NODES), payload.len() / 2);
    format!("333300000001{}86dd60000000{length:04x}{next_header:02x}ff{from}{to}{payload}", hex_mac(mac))
}

/// The payload with its checksum in this place, in bytes (RFC 8200 §8.1).
fn summed(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, payload: &str, place: usize) -> String {
    let (from, to, length) = (hex_ip6(source), hex_ip6(destination), payload.len() / 2);
    let sum = checksum(&format!("{from}{to}{length:08x}{protocol:08x}{payload}"));
    format!("{}{sum:04x}{}", &payload[..2 * place], &payload[2 * place + 4..])
}

/// RFC 1071, over hexadecimal text.
fn checksum(hex: &str) -> u16 {
    let words = (0..hex.len() / 4).filter_map(|i| u32::from_str_radix(&hex[4 * i..4 * i + 4], 16).ok());
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
