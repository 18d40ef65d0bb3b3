//! `printenv` and `env`: the environment of a program in this container, as whoever may `exec` into the pod sees it.

use std::{env, ffi::OsString, os::unix::ffi::OsStrExt, process::ExitCode};

use crate::standins::process;

/// Prints the values of the variables that are named, or every variable; 1 if one of them is not set.
pub fn main(args: Vec<OsString>) -> ExitCode {
    if let Some(option) = args.iter().find(|argument| argument.as_bytes().starts_with(b"-")) {
        return refuse("printenv", option);
    }
    let (text, all) = show(&args, env::vars_os());
    let printed = process::print(&text).is_ok();
    ExitCode::from(u8::from(!(all && printed)))
}

/// `env` without arguments. It runs no programs.
pub fn env(args: Vec<OsString>) -> ExitCode {
    match args.first() {
        None => main(args),
        Some(argument) => refuse("env", argument),
    }
}

fn refuse(name: &str, argument: &OsString) -> ExitCode {
    let what = "this is a stand-in of ztlab that prints variables only";
    process::complain(name, &format!("`{}`: {what}", argument.display()));
    ExitCode::from(2)
}

fn show(names: &[OsString], variables: impl Iterator<Item = (OsString, OsString)>) -> (String, bool) {
    let variables: Vec<(OsString, OsString)> = variables.collect();
    if names.is_empty() {
        let line = |(name, value): &(OsString, OsString)| format!("{}={}\n", name.display(), value.display());
        return (variables.iter().map(line).collect(), true);
    }
    let value = |name: &OsString| {
        variables
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    };
    let found: Vec<&OsString> = names.iter().filter_map(value).collect();
    let text = found.iter().map(|value| format!("{}\n", value.display())).collect();
    (text, found.len() == names.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_shown_and_a_missing_one_is_told() {
        let set = || {
            [("A", "1"), ("B", "x=y")]
                .map(|(k, v)| (OsString::from(k), OsString::from(v)))
                .into_iter()
        };
        let names = |list: &[&str]| -> Vec<OsString> { list.iter().map(OsString::from).collect() };
        assert_eq!(show(&[], set()), ("A=1\nB=x=y\n".to_owned(), true));
        assert_eq!(show(&names(&["B"]), set()), ("x=y\n".to_owned(), true));
        assert_eq!(show(&names(&["C", "A"]), set()), ("1\n".to_owned(), false));
    }
}
