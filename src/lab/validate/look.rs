//! The checks that look at objects, certificates, files and programs, and at what is measured as a whole.

use serde_json_path::JsonPath;

use super::{Validator, check::transpose};
use crate::{
    evidence::{EXTENDED_KEY_USAGES, KEY_USAGES},
    lab::{
        model::{
            CertificateCheck, CertificateRules, ExecCheck, Exit, FieldRule, FileCheck, NodeRule, ObjectCheck, Piece,
            PostureCheck, Property, StartTls, TlsCheck, TlsExpect, TlsTry, TlsUse, TlsVersion, pieces,
        },
        raw::{
            RawCertificate, RawCertificateRules, RawCount, RawExecCheck, RawField, RawFileCheck, RawObject, RawPosture,
            RawTls, RawTlsExpect, Spanned, Text,
        },
    },
};

/// The most rules for fields, words of a command, or names of a certificate.
const MOST: usize = 64;
/// The longest JSONPath, in bytes.
const PATH: usize = 512;
/// The most brackets of a JSONPath that may be open at once.
const DEEP: usize = 16;

impl Validator<'_> {
    pub(super) fn object(&mut self, raw: &Spanned<RawObject>) -> Option<ObjectCheck> {
        let object = &raw.value;
        let api_version = self.line(&object.api_version);
        let kind = self.line(&object.kind);
        for (text, value, expected) in [
            (
                &object.api_version,
                &api_version,
                "a version as `v1` or `networking.k8s.io/v1`",
            ),
            (&object.kind, &kind, "a kind as `NetworkPolicy`"),
        ] {
            let strange = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '/' | '-');
            if value.is_empty() || value.contains(strange) || value.matches('/').count() > 1 {
                self.places
                    .report(text, format!("`{}` is none", crate::text::one_line(&text.value)))
                    .expected(expected)
                    .rule("no-kind");
            }
        }
        if let (Some(_), Some(labels)) = (&object.name, &object.labels) {
            self.places
                .report(labels, "an object with a name needs no selector")
                .expected("at most one of `name` and `labels`")
                .rule("object-choice");
        }
        let name = transpose(object.name.as_ref().map(|name| self.object_name(name)));
        let labels = transpose(object.labels.as_ref().map(|labels| self.selector(labels)));
        let namespace = transpose(object.namespace.as_ref().map(|name| self.object_name(name)));
        let fields = self.fields(raw, &object.fields);
        let (min, max) = match (&object.count, object.absent) {
            (None, false) => (1, None),
            (None, true) => (0, Some(0)),
            (Some(count), false) => self.count(count),
            (Some(count), true) => {
                self.places
                    .report(count, "there is to be none, and so many")
                    .expected("exactly one of `absent` and `count`")
                    .rule("object-count");
                (0, None)
            }
        };
        Some(ObjectCheck {
            api_version,
            kind,
            name: name?,
            labels: labels?,
            namespace: namespace?,
            changed: object.changed,
            fields: fields?,
            min,
            max,
        })
    }

    fn count(&mut self, raw: &Spanned<RawCount>) -> (u32, Option<u32>) {
        let (min, max) = (raw.value.min.unwrap_or(0), raw.value.max);
        if (raw.value.min.is_none() && max.is_none()) || max.is_some_and(|max| max < min) {
            self.places
                .report(raw, "no number is meant")
                .expected("`min`, `max`, or both, `max` not below `min`")
                .rule("no-number");
        }
        (min, max)
    }

    fn fields<T>(&mut self, at: &Spanned<T>, raw: &[Spanned<RawField>]) -> Option<Vec<FieldRule>> {
        if raw.len() > MOST {
            self.places
                .report(at, format!("there are {} rules for fields", raw.len()))
                .expected(format!("at most {MOST}"))
                .rule("too-many");
        }
        let fields: Vec<_> = raw.iter().map(|field| self.field(field)).collect();
        fields.into_iter().collect()
    }

    fn field(&mut self, raw: &Spanned<RawField>) -> Option<FieldRule> {
        let field = &raw.value;
        let path = self.json_path(&field.path);
        let rules = [
            field.equals.clone().map(|value| Some(NodeRule::Equals(value))),
            field.contains.clone().map(|value| Some(NodeRule::Contains(value))),
            field
                .matches
                .as_ref()
                .map(|rule| self.regex(rule).map(NodeRule::Matches)),
            field.exists.map(|exists| Some(NodeRule::Exists(exists))),
            field.count.as_ref().map(|count| {
                let (min, max) = self.count(count);
                Some(NodeRule::Count { min, max })
            }),
        ];
        let mut rules: Vec<Option<NodeRule>> = rules.into_iter().flatten().collect();
        if rules.len() != 1 {
            self.places
                .report(raw, format!("{} rules are given for what the path finds", rules.len()))
                .expected("exactly one of `equals`, `contains`, `matches`, `exists` and `count`")
                .rule("field-rule");
        }
        Some(FieldRule {
            path: path?,
            rule: rules.pop()??,
        })
    }

    fn json_path(&mut self, raw: &Text) -> Option<JsonPath> {
        let mut open = 0_usize;
        let mut deepest = 0;
        for c in raw.value.chars() {
            match c {
                '(' | '[' | '!' => open += 1,
                ')' | ']' => open = open.saturating_sub(1),
                _ => {}
            }
            deepest = deepest.max(open);
        }
        let parsed = if raw.value.len() > PATH || deepest > DEEP {
            Err("it is too long, or too deep".to_owned())
        } else {
            JsonPath::parse(&raw.value).map_err(|error| crate::text::one_line(&error.to_string()))
        };
        match parsed {
            Ok(path) => Some(path),
            Err(why) => {
                self.places
                    .report(raw, "this is no JSONPath")
                    .expected("a path of RFC 9535, as `$.spec.podSelector` or `$.spec.containers[*].image`")
                    .hint(why)
                    .rule("no-path");
                None
            }
        }
    }

    pub(super) fn tls(&mut self, raw: &Spanned<RawTls>) -> Option<TlsCheck> {
        let tls = &raw.value;
        let from = self.source(&tls.from);
        let to = self.target_with_port(&tls.to);
        let trust = transpose(tls.trust.as_ref().map(|trust| self.store(trust)));
        let client = transpose(tls.client.as_ref().map(|client| self.client(client)));
        let version = transpose(tls.version.as_ref().map(|word| self.named(word, TlsVersion::ALL)));
        let starttls = transpose(tls.starttls.as_ref().map(|word| self.named(word, StartTls::ALL)));
        let alpn = tls.alpn.iter().map(|protocol| self.line(protocol)).collect();
        let expect = self.tls_expect(&tls.expect);
        let control = transpose(tls.control.as_ref().map(|control| self.control(control)))?;
        let expect = expect?;
        if let (Some(verified), None) = (&tls.expect.value.verified, &tls.trust) {
            self.places
                .report(verified, "there is nothing to verify by")
                .expected("`trust: …`, where the authorities are")
                .rule("tls-trust");
        }
        if expect.usable == Some(false) {
            self.needs_control(&tls.expect, control.is_some());
        }
        let (to, port) = to?;
        Some(TlsCheck {
            session: TlsTry {
                from: from?,
                to,
                port,
                starttls: starttls?,
                tls: TlsUse {
                    trust: trust?,
                    client: client?.unwrap_or_default(),
                    name: tls.name.as_ref().map(|name| self.line(name)),
                    version: version?,
                    alpn,
                },
            },
            expect,
            control,
        })
    }

    fn tls_expect(&mut self, raw: &Spanned<RawTlsExpect>) -> Option<TlsExpect> {
        let expect = &raw.value;
        let version = transpose(expect.version.as_ref().map(|word| self.named(word, TlsVersion::ALL)));
        let cipher = transpose(expect.cipher.as_ref().map(|rule| self.regex(rule)));
        let certificate = transpose(
            expect
                .certificate
                .as_ref()
                .map(|rules| self.certificate_rules(&rules.value)),
        );
        let wanted = TlsExpect {
            usable: expect.usable,
            version: version?,
            cipher: cipher?,
            alpn: expect.alpn.as_ref().map(|protocol| self.line(protocol)),
            verified: expect.verified.as_ref().map(|verified| verified.value),
            asks_for_client: expect.asks_for_client,
            certificate: certificate?,
        };
        let something = wanted.usable.is_some()
            || wanted.version.is_some()
            || wanted.cipher.is_some()
            || wanted.alpn.is_some()
            || wanted.verified.is_some()
            || wanted.asks_for_client.is_some()
            || wanted.certificate.is_some();
        if !something {
            self.places
                .report(raw, "it is not clear what must come of the session")
                .expected("`usable`, `version`, `cipher`, `alpn`, `verified`, `asksForClient` or `certificate`")
                .rule("tls-expect");
        }
        Some(wanted)
    }

    fn certificate_rules(&mut self, raw: &RawCertificateRules) -> Option<CertificateRules> {
        let usage = |validator: &mut Self, words: &[Text], known: &[&str]| {
            for word in words {
                if !known.contains(&word.value.as_str()) {
                    validator.unknown(word, "usage of a key", known);
                }
            }
            words.iter().map(|word| word.value.clone()).collect::<Vec<_>>()
        };
        let key_usage = usage(self, &raw.key_usage, &KEY_USAGES);
        let extended_key_usage = usage(self, &raw.extended_key_usage, &EXTENDED_KEY_USAGES);
        let subject = transpose(raw.subject.as_ref().map(|name| self.short(name)));
        let issuer = transpose(raw.issuer.as_ref().map(|name| self.short(name)));
        let days = |validator: &mut Self, days: &Option<Spanned<u32>>| {
            transpose(days.as_ref().map(|days| validator.within(days, 1, 36_500, "days")))
        };
        let at_most_days = days(self, &raw.at_most_days);
        let at_least_days = days(self, &raw.at_least_days);
        Some(CertificateRules {
            ca: raw.ca,
            path_length: raw.path_length,
            key_usage,
            extended_key_usage,
            names: raw.names.iter().take(MOST).map(|name| self.line(name)).collect(),
            subject: subject?,
            issuer: issuer?,
            expired: raw.expired.unwrap_or(false),
            at_most_days: at_most_days?,
            at_least_days: at_least_days?,
            self_signed: raw.self_signed,
        })
    }

    pub(super) fn certificate(&mut self, raw: &Spanned<RawCertificate>) -> Option<CertificateCheck> {
        let certificate = &raw.value;
        let store = self.store(&certificate.place);
        let rules = self.certificate_rules(&certificate.is);
        let signed_by = transpose(certificate.signed_by.as_ref().map(|place| self.store(place)));
        let key = transpose(certificate.key.as_ref().map(|place| self.store(place)));
        Some(CertificateCheck {
            store: store?,
            rules: rules?,
            signed_by: signed_by?,
            key: key?,
            key_not_in_cluster: certificate.key_not_in_cluster,
        })
    }

    pub(super) fn file_check(&mut self, raw: &Spanned<RawFileCheck>) -> Option<FileCheck> {
        let file = &raw.value;
        let path = self.work_path(&file.path);
        let text = transpose(file.text.as_ref().map(|rule| self.text_rule(rule)));
        let fields = self.fields(raw, &file.fields);
        if file.absent && (file.text.is_some() || !file.fields.is_empty()) {
            self.places
                .report(raw, "a file that is not there holds nothing")
                .expected("`absent` alone, or `text` and `fields`")
                .rule("file-rule");
        }
        Some(FileCheck {
            path: path?,
            absent: file.absent,
            text: text?,
            fields: fields?,
        })
    }

    pub(super) fn exec_check(&mut self, raw: &Spanned<RawExecCheck>) -> Option<ExecCheck> {
        let exec = &raw.value;
        let namespace = transpose(exec.namespace.as_ref().map(|name| self.object_name(name)));
        let source = self.source_in(&exec.source, exec.namespace.is_some());
        self.argv(&exec.run);
        let run = exec.run.value.iter().map(|word| self.text(word)).collect();
        for word in &exec.run.value {
            for piece in pieces(&word.value) {
                if let Piece::Name(name) = piece
                    && name != "probe"
                {
                    self.places
                        .report(
                            word,
                            format!("`${{{}}}` stands for nothing", crate::text::one_line(name)),
                        )
                        .expected("`${probe}`, the id of a probe")
                        .rule("no-fill");
                }
            }
        }
        let expect = &exec.expect.value;
        let exit = transpose(expect.exit.as_ref().map(|exit| self.exit(exit)));
        let output = transpose(expect.output.as_ref().map(|rule| self.text_rule(rule)));
        if expect.exit.is_none() && expect.output.is_none() {
            self.places
                .report(&exec.expect, "it is not clear what the program must come to")
                .expected("`exit`, `output`, or both")
                .rule("exec-expect");
        }
        Some(ExecCheck {
            source: source?,
            namespace: namespace?,
            run,
            exit: exit?,
            output: output?,
        })
    }

    /// A program and its arguments.
    pub(super) fn argv(&mut self, raw: &Spanned<Vec<Text>>) {
        if raw.value.is_empty() {
            self.places
                .report(raw, "no program is named")
                .expected("a list: the program, then its arguments")
                .rule("no-program");
        }
        if raw.value.len() > MOST {
            self.places
                .report(raw, format!("the command has {} words", raw.value.len()))
                .expected(format!("at most {MOST}"))
                .rule("too-many");
        }
    }

    fn exit(&mut self, raw: &Text) -> Option<Exit> {
        let exit = match raw.value.as_str() {
            "nonzero" => Some(Exit::NonZero),
            code => code
                .parse()
                .ok()
                .filter(|code| (0..=255).contains(code))
                .map(Exit::Code),
        };
        if exit.is_none() {
            self.places
                .report(raw, format!("`{}` is no exit code", crate::text::one_line(&raw.value)))
                .expected("a number, 0 to 255, or `nonzero`")
                .rule("no-number");
        }
        exit
    }

    pub(super) fn posture(&mut self, raw: &Spanned<RawPosture>) -> Option<PostureCheck> {
        let posture = &raw.value;
        let wanted: Vec<(Property, bool)> = [
            (Property::Reachable, posture.reachable),
            (Property::Readable, posture.readable),
            (Property::ServerAuthenticated, posture.server_authenticated),
            (Property::ClientAuthenticated, posture.client_authenticated),
            (Property::Authorised, posture.authorised),
        ]
        .into_iter()
        .filter_map(|(property, wanted)| Some((property, wanted?)))
        .collect();
        match (&posture.level, &posture.from, &posture.to) {
            (Some(level), None, None) if wanted.is_empty() && posture.port.is_none() => {
                self.within(level, 1, 4, "a zero trust level").map(PostureCheck::Level)
            }
            (None, Some(from), Some(to)) if !wanted.is_empty() => {
                let (from, to) = (self.workload(from), self.workload(to));
                let port = transpose(
                    posture
                        .port
                        .as_ref()
                        .map(|port| self.within(port, 1, u16::MAX, "a port")),
                );
                if let (Some(to), Some(port)) = (&to, &posture.port) {
                    self.port(to.as_str(), port);
                }
                Some(PostureCheck::Cell {
                    from: from?,
                    to: to?,
                    port: port?,
                    wanted,
                })
            }
            _ => {
                self.places
                    .report(raw, "it is not clear what is to be measured")
                    .expected("`level: 1`, or `from` and `to` with what must be so, as `reachable: false`")
                    .rule("posture-kind");
                None
            }
        }
    }
}
