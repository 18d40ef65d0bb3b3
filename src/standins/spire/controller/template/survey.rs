//! What a template utters: names of fields, functions, other templates.

use std::{collections::BTreeSet, sync::Arc};

use gotmpl::parse::{CommandNode, Expr, ListNode, Node, Parser, PipeNode, SmolStr};

/// The functions of Go's templates.
const FUNCTIONS: &[&str] = &[
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print", "printf",
    "println", "slice", "urlquery",
];

/// What was found in a template.
#[derive(Debug, Default)]
pub struct Survey {
    /// Every field or key that it asks for by a dot.
    pub names: BTreeSet<Arc<str>>,
    /// A function that it calls and that Go's templates do not have.
    pub unknown: Option<String>,
    /// Whether it defines or calls named templates.
    pub named: bool,
    /// Whether something stands where a value has to be.
    pub empty: bool,
    /// Whether there is an `end` too many: the engine reads no further.
    pub stray_end: bool,
}

/// What the engine has to have read when it has read all.
const LAST: &str = "\u{0}";

impl Survey {
    /// Reads `text`.
    ///
    /// # Errors
    /// When it is no template.
    pub fn of(text: &str) -> gotmpl::Result<Self> {
        // What is wrong with the text is said of the text alone.
        Parser::new(text, "{{", "}}")?.parse()?;
        let (tree, defines) = Parser::new(&format!("{text}{LAST}"), "{{", "}}")?.parse()?;
        let whole = matches!(tree.nodes.last(), Some(Node::Text(last)) if last.text.ends_with(LAST));
        let mut survey = Self {
            named: !defines.is_empty(),
            stray_end: !whole,
            ..Self::default()
        };
        survey.list(&tree);
        Ok(survey)
    }

    fn list(&mut self, list: &ListNode) {
        for node in &list.nodes {
            match node {
                Node::List(list) => self.list(list),
                Node::Action(action) => self.pipe(&action.pipe),
                Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                    self.pipe(&branch.pipe);
                    self.list(&branch.body);
                    branch.else_body.iter().for_each(|list| self.list(list));
                }
                Node::Template(_) | Node::Define(_) => self.named = true,
                Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
            }
        }
    }

    fn pipe(&mut self, pipe: &PipeNode) {
        self.empty |= pipe.commands.iter().all(|command| command.args.is_empty());
        for CommandNode { args, .. } in &pipe.commands {
            args.iter().for_each(|expression| self.expression(expression));
        }
    }

    fn expression(&mut self, expression: &Expr) {
        match expression {
            Expr::Field(_, fields) | Expr::Variable(_, _, fields) => self.fields(fields),
            Expr::Chain(_, inner, fields) => {
                self.expression(inner);
                self.fields(fields);
            }
            Expr::Identifier(_, function) if !FUNCTIONS.contains(&function.as_str()) => {
                self.unknown.get_or_insert_with(|| function.to_string());
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Identifier(..)
            | Expr::Dot(_)
            | Expr::String(..)
            | Expr::Number(..)
            | Expr::Bool(..)
            | Expr::Nil(_) => {}
        }
    }

    fn fields(&mut self, fields: &[SmolStr]) {
        self.names.extend(fields.iter().map(|name| Arc::from(name.as_str())));
    }
}
