//! Log lines of the services: one JSON object a line on stdout, where the kubelet collects them.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

use super::tls::Shown;

/// The longest text taken over from a caller into a log line, in characters.
const LONGEST: usize = 256;

/// Where a service writes its log lines.
#[derive(Clone)]
pub struct Log {
    service: &'static str,
    out: Arc<Mutex<dyn Write + Send>>,
}

/// Who called, what was asked, and what was answered.
#[derive(Debug, Serialize)]
pub struct Access {
    /// The caller's address; with a Service in between still the calling pod's own.
    pub caller_ip: String,
    /// The caller's port.
    pub caller_port: u16,
    /// What the caller proved about itself, `none` if nothing.
    pub caller: String,
    /// Which certificate the caller showed, where it proved something by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Shown>,
    /// HTTP method, or the kind of database message.
    pub method: String,
    /// HTTP path and query, or the database statement.
    pub path: String,
    /// HTTP status; of a database 200 or the HTTP status that comes nearest.
    pub status: u16,
    /// The id of the measurement that this request is part of, if ztlab made it.
    pub probe: Option<String>,
    /// The client program, as it names itself.
    pub user_agent: Option<String>,
}

#[derive(Serialize)]
struct AccessLine<'a> {
    ts: String,
    level: &'static str,
    service: &'a str,
    #[serde(flatten)]
    access: &'a Access,
}

#[derive(Serialize)]
struct RefusedLine<'a> {
    ts: String,
    level: &'static str,
    service: &'a str,
    caller_ip: String,
    caller_port: u16,
    reason: &'a str,
}

#[derive(Serialize)]
struct EventLine<'a> {
    ts: String,
    level: &'static str,
    service: &'a str,
    message: &'a str,
}

impl Access {
    /// An access by `peer` that proved nothing.
    pub fn by(peer: SocketAddr) -> Access {
        Access {
            caller_ip: peer.ip().to_canonical().to_string(),
            caller_port: peer.port(),
            caller: "none".to_owned(),
            certificate: None,
            method: String::new(),
            path: String::new(),
            status: 0,
            probe: None,
            user_agent: None,
        }
    }
}

impl Log {
    /// The log of `service` on stdout.
    pub fn stdout(service: &'static str) -> Log {
        Log::to(service, std::io::stdout())
    }

    /// The log of `service` on `out`.
    pub fn to(service: &'static str, out: impl Write + Send + 'static) -> Log {
        Log {
            service,
            out: Arc::new(Mutex::new(out)),
        }
    }

    /// Records an access.
    pub fn access(&self, access: &Access) {
        self.line(&AccessLine {
            ts: now(),
            level: "access",
            service: self.service,
            access,
        });
    }

    /// Records that `peer` was not let in: its TLS handshake failed, so that it asked for nothing.
    pub fn refused(&self, peer: SocketAddr, reason: &str) {
        self.line(&RefusedLine {
            ts: now(),
            level: "refused",
            service: self.service,
            caller_ip: peer.ip().to_canonical().to_string(),
            caller_port: peer.port(),
            reason: &bounded(reason),
        });
    }

    /// Records what went as it should.
    pub fn info(&self, message: &str) {
        self.event("info", message);
    }

    /// Records what did not.
    pub fn warn(&self, message: &str) {
        self.event("warn", message);
    }

    fn event(&self, level: &'static str, message: &str) {
        self.line(&EventLine {
            ts: now(),
            level,
            service: self.service,
            message,
        });
    }

    fn line(&self, line: &impl Serialize) {
        let Ok(mut text) = serde_json::to_vec(line) else {
            return;
        };
        text.push(b'\n');
        // A service whose log nobody reads any more still serves.
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.write_all(&text).and_then(|()| out.flush());
    }
}

/// `text` as it may stand in a log line: a caller chooses it, so it is cut.
pub fn bounded(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

/// The time as RFC 3339 with milliseconds, UTC.
pub fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}
