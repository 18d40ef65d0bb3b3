//! From text to an expression.

use std::{iter::Peekable, str::CharIndices};

use super::{FilterError, Node, Operand, Operator, subject};

/// How deep parentheses and negations may go.
const DEPTH: usize = 64;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Open,
    Close,
    And,
    Or,
    Not,
    Operator(Operator),
}

pub(super) fn parse(text: &str) -> Result<Node, FilterError> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
        end: text.chars().count() + 1,
    };
    if tokens.is_empty() {
        return Ok(Node::All);
    }
    let node = parser.either(0)?;
    match parser.tokens.get(parser.at) {
        None => Ok(node),
        Some(_) => Err(parser.expected("`and`, `or` or the end")),
    }
}

/// Characters of names, numbers, addresses and ranges.
fn of_a_word(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '.' | ':' | '/' | '_' | '-')
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, FilterError> {
    let mut chars = text.char_indices().peekable();
    let mut tokens = Vec::new();
    while let Some((at, char)) = chars.next() {
        let place = text[..at].chars().count() + 1;
        let mut then = |next: char| chars.next_if(|(_, char)| *char == next).is_some();
        let token = match char {
            char if char.is_whitespace() => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            '&' if then('&') => Token::And,
            '|' if then('|') => Token::Or,
            '=' if then('=') => Token::Operator(Operator::Equal),
            '!' if then('=') => Token::Operator(Operator::NotEqual),
            '!' => Token::Not,
            '<' if then('=') => Token::Operator(Operator::LessEqual),
            '<' => Token::Operator(Operator::Less),
            '>' if then('=') => Token::Operator(Operator::GreaterEqual),
            '>' => Token::Operator(Operator::Greater),
            '"' => Token::Quoted(quoted(place, &mut chars)?),
            char if of_a_word(char) => word(&text[at..]),
            char => {
                return Err(FilterError::Expected {
                    at: place,
                    expected: "a field, a value or an operator",
                    found: format!("{char:?}"),
                });
            }
        };
        if let Token::Word(_) | Token::And | Token::Or | Token::Not | Token::Operator(Operator::Contains) = &token
            && of_a_word(char)
        {
            while chars.next_if(|(_, char)| of_a_word(*char)).is_some() {}
        }
        tokens.push((place, token));
    }
    Ok(tokens)
}

fn word(text: &str) -> Token {
    let word: String = text.chars().take_while(|char| of_a_word(*char)).collect();
    match word.as_str() {
        "and" => Token::And,
        "or" => Token::Or,
        "not" => Token::Not,
        "contains" => Token::Operator(Operator::Contains),
        _ => Token::Word(word),
    }
}

fn quoted(place: usize, chars: &mut Peekable<CharIndices<'_>>) -> Result<String, FilterError> {
    let mut out = String::new();
    while let Some((_, char)) = chars.next() {
        match char {
            '"' => return Ok(out),
            '\\' => out.extend(chars.next().map(|(_, char)| char)),
            char => out.push(char),
        }
    }
    Err(FilterError::Expected {
        at: place,
        expected: "a closing quotation mark",
        found: "the end".to_owned(),
    })
}

struct Parser<'a> {
    tokens: &'a [(usize, Token)],
    at: usize,
    end: usize,
}

impl Parser<'_> {
    fn next_if(&mut self, wanted: &Token) -> bool {
        let found = self.tokens.get(self.at).is_some_and(|(_, token)| token == wanted);
        self.at += usize::from(found);
        found
    }

    fn expected(&self, expected: &'static str) -> FilterError {
        let (at, found) = match self.tokens.get(self.at) {
            None => (self.end, "the end".to_owned()),
            Some((at, token)) => {
                let found = match token {
                    Token::Word(word) | Token::Quoted(word) => format!("{word:?}"),
                    Token::Open => "`(`".to_owned(),
                    Token::Close => "`)`".to_owned(),
                    Token::And => "`and`".to_owned(),
                    Token::Or => "`or`".to_owned(),
                    Token::Not => "`not`".to_owned(),
                    Token::Operator(_) => "an operator".to_owned(),
                };
                (*at, found)
            }
        };
        FilterError::Expected { at, expected, found }
    }

    fn either(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut node = self.both(depth)?;
        while self.next_if(&Token::Or) {
            node = Node::Or(Box::new(node), Box::new(self.both(depth)?));
        }
        Ok(node)
    }

    fn both(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut node = self.one(depth)?;
        while self.next_if(&Token::And) {
            node = Node::And(Box::new(node), Box::new(self.one(depth)?));
        }
        Ok(node)
    }

    fn one(&mut self, depth: usize) -> Result<Node, FilterError> {
        if depth > DEPTH {
            return Err(FilterError::Deep(DEPTH));
        }
        if self.next_if(&Token::Not) {
            return Ok(Node::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.next_if(&Token::Open) {
            let node = self.either(depth + 1)?;
            return if self.next_if(&Token::Close) {
                Ok(node)
            } else {
                Err(self.expected("`)`"))
            };
        }
        let Some((at, Token::Word(name))) = self.tokens.get(self.at) else {
            return Err(self.expected("a field"));
        };
        if !subject::known(name) {
            return Err(FilterError::Field {
                at: *at,
                name: name.clone(),
                near: subject::near(name),
            });
        }
        self.at += 1;
        let Some((_, Token::Operator(operator))) = self.tokens.get(self.at) else {
            return Ok(Node::Has(name.clone()));
        };
        self.at += 1;
        match self.tokens.get(self.at) {
            Some((_, Token::Word(value) | Token::Quoted(value))) => {
                self.at += 1;
                Ok(Node::Compare(name.clone(), *operator, Operand::new(value.clone())))
            }
            _ => Err(self.expected("a value")),
        }
    }
}
