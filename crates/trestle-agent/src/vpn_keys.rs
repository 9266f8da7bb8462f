//! Where the keys of VPNs come from. They are in no spec and no ledger.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use trestle_api::vpn::VpnIdentity;
use trestle_core::types::Name;

use crate::controller::{ControllerError, RemoteController};

/// Who is asked for the keys of a VPN.
pub trait VpnKeys: Send + Sync + fmt::Debug {
    /// The keys that the VPN of this name has now.
    fn identity<'a>(
        &'a self,
        vpn: &'a Name,
    ) -> Pin<Box<dyn Future<Output = Result<VpnIdentity, ControllerError>> + Send + 'a>>;
}

impl VpnKeys for RemoteController {
    fn identity<'a>(
        &'a self,
        vpn: &'a Name,
    ) -> Pin<Box<dyn Future<Output = Result<VpnIdentity, ControllerError>> + Send + 'a>> {
        Box::pin(self.vpn_identity(vpn))
    }
}
