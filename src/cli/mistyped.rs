//! What a command that does not exist was meant to be, where the suggestions of the parser, which look for similar names at the
//! same place, do not find it.

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::catalog;

/// The error with what was perhaps meant: the same word one level deeper, or the id of a lab.
pub(super) fn suggest(mut error: clap::Error, program: &Command) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand || error.get(ContextKind::SuggestedSubcommand).is_some() {
        return error;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let mut meant: Vec<String> = deeper(word, program);
    if catalog::shipped().iter().any(|id| id == word) {
        meant.push(format!("ztlab lab start {word}"));
    }
    if !meant.is_empty() {
        let lines = meant
            .iter()
            .map(|one| format!("did you mean `{one}`?").into())
            .collect();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(lines));
    }
    error
}

/// Every command of this name below those of the program.
fn deeper(word: &str, program: &Command) -> Vec<String> {
    let below = |parent: &Command| {
        let known = parent
            .get_subcommands()
            .any(|one| one.get_name() == word && !one.is_hide_set());
        known.then(|| format!("ztlab {} {word}", parent.get_name()))
    };
    program
        .get_subcommands()
        .filter(|one| !one.is_hide_set())
        .filter_map(below)
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::args::Cli;

    fn said(line: &str) -> String {
        let error = Cli::try_parse_from(line.split(' ')).map(drop).unwrap_err();
        suggest(error, &Cli::command()).to_string()
    }

    #[test]
    fn a_word_at_the_wrong_level_and_a_lab_are_understood() {
        assert!(said("ztlab check").contains("did you mean `ztlab lab check`?"));
        let stop = said("ztlab stop");
        for meant in ["did you mean `ztlab lab stop`?", "did you mean `ztlab cluster stop`?"] {
            assert!(stop.contains(meant), "{stop}");
        }
        for line in ["ztlab wiretap", "ztlab lab wiretap"] {
            let said = said(line);
            assert!(said.contains("did you mean `ztlab lab start wiretap`?"), "{said}");
        }
        let nothing = said("ztlab xyzzy");
        assert!(!nothing.contains("did you mean"), "{nothing}");
        assert!(said("ztlab lab chek").contains("'check'"));
    }
}
