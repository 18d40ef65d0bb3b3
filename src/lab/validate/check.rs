//! The checks of a step.

use super::Validator;
use crate::{
    lab::{
        model::{
            CaptureCheck, Check, CheckKind, Client, Control, DatabaseCheck, DnsCheck, FlowCheck, FlowWanted, HttpCheck,
            HttpExpect, Pattern, Reach, Resolution, Seen, StartTls, Target, TcpCheck, TlsTry, TlsUse, TlsVersion,
        },
        raw::{
            RawCaptureCheck, RawCheck, RawDatabase, RawDns, RawHttp, RawHttpExpect, RawPattern, RawTcp, RawTlsTry,
            RawTlsUse, Spanned, Text,
        },
    },
    packet::{LeakKind, Protocol},
    score::Weight,
};

/// The kinds of check a lab can have, as they are written.
const KINDS: &str = "exactly one of `capture`, `question`, `http`, `database`, `tcp`, `dns`, `object`, `tls`, \
                     `certificate`, `file`, `exec` and `posture`";

impl Validator<'_> {
    pub(super) fn check(&mut self, raw: &Spanned<RawCheck>) -> Option<Check> {
        let check = &raw.value;
        let name = self.line(&check.name);
        let why = self.text(&check.why);
        let weight = check
            .weight
            .as_ref()
            .map_or(Some(1), |weight| self.within(weight, 1, 100, "a weight"));
        let mut kinds = self.kinds(check);
        if kinds.len() != 1 {
            self.places
                .report(&check.name, format!("the check looks at {} things", kinds.len()))
                .expected(KINDS)
                .rule("check-kind");
        }
        Some(Check {
            name,
            weight: Weight(weight?),
            why: why.trim().to_owned(),
            kind: kinds.pop()??,
        })
    }

    /// Each kind that is given; `None` for one that is wrong.
    fn kinds(&mut self, check: &RawCheck) -> Vec<Option<CheckKind>> {
        let kinds = [
            check.capture.as_ref().map(|raw| self.capture(raw)),
            check
                .question
                .as_ref()
                .map(|raw| self.question(raw).map(CheckKind::Question)),
            check.http.as_ref().map(|raw| self.http(raw).map(CheckKind::Http)),
            check
                .database
                .as_ref()
                .map(|raw| self.database(raw).map(CheckKind::Database)),
            check.tcp.as_ref().map(|raw| self.tcp(raw).map(CheckKind::Tcp)),
            check.dns.as_ref().map(|raw| self.dns(raw).map(CheckKind::Dns)),
            check.object.as_ref().map(|raw| self.object(raw).map(CheckKind::Object)),
            check.tls.as_ref().map(|raw| self.tls(raw).map(CheckKind::Tls)),
            check
                .certificate
                .as_ref()
                .map(|raw| self.certificate(raw).map(CheckKind::Certificate)),
            check.file.as_ref().map(|raw| self.file_check(raw).map(CheckKind::File)),
            check.exec.as_ref().map(|raw| self.exec_check(raw).map(CheckKind::Exec)),
            check
                .posture
                .as_ref()
                .map(|raw| self.posture(raw).map(CheckKind::Posture)),
        ];
        kinds.into_iter().flatten().collect()
    }

    fn capture(&mut self, raw: &Spanned<RawCaptureCheck>) -> Option<CheckKind> {
        let between = self.pair(&raw.value.between);
        let (pattern, wanted) = match (&raw.value.holds, &raw.value.lacks, &raw.value.verdict) {
            (Some(holds), None, None) => (self.pattern(holds)?, true),
            (None, Some(lacks), None) => (self.pattern(lacks)?, false),
            (None, None, Some(verdict)) => {
                let wanted = self.named(verdict, FlowWanted::ALL);
                let probe = transpose(raw.value.probe.as_ref().map(|probe| self.tls_try(probe)));
                return Some(CheckKind::Flow(FlowCheck {
                    between: between?,
                    wanted: wanted?,
                    probe: probe?,
                }));
            }
            _ => {
                self.places
                    .report(raw, "it is not clear what the capture must show")
                    .expected("exactly one of `holds`, `lacks` and `verdict`")
                    .rule("capture-kind");
                return None;
            }
        };
        if let Some(probe) = &raw.value.probe {
            self.places
                .report(&probe.to, "a probe decides nothing here")
                .expected("`probe` beside `verdict` only")
                .rule("capture-kind");
        }
        Some(CheckKind::Capture(CaptureCheck {
            between: between?,
            pattern,
            wanted,
        }))
    }

    fn tls_try(&mut self, raw: &RawTlsTry) -> Option<TlsTry> {
        let from = self.source(&raw.from);
        let to = self.target_with_port(&raw.to);
        let client = self.client(&raw.client)?;
        if client == Client::None {
            self.places
                .report(&raw.client, "the probe has no certificate to show")
                .expected("the certificate of somebody who is let in; without one is tried too")
                .rule("no-client");
        }
        let starttls = transpose(raw.starttls.as_ref().map(|word| self.named(word, StartTls::ALL)))?;
        let (to, port) = to?;
        Some(TlsTry {
            from: from?,
            to,
            port,
            starttls,
            tls: TlsUse {
                client,
                name: raw.name.as_ref().map(|name| self.line(name)),
                ..TlsUse::default()
            },
        })
    }

    fn pattern(&mut self, raw: &RawPattern) -> Option<Pattern> {
        let protocol = raw.protocol.as_ref().map(|text| self.protocol(text));
        let leak = raw.leak.as_ref().map(|text| self.leak(text));
        let text = raw.text.as_ref().map(|text| self.regex(text));
        Some(Pattern {
            protocol: transpose(protocol)?,
            leak: transpose(leak)?,
            text: transpose(text)?,
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

    fn http(&mut self, raw: &Spanned<RawHttp>) -> Option<HttpCheck> {
        let http = &raw.value;
        let from = self.source(&http.from);
        let url = self.url(&http.to);
        let seen = http
            .seen
            .as_ref()
            .map_or(Some(Seen::ByProbe), |seen| self.named(seen, Seen::ALL))?;
        let expect = self.http_expect(&http.expect, seen);
        let control = transpose(http.control.as_ref().map(|control| self.control(control)))?;
        let headers: Vec<(String, String)> = http
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), self.filled(value, true)))
            .collect();
        let body = http.body.as_ref().map(|body| self.filled(body, true));
        let tls = transpose(http.tls.as_ref().map(|tls| self.tls_use(tls)))?;
        let (secure, to, port, path) = url?;
        if !secure && http.tls.is_some() {
            self.places
                .report(&http.to, "`tls` says nothing about a call in clear")
                .expected("`https://…`")
                .rule("http-tls");
        }
        let expect = expect?;
        if seen == Seen::ByStudent {
            self.by_student(raw, secure, control.as_ref(), &expect);
        }
        if expect.outcome.is_some_and(|outcome| outcome != Reach::Allowed) {
            self.needs_control(&http.expect, control.is_some());
        }
        Some(HttpCheck {
            from: from?,
            to,
            secure,
            port,
            path,
            method: http
                .method
                .as_ref()
                .map_or_else(|| "GET".to_owned(), |method| self.line(method)),
            headers,
            body,
            tls: tls.unwrap_or_default(),
            expect,
            control,
            seen,
        })
    }

    /// What a check cannot have that looks into an access log.
    fn by_student(&mut self, raw: &Spanned<RawHttp>, secure: bool, control: Option<&Control>, expect: &HttpExpect) {
        let http = &raw.value;
        let refused = expect.outcome == Some(Reach::TlsRefused);
        let sent = http.tls.is_some() || !http.headers.is_empty() || http.body.is_some();
        let wrong = if sent || (control.is_some() && !refused) {
            Some((
                "the student makes this call, and the access log tells of it",
                "`tls`, `headers` and `body` with `seen: by-probe` only, and `control` with `outcome: tls-refused` beside it",
            ))
        } else if refused && !secure {
            Some(("a call in clear is refused in no handshake", "`https://…`"))
        } else if refused && http.method.is_some() {
            Some(("who is refused in the handshake asks for nothing", "no `method`"))
        } else if control.is_some_and(|control| control.from.is_none() || control.client.is_some()) {
            Some((
                "the access log tells who was let in, not what was shown",
                "`control: …`, a workload, `pod/NAME`, or a label selector",
            ))
        } else {
            None
        };
        if let Some((message, expected)) = wrong {
            self.places.report(raw, message).expected(expected).rule("by-student");
        }
    }

    fn http_expect(&mut self, raw: &Spanned<RawHttpExpect>, seen: Seen) -> Option<HttpExpect> {
        let expect = &raw.value;
        let status: Vec<Option<u16>> = expect
            .status
            .iter()
            .flat_map(|status| status.value.0.iter().map(move |one| (status.at, one)))
            .map(|(at, one)| {
                let at = if one.at.line == 0 { at } else { one.at };
                self.within(&Spanned::new(one.value, at), 100, 599, "an HTTP status")
            })
            .collect();
        let outcome = transpose(expect.outcome.as_ref().map(|word| self.named(word, Reach::HTTP)))?;
        let body = transpose(expect.body.as_ref().map(|rule| self.text_rule(rule)))?;
        let caller = transpose(expect.caller.as_ref().map(|rule| self.text_rule(rule)))?;
        let reason = transpose(expect.reason.as_ref().map(|rule| self.text_rule(rule)))?;
        let headers: Vec<_> = expect
            .headers
            .iter()
            .map(|(name, rule)| Some((name.to_ascii_lowercase(), self.text_rule(rule)?)))
            .collect();
        let expect = HttpExpect {
            status: status.into_iter().collect::<Option<_>>()?,
            outcome,
            body,
            headers: headers.into_iter().collect::<Option<_>>()?,
            caller,
            reason,
        };
        let answered = !expect.status.is_empty() || expect.body.is_some() || !expect.headers.is_empty();
        let wrong = match (seen, expect.outcome) {
            (_, Some(outcome)) if outcome != Reach::Allowed && answered => Some((
                "a call that is not answered has no status, headers or body",
                "`outcome` alone",
            )),
            (Seen::ByStudent, Some(Reach::TlsRefused)) if expect.caller.is_some() => Some((
                "who is refused in the handshake has proved nothing",
                "`reason` beside `outcome: tls-refused`",
            )),
            (Seen::ByStudent, Some(Reach::TlsRefused)) => None,
            (Seen::ByStudent, Some(_)) => Some((
                "an access log tells of answers, and of handshakes that were refused",
                "`status` or `outcome: tls-refused`, with `seen: by-student`; or a probe",
            )),
            _ if expect.reason.is_some() => Some((
                "only a log tells why a handshake was refused",
                "`reason` with `outcome: tls-refused` and `seen: by-student`",
            )),
            (Seen::ByStudent, None) if expect.status.is_empty() => {
                Some(("it is not clear what the call must come to", "`status`"))
            }
            (Seen::ByStudent, None) if expect.body.is_some() || !expect.headers.is_empty() => Some((
                "an access log has no headers and no body",
                "`status` and `caller`, with `seen: by-student`",
            )),
            (Seen::ByProbe, _) if expect.caller.is_some() => Some((
                "only an access log tells of the caller",
                "`caller` with `seen: by-student`",
            )),
            (_, None) if !answered => Some((
                "it is not clear what the call must come to",
                "`status`, `outcome`, `body` or `headers`",
            )),
            _ => None,
        };
        if let Some((message, expected)) = wrong {
            self.places.report(raw, message).expected(expected).rule("http-expect");
        }
        Some(expect)
    }

    fn tls_use(&mut self, raw: &RawTlsUse) -> Option<TlsUse> {
        let trust = transpose(raw.trust.as_ref().map(|trust| self.store(trust)));
        let client = transpose(raw.client.as_ref().map(|client| self.client(client)));
        let version = transpose(raw.version.as_ref().map(|word| self.named(word, TlsVersion::ALL)));
        Some(TlsUse {
            trust: trust?,
            client: client?.unwrap_or_default(),
            name: raw.name.as_ref().map(|name| self.line(name)),
            version: version?,
            alpn: Vec::new(),
        })
    }

    /// `http://callee[:port]/path`, or `https://`.
    fn url(&mut self, raw: &Text) -> Option<(bool, Target, u16, String)> {
        let parts = raw.value.split_once("://").and_then(|(scheme, rest)| {
            let secure = match scheme {
                "http" => false,
                "https" => true,
                _ => return None,
            };
            let (authority, path) = match rest.find('/') {
                Some(slash) => rest.split_at(slash),
                None => (rest, "/"),
            };
            // An IPv6 address has colons of its own, in brackets.
            let (host, port) = match authority.rsplit_once(':') {
                Some((host, port)) if !port.contains(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
                _ => (authority, if secure { 443 } else { 80 }),
            };
            Some((secure, host.to_owned(), port, path.to_owned()))
        });
        let Some((secure, host, port, path)) = parts else {
            self.places
                .report(
                    raw,
                    format!("`{}` is no URL a check can look at", crate::text::one_line(&raw.value)),
                )
                .expected("`http://payments-api/path` or `https://…`, with `:port` where it is not 80 or 443")
                .rule("no-url");
            return None;
        };
        let target = self.target(&Spanned::new(host, raw.at))?;
        self.port_of(&target, &Spanned::new(port, raw.at));
        Some((secure, target, port, path))
    }

    fn database(&mut self, raw: &RawDatabase) -> Option<DatabaseCheck> {
        let (from, to) = (self.source(&raw.from), self.workload(&raw.to));
        if let Some(seen) = &raw.seen {
            self.fixed(seen, "by-student");
        }
        let refused = raw.expect.as_ref().map_or(Some(false), |expect| {
            self.named(expect, &[("allowed", false), ("refused", true)])
        })?;
        if let (true, Some(statement)) = (refused, &raw.statement) {
            self.places
                .report(statement, "a login that is turned away runs nothing")
                .expected("no `statement` with `expect: refused`")
                .rule("database-expect");
        }
        Some(DatabaseCheck {
            from: from?,
            to: to?,
            statement: raw.statement.as_ref().map(|statement| self.line(statement)),
            refused,
        })
    }

    fn tcp(&mut self, raw: &Spanned<RawTcp>) -> Option<TcpCheck> {
        let tcp = &raw.value;
        let (from, to) = (self.source(&tcp.from), self.target(&tcp.to));
        let port = self.within(&tcp.port, 1, u16::MAX, "a port");
        if let Some(to) = &to {
            self.port_of(to, &tcp.port);
        }
        let expect = self.named(&tcp.expect, Reach::ALL)?;
        let control = transpose(tcp.control.as_ref().map(|control| self.plain_control(control)))?;
        if expect != Reach::Allowed {
            self.needs_control(&tcp.expect, control.is_some());
        }
        Some(TcpCheck {
            from: from?,
            to: to?,
            port: port?,
            expect,
            control,
        })
    }

    fn dns(&mut self, raw: &Spanned<RawDns>) -> Option<DnsCheck> {
        let dns = &raw.value;
        let from = self.source(&dns.from);
        let name = self.line(&dns.name);
        if name.is_empty() || name.len() > 253 || name.contains(char::is_whitespace) {
            self.places
                .report(&dns.name, "this is no DNS name")
                .expected("a name of at most 253 characters, as `payments-api`")
                .rule("no-name");
        }
        let expect = self.named(&dns.expect, Resolution::ALL)?;
        let to = transpose(dns.to.as_ref().map(|to| self.target(to)))?;
        let control = transpose(dns.control.as_ref().map(|control| self.plain_control(control)))?;
        if let (false, Some(to)) = (expect == Resolution::Resolves, &dns.to) {
            self.places
                .report(to, "a name that does not resolve has no address")
                .expected("`to` with `expect: resolves` only")
                .rule("dns-expect");
        }
        if matches!(expect, Resolution::NoAnswer | Resolution::Fails) && control.is_none() {
            self.places
                .report(&dns.expect, "nothing shows that DNS is alive")
                .expected("`control: …`, who can resolve the name in the same moment")
                .hint("a dead DNS server answers nobody, which proves nothing")
                .rule("no-control");
        }
        Some(DnsCheck {
            from: from?,
            name,
            expect,
            to,
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
