//! Reads the table. Its format stands at its head.

use crate::kubectl::Version;

/// One numbered line of the table.
#[derive(Debug, Default)]
pub struct Entry {
    pub number: u32,
    pub title: String,
    pub when: When,
    /// The test that holds it, where no command line can.
    pub by: Option<String>,
    pub commands: Vec<Command>,
}

/// Where something counts.
#[derive(Debug, Default, Clone)]
pub struct When {
    pub since: Option<Version>,
    pub until: Option<Version>,
    /// What it waits for.
    pub waits: Option<String>,
}

impl When {
    pub fn includes(&self, version: Version) -> bool {
        self.since.is_none_or(|since| version >= since) && self.until.is_none_or(|until| version <= until)
    }

    fn read(&mut self, word: &str, rest: &str) -> Option<()> {
        match word {
            "since" => self.since = Some(Version::parse(rest)?),
            "until" => self.until = Some(Version::parse(rest)?),
            "waits" => self.waits = Some(rest.to_owned()),
            _ => return None,
        }
        Some(())
    }
}

/// A command with what it must show.
#[derive(Debug, Default)]
pub struct Command {
    pub text: String,
    pub when: When,
    /// `|`: all of standard output.
    pub exact: Option<Vec<String>>,
    /// `>`: parts of standard output, in order.
    pub parts: Vec<String>,
    /// `e`: parts of standard error, in order.
    pub errors: Vec<String>,
    /// `!`: in neither.
    pub absent: Vec<String>,
    pub exit: i32,
    /// Run at a terminal of this many columns and rows, in these steps.
    pub terminal: Option<(u16, u16)>,
    pub steps: Vec<Step>,
}

/// What happens at a terminal.
#[derive(Debug)]
pub enum Step {
    /// `>`: this appears.
    Shows(String),
    /// `<`: this line is typed; `^C` and `^D` are keys.
    Types(String),
    /// `~`: the terminal gets this size.
    Resize(u16, u16),
}

/// Reads the table.
///
/// # Errors
/// The line that is not of the format.
pub fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if !line.is_empty() && !line.starts_with('#') {
            read(&mut entries, line).ok_or_else(|| format!("table.txt:{}: {line}", number + 1))?;
        }
    }
    Ok(entries)
}

fn read(entries: &mut Vec<Entry>, line: &str) -> Option<()> {
    if line.starts_with(|c: char| c.is_ascii_digit()) {
        let (number, title) = line.split_once(' ')?;
        entries.push(Entry {
            number: number.parse().ok()?,
            title: title.to_owned(),
            ..Entry::default()
        });
        return Some(());
    }
    let entry = entries.last_mut()?;
    if let Some(more) = line.strip_prefix("  ") {
        let text = &mut entry.commands.last_mut()?.text;
        text.push('\n');
        text.push_str(more);
        return Some(());
    }
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    if word == "$" {
        entry.commands.push(Command {
            text: rest.to_owned(),
            ..Command::default()
        });
        return Some(());
    }
    let Some(command) = entry.commands.last_mut() else {
        if word == "by" {
            entry.by = Some(rest.to_owned());
            return Some(());
        }
        return entry.when.read(word, rest);
    };
    match word {
        "|" => command.exact.get_or_insert_default().push(rest.to_owned()),
        ">" if command.terminal.is_some() => command.steps.push(Step::Shows(rest.to_owned())),
        ">" => command.parts.push(rest.to_owned()),
        "<" => command.steps.push(Step::Types(rest.to_owned())),
        "~" => {
            let (columns, rows) = size(rest)?;
            command.steps.push(Step::Resize(columns, rows));
        }
        "e" => command.errors.push(rest.to_owned()),
        "!" => command.absent.push(rest.to_owned()),
        "exit" => command.exit = rest.parse().ok()?,
        "terminal" => command.terminal = Some(size(rest)?),
        _ => return command.when.read(word, rest),
    }
    Some(())
}

fn size(text: &str) -> Option<(u16, u16)> {
    let (columns, rows) = text.split_once('x')?;
    Some((columns.parse().ok()?, rows.parse().ok()?))
}
