//! Changes of nftables, and who made them.

use std::collections::BTreeSet;
use std::sync::Arc;

use netlink_sys::{AsyncSocketExt, TokioSocket};
use nix::errno::Errno;
use trestle_core::spec::Table;

use super::super::nfnetlink::{self, Message};
use super::super::nftables::{self, Nftables};
use super::Shared;

pub(super) async fn watch_rules(shared: Arc<Shared>, socket: TokioSocket, nftables: Nftables) {
    let mut touched = BTreeSet::new();
    loop {
        match socket.recv_from_full().await {
            Ok((bytes, _)) => {
                let changes = nfnetlink::parse(&bytes)
                    .into_iter()
                    .filter_map(|message| foreign_change(message, &mut touched));
                let changes: Vec<ForeignChange> = changes.collect();
                // Before it is told: what is put right must not be closed after.
                if changes.iter().any(|change| change.opens)
                    && let Err(error) = nftables.close().await
                {
                    tracing::error!(%error, "cannot close the guard until it is put right");
                }
                for change in changes {
                    shared.report(change.what, change.culprit);
                }
            }
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                shared.report("changes of nftables were missed".to_owned(), None);
            }
            Err(error) => return tracing::error!(%error, "changes of nftables are not noticed any more"),
        }
    }
}

/// What somebody else changed of our tables.
struct ForeignChange {
    what: String,
    culprit: Option<String>,
    /// Whether it may let guests do what they must not.
    opens: bool,
}

/// A transaction is told change by change; its end tells who made it.
fn foreign_change(message: Message, touched: &mut BTreeSet<Table>) -> Option<ForeignChange> {
    match message {
        Message::InTable { family, table } => {
            touched.extend(our_table(family, &table));
            None
        }
        Message::Generation { thread, name, .. } => {
            let tables = std::mem::take(touched);
            let table = tables.first()?;
            if name.as_deref() == Some(nftables::THREAD) {
                return None;
            }
            let culprit = name.zip(thread).map(|(name, thread)| format!("{name} (pid {thread})"));
            let what = format!("table {} {} changed", table.family(), table.name());
            let opens = tables.contains(&Table::Guard) || tables.contains(&Table::Groups);
            Some(ForeignChange { what, culprit, opens })
        }
    }
}

fn our_table(family: u8, name: &str) -> Option<Table> {
    Table::ALL.into_iter().find(|table| nftables::protocol(*table) == family && name == table.name())
}
