//! The checks of a step.

use regex::RegexBuilder;
use serde_yaml::Spanned;

use super::Validator;
use crate::{
    lab::{
        model::{
            Answer, CaptureCheck, Captured, Check, CheckKind, Choice, DatabaseCheck, HttpCheck, Part, Pattern,
            Question, Reach, Seen, TcpCheck,
        },
        raw::{
            RawAnswer, RawCaptureCheck, RawCheck, RawChoice, RawDatabase, RawHttp, RawPattern, RawQuestion, RawTcp,
            Text,
        },
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

    fn question(&mut self, raw: &RawQuestion) -> Option<Question> {
        let ask = self.text(&raw.ask);
        let answer = self.answer(&raw.answer)?;
        Some(Question {
            ask: ask.trim().to_owned(),
            answer,
        })
    }

    fn answer(&mut self, raw: &Spanned<RawAnswer>) -> Option<Answer> {
        let answer = &raw.value;
        match (&answer.from, &answer.choices, &answer.matches) {
            (Some(from), None, None) => {
                self.fixed(from, "capture");
                self.captured(raw).map(Answer::Captured)
            }
            (None, Some(choices), None) => self.choices(choices).map(Answer::Choices),
            (None, None, Some(rules)) => {
                let rules: Vec<_> = rules.value.iter().map(|rule| self.rule(rule)).collect();
                rules.into_iter().collect::<Option<Vec<_>>>().map(Answer::Text)
            }
            _ => {
                self.places
                    .report(raw, "it is not clear what the right answer is")
                    .expected("exactly one of `from: capture`, `choices` and `matches`");
                None
            }
        }
    }

    fn captured(&mut self, raw: &Spanned<RawAnswer>) -> Option<Captured> {
        let Some(leak) = &raw.value.leak else {
            self.places
                .report(raw, "which captured secret is the answer is not said")
                .expected("`leak: …` beside `from: capture`");
            return None;
        };
        let leak = self.leak(leak);
        let part = raw
            .value
            .part
            .as_ref()
            .map_or(Some(Part::Value), |part| self.named(part, Part::ALL));
        let between = transpose(raw.value.between.as_ref().map(|pair| self.pair(pair)))?;
        Some(Captured {
            leak: leak?,
            part: part?,
            between,
        })
    }

    fn choices(&mut self, raw: &Spanned<Vec<RawChoice>>) -> Option<Vec<Choice>> {
        let right = raw.value.iter().filter(|choice| choice.right).count();
        if raw.value.len() < 2 || raw.value.len() > 26 || right == 0 {
            self.places
                .report(
                    raw,
                    format!("there are {} choices, {right} of them right", raw.value.len()),
                )
                .expected("2 to 26 choices, at least one with `right: true`");
            return None;
        }
        let choice = |choice: &RawChoice| Choice {
            text: self.line(&choice.text),
            right: choice.right,
        };
        Some(raw.value.iter().map(choice).collect())
    }

    fn rule(&mut self, raw: &Text) -> Option<regex::Regex> {
        let whole = format!("^(?:{})$", raw.value);
        match RegexBuilder::new(&whole)
            .case_insensitive(true)
            .size_limit(1 << 20)
            .build()
        {
            Ok(rule) => Some(rule),
            Err(error) => {
                self.places
                    .report(raw, "this is no regular expression")
                    .expected("the syntax of the Rust crate `regex`")
                    .hint(crate::text::one_line(&error.to_string()));
                None
            }
        }
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
        let host = Spanned::new(host, raw.referenced, raw.defined);
        Some((self.workload(&host)?, port, path))
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
fn transpose<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
        None => Some(None),
    }
}
