//! What hosts say that rules of security groups decided on.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, AssertSqlSafe};
use trestle_api::agent::RuleCounter;
use trestle_core::types::HostId;

use crate::store::columns::{self, Columns};
use crate::store::error::{During, StoreError};

/// How many rules one statement is about.
const ROWS: usize = 500;

/// The largest number that is kept: JSON carries it without loss (RFC 8259 §6), and the sum over all
/// hosts fits into a column.
const LARGEST: u64 = (1 << 53) - 1;

/// Packets and bytes, as they are kept.
type Kept = (i64, i64);

/// Writes down what rules decided on, in place of what the host said of them before; what it says
/// nothing of stays. Only what changed is written: most rules of most hosts did not since the last
/// report.
pub(crate) async fn put_counters(
    connection: &mut AnyConnection,
    host: HostId,
    counters: &BTreeMap<u32, RuleCounter>,
) -> Result<(), StoreError> {
    let counters: Vec<(u32, Kept)> = counters.iter().map(|(rule, counter)| (*rule, kept(counter))).collect();
    for chunk in counters.chunks(ROWS) {
        let before = before(connection, host, chunk).await?;
        // A rule that is not known was deleted a moment ago.
        let is_news = |(rule, kept): &&(u32, Kept)| before.get(rule).is_some_and(|old| *old != Some(*kept));
        let news: Vec<&(u32, Kept)> = chunk.iter().filter(is_news).collect();
        if !news.is_empty() {
            put(connection, host, &news).await?;
        }
    }
    Ok(())
}

fn kept(counter: &RuleCounter) -> Kept {
    let column = |count: u64| count.min(LARGEST).cast_signed();
    (column(counter.packets), column(counter.bytes))
}

/// Which of these rules there are, each with what the host said of it last.
async fn before(
    connection: &mut AnyConnection,
    host: HostId,
    counters: &[(u32, Kept)],
) -> Result<BTreeMap<u32, Option<Kept>>, StoreError> {
    let places: Vec<String> = (2..counters.len() + 2).map(|place| format!("${place}")).collect();
    let sql = format!(
        "SELECT r.number, c.packets, c.bytes FROM security_group_rules r
         LEFT JOIN observed_rule_counters c ON c.rule = r.number AND c.host = $1
         WHERE r.number IN ({})",
        places.join(", ")
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(host.to_string());
    let query = counters.iter().fold(query, |query, (rule, _)| query.bind(i64::from(*rule)));
    let rows = query.fetch_all(connection).await.during("read what rules decided on")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let rule = columns.small()?;
            Ok((rule, columns.optional_number()?.zip(columns.optional_number()?)))
        })
        .collect()
}

async fn put(
    connection: &mut AnyConnection,
    host: HostId,
    counters: &[&(u32, Kept)],
) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO observed_rule_counters (host, rule, packets, bytes) VALUES {}
         ON CONFLICT (host, rule) DO UPDATE SET packets = excluded.packets, bytes = excluded.bytes",
        columns::rows(counters.len(), 4)
    );
    let query = counters.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, (rule, (packets, bytes))| {
        query.bind(host.to_string()).bind(i64::from(*rule)).bind(*packets).bind(*bytes)
    });
    query.execute(connection).await.during("write down what rules decided on")?;
    Ok(())
}
