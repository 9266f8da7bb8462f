//! Server-sent events, as far as the controller uses them (WHATWG HTML §9.2).

use std::collections::VecDeque;

use reqwest::Response;

use super::{ClientError, unreachable};
use crate::Event;

/// Events as they happen.
#[derive(Debug)]
pub struct EventStream {
    response: Response,
    url: String,
    lines: Lines,
    ready: VecDeque<String>,
}

impl EventStream {
    pub(super) fn new(response: Response, url: String) -> Self {
        Self { response, url, lines: Lines::default(), ready: VecDeque::new() }
    }

    /// The next event; `None` when the controller ended the stream. Loses nothing if the future is
    /// dropped before it is done.
    pub async fn next(&mut self) -> Option<Result<Event, ClientError>> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                return Some(self.decode(&data));
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.ready.extend(self.lines.feed(&chunk)),
                Ok(None) => return None,
                Err(source) => return Some(Err(unreachable(&self.url, source))),
            }
        }
    }

    fn decode(&self, data: &str) -> Result<Event, ClientError> {
        let status = self.response.status().as_u16();
        serde_json::from_str(data).map_err(|source| ClientError::Unexpected {
            url: self.url.clone(),
            status,
            source,
        })
    }
}

/// Cuts a stream of bytes into the data of events. `id` and `event` are in the data too, so only
/// the `data` fields are read; comments keep the connection alive and say nothing.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
    data: Option<String>,
}

impl Lines {
    /// The data of every event that these bytes complete.
    fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line));
            if line.is_empty() {
                events.extend(self.data.take());
            } else if let Some(value) = line.strip_prefix("data:") {
                let value = value.strip_prefix(' ').unwrap_or(value);
                self.data = Some(match self.data.take() {
                    Some(before) => format!("{before}\n{value}"),
                    None => value.to_owned(),
                });
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_whole_however_the_bytes_are_cut() {
        let stream = ": keep-alive\n\nid: 7\r\nevent: host.drift\ndata: {\"a\":\ndata:1}\n\n\ndata: caf\u{e9}\n\ndata: cut";
        for size in 1..=stream.len() {
            let mut lines = Lines::default();
            let events: Vec<String> =
                stream.as_bytes().chunks(size).flat_map(|part| lines.feed(part)).collect();
            assert_eq!(events, ["{\"a\":\n1}", "caf\u{e9}"], "cut into {size} bytes");
        }
    }
}
