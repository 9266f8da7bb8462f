//! Reads what the guest's side of an interface is to be.

use trestle_api::PlugRequest;
use trestle_core::types::LinkName;
use trestle_core::world::Plug;

use crate::app::check::Checks;

/// The longest path of a namespace: with a name it must fit a device's alias (`IFALIASZ`, 256).
const NETNS_PATH: usize = 200;

/// What a request asks for; a veth that it gives no name keeps the one it has, else is `eth0`.
pub(super) fn read_plug(checks: &mut Checks, plug: &PlugRequest, now: Option<&Plug>) -> Option<Plug> {
    match plug {
        PlugRequest::Tap { owner } => Some(Plug::Tap { owner: *owner }),
        PlugRequest::Veth { netns, name } => {
            let plain = netns.starts_with('/') && !netns.chars().any(|c| c.is_control() || c.is_whitespace());
            if !plain || netns.len() > NETNS_PATH {
                let message =
                    format!("`{netns}` is not a path to a network namespace, such as /run/netns/web1");
                checks.add("plug.netns", "bad_path", message);
            }
            let kept = match now {
                Some(Plug::Veth { name, .. }) => name.as_str(),
                _ => "eth0",
            };
            let name: Option<LinkName> =
                checks.parse("plug.name", "bad_link_name", name.as_deref().unwrap_or(kept));
            name.map(|name| Plug::Veth { netns: netns.clone(), name })
        }
    }
}

/// A plug as people read it.
pub(super) fn told(plug: &Plug) -> String {
    match plug {
        Plug::Tap { owner: None } => "a tap".to_owned(),
        Plug::Tap { owner: Some(uid) } => format!("a tap of user {uid}"),
        Plug::Veth { netns, name } => format!("{name} in {netns}"),
    }
}
