//! VPNs, who may come in by them, and what the host that runs one is told.

use reqwest::Method;

use super::{Client, ClientError};
use crate::vpn::VpnIdentity;
use crate::{
    NewVpn, NewVpnUser, Page, PageQuery, Vpn, VpnCaRenewed, VpnCredentials, VpnFilter, VpnPatch, VpnUser,
    VpnUserRenewal,
};

impl Client {
    /// Makes a project's VPN.
    pub async fn create_vpn(&self, vpn: &NewVpn) -> Result<Vpn, ClientError> {
        self.send(self.post(&["v1", "vpns"]).json(vpn)).await
    }

    /// Lists VPNs, by project.
    pub async fn list_vpns(&self, filter: &VpnFilter, page: &PageQuery) -> Result<Page<Vpn>, ClientError> {
        self.send(self.get(&["v1", "vpns"]).query(filter).query(page)).await
    }

    /// Shows a project's VPN.
    pub async fn vpn(&self, project: &str) -> Result<Vpn, ClientError> {
        self.send(self.get(&["v1", "vpns", project])).await
    }

    /// Changes where clients of a VPN send to, or the host it runs on.
    pub async fn patch_vpn(&self, project: &str, patch: &VpnPatch) -> Result<Vpn, ClientError> {
        self.send(self.request(Method::PATCH, &["v1", "vpns", project]).json(patch)).await
    }

    /// Ends a project's VPN.
    pub async fn delete_vpn(&self, project: &str) -> Result<(), ClientError> {
        self.send_for_nothing(self.delete(&["v1", "vpns", project])).await
    }

    /// Makes a new certificate authority for a VPN; its users' files are void then.
    pub async fn renew_vpn_ca(&self, project: &str) -> Result<VpnCaRenewed, ClientError> {
        self.send(self.post(&["v1", "vpns", project, "renew-ca"])).await
    }

    /// Lets somebody in by a VPN.
    pub async fn add_vpn_user(
        &self,
        project: &str,
        user: &NewVpnUser,
    ) -> Result<VpnCredentials, ClientError> {
        self.send(self.post(&["v1", "vpns", project, "users"]).json(user)).await
    }

    /// Lists a VPN's users, by name.
    pub async fn list_vpn_users(
        &self,
        project: &str,
        page: &PageQuery,
    ) -> Result<Page<VpnUser>, ClientError> {
        self.send(self.get(&["v1", "vpns", project, "users"]).query(page)).await
    }

    /// Lets a user in no more.
    pub async fn revoke_vpn_user(&self, project: &str, user: &str) -> Result<(), ClientError> {
        self.send_for_nothing(self.delete(&["v1", "vpns", project, "users", user])).await
    }

    /// Gives a user a new file; the one before is void.
    pub async fn renew_vpn_user(
        &self,
        project: &str,
        user: &str,
        renewal: &VpnUserRenewal,
    ) -> Result<VpnCredentials, ClientError> {
        self.send(self.post(&["v1", "vpns", project, "users", user, "renew"]).json(renewal)).await
    }

    /// The keys of a VPN that runs on the host. The host's agent only.
    pub async fn vpn_identity(&self, host: &str, vpn: &str) -> Result<VpnIdentity, ClientError> {
        self.send(self.get(&["v1", "hosts", host, "vpns", vpn, "identity"])).await
    }
}
