//! JSON paths as kubectl and definitions write them: `.status.conditions[?(@.type=="Ready")].status`.
//!
//! Source: Kubernetes' "JSONPath Support"; client-go `util/jsonpath`. Here without ranges and text between.

use serde_json::Value;

/// Longest path that is read.
const MAX_PATH: usize = 1024;
/// Values that one step may find.
const MAX_FOUND: usize = 1000;

/// A parsed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    /// The fields of everything below, at any depth.
    Deep(String),
    All,
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    Filter(JsonPath, Option<(Comparison, Value)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads a path; a leading `$`, and braces around, are allowed.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATH {
            return Err(format!("longer than {MAX_PATH} bytes"));
        }
        let text = text.trim();
        let text = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
            .unwrap_or(text);
        Self::steps(text.strip_prefix('$').unwrap_or(text), 0)
    }

    fn steps(mut rest: &str, depth: usize) -> Result<Self, String> {
        let mut steps = Vec::new();
        while !rest.is_empty() {
            rest = if let Some(after) = rest.strip_prefix("..") {
                let (name, after) = field(after);
                steps.push(if name == "*" { Step::All } else { Step::Deep(name) });
                after
            } else if let Some(after) = rest.strip_prefix('.') {
                if after.is_empty() && steps.is_empty() {
                    break;
                }
                let (name, left) = field(after);
                match name.as_str() {
                    "" if left.starts_with('[') => {}
                    "" => return Err(format!("no field name in {rest:?}")),
                    "*" => steps.push(Step::All),
                    _ => steps.push(Step::Field(name)),
                }
                left
            } else if let Some(after) = rest.strip_prefix('[') {
                let end = bracket_end(after).ok_or_else(|| format!("unterminated array in {rest:?}"))?;
                steps.push(bracket(&after[..end], depth)?);
                &after[end + 1..]
            } else {
                return Err(format!("unexpected {rest:?}: a step begins with . or ["));
            };
        }
        Ok(Self { steps })
    }

    /// Everything that the path leads to, in order.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in found {
                step.take(value, &mut next);
            }
            next.truncate(MAX_FOUND);
            found = next;
        }
        found
    }

    /// The first value that the path leads to.
    pub fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.find(value).first().copied()
    }

    /// The names of a path that only names fields.
    pub fn fields(&self) -> Option<Vec<&str>> {
        self.steps
            .iter()
            .map(|step| match step {
                Step::Field(name) => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }
}

/// A field's name, where `\` escapes the next character.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            c if escaped => {
                name.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '.' | '[' => return (name, &text[at..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket closes, outside of quotes and inner brackets.
fn bracket_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut open = 0;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => open += 1,
            (None, ']') if open == 0 => return Some(at),
            (None, ']') => open -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str, depth: usize) -> Result<Step, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = quoted(text) {
        return Ok(Step::Field(name));
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        if depth > 3 {
            return Err("filters within filters within filters".to_owned());
        }
        return filter_step(filter, depth);
    }
    let number = |text: &str| {
        text.trim()
            .parse::<i64>()
            .map_err(|_| format!("invalid array index {text}"))
    };
    match text.split_once(':') {
        None => Ok(Step::Index(number(text)?)),
        Some((from, to)) => {
            let bound = |text: &str| Some(text).filter(|text| !text.is_empty()).map(number).transpose();
            Ok(Step::Slice(bound(from)?, bound(to)?))
        }
    }
}

fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(inner.replace("\\.", "."))
}

