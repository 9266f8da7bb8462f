//! Who asks for metadata, and what answers.

use std::net::Ipv4Addr;

use super::{Object, Planner, Step};
use crate::spec::Key;

impl Planner<'_> {
    /// An address that is another one's from now on is nobody's in between: until it cannot send from it any
    /// more, whoever had it would be taken for the next one.
    pub(super) fn plan_metadata(&mut self, key: &Key, address: Ipv4Addr) {
        let wanted = self.wanted(key).cloned();
        let have = self.state.get(key).map(|have| &have.object);
        if wanted.as_ref() == have {
            return;
        }
        if have.is_some() {
            self.step(Step::DeleteMetadata { address });
        }
        if let Some(Object::Metadata { instance, project }) = wanted {
            self.step(Step::PutMetadata { address, instance, project });
        }
    }

    pub(super) fn plan_metadata_proxy(&mut self, key: &Key, port: u16) {
        let have = self.state.get(key).map(|have| &have.object);
        match (self.wanted(key).cloned(), have) {
            (Some(wanted), have) if have != Some(&wanted) => {
                let Object::MetadataProxy(service) = wanted else { return };
                self.step(Step::StartMetadataProxy { port, service });
            }
            (None, Some(_)) => self.step(Step::StopMetadataProxy { port }),
            _ => {}
        }
    }
}
