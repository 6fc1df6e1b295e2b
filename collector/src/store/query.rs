//! Questions to the store. Rows stream by; nothing is collected that the answer does not need.

use std::path::Path;

use apiward_proto::{json, v1};
use globset::GlobMatcher;
use prost::Message;
use rusqlite::{Connection, ToSql};

use super::{StoreError, open_read_only};

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Unix nanoseconds, both included.
    pub since_ns: Option<i64>,
    pub until_ns: Option<i64>,
    pub agent: Option<String>,
    /// Names as in the JSON lines.
    pub kinds: Vec<String>,
    pub path: Option<GlobMatcher>,
    pub exe: Option<GlobMatcher>,
    pub method: Option<String>,
    pub host: Option<GlobMatcher>,
    /// First and last status of a range.
    pub status: Option<(u32, u32)>,
    pub pid: Option<u32>,
    pub trace_id: Option<String>,
    /// Calls whose verdict is deny or kill.
    pub denied: bool,
    pub newest_first: bool,
    pub limit: Option<u64>,
}

impl Filter {
    fn of_calls(&self) -> bool {
        self.path.is_some()
            || self.method.is_some()
            || self.host.is_some()
            || self.status.is_some()
            || self.trace_id.is_some()
            || self.denied
    }

    fn holds(&self, event: &v1::Event) -> bool {
        if !self.kinds.is_empty() && !self.kinds.iter().any(|kind| kind == json::kind_name(event)) {
            return false;
        }
        let process = match &event.kind {
            Some(v1::event::Kind::Call(call)) => call.process.as_ref(),
            Some(v1::event::Kind::FlowLoss(loss)) => loss.process.as_ref(),
            Some(v1::event::Kind::FlowEnd(end)) => end.process.as_ref(),
            _ => None,
        };
        if let Some(pid) = self.pid
            && process.is_none_or(|process| process.pid != pid)
        {
            return false;
        }
        if let Some(exe) = &self.exe
            && process.is_none_or(|process| !exe.is_match(&process.exe))
        {
            return false;
        }
        if !self.of_calls() {
            return true;
        }
        let Some(v1::event::Kind::Call(call)) = &event.kind else {
            return false;
        };
        let request = call.request.as_ref();
        let matches = |pattern: &Option<GlobMatcher>, text: fn(&v1::Request) -> &String| {
            pattern
                .as_ref()
                .is_none_or(|pattern| request.is_some_and(|request| pattern.is_match(text(request))))
        };
        matches(&self.path, |request| &request.path)
            && matches(&self.host, |request| &request.host)
            && self.method.as_ref().is_none_or(|method| {
                request.is_some_and(|request| request.method.eq_ignore_ascii_case(method))
            })
            && self
                .trace_id
                .as_ref()
                .is_none_or(|id| request.is_some_and(|request| request.trace_id.eq_ignore_ascii_case(id)))
            && self.status.is_none_or(|(first, last)| {
                call.response
                    .as_ref()
                    .is_some_and(|response| (first..=last).contains(&response.status))
            })
            && (!self.denied
                || call
                    .verdict
                    .as_ref()
                    .is_some_and(|verdict| matches!(verdict.action.as_str(), "deny" | "kill")))
    }
}

/// Hands the events to `each`, oldest first unless asked otherwise, until it says no. Returns how many rows could not be
/// read: made by a newer agent, or damaged.
pub fn events(
    directory: &Path,
    filter: &Filter,
    each: &mut dyn FnMut(v1::Event) -> bool,
) -> Result<u64, StoreError> {
    let connection = open_read_only(directory)?;
    events_of(&connection, filter, each)
}

pub(super) fn events_of(
    connection: &Connection,
    filter: &Filter,
    each: &mut dyn FnMut(v1::Event) -> bool,
) -> Result<u64, StoreError> {
    let mut sql =
        String::from("SELECT events.event FROM events JOIN agents ON agents.key = events.agent WHERE 1");
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut condition = |text: &str, value: Option<Box<dyn ToSql>>| {
        if let Some(value) = value {
            sql.push_str(" AND ");
            sql.push_str(text);
            values.push(value);
        }
    };
    let boxed = |value: Option<i64>| value.map(|value| Box::new(value) as Box<dyn ToSql>);
    condition("events.time_ns >= ?", boxed(filter.since_ns));
    condition("events.time_ns <= ?", boxed(filter.until_ns));
    let agent = filter.agent.clone().map(|id| Box::new(id) as Box<dyn ToSql>);
    condition("agents.id = ?", agent);
    let order = if filter.newest_first { "DESC" } else { "ASC" };
    sql.push_str(&format!(" ORDER BY events.time_ns {order}"));
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values.iter()))?;
    let (mut unreadable, mut left) = (0, filter.limit.unwrap_or(u64::MAX));
    while left > 0
        && let Some(row) = rows.next()?
    {
        let Ok(event) = v1::Event::decode(row.get_ref(0)?.as_blob().unwrap_or_default()) else {
            unreadable += 1;
            continue;
        };
        if filter.holds(&event) {
            left -= 1;
            if !each(event) {
                break;
            }
        }
    }
    Ok(unreadable)
}

/// Every agent that ever said hello; `connected` is for the caller to know.
pub fn agents(connection: &Connection) -> Result<Vec<v1::Agent>, StoreError> {
    let mut statement = connection
        .prepare("SELECT id, hello, heartbeat, last_seen_ns, events, acknowledged FROM agents ORDER BY id")?;
    let rows = statement.query_map([], |row| {
        let id: String = row.get(0)?;
        let hello = row
            .get::<_, Option<Vec<u8>>>(1)?
            .and_then(|bytes| v1::Hello::decode(bytes.as_slice()).ok());
        Ok(v1::Agent {
            hello: Some(v1::Hello {
                agent_id: id,
                ..hello.unwrap_or_default()
            }),
            heartbeat: row
                .get::<_, Option<Vec<u8>>>(2)?
                .and_then(|bytes| v1::Heartbeat::decode(bytes.as_slice()).ok()),
            connected: false,
            last_seen_ns: row.get::<_, i64>(3)?.cast_unsigned(),
            events: row.get::<_, i64>(4)?.cast_unsigned(),
            acknowledged: row.get::<_, i64>(5)?.cast_unsigned(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
