//! The Markdown of a lab: commands for the student's shell, and links.

use std::{collections::BTreeSet, ops::Range};

use pulldown_cmark::{CodeBlockKind, CowStr, Event, Options, Parser, Tag, TagEnd};

use super::Validator;
use crate::lab::{
    commands,
    error::did_you_mean,
    raw::{Place, Text},
};

/// Programs that every machine has on which ztlab runs, and the shell's own words.
const ALWAYS: &[&str] = &[
    "awk", "base64", "cat", "cd", "chmod", "cp", "cut", "date", "diff", "echo", "env", "exit", "export", "for", "grep",
    "head", "if", "kubectl", "ls", "mkdir", "mv", "printf", "pwd", "rm", "sed", "sleep", "sort", "tail", "test", "tr",
    "umask", "uniq", "until", "wc", "while", "ztlab",
];

impl Validator<'_> {
    /// A text in Markdown.
    pub(super) fn markdown(&mut self, raw: &Text) -> String {
        let text = self.text(raw);
        if self.lint.is_some() {
            self.look_into(raw);
        }
        text
    }

    fn look_into(&mut self, raw: &Text) {
        let mut anchors = BTreeSet::new();
        let mut links: Vec<(String, Range<usize>)> = Vec::new();
        let mut heading: Option<String> = None;
        let mut block: Option<(String, String, Range<usize>)> = None;
        let options = Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES;
        for (event, range) in Parser::new_ext(&raw.value, options).into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    anchors.extend(heading.take().map(|text| anchor(&text)));
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    links.push((dest_url.to_string(), range));
                }
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    block = Some((info.to_string(), String::new(), range));
                }
                Event::End(TagEnd::CodeBlock) => {
                    if let Some((info, code, range)) = block.take() {
                        self.fence(raw, &info, &code, range);
                    }
                }
                Event::Text(part) | Event::Code(part) => text_of(&part, &mut heading, &mut block),
                _ => {}
            }
        }
        for (target, range) in links {
            let at = self.places.inside(raw, range.start, range.len().min(80));
            self.link(&target, at, &anchors);
        }
    }

    fn fence(&mut self, raw: &Text, info: &str, code: &str, range: Range<usize>) {
        let at = self.places.inside(raw, range.start, 3 + info.chars().count());
        let written = raw.value.get(range).unwrap_or_default();
        let fence = written.trim_start().chars().next().unwrap_or('`').to_string().repeat(3);
        let closed = written.lines().skip(1).any(|line| line.trim().starts_with(&fence));
        if !closed {
            self.places
                .report_at(at, "this block is never closed")
                .expected("a line of three backticks below it")
                .rule("fence");
        }
        let info = info.trim();
        if info != "run" {
            let near = info.eq_ignore_ascii_case("run") || info.split([',', ' ']).any(|word| word == "run");
            if near || did_you_mean(info, ["run"]).is_some() {
                self.places
                    .report_at(at, format!("`{}` is no mark of a block", crate::text::one_line(info)))
                    .expected("`run` alone, for commands that the student is to run")
                    .rule("fence")
                    .warning();
            }
            return;
        }
        let commands = commands::of_block(code);
        if commands.is_empty() {
            self.places
                .report_at(at, "this block marked `run` holds no command")
                .expected("at least one command")
                .rule("fence");
        }
        for command in commands {
            if let Some(why) = commands::unfit(&command) {
                self.places
                    .report_at(at, format!("no prompt can take this command: {why}"))
                    .expected("commands of one line each, that are seen as a whole")
                    .hint("a file that the student is to write belongs into the lab's `work` directory")
                    .rule("prompt");
                continue;
            }
            self.command(at, &command);
        }
    }

    /// A command's programs are there when the student needs them.
    fn command(&mut self, at: Place, command: &str) {
        let known = |name: &str| {
            let named = self.host_tools.iter().any(|tool| tool == name);
            // A path, a variable or a substitution is the student's own.
            named || ALWAYS.contains(&name) || name.contains(['/', '$', '(', '{', '[', '='])
        };
        let missing: Vec<String> = programs(command).into_iter().filter(|name| !known(name)).collect();
        for name in missing {
            let name = crate::text::one_line(&name);
            self.places
                .report_at(at, format!("nothing says that the student has the program `{name}`"))
                .expected(format!("`{name}` in `needs.hostTools`"))
                .hint("it is looked for before the lab starts, with a message that says how to get it")
                .rule("host-tool")
                .warning();
        }
    }

    fn link(&mut self, target: &str, at: Place, anchors: &BTreeSet<String>) {
        let shown = crate::text::cut(&crate::text::one_line(target), 80);
        let dead = |message: String| (message, "dead-link");
        let (path, fragment) = target
            .split_once('#')
            .map_or((target, None), |(path, part)| (path, Some(part)));
        let (message, rule) = if let Some((scheme, rest)) = target.split_once("://") {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host_like = !host.is_empty() && !host.contains(char::is_whitespace) && host.contains(['.', ':']);
            match (scheme, host_like || host == "localhost") {
                ("http" | "https", true) => return,
                ("http" | "https", false) => dead(format!("`{shown}` names no host")),
                _ => dead(format!("`{shown}` is a link of another kind")),
            }
        } else if target.starts_with("mailto:") {
            return;
        } else if path.is_empty() {
            match fragment {
                Some(fragment) if anchors.contains(fragment) => return,
                _ => dead(format!("no heading of this text is called `{shown}`")),
            }
        } else if self.lint.as_ref().is_some_and(|lint| (lint.file)(path)) {
            return;
        } else {
            dead(format!("there is no file `{shown}` beside the lab"))
        };
        self.places
            .report_at(at, message)
            .expected("a web address, a file beside the lab, or `#heading` of the same text")
            .rule(rule);
    }
}

