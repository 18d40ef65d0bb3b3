//! Label selectors, as text (`app in (a,b),!z`) and as the `LabelSelector` object.
//!
//! Source: apimachinery `pkg/labels` (grammar, errors) and meta/v1 `LabelSelectorAsSelector`.

use serde_json::{Map, Value};

use super::{super::validate::names, SelectorError};

/// A parsed label selector: all requirements must hold; none matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// How its value is judged.
    pub operator: Operator,
    /// Values to judge by; empty for `Exists` and `DoesNotExist`.
    pub values: Vec<String>,
}

/// How a requirement judges a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The value is one of those given (`=`, `==`, `in`).
    In,
    /// The label is absent or its value none of those given (`!=`, `notin`).
    NotIn,
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The value is a greater integer.
    GreaterThan,
    /// The value is a smaller integer.
    LessThan,
}

impl LabelSelector {
    /// Reads the text form of `?labelSelector=`.
    ///
    /// # Errors
    /// What could not be parsed, in Kubernetes' words.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        let mut parser = Parser {
            tokens: lex(text),
            at: 0,
        };
        let mut requirements = parser.requirements()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(LabelSelector {
            requirements,
            nothing: false,
        })
    }

    /// Reads a `LabelSelector` object; absent (null) matches nothing, `{}` everything.
    ///
    /// # Errors
    /// An unknown operator, or values that do not fit it.
    pub fn from_object(object: &Value) -> Result<LabelSelector, SelectorError> {
        let Some(fields) = object.as_object() else {
            return Ok(LabelSelector {
                requirements: Vec::new(),
                nothing: true,
            });
        };
        let mut requirements = Vec::new();
        for (key, value) in fields
            .get("matchLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            requirements.push(requirement(key, Operator::In, vec![string(value)])?);
        }
        for expression in fields
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let operator = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "\"{other}\" is not a valid label selector operator"
                    )));
                }
            };
            let values = expression["values"].as_array().map(Vec::as_slice).unwrap_or_default();
            let key = expression["key"].as_str().unwrap_or_default();
            requirements.push(requirement(key, operator, values.iter().map(string).collect())?);
        }
        Ok(LabelSelector {
            requirements,
            nothing: false,
        })
    }

    /// A selector of a plain map, as in `Service.spec.selector`; an absent or empty map matches nothing.
    pub fn from_map(map: &Value) -> LabelSelector {
        let pairs = map.as_object().cloned().unwrap_or_default();
        LabelSelector {
            nothing: pairs.is_empty(),
            requirements: pairs
                .iter()
                .map(|(key, value)| Requirement {
                    key: key.clone(),
                    operator: Operator::In,
                    values: vec![string(value)],
                })
                .collect(),
        }
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// The requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object's `metadata.labels` match.
    pub fn matches(&self, object: &Value) -> bool {
        self.matches_labels(object.pointer("/metadata/labels").and_then(Value::as_object))
    }

    /// Whether a typed set of labels matches.
    pub fn matches_map(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|r| r.holds(labels.get(&r.key).map(String::as_str)))
    }

    /// Whether a set of labels matches.
    pub fn matches_labels(&self, labels: Option<&Map<String, Value>>) -> bool {
        !self.nothing
            && self.requirements.iter().all(|r| {
                let value = labels
                    .and_then(|labels| labels.get(&r.key))
                    .map(|v| v.as_str().unwrap_or_default());
                r.holds(value)
            })
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|v| v == value);
        let compare = |wanted: std::cmp::Ordering| {
            let bound = self.values.first().and_then(|v| v.parse::<i64>().ok());
            match (value.and_then(|v| v.parse::<i64>().ok()), bound) {
                (Some(value), Some(bound)) => value.cmp(&bound) == wanted,
                _ => false,
            }
        };
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => compare(std::cmp::Ordering::Greater),
            Operator::LessThan => compare(std::cmp::Ordering::Less),
        }
    }
}

/// Checks what `labels.NewRequirement` checks.
fn requirement(key: &str, operator: Operator, values: Vec<String>) -> Result<Requirement, SelectorError> {
    if let Some(problem) = names::qualified_name(key).first() {
        return Err(SelectorError(format!("key: Invalid value: \"{key}\": {problem}")));
    }
    let complaint = match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            Some("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            Some("values: Invalid value: []: values set must be empty for exists and does not exist")
        }
        Operator::GreaterThan | Operator::LessThan if values.first().is_none_or(|v| v.parse::<i64>().is_err()) => {
            Some("values[0]: Invalid value: for 'Gt', 'Lt' operators, the value must be an integer")
        }
        _ => None,
    };
    if let Some(text) = complaint {
        return Err(SelectorError(text.into()));
    }
    for (at, value) in values.iter().enumerate() {
        if let Some(problem) = names::label_value(value).first() {
            return Err(SelectorError(format!(
                "values[{at}][{key}]: Invalid value: \"{value}\": {problem}"
            )));
        }
    }
    Ok(Requirement {
        key: key.into(),
        operator,
        values,
    })
}

