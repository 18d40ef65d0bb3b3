//! The commands that a lab's text offers: the lines of its blocks marked `run`.

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

/// The longest command that is offered, in columns: it must be seen as a whole before it is run.
pub const LONGEST: usize = 500;

/// What a text offers to run, in its order. A block that no prompt can take is one of them, whole, with its newlines:
/// [`unfit`] says why it cannot be offered.
pub fn offered(markdown: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    for event in Parser::new(markdown) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) if info.trim() == "run" => {
                block = Some(String::new());
            }
            Event::Text(part) => {
                if let Some(code) = &mut block {
                    code.push_str(&part);
                }
            }
            Event::End(TagEnd::CodeBlock) => {
                if let Some(code) = block.take() {
                    found.extend(of_block(&code));
                }
            }
            _ => {}
        }
    }
    found
}

/// The commands of a block: a line each, lines that end with `\` joined with the next; comments are none.
pub(super) fn of_block(code: &str) -> Vec<String> {
    let joined = code.replace("\\\n", "\\\u{0}");
    let lines = joined.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let commands: Vec<String> = lines
        .map(|line| {
            let parts: Vec<&str> = line.split("\\\u{0}").map(str::trim).collect();
            parts.join(" ")
        })
        .collect();
    // A line that is none by itself belongs to its neighbours: what a here-document holds is nothing to run.
    if commands.len() > 1 && commands.iter().any(|command| unfinished(command).is_some()) {
        return vec![code.trim().to_owned()];
    }
    commands
}

/// Why a command cannot be put at a prompt, where the student sees the whole of it, and Enter runs it as it is seen.
pub fn unfit(command: &str) -> Option<&'static str> {
    if command.contains('\n') {
        return Some("it has several lines");
    }
    if command.chars().any(|c| crate::text::visible(c) != c) {
        return Some("it holds a character that cannot be seen");
    }
    if crate::text::width(command) > LONGEST {
        return Some("it is too long to be seen as a whole");
    }
    unfinished(command)
}

/// What a shell would still wait for behind this line.
fn unfinished(line: &str) -> Option<&'static str> {
    let (mut quote, mut escaped) = (None, false);
    let mut bare = String::new();
    for c in line.chars() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (None | Some('"'), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, c) => bare.push(c),
        }
    }
    if quote.is_some() || escaped {
        return Some("it goes on in the next line");
    }
    if bare.replace("<<<", "").contains("<<") {
        return Some("it reads the lines that follow it");
    }
    let bare = bare.trim_end();
    let last = bare.rsplit([' ', ';']).next().unwrap_or_default();
    let waits = bare.ends_with(['|', '{', '(']) || bare.ends_with("&&");
    (waits || ["do", "then", "else"].contains(&last)).then_some("it goes on in the next line")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_lines_or_joined_ones() {
        let code = "# first\nkubectl get pods \\\n  -n shop\n\nls\n";
        assert_eq!(of_block(code), ["kubectl get pods -n shop", "ls"]);
    }

    #[test]
    fn a_text_offers_what_its_run_blocks_hold() {
        let text = "Look:\n\n```run\nkubectl get pods\n```\n\n```yaml\nkind: Pod\n```\n\n    rm -rf indented\n\n\
                    1. then\n   ```run\n   ls\n   cat a\n   ```\n";
        assert_eq!(offered(text), ["kubectl get pods", "ls", "cat a"]);
    }

    #[test]
    fn what_is_no_line_is_no_command_and_neither_are_its_parts() {
        for (block, why) in [
            ("cat > a.yaml <<EOF\nrm -rf x\nEOF", "it has several lines"),
            ("echo 'a\nrm -rf x'", "it has several lines"),
            ("for a in 1 2; do\nrm $a\ndone", "it has several lines"),
            ("echo a |\nsh", "it has several lines"),
            ("cat <<EOF", "it reads the lines that follow it"),
            ("echo \"a", "it goes on in the next line"),
            ("echo a &&", "it goes on in the next line"),
            ("echo a\u{202e}b", "it holds a character that cannot be seen"),
            ("echo a\u{1b}[8m", "it holds a character that cannot be seen"),
        ] {
            let found = offered(&format!("```run\n{block}\n```\n"));
            assert_eq!(found, [block]);
            assert_eq!(unfit(&found[0]), Some(why), "{block:?}");
        }
        assert!(unfit(&"x".repeat(LONGEST + 1)).is_some());
        for fine in [
            "kubectl get pods -n shop",
            "echo 'a | b' \"it's\" \\' && ls; cat <<< x | sh",
            "for a in 1 2; do echo $a; done",
            "kubectl get pod -o jsonpath='{.items[0].status.podIP}'",
        ] {
            assert_eq!(unfit(fine), None, "{fine}");
        }
    }

    #[test]
    fn every_command_of_a_lab_that_ships_can_be_put_at_the_prompt() {
        for id in crate::catalog::shipped() {
            let lab = crate::catalog::find(&id, None).unwrap();
            let lab = lab.load(&crate::session::Topologies).unwrap();
            for step in &lab.steps {
                let hints = step.hints.iter().flat_map(|hint| offered(&hint.text));
                for command in offered(&step.instructions).into_iter().chain(hints) {
                    assert_eq!(unfit(&command), None, "{id}, {}: {command}", step.id);
                }
            }
        }
    }
}
