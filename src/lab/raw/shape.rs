//! Holds the tree to the schema, finds everything that is out of shape, and mends it, so that the rules of the lab can
//! be tried on the rest of the file.

use serde_json::Value;

use super::{
    Place, Text,
    tree::{Kind, Node, Scalar, Tree},
};
use crate::{
    lab::{
        Problem,
        error::{did_you_mean, one_of},
    },
    text::one_line,
};

/// The most problems of shape that are looked for.
const MOST: usize = 200;
/// The longest chain of references that is followed: the schema is ours, and has no longer one.
const DEEPEST: usize = 64;

/// Compares a file's tree with the schema.
///
/// What does not fit is reported, and replaced by something that fits and stands nowhere: what is said of that later is
/// not the author's mistake.
pub fn fit(text: &str, schema: &Value, root: &mut Node) -> Vec<Problem> {
    let mut shape = Shape {
        text,
        root: schema,
        problems: Vec::new(),
    };
    shape.fit(schema, root, "a lab");
    shape.problems
}

struct Shape<'a> {
    text: &'a str,
    root: &'a Value,
    problems: Vec<Problem>,
}

impl<'a> Shape<'a> {
    fn report(&mut self, at: Place, rule: &'static str, message: String, expected: String, hint: Option<String>) {
        if self.problems.len() < MOST {
            let problem = super::problem(self.text, at, message, Some(expected), hint);
            self.problems.push(Problem { rule, ..problem });
        }
    }

    /// What a schema says, past references.
    fn resolve(&self, mut schema: &'a Value) -> &'a Value {
        for _ in 0..DEEPEST {
            let Some(path) = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) else {
                break;
            };
            schema = self.root.pointer(path).unwrap_or(&Value::Null);
        }
        schema
    }

