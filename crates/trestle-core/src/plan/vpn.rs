//! Cloudpipe: the servers of VPNs, where they live, and whom they let in.

use super::{Object, Planner, ProblemCode, Step};
use crate::spec::{Key, VpnServer};
use crate::types::{LinkName, Name};

impl Planner<'_> {
    pub(super) fn plan_vpn_netns(&mut self, key: &Key, vpn: &Name) {
        let vpn = vpn.clone();
        let have = self.state.get(key).map(|have| &have.object);
        match (self.wanted(key), have) {
            (Some(wanted), have) if have != Some(wanted) => self.step(Step::CreateVpnNetns { vpn }),
            (None, Some(_)) => self.step(Step::DeleteVpnNetns { vpn }),
            _ => {}
        }
    }

    /// A server on a device that was made anew hears nothing any more.
    pub(super) fn plan_vpn(&mut self, key: &Key, vpn: &Name) {
        let have = match self.state.get(key).map(|have| &have.object) {
            Some(Object::Vpn(server)) => Some(server),
            _ => None,
        };
        let vpn = vpn.clone();
        let Some(Object::Vpn(wanted)) = self.wanted(key).cloned() else {
            if have.is_some() {
                self.step(Step::StopVpn { vpn });
            }
            return;
        };
        if let Some(detail) = self.port_obstacle(&wanted.link) {
            let detail = format!("its device {} cannot be made: {detail}", wanted.link);
            return self.problem(key, ProblemCode::Blocked, detail);
        }
        let link_index = self.state.link(&wanted.link).and_then(|(link, _)| link.index);
        let as_it_must_be = VpnServer { link_index, ..wanted.clone() };
        if link_index.is_some() && self.is_as_wanted(&wanted.link) && have == Some(&as_it_must_be) {
            return;
        }
        self.step(Step::StartVpn { vpn, server: wanted });
    }

    /// Why a port of a bridge cannot be made.
    fn port_obstacle(&self, port: &LinkName) -> Option<String> {
        let own = self.obstacle(port).map(|(_, detail)| detail);
        let bridge = self.spec.link(port).and_then(|port| port.master.as_ref());
        own.or_else(|| self.bridge_obstacle(bridge?))
    }

    /// Who is let in no more is told so and does not come back. With the whole VPN users are not: it may be on
    /// another host by now.
    pub(super) fn plan_vpn_user(&mut self, key: &Key, vpn: &Name, user: &Name) {
        let stays = self.wanted(&Key::VpnNetns(vpn.clone())).is_some();
        let have = self.state.get(key).map(|have| &have.object);
        let (vpn, user) = (vpn.clone(), user.clone());
        match (self.wanted(key).cloned(), have) {
            (Some(wanted), have) if have != Some(&wanted) => {
                let Object::VpnUser(text) = wanted else { return };
                self.step(Step::PutVpnUser { vpn, user, text });
            }
            (None, Some(_)) if stays => self.step(Step::DeleteVpnUser { vpn, user }),
            _ => {}
        }
    }
}
