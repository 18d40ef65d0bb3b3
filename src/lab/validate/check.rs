//! The checks of a step.

use super::Validator;
use crate::{
    lab::{
        model::{CaptureCheck, Check, CheckKind, DatabaseCheck, HttpCheck, Pattern, Reach, Seen, TcpCheck},
        raw::{RawCaptureCheck, RawCheck, RawDatabase, RawHttp, RawPattern, RawTcp, Spanned, Text},
    },
    packet::{LeakKind, Protocol},
    score::Weight,
};

/// The kinds of check a lab can have, as they are written.
const KINDS: &str = "exactly one of `capture`, `question`, `http`, `database` or `tcp`";

impl Validator<'_> {
    pub(super) fn check(&mut self, raw: &Spanned<RawCheck>) -> Option<Check> {
        let check = &raw.value;
        let name = self.line(&check.name);
        let why = self.text(&check.why);
        let weight = check
            .weight
            .as_ref()
            .map_or(Some(1), |weight| self.within(weight, 1, 100, "a weight"));
        let mut kinds = Vec::new();
        if let Some(capture) = &check.capture {
            kinds.push(self.capture(capture).map(CheckKind::Capture));
        }
        if let Some(question) = &check.question {
            kinds.push(self.question(question).map(CheckKind::Question));
        }
        if let Some(http) = &check.http {
            kinds.push(self.http(http).map(CheckKind::Http));
        }
        if let Some(database) = &check.database {
            kinds.push(self.database(database).map(CheckKind::Database));
        }
        if let Some(tcp) = &check.tcp {
            kinds.push(self.tcp(tcp).map(CheckKind::Tcp));
        }
        if kinds.len() != 1 {
            self.places
                .report(&check.name, format!("the check looks at {} things", kinds.len()))
                .expected(KINDS);
        }
        Some(Check {
            name,
            weight: Weight(weight?),
            why: why.trim().to_owned(),
            kind: kinds.pop()??,
        })
    }

    fn capture(&mut self, raw: &Spanned<RawCaptureCheck>) -> Option<CaptureCheck> {
        let between = self.pair(&raw.value.between);
        let (pattern, wanted) = match (&raw.value.holds, &raw.value.lacks) {
            (Some(holds), None) => (self.pattern(holds)?, true),
            (None, Some(lacks)) => (self.pattern(lacks)?, false),
            _ => {
                self.places
                    .report(raw, "it is not clear what the capture must show")
                    .expected("exactly one of `holds` and `lacks`");
                return None;
            }
        };
        Some(CaptureCheck {
            between: between?,
            pattern,
            wanted,
        })
    }

    fn pattern(&mut self, raw: &RawPattern) -> Option<Pattern> {
        let protocol = raw.protocol.as_ref().map(|text| self.protocol(text));
        let leak = raw.leak.as_ref().map(|text| self.leak(text));
        Some(Pattern {
            protocol: transpose(protocol)?,
            leak: transpose(leak)?,
        })
    }

    pub(super) fn leak(&mut self, text: &Text) -> Option<LeakKind> {
        let found = LeakKind::ALL.into_iter().find(|kind| kind.as_str() == text.value);
        if found.is_none() {
            self.unknown(text, "kind of leak", &LeakKind::ALL.map(LeakKind::as_str));
        }
        found
    }

    fn protocol(&mut self, text: &Text) -> Option<Protocol> {
        let found = Protocol::ALL
            .into_iter()
            .find(|protocol| protocol.as_str() == text.value);
        if found.is_none() {
            self.unknown(text, "protocol", &Protocol::ALL.map(Protocol::as_str));
        }
        found
    }

    fn http(&mut self, raw: &RawHttp) -> Option<HttpCheck> {
        let from = self.workload(&raw.from);
        let (to, port, path) = self.url(&raw.to)?;
        let status = self.within(&raw.expect.status, 100, 599, "an HTTP status");
        let seen = raw
            .seen
            .as_ref()
            .map_or(Some(Seen::ByProbe), |seen| self.named(seen, Seen::ALL));
        Some(HttpCheck {
            from: from?,
            to,
            port,
            path,
            method: raw
                .method
                .as_ref()
                .map_or_else(|| "GET".to_owned(), |method| self.line(method)),
            status: status?,
            seen: seen?,
        })
    }

    /// `http://workload[:port]/path`.
    fn url(&mut self, raw: &Text) -> Option<(crate::lab::Workload, u16, String)> {
        let parts = raw.value.strip_prefix("http://").and_then(|rest| {
            let (authority, path) = match rest.find('/') {
                Some(slash) => rest.split_at(slash),
                None => (rest, "/"),
            };
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (authority, 80),
            };
            Some((host.to_owned(), port, path.to_owned()))
        });
        let Some((host, port, path)) = parts else {
            self.places
                .report(
                    raw,
                    format!("`{}` is no URL a check can look at", crate::text::one_line(&raw.value)),
                )
                .expected("`http://workload/path`, with `:port` where it is not 80");
            return None;
        };
        let host = Spanned::new(host, raw.at);
        let host = self.workload(&host)?;
        self.port(host.as_str(), &Spanned::new(port, raw.at));
        Some((host, port, path))
    }

    fn database(&mut self, raw: &RawDatabase) -> Option<DatabaseCheck> {
        let (from, to) = (self.workload(&raw.from), self.workload(&raw.to));
        if let Some(seen) = &raw.seen {
            self.fixed(seen, "by-student");
        }
        Some(DatabaseCheck {
            from: from?,
            to: to?,
            statement: raw.statement.as_ref().map(|statement| self.line(statement)),
        })
    }

    fn tcp(&mut self, raw: &Spanned<RawTcp>) -> Option<TcpCheck> {
        let tcp = &raw.value;
        let (from, to) = (self.workload(&tcp.from), self.workload(&tcp.to));
        let port = self.within(&tcp.port, 1, u16::MAX, "a port");
        if let Some(to) = &to {
            self.port(to.as_str(), &tcp.port);
        }
        let expect = self.named(&tcp.expect, Reach::ALL)?;
        let control = transpose(tcp.control.as_ref().map(|control| self.workload(control)))?;
        if expect != Reach::Allowed && control.is_none() {
            self.places
                .report(&tcp.expect, "nothing shows that the callee is alive")
                .expected("`control: …`, a workload that can connect in the same moment")
                .hint("a dead service refuses everybody, which proves nothing");
        }
        Some(TcpCheck {
            from: from?,
            to: to?,
            port: port?,
            expect,
            control,
        })
    }
}

/// `None` for a value that was there and wrong; `Some(None)` for one that was not there.
pub(super) fn transpose<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
        None => Some(None),
    }
}
