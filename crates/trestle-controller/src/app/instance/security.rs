//! What interfaces are held to: their security groups, and what they may send from besides.

use trestle_core::types::{Name, ProjectId};
use trestle_core::world::Security;

use crate::app::security_group::{self, DEFAULT};
use crate::error::AppError;
use crate::store::Write;

/// What an interface is held to, and the names of its groups.
#[derive(Clone)]
pub(super) struct Held {
    /// `None` lets everything pass.
    pub(super) security: Option<Security>,
    pub(super) group_names: Vec<Name>,
}

/// What an interface of the project is held to if nothing else is asked for.
pub(super) async fn by_default(write: &mut Write, project: ProjectId) -> Result<Held, AppError> {
    let group = security_group::find_within(write.connection(), Some(project), DEFAULT).await?;
    let security = Security { groups: [group.id].into(), ..Security::default() };
    Ok(Held { security: Some(security), group_names: vec![group.name] })
}
