//! How checks and actions name pods, callees, bytes, files and certificates.

use regex::{Regex, RegexBuilder};

use super::{Validator, check::transpose};
use crate::lab::{
    model::{
        Client, Control, Fill, Piece, Source, Store, Target, TextRule, WorkPath, label_selector, object_name, pieces,
    },
    raw::{OneOr, RawClient, RawControl, RawRule, Spanned, Text},
};

/// The forms in which a pod is named.
const SOURCES: &str = "a workload as `orders-api`, `pod/NAME`, or a label selector as `app=orders-api,owner=mallory`";
/// The longest regular expression, compiled, in bytes.
const REGEX: usize = 1 << 20;

impl Validator<'_> {
    /// Whose pod something runs in.
    pub(super) fn source(&mut self, raw: &Text) -> Option<Source> {
        match Source::parse(&raw.value) {
            Some(Source::Workload(_)) => self.workload(raw).map(Source::Workload),
            Some(source) => Some(source),
            None => {
                self.places
                    .report(raw, format!("`{}` names no pod", crate::text::one_line(&raw.value)))
                    .expected(SOURCES)
                    .rule("no-pod");
                None
            }
        }
    }

    /// Whose pod something runs in, in the lab's namespace or another, whose workloads a lab need not bring.
    pub(super) fn source_in(&mut self, raw: &Text, elsewhere: bool) -> Option<Source> {
        match Source::parse(&raw.value) {
            Some(source) if elsewhere => Some(source),
            _ => self.source(raw),
        }
    }

    /// Who is called.
    pub(super) fn target(&mut self, raw: &Text) -> Option<Target> {
        let text = raw.value.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = text.parse() {
            return Some(Target::Address(address));
        }
        if text.starts_with("pod/") || text.contains('=') {
            return self.source(raw).map(Target::Pod);
        }
        if self.known.services.contains_key(text) {
            return Some(Target::Service(text.to_owned()));
        }
        if text.contains('.') && object_name(text.trim_end_matches('.')) {
            return Some(Target::Host(text.to_owned()));
        }
        self.workload(raw)
            .map(|workload| Target::Service(workload.as_str().to_owned()))
    }

    /// Who is called, with the port: `payments-api:8443`.
    pub(super) fn target_with_port(&mut self, raw: &Text) -> Option<(Target, u16)> {
        let parts = raw.value.rsplit_once(':').and_then(|(host, port)| {
            let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
            Some((host.to_owned(), port))
        });
        let Some((host, port)) = parts else {
            self.places
                .report(raw, format!("`{}` names no port", crate::text::one_line(&raw.value)))
                .expected("a callee and its port, as `payments-api:8443`")
                .rule("no-port");
            return None;
        };
        let target = self.target(&Spanned::new(host, raw.at))?;
        self.port_of(&target, &Spanned::new(port, raw.at));
        Some((target, port))
    }

    /// Whether a Service has a port, where it is one.
    pub(super) fn port_of(&mut self, target: &Target, port: &Spanned<u16>) {
        if let Target::Service(name) = target {
            self.port(name, port);
        }
    }

    /// Where bytes stand.
    pub(super) fn store(&mut self, raw: &Text) -> Option<Store> {
        let store = Store::parse(&raw.value);
        if store.is_none() {
            self.places
                .report(raw, format!("`{}` is no place", crate::text::one_line(&raw.value)))
                .expected(Store::FORMS)
                .hint("a file's path leads down from the work directory: letters, digits, `.`, `_`, `-` and `/`")
                .rule("no-place");
        }
        store
    }

    /// A path in the work directory.
    pub(super) fn work_path(&mut self, raw: &Text) -> Option<WorkPath> {
        let path = WorkPath::new(&raw.value);
        if path.is_none() {
            self.places
                .report(
                    raw,
                    format!(
                        "`{}` is no path in the work directory",
                        crate::text::one_line(&raw.value)
                    ),
                )
                .expected("a path down from it, as `pki/ca.crt`: letters, digits, `.`, `_`, `-` and `/`")
                .rule("no-path");
        }
        path
    }

    /// An object's name.
    pub(super) fn object_name(&mut self, raw: &Text) -> Option<String> {
        if object_name(&raw.value) {
            return Some(raw.value.clone());
        }
        self.places
            .report(
                raw,
                format!("`{}` is no name of an object", crate::text::one_line(&raw.value)),
            )
            .expected("lower-case letters, digits, dashes and dots, as in `default-deny`")
            .rule("no-name");
        None
    }

    /// A label selector.
    pub(super) fn selector(&mut self, raw: &Text) -> Option<String> {
        if label_selector(&raw.value) {
            return Some(raw.value.clone());
        }
        self.places
            .report(
                raw,
                format!("`{}` is no label selector", crate::text::one_line(&raw.value)),
            )
            .expected("labels and values, as `app=payments-api,tier=api`")
            .rule("no-selector");
        None
    }

    /// A regular expression, to be found anywhere.
    pub(super) fn regex(&mut self, raw: &Text) -> Option<Regex> {
        match RegexBuilder::new(&raw.value).size_limit(REGEX).build() {
            Ok(rule) => Some(rule),
            Err(error) => {
                self.places
                    .report(raw, "this is no regular expression")
                    .expected("the syntax of the Rust crate `regex`")
                    .hint(crate::text::one_line(&error.to_string()))
                    .rule("no-regex");
                None
            }
        }
    }

    /// A rule for a text.
    pub(super) fn text_rule(&mut self, raw: &Spanned<RawRule>) -> Option<TextRule> {
        let rule = &raw.value;
        if rule.contains.is_none() && rule.matches.is_none() && rule.lacks.is_none() {
            self.places
                .report(raw, "the rule says nothing")
                .expected("`contains`, `matches` or `lacks`")
                .rule("empty-rule");
        }
        let matches = transpose(rule.matches.as_ref().map(|matches| self.regex(matches)))?;
        Some(TextRule {
            contains: rule.contains.as_ref().map(|words| self.text(words)),
            matches,
            lacks: rule.lacks.as_ref().map(|words| self.text(words)),
        })
    }

    /// A certificate to show.
    pub(super) fn client(&mut self, raw: &Spanned<OneOr<RawClient>>) -> Option<Client> {
        match &raw.value {
            OneOr::Word(word) => match word.as_str() {
                "none" => Some(Client::None),
                "self-made" => Some(Client::SelfMade),
                _ => match word.strip_prefix("secret/").filter(|name| object_name(name)) {
                    Some(name) => {
                        let key = |key: &str| Store::Secret {
                            name: name.to_owned(),
                            key: key.to_owned(),
                        };
                        Some(Client::Given {
                            certificate: key("tls.crt"),
                            key: key("tls.key"),
                        })
                    }
                    None => {
                        self.places
                            .report(raw, format!("`{}` is no certificate", crate::text::one_line(word)))
                            .expected("`none`, `self-made`, `secret/NAME`, or the fields `certificate` or `signedBy`, with `key`")
                            .rule("no-client");
                        None
                    }
                },
            },
            OneOr::Fields(fields) => self.client_fields(raw, fields),
        }
    }

    fn client_fields(&mut self, raw: &Spanned<OneOr<RawClient>>, fields: &RawClient) -> Option<Client> {
        let key = self.store(&fields.key);
        match (&fields.certificate, &fields.signed_by) {
            (Some(certificate), None) => {
                if fields.expired || fields.name.is_some() {
                    self.places
                        .report(certificate, "this certificate is there already")
                        .expected("`name` and `expired` beside `signedBy` only")
                        .rule("no-client");
                }
                let certificate = self.store(certificate);
                Some(Client::Given {
                    certificate: certificate?,
                    key: key?,
                })
            }
            (None, Some(authority)) => {
                let authority = self.store(authority);
                let name = transpose(fields.name.as_ref().map(|name| self.short(name)))?;
                Some(Client::Signed {
                    authority: authority?,
                    key: key?,
                    name,
                    expired: fields.expired,
                })
            }
            _ => {
                self.places
                    .report(raw, "it is not clear which certificate is shown")
                    .expected("exactly one of `certificate` and `signedBy`")
                    .rule("no-client");
                None
            }
        }
    }

    /// A name in a certificate, on one line.
    pub(super) fn short(&mut self, raw: &Text) -> Option<String> {
        let text = self.line(raw);
        if text.chars().count() <= 64 {
            return Some(text);
        }
        self.places
            .report(raw, "this name is too long for a certificate")
            .expected("at most 64 characters")
            .rule("no-name");
        None
    }

    /// Who succeeds in the same moment.
    pub(super) fn control(&mut self, raw: &Spanned<OneOr<RawControl>>) -> Option<Control> {
        match &raw.value {
            OneOr::Word(word) => {
                let from = self.source(&Spanned::new(word.clone(), raw.at))?;
                Some(Control {
                    from: Some(from),
                    client: None,
                })
            }
            OneOr::Fields(fields) => {
                let from = transpose(fields.from.as_ref().map(|from| self.source(from)));
                let client = transpose(fields.client.as_ref().map(|client| self.client(client)));
                let control = Control {
                    from: from?,
                    client: client?,
                };
                if control.from.is_none() && control.client.is_none() {
                    self.places
                        .report(raw, "the control differs in nothing")
                        .expected("`from`, `client`, or both")
                        .rule("no-control");
                }
                Some(control)
            }
        }
    }

    /// A control that is a pod only.
    pub(super) fn plain_control(&mut self, raw: &Spanned<OneOr<RawControl>>) -> Option<Source> {
        let control = self.control(raw)?;
        if control.client.is_some() {
            self.places
                .report(raw, "no certificate is shown here")
                .expected("a workload, `pod/NAME`, or a label selector")
                .rule("no-control");
        }
        control.from
    }

    /// Reports an expectation that something does not succeed without anybody who does.
    pub(super) fn needs_control<T>(&mut self, at: &Spanned<T>, there: bool) {
        if !there {
            self.places
                .report(at, "nothing shows that the callee is alive")
                .expected("`control: …`, who succeeds in the same moment")
                .hint("a dead service refuses everybody, which proves nothing")
                .rule("no-control");
        }
    }

    /// A text whose `${…}` must stand for something; `probe` too where it is allowed.
    pub(super) fn filled(&mut self, raw: &Text, only_stores: bool) -> String {
        for piece in pieces(&raw.value) {
            let Piece::Name(name) = piece else { continue };
            let fill = Fill::parse(name);
            let known = match &fill {
                Some(Fill::Store(_)) => true,
                Some(Fill::Address(Source::Workload(workload))) => {
                    !only_stores
                        && self
                            .workload(&Spanned::new(workload.as_str().to_owned(), raw.at))
                            .is_some()
                }
                Some(_) => !only_stores,
                None => false,
            };
            if !known {
                let forms = if only_stores {
                    "`${secret/NAME/KEY}`, `${configmap/NAME/KEY}` or `${file/PATH}`"
                } else {
                    Fill::FORMS
                };
                self.places
                    .report(
                        raw,
                        format!("`${{{}}}` stands for nothing", crate::text::one_line(name)),
                    )
                    .expected(forms)
                    .rule("no-fill");
                break;
            }
        }
        self.text(raw)
    }
}