fn text_of(part: &CowStr<'_>, heading: &mut Option<String>, block: &mut Option<(String, String, Range<usize>)>) {
    if let Some(heading) = heading {
        heading.push_str(part);
    }
    if let Some((_, code, _)) = block {
        code.push_str(part);
    }
}

/// The anchor of a heading, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let letters = heading.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c),
        _ => None,
    });
    letters.flat_map(char::to_lowercase).collect()
}

/// The programs that a command line begins: the first word, and that behind each `|`, `&&`, `||` and `;`, outside of
/// quotes.
fn programs(command: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut quote, mut word, mut first) = (None, String::new(), true);
    let mut escaped = false;
    for c in command.chars().chain([' ']) {
        match (quote, c) {
            _ if escaped => escaped = false,
            (None | Some('"'), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c.is_whitespace() || ['|', '&', ';'].contains(&c) => {
                if first && !word.is_empty() {
                    // `NAME=value program` sets a variable for the program.
                    first = word.contains('=');
                    if !first {
                        found.push(std::mem::take(&mut word));
                    }
                }
                word.clear();
                first |= ['|', ';', '&'].contains(&c);
            }
            (None, c) => word.push(c),
        }
    }
    // What follows a redirection's `>&` or ends a loop is no program.
    found.retain(|word| {
        !word.starts_with(['>', '<', '1', '2']) && !["do", "done", "then", "fi", "else"].contains(&word.as_str())
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_where_a_shell_begins_them() {
        for (line, expected) in [
            ("kubectl get pods -n shop", &["kubectl"][..]),
            (
                "openssl x509 -in a.crt -text | grep 'a; b' | head -3",
                &["openssl", "grep", "head"],
            ),
            ("mkdir -p pki && cd pki; ls", &["mkdir", "cd", "ls"]),
            ("TOKEN=abc curl -H \"a: $TOKEN | x\" http://b", &["curl"]),
            ("kubectl exec deploy/a -- sh -c 'b | c' 2>&1", &["kubectl"]),
            ("", &[]),
        ] {
            assert_eq!(programs(line), expected, "{line}");
        }
    }

    #[test]
    fn anchors_are_made_as_elsewhere() {
        assert_eq!(
            anchor("The TLS handshake, step by step"),
            "the-tls-handshake-step-by-step"
        );
    }
}
