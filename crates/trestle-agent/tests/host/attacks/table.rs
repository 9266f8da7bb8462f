//! The attacks, by what is forged.

mod dhcp;
mod discovery;
mod ethernet;
mod packets;
pub mod pairs;
mod rightful;
mod routed;

pub use self::ethernet::other_types;
pub use self::rightful::rightful;
use super::frames;
use super::scene::{Place, Scene};

/// Frames, and where they are heard if nobody holds the attacker to anything.
pub struct Attack {
    pub name: &'static str,
    pub heard_at: &'static [Place],
    pub frames: fn(&Scene) -> Vec<Vec<u8>>,
}

/// What is sent to one.
const NEIGHBOUR: &[Place] = &[Place::Neighbour];
/// What is sent to all.
const EVERYBODY: &[Place] = &[Place::Neighbour, Place::Peer, Place::Host];
/// What is sent to all on one host; through a shared uplink it does not go anyway.
const ON_HOST: &[Place] = &[Place::Neighbour, Place::Host];

pub fn attacks() -> Vec<Attack> {
    [
        ethernet::forged(),
        ethernet::tagged(),
        ethernet::other_types(),
        ethernet::groups(),
        discovery::arp(),
        discovery::advertisements(),
        discovery::solicitations(),
        discovery::routers(),
        dhcp::attacks(),
        packets::forged4(),
        packets::forged6(),
        packets::on_a_way_of_their_own(),
        routed::past_groups(),
        routed::to_the_host(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Attacks that come to nothing, guard or none: what is here would be a defect of something else.
pub fn futile() -> Vec<Attack> {
    [ethernet::never_passed_on(), packets::never_passed_on()].into_iter().flatten().collect()
}

const fn attack(
    name: &'static str,
    heard_at: &'static [Place],
    frames: fn(&Scene) -> Vec<Vec<u8>>,
) -> Attack {
    Attack { name, heard_at, frames }
}

/// An echo that the gateway answers.
pub fn echo(scene: &Scene) -> Vec<u8> {
    let header = frames::Ipv4::new(scene.me.ip4, scene.gateway.ip4, 1);
    let packet = header.packet(&frames::icmp(8, &scene.payload()));
    frames::ethernet(scene.gateway.mac, scene.me.mac, frames::IPV4, &packet)
}
