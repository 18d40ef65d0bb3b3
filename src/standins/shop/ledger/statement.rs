//! The statements that the ledger can do, and why it refuses others.

use super::table::{Column, Kind, Value};

const SUPPORTED: &str = "The ledger knows INSERT INTO payments (...) VALUES (...) [RETURNING ...] and SELECT ... FROM \
                         payments [WHERE column = value [AND ...]] [ORDER BY ...] [LIMIT n].";

/// Why a statement is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// SQLSTATE, as in PostgreSQL's Appendix A.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<&'static str>,
}

impl SqlError {
    /// An error without a hint.
    pub fn new(code: &'static str, message: String) -> SqlError {
        SqlError {
            code,
            message,
            hint: None,
        }
    }

    /// An error for SQL that is valid, and more than the ledger knows.
    pub fn unsupported(what: &str) -> SqlError {
        SqlError {
            code: "0A000",
            message: format!("this ledger is a stand-in and does not do {what}"),
            hint: Some(SUPPORTED),
        }
    }
}

/// A statement that the ledger can do.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `INSERT INTO payments`
    Insert {
        /// Columns that get a value.
        columns: Vec<Column>,
        /// The values, row by row, as many as columns.
        rows: Vec<Vec<Operand>>,
        /// What to answer of each row.
        returning: Vec<Output>,
    },
    /// `SELECT … FROM payments`
    Select {
        /// What to answer of each row, or of all of them where one is `count(*)`.
        outputs: Vec<Output>,
        /// All must hold.
        filter: Vec<Condition>,
        /// Columns to sort by, and whether descending.
        order: Vec<(Column, bool)>,
        /// How many rows at most.
        limit: Option<Operand>,
    },
    /// `SELECT` without a table.
    Constants {
        /// What to answer.
        outputs: Vec<Output>,
    },
    /// What psql asks for `\d` and `\dt`.
    Catalog {
        /// The names of the columns that it wants.
        columns: Vec<String>,
        /// Whether the table `payments` is among what it asks for.
        listed: bool,
    },
}

/// A column of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Its value.
    pub what: What,
}

/// Where a value of an answer comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// The row.
    Column(Column),
    /// `count(*)`
    Count,
    /// The statement itself.
    Constant(Value),
    /// `current_user`
    User,
    /// `current_database()`
    Database,
    /// `now()`
    Now,
}

/// A value that a statement holds or is given.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// In the statement.
    Literal(Value),
    /// `$n`, counted from 0 here.
    Parameter(usize),
}

/// `column comparison operand`
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Left.
    pub column: Column,
    /// Between.
    pub comparison: Comparison,
    /// Right.
    pub operand: Operand,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Statement {
    /// The columns of the answer, by name and type; empty where there are none.
    pub fn columns(&self) -> Vec<(String, Kind)> {
        match self {
            Statement::Insert { returning: outputs, .. }
            | Statement::Select { outputs, .. }
            | Statement::Constants { outputs } => outputs
                .iter()
                .map(|output| (output.name.clone(), output.what.kind()))
                .collect(),
            Statement::Catalog { columns, .. } => columns.iter().map(|name| (name.clone(), Kind::Text)).collect(),
        }
    }

    /// The types of the parameters `$1`, `$2` …; text where the statement does not use one.
    pub fn parameters(&self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        let mut note = |operand: &Operand, kind: Kind| {
            if let Operand::Parameter(number) = operand {
                if kinds.len() <= *number {
                    kinds.resize(number + 1, Kind::Text);
                }
                kinds[*number] = kind;
            }
        };
        match self {
            Statement::Insert { columns, rows, .. } => {
                for row in rows {
                    for (column, operand) in columns.iter().zip(row) {
                        note(operand, column.kind());
                    }
                }
            }
            Statement::Select { filter, limit, .. } => {
                for condition in filter {
                    note(&condition.operand, condition.column.kind());
                }
                if let Some(limit) = limit {
                    note(limit, Kind::Int8);
                }
            }
            Statement::Constants { .. } | Statement::Catalog { .. } => {}
        }
        kinds
    }
}

impl What {
    fn kind(&self) -> Kind {
        match self {
            What::Column(column) => column.kind(),
            What::Count | What::Constant(Value::Int8(_)) => Kind::Int8,
            What::Constant(_) | What::User | What::Database | What::Now => Kind::Text,
        }
    }
}