fn string(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Symbol(&'static str),
    Word(String),
}

const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

fn lex(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.into_iter().find(|s| rest.starts_with(s)) {
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else {
            let special = |c: char| c.is_whitespace() || "=!(),<>".contains(c);
            let end = rest.find(special).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn eat(&mut self, symbol: &'static str) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut all = Vec::new();
        if self.tokens.is_empty() {
            return Ok(all);
        }
        loop {
            all.push(self.requirement()?);
            match self.next() {
                None => return Ok(all),
                Some(Token::Symbol(",")) => match self.peek() {
                    Some(Token::Word(_) | Token::Symbol("!")) => {}
                    other => return Err(found(other, "identifier after ','")),
                },
                other => return Err(found(other.as_ref(), "',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.eat("!");
        let key = match self.next() {
            Some(Token::Word(key)) => key,
            other => return Err(found(other.as_ref(), "!, identifier, or 'end of string'")),
        };
        if absent {
            return requirement(&key, Operator::DoesNotExist, Vec::new());
        }
        let (operator, set) = match self.peek() {
            None | Some(Token::Symbol(",")) => return requirement(&key, Operator::Exists, Vec::new()),
            Some(Token::Word(w)) if w == "in" => (Operator::In, true),
            Some(Token::Word(w)) if w == "notin" => (Operator::NotIn, true),
            Some(Token::Symbol("=" | "==")) => (Operator::In, false),
            Some(Token::Symbol("!=")) => (Operator::NotIn, false),
            Some(Token::Symbol(">")) => (Operator::GreaterThan, false),
            Some(Token::Symbol("<")) => (Operator::LessThan, false),
            other => return Err(found(other, "in, notin, =, ==, !=, gt, lt")),
        };
        self.at += 1;
        let values = if set { self.set()? } else { vec![self.value()] };
        requirement(&key, operator, values)
    }

    /// The value after `=`; none given means the empty value.
    fn value(&mut self) -> String {
        match self.peek().cloned() {
            Some(Token::Word(word)) => {
                self.at += 1;
                word
            }
            _ => String::new(),
        }
    }

    fn set(&mut self) -> Result<Vec<String>, SelectorError> {
        if !self.eat("(") {
            return Err(found(self.peek(), "'('"));
        }
        let mut values = Vec::new();
        loop {
            values.push(self.value());
            match self.next() {
                Some(Token::Symbol(")")) => return Ok(values),
                Some(Token::Symbol(",")) => {}
                other => return Err(found(other.as_ref(), "',' or ')'")),
            }
        }
    }
}

fn found(token: Option<&Token>, expected: &str) -> SelectorError {
    let token = match token {
        None => "",
        Some(Token::Symbol(symbol)) => symbol,
        Some(Token::Word(word)) => word,
    };
    SelectorError(format!(
        "unable to parse requirement: found '{token}', expected: {expected}"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn text_selectors_match_as_documented() {
        let object = json!({"metadata": {"labels": {"app": "a", "tier": "web", "n": "5", "empty": ""}}});
        for (text, expected) in [
            ("", true),
            ("app=a", true),
            ("app==b", false),
            ("app!=b", true),
            ("missing!=b", true),
            ("app in (a,b),!z", true),
            ("app in (a, b), tier notin (db)", true),
            ("tier notin (web)", false),
            ("app", true),
            ("!app", false),
            ("n>4,n<6", true),
            ("n>5", false),
            ("empty=", true),
            ("empty in (,x)", true),
            ("in in (in)", false),
        ] {
            let selector = LabelSelector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(selector.matches(&object), expected, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, error) in [
            ("app in a", "unable to parse requirement: found 'a', expected: '('"),
            (
                "app=a,",
                "unable to parse requirement: found '', expected: identifier after ','",
            ),
            (
                "=a",
                "unable to parse requirement: found '=', expected: !, identifier, or 'end of string'",
            ),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "a=b c",
                "unable to parse requirement: found 'c', expected: ',' or 'end of string'",
            ),
        ] {
            assert_eq!(LabelSelector::parse(text).expect_err(text).0, error);
        }
        assert!(LabelSelector::parse("a-=b").is_err());
        assert!(LabelSelector::parse("a>x").is_err());
    }

    #[test]
    fn objects_select_too() {
        let labels = json!({"metadata": {"labels": {"app": "a"}}});
        let of = |object: Value| LabelSelector::from_object(&object).expect("parses").matches(&labels);
        assert!(of(json!({"matchLabels": {"app": "a"}})));
        assert!(of(
            json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]})
        ));
        assert!(!of(
            json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]})
        ));
        assert!(of(json!({})));
        assert!(!of(Value::Null));
        assert!(LabelSelector::from_object(&json!({"matchExpressions": [{"key": "a", "operator": "Is"}]})).is_err());
        assert!(LabelSelector::from_map(&json!({"app": "a"})).matches(&labels));
        assert!(!LabelSelector::from_map(&json!({})).matches(&labels));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            let _ = LabelSelector::parse(&text);
        }

        #[test]
        fn equality_and_set_agree(key in "[a-z]{1,5}", value in "[a-z0-9]{1,5}", other in "[a-z0-9]{1,5}") {
            let object = json!({"metadata": {"labels": {key.clone(): value.clone()}}});
            let parse = |t: String| LabelSelector::parse(&t).expect("parses").matches(&object);
            prop_assert_eq!(parse(format!("{key}={other}")), parse(format!("{key} in ({other})")));
            prop_assert_eq!(parse(format!("{key}!={other}")), parse(format!("{key} notin ({other})")));
            let (is, is_not) = (parse(format!("{key}={value}")), parse(format!("{key}!={value}")));
            prop_assert!(is != is_not);
        }
    }
}