fn filter_step(text: &str, depth: usize) -> Result<Step, String> {
    const OPERATORS: [(&str, Comparison); 6] = [
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let split = OPERATORS
        .iter()
        .filter_map(|(sign, operator)| Some((text.find(sign)?, *sign, *operator)))
        .min_by_key(|(at, sign, _)| (*at, 2 - sign.len()));
    let (left, comparison) = match split {
        None => (text, None),
        Some((at, sign, operator)) => {
            let right = text[at + sign.len()..].trim();
            let literal = match quoted(right) {
                Some(text) => Value::String(text),
                None => serde_json::from_str(right).map_err(|_| format!("cannot compare with {right}"))?,
            };
            (&text[..at], Some((operator, literal)))
        }
    };
    let left = left.trim();
    let path = left
        .strip_prefix('@')
        .ok_or_else(|| format!("a filter begins with @, not {left:?}"))?;
    Ok(Step::Filter(JsonPath::steps(path, depth + 1)?, comparison))
}

impl Step {
    fn take<'a>(&self, value: &'a Value, found: &mut Vec<&'a Value>) {
        match (self, value) {
            (Self::Field(name), Value::Object(fields)) => found.extend(fields.get(name)),
            (Self::Deep(name), value) => deep(name, value, found),
            (Self::All, Value::Object(fields)) => found.extend(fields.values()),
            (Self::All, Value::Array(items)) => found.extend(items),
            (Self::Index(index), Value::Array(items)) => {
                found.extend(at(*index, items.len()).and_then(|i| items.get(i)))
            }
            (Self::Slice(from, to), Value::Array(items)) => {
                let bound = |at: i64| {
                    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
                    let at = if at < 0 { at.saturating_add(length) } else { at };
                    usize::try_from(at.clamp(0, length)).unwrap_or_default()
                };
                let (from, to) = (from.map_or(0, bound), to.map_or(items.len(), bound));
                found.extend(items.get(from..to).unwrap_or_default());
            }
            (Self::Filter(path, comparison), Value::Array(items)) => {
                found.extend(items.iter().filter(|item| holds(path, comparison.as_ref(), item)));
            }
            _ => {}
        }
    }
}

fn at(index: i64, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

fn deep<'a>(name: &str, value: &'a Value, found: &mut Vec<&'a Value>) {
    if found.len() >= MAX_FOUND {
        return;
    }
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(name));
            fields.values().for_each(|value| deep(name, value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| deep(name, value, found)),
        _ => {}
    }
}

fn holds(path: &JsonPath, comparison: Option<&(Comparison, Value)>, item: &Value) -> bool {
    let Some(left) = path.first(item) else { return false };
    let Some((comparison, right)) = comparison else {
        return true;
    };
    let order = match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => left
            .as_f64()
            .zip(right.as_f64())
            .and_then(|(left, right)| left.partial_cmp(&right)),
        _ => None,
    };
    match comparison {
        Comparison::Equal => left == right,
        Comparison::NotEqual => left != right,
        Comparison::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Comparison::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Comparison::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Comparison::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::control_plane::api::test_json;

    #[test]
    fn paths_lead_where_kubectl_goes() {
        let object = json!({
            "metadata": {"name": "x", "annotations": {"a.b/c": "dotted"}},
            "status": {"conditions": [{"type": "Synced", "status": "False", "n": 1}, {"type": "Ready", "status": "True", "n": 2}]},
            "list": ["a", "b", "c"],
        });
        for (path, expected) in [
            (".metadata.name", json!(["x"])),
            ("{.metadata.name}", json!(["x"])),
            ("$.metadata['name']", json!(["x"])),
            (r".metadata.annotations.a\.b/c", json!(["dotted"])),
            (r#".metadata.annotations["a.b/c"]"#, json!(["dotted"])),
            (r".metadata.annotations['a\.b/c']", json!(["dotted"])),
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"])),
            (".status.conditions[?(@.type == 'Ready')].status", json!(["True"])),
            (".status.conditions[?(@.n>=2)].type", json!(["Ready"])),
            (".status.conditions[?(@.missing)].type", json!([])),
            (".status.conditions[*].type", json!(["Synced", "Ready"])),
            (".list[0]", json!(["a"])),
            (".list[-1]", json!(["c"])),
            (".list[0:2]", json!(["a", "b"])),
            (".list[-2:]", json!(["b", "c"])),
            (".list[9]", json!([])),
            ("..type", json!(["Synced", "Ready"])),
            (".nope.x", json!([])),
        ] {
            let found = JsonPath::parse(path).expect(path);
            assert_eq!(json!(found.find(&object)), expected, "{path}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for path in [
            "spec",
            ".a[",
            ".a[x]",
            ".a[?(b)]",
            ".a..",
            ".a[?(@.b==c)]",
            &".a".repeat(1000),
        ] {
            let parsed = JsonPath::parse(path);
            assert!(parsed.is_err() || path == ".a..", "{path} {parsed:?}");
        }
        assert_eq!(
            JsonPath::parse(".spec.a").expect("reads").fields(),
            Some(vec!["spec", "a"])
        );
        assert_eq!(JsonPath::parse(".spec[0]").expect("reads").fields(), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[.\\[\\]?(@a='\"\\\\:*0-9-]{0,24}|\\PC{0,24}", object in test_json::object()) {
            if let Ok(path) = JsonPath::parse(&text) {
                let _ = path.find(&object);
            }
        }
    }
}