    /// The alternatives of a schema: one where it has no `anyOf` or `oneOf` of types.
    fn alternatives(&self, schema: &'a Value) -> Vec<&'a Value> {
        let schema = self.resolve(schema);
        let among = ["anyOf", "oneOf"].iter().find_map(|key| schema[*key].as_array());
        match among {
            Some(some) if schema.get("properties").is_none() => {
                some.iter().flat_map(|one| self.alternatives(one)).collect()
            }
            _ => vec![schema],
        }
    }

    fn fit(&mut self, schema: &'a Value, node: &mut Node, what: &str) {
        let alternatives = self.alternatives(schema);
        let Some(fitting) = alternatives.iter().copied().find(|one| takes(one, &node.value)) else {
            self.wrong(&alternatives, node, what);
            return;
        };
        match &mut node.value {
            Tree::Map(_) if fitting.get("properties").is_some() => self.fit_object(fitting, node, what),
            Tree::Map(fields) => {
                if let Some(each) = fitting.get("additionalProperties").filter(|each| each.is_object()) {
                    for (key, value) in fields {
                        self.fit(each, value, &one_line(&key.value));
                    }
                }
            }
            Tree::List(items) => {
                if let Some(each) = fitting.get("items") {
                    for item in items {
                        self.fit(each, item, what);
                    }
                }
            }
            Tree::Scalar(Scalar {
                kind: Kind::Whole(value),
                ..
            }) => {
                let value = *value;
                self.fit_number(fitting, node, value);
            }
            Tree::Null | Tree::Scalar(_) => {}
        }
    }

    fn fit_number(&mut self, schema: &'a Value, node: &mut Node, value: i128) {
        let Some((least, most)) = range(schema) else { return };
        if !(least..=most).contains(&value) {
            let expected = format!("a number, {least} to {most}");
            self.report(
                node.at,
                "out-of-range",
                format!("{value} is out of range"),
                expected,
                None,
            );
            *node = self.stand_in(schema, 0);
        }
    }

    fn fit_object(&mut self, schema: &'a Value, node: &mut Node, what: &str) {
        let Some(properties) = schema["properties"].as_object() else {
            return;
        };
        let at = node.at;
        let Tree::Map(fields) = &mut node.value else { return };
        let names: Vec<&str> = properties.keys().map(String::as_str).collect();
        let mut kept: Vec<(Text, Node)> = Vec::new();
        // Fields that are called right come first, so that a misspelt one does not take the place of a right one.
        let (right, misspelt): (Vec<_>, Vec<_>) = std::mem::take(fields)
            .into_iter()
            .partition(|(key, _)| properties.contains_key(&key.value));
        for (key, value) in right {
            match kept.iter().find(|(other, _)| other.value == key.value) {
                Some((first, _)) => {
                    let message = format!("the field `{}` stands here twice", one_line(&key.value));
                    let hint = format!("the first one is on line {}: delete one of them", first.at.line);
                    self.report(
                        key.at,
                        "duplicate-field",
                        message,
                        "each field once".to_owned(),
                        Some(hint),
                    );
                }
                None => kept.push((key, value)),
            }
        }
        for (key, value) in misspelt {
            let meant = did_you_mean(&key.value, names.iter().copied());
            let message = format!("unknown field `{}`", one_line(&key.value));
            let hint = meant.map(|name| format!("did you mean `{name}`?"));
            self.report(key.at, "unknown-field", message, one_of(names.iter().copied()), hint);
            // Taken for what was meant, so that it is not missed, and looked into.
            if let Some(meant) = meant
                && !kept.iter().any(|(other, _)| other.value == meant)
            {
                kept.push((Text::new(meant.to_owned(), key.at), value));
            }
        }
        for (key, value) in &mut kept {
            self.fit(&properties[&key.value], value, &key.value);
        }
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !kept.iter().any(|(key, _)| key.value == name) {
                let about = &properties[name];
                let message = format!("the field `{name}` is missing");
                let expected = match said(about).or_else(|| said(self.resolve(about))) {
                    Some(said) => format!("`{name}: …` in {what}: {said}"),
                    None => format!("`{name}: …` in {what}"),
                };
                self.report(at, "missing-field", message, expected, None);
                kept.push((Text::new(name.to_owned(), Place::NONE), self.stand_in(about, 0)));
            }
        }
        node.value = Tree::Map(kept);
    }

