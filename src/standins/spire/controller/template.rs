//! Go's templates, as a ClusterSPIFFEID has them: the engine is the `gotmpl` crate, and here is what of Go it does not
//! know, and limits.
//!
//! - In Go a field that a struct does not have is an error, and a key that a map does not have is `<no value>`. Here both are
//!   maps, so each template is rendered a second time over data in which every map has every name that the template utters:
//!   what is missing then is a field.
//! - `index` of a map of strings gives an empty string for a key that is not there.
//! - Named templates (`define`, `block`, `template`) are refused: they could call each other without an end in sight.

mod survey;

use std::{
    collections::BTreeSet,
    fmt::{self, Write},
    sync::Arc,
};

use gotmpl::{MissingKey, TemplateError as EngineError, Value};
use survey::Survey;

/// Longest template, in bytes.
const LONGEST_TEMPLATE: usize = 4096;
/// Longest text that a template makes, and that a function of it is given, in bytes.
const LONGEST_TEXT: usize = 8192;
/// Most turns of all loops together.
const MOST_TURNS: u64 = 1000;
/// Most arguments of a function that prints.
const MOST_ARGUMENTS: usize = 16;

/// Why a template cannot be used, or not with this data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is longer than anybody needs.
    #[error("a template of {0} bytes is longer than {LONGEST_TEMPLATE}")]
    Long(usize),
    /// It does not read.
    #[error("invalid template: {0}")]
    Syntax(String),
    /// It defines or calls others.
    #[error("`define`, `block` and `template`: this stand-in has no named templates; write them out")]
    Named,
    /// It asks for something that is not there.
    #[error("can't evaluate field {0}: neither a pod nor a node has it")]
    NoField(String),
    /// It does not work on this data.
    #[error("failed to execute template: {0}")]
    Execute(String),
    /// It makes too much.
    #[error("the template makes more than {LONGEST_TEXT} bytes")]
    TooMuch,
}

/// What a template is rendered over: with the maps as they are, and with the names that a template utters put in.
pub trait Data {
    /// The data; in every map (not struct) the keys of `names` that are not there are nil.
    fn value(&self, names: &BTreeSet<Arc<str>>) -> Value;
}

/// A template that was read.
pub struct Template {
    lenient: gotmpl::Template,
    strict: gotmpl::Template,
    names: BTreeSet<Arc<str>>,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When it is no template, too long, or has named ones.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > LONGEST_TEMPLATE {
            return Err(TemplateError::Long(text.len()));
        }
        let survey = Survey::of(text).map_err(|error| TemplateError::Syntax(error.to_string()))?;
        if survey.named {
            return Err(TemplateError::Named);
        }
        let wrong = match survey.unknown {
            Some(function) => Some(format!("function \"{function}\" not defined")),
            None if survey.stray_end => Some("unexpected {{end}}".to_owned()),
            None if survey.empty => Some("missing value for command".to_owned()),
            None => None,
        };
        if let Some(wrong) = wrong {
            return Err(TemplateError::Syntax(wrong));
        }
        let read = |missing| {
            guarded(
                gotmpl::Template::new("")
                    .missing_key(missing)
                    .max_range_iters(MOST_TURNS),
            )
            .parse(text)
            .map_err(|error| TemplateError::Syntax(error.to_string()))
        };
        Ok(Self {
            lenient: read(MissingKey::Invalid)?,
            strict: read(MissingKey::Error)?,
            names: survey.names,
        })
    }

    /// Renders it.
    ///
    /// # Errors
    /// When Go would give an error, or a limit is reached.
    pub fn render(&self, data: &impl Data) -> Result<String, TemplateError> {
        // Whatever else goes wrong here may be due to the names that were put in: what counts is below.
        if let Err(Failure::Missing(name)) = execute(&self.strict, &data.value(&self.names)) {
            return Err(TemplateError::NoField(name));
        }
        execute(&self.lenient, &data.value(&BTreeSet::new())).map_err(|failure| match failure {
            Failure::Missing(name) => TemplateError::NoField(name),
            Failure::TooMuch => TemplateError::TooMuch,
            Failure::Other(why) => TemplateError::Execute(why),
        })
    }
}

enum Failure {
    Missing(String),
    TooMuch,
    Other(String),
}

fn execute(template: &gotmpl::Template, data: &Value) -> Result<String, Failure> {
    let mut text = Limited::default();
    match template.execute_fmt(&mut text, data) {
        Ok(()) => Ok(text.text),
        Err(_) if text.full => Err(Failure::TooMuch),
        Err(EngineError::MissingKey { key }) => Err(Failure::Missing(key)),
        Err(error) => Err(Failure::Other(error.to_string())),
    }
}

/// Text that stops growing.
#[derive(Default)]
struct Limited {
    text: String,
    full: bool,
}

impl Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.len() + text.len() > LONGEST_TEXT {
            self.full = true;
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

/// The template's functions: `index` as Go's, and none that could make a text twice as long again and again.
fn guarded(mut template: gotmpl::Template) -> gotmpl::Template {
    for name in ["print", "printf", "println", "html", "js", "urlquery"] {
        template = template.func(name, move |arguments| limited(name, arguments));
    }
    template.func("index", |arguments| {
        let (first, keys) = arguments
            .split_first()
            .ok_or_else(|| EngineError::Exec("wrong number of args for index: want at least 1 got 0".into()))?;
        keys.iter().try_fold(first.clone(), |value, key| match (&value, key) {
            (Value::Map(map), Value::String(key)) => Ok(map
                .get(key.as_ref())
                .cloned()
                .unwrap_or_else(|| Value::String("".into()))),
            _ => value.index(key),
        })
    })
}

/// The engine's own function `name`, unless its arguments are too long or too many.
fn limited(name: &'static str, arguments: &[Value]) -> gotmpl::Result<Value> {
    let length: usize = arguments
        .iter()
        .map(|argument| argument.as_str().map_or(0, str::len))
        .sum();
    if length > LONGEST_TEXT || arguments.len() > MOST_ARGUMENTS {
        return Err(EngineError::Exec(format!(
            "{name}: more than {LONGEST_TEXT} bytes or {MOST_ARGUMENTS} arguments"
        )));
    }
    let parameters: String = (0..arguments.len())
        .map(|number| format!(" (index . {number})"))
        .collect();
    let list = Value::List(arguments.to_vec().into());
    let made = gotmpl::Template::new("")
        .parse(&format!("{{{{{name}{parameters}}}}}"))?
        .execute_to_string(&list)?;
    Ok(Value::String(made.into()))
}

#[cfg(test)]
mod tests;
