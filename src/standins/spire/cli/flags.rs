//! Flags as Go's package `flag` has them: one dash or two, `-name value` or `-name=value`.

use std::collections::BTreeMap;

/// A flag that a command has.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name, without dash.
    pub name: &'static str,
    /// Whether it stands alone, without a value.
    pub switch: bool,
    /// What it is for.
    pub help: &'static str,
}

/// A flag with a value.
pub const fn value(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        switch: false,
        help,
    }
}

/// A flag without a value.
pub const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        switch: true,
        help,
    }
}

/// What was given.
#[derive(Debug, Default)]
pub struct Flags(BTreeMap<&'static str, Vec<String>>);

/// Why the arguments are no good.
#[derive(Debug, PartialEq, Eq)]
pub enum FlagError {
    /// Help was asked for.
    Help,
    /// Something is wrong with them.
    Wrong(String),
}

impl Flags {
    /// Reads arguments by what the command has.
    pub fn parse(args: &[String], known: &[Flag]) -> Result<Self, FlagError> {
        let wrong = |what: String| FlagError::Wrong(what);
        let mut read = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(dashed) = arg
                .strip_prefix("--")
                .or_else(|| arg.strip_prefix('-'))
                .filter(|name| !name.is_empty())
            else {
                return Err(wrong(format!("unexpected argument: {arg}")));
            };
            let (name, inline) = match dashed.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (dashed, None),
            };
            let Some(flag) = known.iter().find(|flag| flag.name == name) else {
                if name == "h" || name == "help" {
                    return Err(FlagError::Help);
                }
                return Err(wrong(format!("flag provided but not defined: -{name}")));
            };
            let value = match (flag.switch, inline) {
                (true, None) => "true".to_owned(),
                (true, Some(text)) if ["true", "1", "t"].contains(&text.as_str()) => "true".to_owned(),
                (true, Some(text)) if ["false", "0", "f"].contains(&text.as_str()) => "false".to_owned(),
                (true, Some(text)) => return Err(wrong(format!("invalid boolean value \"{text}\" for -{name}"))),
                (false, Some(text)) => text,
                (false, None) => args
                    .next()
                    .cloned()
                    .ok_or_else(|| wrong(format!("flag needs an argument: -{name}")))?,
            };
            if name == "output" {
                check_format(&value, read.text(name))
                    .map_err(|why| wrong(format!("invalid value {value:?} for flag -{name}: {why}")))?;
            }
            read.0.entry(flag.name).or_default().push(value);
        }
        Ok(read)
    }

    /// The last value of a flag; empty without one.
    pub fn text(&self, name: &str) -> &str {
        self.all(name).last().map_or("", String::as_str)
    }

    /// All values of a flag that may come more than once.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a switch is on.
    pub fn on(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// A whole number; `default` without one.
    pub fn number(&self, name: &str, default: i64) -> Result<i64, FlagError> {
        match self.text(name) {
            "" => Ok(default),
            text => text
                .parse()
                .map_err(|_| FlagError::Wrong(format!("invalid value \"{text}\" for flag -{name}: parse error"))),
        }
    }

    /// Whether any flag was given but `except`.
    pub fn any_but(&self, except: &[&str]) -> bool {
        self.0.keys().any(|name| !except.contains(name))
    }
}

/// The formats that SPIRE's commands print in, and `before`, which another may not follow.
fn check_format(format: &str, before: &str) -> Result<(), String> {
    if !["json", "pretty", "prettyprint"].contains(&format.to_lowercase().as_str()) {
        return Err(format!("bad formatter flag: unknown format option: {format:?}"));
    }
    if !before.is_empty() && before != format {
        return Err(format!("the output format has already been set to {before:?}"));
    }
    Ok(())
}

/// The flags as Go prints them.
pub fn usage(command: &str, known: &[Flag]) -> String {
    let mut text = format!("Usage of {command}:\n");
    let mut known = known.to_vec();
    known.sort_by_key(|flag| flag.name);
    for flag in known {
        let kind = if flag.switch { "" } else { " value" };
        text.push_str(&format!("  -{}{kind}\n    \t{}\n", flag.name, flag.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Flag] = &[
        value("selector", ""),
        value("ttl", ""),
        value("output", ""),
        switch("node", ""),
    ];

    fn parse(text: &str) -> Result<Flags, FlagError> {
        Flags::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>(), KNOWN)
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        let flags = parse("-selector k8s:ns:a --selector=k8s:sa:b -node -ttl=60").unwrap();
        assert_eq!(flags.all("selector"), ["k8s:ns:a", "k8s:sa:b"]);
        assert!(flags.on("node"));
        assert_eq!(flags.number("ttl", 0), Ok(60));
        assert!(!parse("-node=false").unwrap().on("node"));
    }

    #[test]
    fn what_is_wrong_is_said_in_gos_words() {
        let wrong = |text: &str| match parse(text).unwrap_err() {
            FlagError::Wrong(what) => what,
            FlagError::Help => "help".into(),
        };
        assert_eq!(wrong("-foo"), "flag provided but not defined: -foo");
        assert_eq!(wrong("-ttl"), "flag needs an argument: -ttl");
        assert_eq!(wrong("-h"), "help");
        assert_eq!(
            wrong("-output yaml"),
            "invalid value \"yaml\" for flag -output: bad formatter flag: unknown format option: \"yaml\""
        );
        assert_eq!(
            wrong("-output json -output=pretty"),
            "invalid value \"pretty\" for flag -output: the output format has already been set to \"json\""
        );
        assert_eq!(parse("-output JSON").unwrap().text("output"), "JSON");
        assert!(wrong("stray").contains("stray"));
        assert!(parse("-ttl x").unwrap().number("ttl", 0).is_err());
    }
}