    /// Reports a value of another type than any of these.
    fn wrong(&mut self, alternatives: &[&'a Value], node: &mut Node, what: &str) {
        let found = match &node.value {
            Tree::Null => format!("there is nothing behind `{what}`"),
            Tree::Scalar(scalar) => format!("found `{}`", crate::text::cut(&one_line(&scalar.text), 60)),
            Tree::List(_) => "found a list".to_owned(),
            Tree::Map(_) => "found fields".to_owned(),
        };
        let mut types: Vec<String> = Vec::new();
        for one in alternatives.iter().filter(|one| one["type"] != "null") {
            let name = self.type_name(one);
            if !types.contains(&name) {
                types.push(name);
            }
        }
        let hint = match (&node.value, alternatives.first().map(|one| &one["type"])) {
            (Tree::Scalar(scalar), Some(kind)) if *kind == "array" => Some(format!(
                "put it in brackets: `[{}]`",
                crate::text::cut(&one_line(&scalar.text), 40)
            )),
            (Tree::Scalar(Scalar { text, kind: Kind::Text }), Some(kind))
                if *kind == "integer" && text.trim().parse::<i64>().is_ok() =>
            {
                Some("write the number without quotes".to_owned())
            }
            _ => None,
        };
        self.report(node.at, "wrong-type", found, types.join(", or "), hint);
        if let Some(first) = alternatives.first() {
            *node = self.stand_in(first, 0);
        }
    }

    fn type_name(&self, schema: &Value) -> String {
        let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
        match kind {
            Some("string") => "a text".to_owned(),
            Some("integer") => match range(schema) {
                Some((least, most)) => format!("a whole number, {least} to {most}"),
                None => "a whole number".to_owned(),
            },
            Some("number") => "a number".to_owned(),
            Some("boolean") => "`true` or `false`".to_owned(),
            Some("array") => "a list, as `[a, b]` or lines that begin with `- `".to_owned(),
            _ => match schema["properties"].as_object() {
                Some(properties) => format!("the fields {}", one_of(properties.keys().map(String::as_str))),
                None => "fields, as `name: value`".to_owned(),
            },
        }
    }

    /// Something that fits a schema, and stands nowhere.
    fn stand_in(&self, schema: &'a Value, depth: usize) -> Node {
        let schema = self.alternatives(schema).first().copied().unwrap_or(&Value::Null);
        let kind = schema["type"].as_str();
        let scalar = |kind: Kind, text: &str| {
            let text = text.to_owned();
            Tree::Scalar(Scalar { text, kind })
        };
        let value = match kind {
            Some("string") => scalar(Kind::Text, ""),
            Some("integer" | "number") => {
                let least = range(schema).map_or(0, |(least, _)| least.max(0));
                scalar(Kind::Whole(least), &least.to_string())
            }
            Some("boolean") => scalar(Kind::Bool(false), "false"),
            Some("array") => Tree::List(Vec::new()),
            Some("object") if depth < DEEPEST => {
                let required = schema["required"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str);
                let field = |name: &str| {
                    let value = self.stand_in(&schema["properties"][name], depth + 1);
                    (Text::new(name.to_owned(), Place::NONE), value)
                };
                Tree::Map(required.map(field).collect())
            }
            _ => Tree::Null,
        };
        let at = Place::NONE;
        Node { value, at }
    }
}

/// Whether a schema (without alternatives) takes a value of this type.
fn takes(schema: &Value, value: &Tree) -> bool {
    let one = |kind: &str| match value {
        Tree::Null => kind == "null",
        // A number that stands where a text is wanted is the text that was written.
        Tree::Scalar(scalar) => matches!(
            (kind, scalar.kind),
            ("string", _)
                | ("boolean", Kind::Bool(_))
                | ("integer", Kind::Whole(_))
                | ("number", Kind::Whole(_) | Kind::Number(_))
        ),
        Tree::List(_) => kind == "array",
        Tree::Map(_) => kind == "object",
    };
    match &schema["type"] {
        Value::String(kind) => one(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(one),
        // A schema that says nothing takes everything; one with `const` or `enum` alone is about texts.
        _ => schema.get("enum").is_none() && schema.get("const").is_none() || one("string"),
    }
}

/// The whole numbers that a schema takes.
fn range(schema: &Value) -> Option<(i128, i128)> {
    let (least, most) = match schema["format"].as_str()? {
        "uint8" => (0, u8::MAX.into()),
        "uint16" => (0, u16::MAX.into()),
        "uint32" => (0, u32::MAX.into()),
        "uint64" | "uint" => (0, u64::MAX.into()),
        "int32" => (i32::MIN.into(), i32::MAX.into()),
        "int64" => (i64::MIN.into(), i64::MAX.into()),
        _ => return None,
    };
    let bound = |key: &str| schema[key].as_i64().map(i128::from);
    Some((
        bound("minimum").unwrap_or(least).max(least),
        bound("maximum").unwrap_or(most).min(most),
    ))
}

/// The first sentence of a description.
fn said(schema: &Value) -> Option<String> {
    let text = schema["description"].as_str()?;
    let end = text.find(". ").or_else(|| text.find(".\n")).unwrap_or(text.len());
    Some(one_line(text[..end].trim_end_matches('.')).replace('`', ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{raw::tree, schema};

    const LABS: &[&str] = &[
        include_str!("../../../labs/wiretap/lab.yaml"),
        include_str!("../../../fuzz/corpus/lab/answers.yaml"),
        include_str!("../../../fuzz/corpus/lab/new.yaml"),
    ];

    fn fitted(text: &str, root: &mut Node) -> Vec<Problem> {
        fit(text, schema::value(), root)
    }

    #[test]
    fn real_labs_fit_and_are_left_as_they_are() {
        for text in LABS {
            let mut root = tree::read(text).unwrap();
            let before = root.clone();
            assert_eq!(fitted(text, &mut root), []);
            let fields = |node: &Node| format!("{node:?}").len();
            assert_eq!(fields(&root), fields(&before));
        }
    }

    /// Every place of a tree, as a path of steps into it.
    fn places(node: &Node) -> Vec<Vec<usize>> {
        let parts: Vec<&Node> = match &node.value {
            Tree::List(items) => items.iter().collect(),
            Tree::Map(fields) => fields.iter().map(|(_, value)| value).collect(),
            _ => Vec::new(),
        };
        let inside = parts.into_iter().enumerate().flat_map(|(at, part)| {
            let deeper = places(part).into_iter();
            deeper.map(move |path| [vec![at], path].concat())
        });
        std::iter::once(Vec::new()).chain(inside).collect()
    }

    fn at<'n>(node: &'n mut Node, path: &[usize]) -> &'n mut Node {
        let Some((first, rest)) = path.split_first() else {
            return node;
        };
        match &mut node.value {
            Tree::List(items) => at(&mut items[*first], rest),
            Tree::Map(fields) => at(&mut fields[*first].1, rest),
            _ => panic!("no part of a scalar"),
        }
    }

    #[test]
    fn an_unknown_field_is_found_wherever_it_stands() {
        for text in LABS {
            let root = tree::read(text).unwrap();
            let mut tried = 0;
            for path in places(&root) {
                let mut root = root.clone();
                let node = at(&mut root, &path);
                let place = node.at;
                let Tree::Map(fields) = &mut node.value else { continue };
                let value = Node {
                    value: Tree::Null,
                    at: place,
                };
                fields.push((Text::new("quetzalcoatl".to_owned(), place), value));
                let problems = fitted(text, &mut root);
                let found: Vec<_> = problems.iter().map(|problem| (problem.rule, problem.line)).collect();
                assert_eq!(found, [("unknown-field", place.line)], "{path:?}");
                tried += 1;
            }
            assert!(tried > 20, "{tried} places");
        }
    }

    #[test]
    fn a_value_of_another_type_is_found_wherever_it_stands() {
        for text in LABS {
            let root = tree::read(text).unwrap();
            for path in places(&root) {
                // A value may be written in two ways, and not in the third.
                let found = [Tree::Map(Vec::new()), Tree::List(Vec::new())].map(|other| {
                    let mut root = root.clone();
                    let node = at(&mut root, &path);
                    let line = node.at.line;
                    node.value = other;
                    let problems = fitted(text, &mut root);
                    // And what is mended fits.
                    assert_eq!(fitted(text, &mut root), [], "{path:?}");
                    problems
                        .iter()
                        .any(|problem| (problem.rule, problem.line) == ("wrong-type", line))
                });
                assert_ne!(found, [false, false], "{path:?}");
            }
        }
    }

    #[test]
    fn a_field_that_is_needed_is_missed() {
        for text in LABS {
            let root = tree::read(text).unwrap();
            for path in places(&root) {
                let Some((last, before)) = path.split_last() else {
                    continue;
                };
                let mut root = root.clone();
                let node = at(&mut root, before);
                let Tree::Map(fields) = &mut node.value else { continue };
                let (name, _) = fields.remove(*last);
                let problems = fitted(text, &mut root);
                // Some may be left out; of the others one is said to be missing, by its name.
                assert!(problems.len() <= 1, "{path:?}: {problems:?}");
                for problem in problems {
                    assert!(problem.message.contains(&format!("`{}`", name.value)), "{problem:?}");
                }
                assert_eq!(fitted(text, &mut root), [], "{path:?}");
            }
        }
    }
}
