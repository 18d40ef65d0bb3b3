//! From characters to words, texts, numbers and signs.

use std::{fmt, iter::Peekable, str::CharIndices};

use serde_json::Number;

use super::HclError;

/// A piece of the text.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A name without quotes.
    Word(String),
    /// Text, in quotes or as a here-document.
    Text(String),
    /// A number.
    Number(Number),
    /// `=`
    Assign,
    /// `,`
    Comma,
    /// `{`
    Open,
    /// `}`
    Close,
    /// `[`
    OpenList,
    /// `]`
    CloseList,
    /// There is no more.
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Number(number) => write!(f, "`{number}`"),
            Self::Assign => f.write_str("`=`"),
            Self::Comma => f.write_str("`,`"),
            Self::Open => f.write_str("`{`"),
            Self::Close => f.write_str("`}`"),
            Self::OpenList => f.write_str("`[`"),
            Self::CloseList => f.write_str("`]`"),
            Self::End => f.write_str("the end of the file"),
        }
    }
}

/// Reads one token after the other.
pub struct Scanner<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
    line: usize,
}

impl<'a> Scanner<'a> {
    /// From the beginning of `text`.
    pub fn new(text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            text,
            rest: text.char_indices().peekable(),
            line: 1,
        }
    }

    /// An error in the line that was read last.
    pub fn wrong(&self, what: impl Into<String>) -> HclError {
        HclError {
            line: self.line,
            what: what.into(),
        }
    }

    fn bump(&mut self) -> Option<char> {
        let (_, char) = self.rest.next()?;
        if char == '\n' {
            self.line += 1;
        }
        Some(char)
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|(_, char)| *char)
    }

    /// Where the next character is, in bytes.
    fn at(&mut self) -> usize {
        self.rest.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    /// Takes characters as long as they are `fit`.
    fn take(&mut self, fit: impl Fn(char) -> bool) -> &'a str {
        let from = self.at();
        while self.peek().is_some_and(&fit) {
            self.bump();
        }
        let to = self.at();
        &self.text[from..to]
    }

    /// The next token.
    pub fn token(&mut self) -> Result<Token, HclError> {
        loop {
            self.take(|char| matches!(char, ' ' | '\t' | '\r' | '\n'));
            match self.peek() {
                Some('#') => {
                    self.take(|char| char != '\n');
                }
                Some('/') => self.comment()?,
                _ => break,
            }
        }
        let Some(char) = self.peek() else {
            return Ok(Token::End);
        };
        let sign = match char {
            '=' => Token::Assign,
            ',' => Token::Comma,
            '{' => Token::Open,
            '}' => Token::Close,
            '[' => Token::OpenList,
            ']' => Token::CloseList,
            '"' => return self.quoted(),
            '<' => return self.here_document(),
            '-' | '0'..='9' => return self.number(),
            char if char.is_alphabetic() || char == '_' => {
                let word = self.take(|char| char.is_alphanumeric() || matches!(char, '_' | '-' | '.'));
                return Ok(Token::Word(word.to_owned()));
            }
            char => return Err(self.wrong(format!("`{}` has no meaning here", char.escape_debug()))),
        };
        self.bump();
        Ok(sign)
    }

    fn comment(&mut self) -> Result<(), HclError> {
        self.bump();
        match self.bump() {
            Some('/') => {
                self.take(|char| char != '\n');
                Ok(())
            }
            Some('*') => loop {
                match self.bump() {
                    Some('*') if self.peek() == Some('/') => {
                        self.bump();
                        return Ok(());
                    }
                    Some(_) => {}
                    None => return Err(self.wrong("a comment is not closed")),
                }
            },
            _ => Err(self.wrong("`/` has no meaning here: a comment begins with `#`, `//` or `/*`")),
        }
    }

    fn number(&mut self) -> Result<Token, HclError> {
        let text = self.take(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '+' | '-'));
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let radix = |digits: &str, radix| {
            i64::from_str_radix(digits, radix)
                .ok()
                .map(|one| Number::from(sign * one))
        };
        let octal = digits.len() > 1 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let read = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            radix(hex, 16)
        } else if let Some(rest) = digits.strip_prefix('0').filter(|_| octal) {
            radix(rest, 8)
        } else if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse::<i64>().ok().map(Number::from)
        } else if digits.starts_with(|char: char| char.is_ascii_digit()) {
            text.parse::<f64>().ok().and_then(Number::from_f64)
        } else {
            None
        };
        read.map(Token::Number)
            .ok_or_else(|| self.wrong(format!("`{text}` is no number")))
    }

    /// Text in quotes. What stands in `${…}` is kept as it is, quotes and all.
    fn quoted(&mut self) -> Result<Token, HclError> {
        self.bump();
        let mut read = String::new();
        let mut braces = 0_usize;
        loop {
            let Some(char) = self.peek().filter(|char| braces > 0 || *char != '\n') else {
                return Err(self.wrong("a text is not closed: `\"` is missing"));
            };
            self.bump();
            match char {
                '"' if braces == 0 => return Ok(Token::Text(read)),
                '$' if braces == 0 && self.peek() == Some('{') => {
                    self.bump();
                    braces = 1;
                    read.push_str("${");
                    continue;
                }
                '{' if braces > 0 => braces += 1,
                '}' if braces > 0 => braces -= 1,
                '\\' if braces == 0 => {
                    let escaped = self.escape()?;
                    read.push(escaped);
                    continue;
                }
                _ => {}
            }
            read.push(char);
        }
    }

    fn escape(&mut self) -> Result<char, HclError> {
        let char = self.bump();
        let (count, radix, first) = match char {
            Some('n') => return Ok('\n'),
            Some('t') => return Ok('\t'),
            Some('r') => return Ok('\r'),
            Some('a') => return Ok('\u{7}'),
            Some('b') => return Ok('\u{8}'),
            Some('f') => return Ok('\u{c}'),
            Some('v') => return Ok('\u{b}'),
            Some(char @ ('"' | '\\')) => return Ok(char),
            Some('x') => (2, 16, 0),
            Some('u') => (4, 16, 0),
            Some('U') => (8, 16, 0),
            Some(digit @ '0'..='7') => (2, 8, digit.to_digit(8).unwrap_or(0)),
            _ => return Err(self.wrong("an escape that HCL does not have is in a text")),
        };
        let mut code = first;
        for _ in 0..count {
            let digit = self.bump().and_then(|char| char.to_digit(radix));
            let digit = digit.ok_or_else(|| self.wrong("an escape in a text is cut off"))?;
            code = code.saturating_mul(radix).saturating_add(digit);
        }
        char::from_u32(code).ok_or_else(|| self.wrong("an escape in a text is no character"))
    }

    /// `<<END`, lines, `END`; with `<<-` the lines lose what they are all indented by.
    fn here_document(&mut self) -> Result<Token, HclError> {
        self.bump();
        if self.bump() != Some('<') {
            return Err(self.wrong("`<` has no meaning here"));
        }
        let indented = self.peek() == Some('-');
        if indented {
            self.bump();
        }
        let anchor = self.take(|char| char.is_alphanumeric() || matches!(char, '_' | '-' | '.'));
        self.take(|char| char == '\r');
        if anchor.is_empty() || self.bump() != Some('\n') {
            return Err(self.wrong("a name and the end of the line are expected after `<<`"));
        }
        let mut lines = Vec::new();
        loop {
            let line = self.take(|char| char != '\n');
            if line.trim() == anchor {
                break;
            }
            if self.bump().is_none() {
                return Err(self.wrong(format!(
                    "the text after `<<{anchor}` does not end: a line `{anchor}` is missing"
                )));
            }
            lines.push(line.trim_end_matches('\r'));
        }
        let indent = if indented {
            let of = |line: &&str| line.len() - line.trim_start_matches([' ', '\t']).len();
            lines
                .iter()
                .filter(|line| !line.trim().is_empty())
                .map(of)
                .min()
                .unwrap_or(0)
        } else {
            0
        };
        let text = lines
            .iter()
            .map(|line| format!("{}\n", line.get(indent..).unwrap_or("")));
        Ok(Token::Text(text.collect()))
    }
}
