//! The text that nftables and dnsmasq are given.

use crate::spec::Table;

/// The fixed text of a table: its sets and chains, for `nft -f`, without `add table` idioms.
pub fn ruleset(table: Table) -> String {
    let _ = table;
    todo!()
}
