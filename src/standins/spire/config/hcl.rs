//! HCL in its first version, which is what SPIRE's files are written in; no crate reads it.
//!
//! The second version is another language: there items of a block need a line each, which here only a space parts. Blocks
//! become objects, their labels objects around them, as in `{"NodeAttestor": {"k8s_psat": {…}}}`; a block that is there twice
//! becomes a list. Source: the grammar of `hashicorp/hcl` v1.

mod scan;

use serde_json::{Map, Value};

use self::scan::{Scanner, Token};

/// Deepest nesting that is read.
const DEEPEST: usize = 64;

/// What is wrong, and in which line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {what}")]
pub struct HclError {
    line: usize,
    what: String,
}

/// Reads a file's text.
///
/// # Errors
/// What breaks the grammar, with its line.
pub fn parse(text: &str) -> Result<Value, HclError> {
    let mut parser = Parser {
        scanner: Scanner::new(text),
        ahead: None,
        depth: 0,
    };
    let read = parser.items(None)?;
    Ok(Value::Object(read))
}

struct Parser<'a> {
    scanner: Scanner<'a>,
    ahead: Option<Token>,
    depth: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Result<Token, HclError> {
        match self.ahead.take() {
            Some(token) => Ok(token),
            None => self.scanner.token(),
        }
    }

    fn peek(&mut self) -> Result<&Token, HclError> {
        let token = self.next()?;
        Ok(self.ahead.insert(token))
    }

    fn wrong<T>(&self, what: impl Into<String>) -> Result<T, HclError> {
        Err(self.scanner.wrong(what))
    }

    /// Items until `end`; without one, to the end of the text.
    fn items(&mut self, end: Option<Token>) -> Result<Map<String, Value>, HclError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.wrong("blocks are nested too deep");
        }
        let mut read = Map::new();
        loop {
            match self.next()? {
                Token::End if end.is_none() => break,
                Token::End => return self.wrong("the file ends within a block: a `}` is missing"),
                token if Some(&token) == end.as_ref() => break,
                Token::Word(key) | Token::Text(key) => self.item(key, &mut read)?,
                token => return self.wrong(format!("a key is expected, not {token}")),
            }
            // Items may have commas between them.
            if *self.peek()? == Token::Comma {
                self.next()?;
            }
        }
        self.depth -= 1;
        Ok(read)
    }

    /// What follows `key`: `= value`, or labels and a block.
    fn item(&mut self, key: String, into: &mut Map<String, Value>) -> Result<(), HclError> {
        let mut keys = vec![key];
        let value = loop {
            match self.next()? {
                Token::Word(label) | Token::Text(label) => keys.push(label),
                Token::Open => break Value::Object(self.items(Some(Token::Close))?),
                Token::Assign if keys.len() == 1 => break self.value()?,
                Token::Assign => return self.wrong(format!("a block is expected after `{}`", keys.join(" "))),
                token => {
                    return self.wrong(format!(
                        "`=` or `{{` is expected after `{}`, not {token}",
                        keys.join(" ")
                    ));
                }
            }
            if keys.len() > DEEPEST {
                return self.wrong("a block has too many labels");
            }
        };
        // From the innermost label outwards.
        let key = keys.remove(0);
        let value = keys
            .into_iter()
            .rev()
            .fold(value, |value, label| Value::Object(Map::from_iter([(label, value)])));
        add(into, key, value);
        Ok(())
    }

    fn value(&mut self) -> Result<Value, HclError> {
        match self.next()? {
            Token::Text(text) => Ok(Value::String(text)),
            Token::Number(number) => Ok(Value::Number(number)),
            Token::Word(word) if word == "true" => Ok(Value::Bool(true)),
            Token::Word(word) if word == "false" => Ok(Value::Bool(false)),
            Token::Open => Ok(Value::Object(self.items(Some(Token::Close))?)),
            Token::OpenList => self.list(),
            token => self.wrong(format!("a value is expected, not {token}: text is written in quotes")),
        }
    }

    fn list(&mut self) -> Result<Value, HclError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.wrong("lists are nested too deep");
        }
        let mut read = Vec::new();
        while *self.peek()? != Token::CloseList {
            if !read.is_empty() {
                match self.next()? {
                    Token::Comma => {}
                    token => return self.wrong(format!("a comma is expected in a list, not {token}")),
                }
                // One after the last is allowed.
                if *self.peek()? == Token::CloseList {
                    break;
                }
            }
            let value = self.value()?;
            read.push(value);
        }
        self.next()?;
        self.depth -= 1;
        Ok(Value::Array(read))
    }
}

/// Adds a value; blocks of one name with other labels go together, those of the same labels become a list. Of a value that
/// is set twice the last counts.
fn add(into: &mut Map<String, Value>, key: String, value: Value) {
    match (into.get_mut(&key), value) {
        (Some(Value::Object(before)), Value::Object(more)) if more.keys().all(|label| !before.contains_key(label)) => {
            before.extend(more);
        }
        (Some(Value::Object(before)), Value::Object(more)) if labelled(before) && labelled(&more) => {
            for (label, block) in more {
                add(before, label, block);
            }
        }
        (Some(before @ Value::Object(_)), more @ Value::Object(_)) => {
            let first = before.take();
            *before = Value::Array(vec![first, more]);
        }
        (Some(Value::Array(blocks)), more @ Value::Object(_)) if blocks.iter().all(Value::is_object) => {
            blocks.push(more)
        }
        (_, value) => {
            into.insert(key, value);
        }
    }
}

/// Whether nothing but blocks is in it, as in what stands for a label.
fn labelled(block: &Map<String, Value>) -> bool {
    block.values().all(|value| value.is_object() || value.is_array())
}

#[cfg(test)]
mod tests;
