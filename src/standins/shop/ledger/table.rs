//! The table `payments`: bounded, in memory, and what a statement answers from it.

use std::{cmp::Ordering, collections::VecDeque};

use super::statement::{Comparison, Condition, Operand, Output, SqlError, Statement, What};
use crate::standins::log::now;

/// The longest text of a column, in characters.
const LONGEST_TEXT: usize = 256;

/// A column of `payments`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// `id`: counted up by the table.
    Id,
    /// `paid_at`: RFC 3339, set by the table.
    PaidAt,
    /// `order_id`.
    OrderId,
    /// `customer`.
    Customer,
    /// `card`.
    Card,
    /// `amount_cents`.
    AmountCents,
}

impl Column {
    /// Every column, in the table's order.
    pub const ALL: [Column; 6] = [
        Column::Id,
        Column::PaidAt,
        Column::OrderId,
        Column::Customer,
        Column::Card,
        Column::AmountCents,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Column::Id => "id",
            Column::PaidAt => "paid_at",
            Column::OrderId => "order_id",
            Column::Customer => "customer",
            Column::Card => "card",
            Column::AmountCents => "amount_cents",
        }
    }

    /// Its type.
    pub fn kind(self) -> Kind {
        match self {
            Column::Id | Column::AmountCents => Kind::Int8,
            Column::PaidAt | Column::OrderId | Column::Customer | Column::Card => Kind::Text,
        }
    }
}

/// A type of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `bigint`
    Int8,
    /// `text`
    Text,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `bigint`
    Int8(i64),
    /// `text`
    Text(String),
    /// Nothing known.
    Null,
}

impl Value {
    /// The value as `kind`; a text that reads as a number is one, as PostgreSQL takes `'1'` for a `bigint`.
    ///
    /// # Errors
    /// `22P02`, in PostgreSQL's words.
    pub fn of_kind(self, kind: Kind) -> Result<Value, SqlError> {
        match (kind, self) {
            (Kind::Int8, Value::Text(text)) => text.trim().parse().map(Value::Int8).map_err(|_| {
                let text: String = text.chars().take(LONGEST_TEXT).collect();
                SqlError::new("22P02", format!("invalid input syntax for type bigint: \"{text}\""))
            }),
            (Kind::Text, Value::Int8(number)) => Ok(Value::Text(number.to_string())),
            (_, value) => Ok(value),
        }
    }

    /// How two values of one type compare; nothing compares with null (SQL's three-valued logic).
    fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Int8(a), Value::Int8(b)) => Some(a.cmp(b)),
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// The user that logged in.
    pub user: String,
    /// The database that was asked for.
    pub database: String,
}

/// What a statement answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Rows of a `SELECT`.
    Rows(Vec<Vec<Value>>),
    /// How many rows were inserted, and what `RETURNING` asked of them.
    Inserted(Vec<Vec<Value>>, usize),
}

type Row = [Value; Column::ALL.len()];

/// The table.
#[derive(Debug)]
pub struct Table {
    rows: VecDeque<Row>,
    capacity: usize,
    last_id: i64,
}

impl Table {
    /// An empty table that keeps the newest `capacity` rows.
    pub fn new(capacity: usize) -> Table {
        Table {
            rows: VecDeque::new(),
            capacity: capacity.max(1),
            last_id: 0,
        }
    }

    /// Does `statement`, with `parameters` for its `$1`, `$2` ….
    ///
    /// # Errors
    /// When a value is not of its column's type, or too long; nothing is inserted then.
    pub fn run(&mut self, statement: &Statement, parameters: &[Value], session: &Session) -> Result<Answer, SqlError> {
        match statement {
            Statement::Insert {
                columns,
                rows,
                returning,
            } => {
                let made = rows
                    .iter()
                    .map(|row| self.row(columns, row, parameters))
                    .collect::<Result<Vec<_>, _>>()?;
                let count = made.len();
                let answer = made
                    .into_iter()
                    .map(|row| {
                        let row = self.push(row);
                        returning.iter().map(|output| evaluate(output, row, session)).collect()
                    })
                    .collect();
                Ok(Answer::Inserted(answer, count))
            }
            Statement::Select {
                outputs,
                filter,
                order,
                limit,
            } => {
                let mut found = self.found(filter, parameters)?;
                for (column, descending) in order.iter().rev() {
                    let key = *column as usize;
                    found.sort_by(|a, b| {
                        let ascending = a[key].compare(&b[key]).unwrap_or(Ordering::Equal);
                        if *descending { ascending.reverse() } else { ascending }
                    });
                }
                let limit = match limit {
                    Some(limit) => Some(row_count(resolve(limit, parameters, Kind::Int8)?)?),
                    None => None,
                };
                if outputs.iter().any(|output| output.what == What::Count) {
                    return Ok(Answer::Rows(aggregate(outputs, found.len(), session)));
                }
                let found = found.into_iter().take(limit.unwrap_or(usize::MAX));
                Ok(Answer::Rows(
                    found
                        .map(|row| outputs.iter().map(|output| evaluate(output, row, session)).collect())
                        .collect(),
                ))
            }
            Statement::Constants { outputs } => Ok(Answer::Rows(vec![
                outputs.iter().map(|output| constant(output, session)).collect(),
            ])),
            Statement::Catalog { columns, listed } => {
                let row = |column: &String| match column.as_str() {
                    "Schema" => Value::Text("public".to_owned()),
                    "Name" => Value::Text("payments".to_owned()),
                    "Type" => Value::Text("table".to_owned()),
                    "Owner" => Value::Text(session.user.clone()),
                    _ => Value::Null,
                };
                let rows = listed.then(|| columns.iter().map(row).collect());
                Ok(Answer::Rows(rows.into_iter().collect()))
            }
        }
    }

    fn found(&self, filter: &[Condition], parameters: &[Value]) -> Result<Vec<&Row>, SqlError> {
        let conditions = filter
            .iter()
            .map(|condition| {
                let operand = resolve(&condition.operand, parameters, condition.column.kind())?;
                Ok((condition.column as usize, condition.comparison, operand))
            })
            .collect::<Result<Vec<_>, SqlError>>()?;
        Ok(self
            .rows
            .iter()
            .filter(|row| {
                conditions
                    .iter()
                    .all(|(column, comparison, operand)| holds(*comparison, row[*column].compare(operand)))
            })
            .collect())
    }

    /// A row with `operands` in `columns`; its id and time are set when it is pushed.
    fn row(&self, columns: &[Column], operands: &[Operand], parameters: &[Value]) -> Result<Row, SqlError> {
        let mut row = [const { Value::Null }; Column::ALL.len()];
        for (column, operand) in columns.iter().zip(operands) {
            let value = resolve(operand, parameters, column.kind())?;
            if matches!(&value, Value::Text(text) if text.chars().count() > LONGEST_TEXT) {
                return Err(SqlError::new(
                    "22001",
                    format!(
                        "value too long for column \"{}\": {LONGEST_TEXT} characters fit",
                        column.name()
                    ),
                ));
            }
            row[*column as usize] = value;
        }
        Ok(row)
    }

    fn push(&mut self, mut row: Row) -> &Row {
        self.last_id += 1;
        row[Column::Id as usize] = Value::Int8(self.last_id);
        row[Column::PaidAt as usize] = Value::Text(now());
        if self.rows.len() == self.capacity {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
        &self.rows[self.rows.len() - 1]
    }
}

fn resolve(operand: &Operand, parameters: &[Value], kind: Kind) -> Result<Value, SqlError> {
    let value = match operand {
        Operand::Literal(value) => value.clone(),
        Operand::Parameter(number) => parameters
            .get(*number)
            .cloned()
            .ok_or_else(|| SqlError::new("42P02", format!("there is no parameter ${}", number + 1)))?,
    };
    value.of_kind(kind)
}

fn row_count(limit: Value) -> Result<usize, SqlError> {
    match limit {
        Value::Int8(count) => {
            usize::try_from(count).map_err(|_| SqlError::new("2201W", "LIMIT must not be negative".to_owned()))
        }
        Value::Text(_) | Value::Null => Ok(usize::MAX),
    }
}

fn holds(comparison: Comparison, order: Option<Ordering>) -> bool {
    order.is_some_and(|order| match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    })
}

fn evaluate(output: &Output, row: &Row, session: &Session) -> Value {
    match output.what {
        What::Column(column) => row[column as usize].clone(),
        _ => constant(output, session),
    }
}

fn aggregate(outputs: &[Output], count: usize, session: &Session) -> Vec<Vec<Value>> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let row = outputs
        .iter()
        .map(|output| match output.what {
            What::Count => Value::Int8(count),
            _ => constant(output, session),
        })
        .collect();
    vec![row]
}

fn constant(output: &Output, session: &Session) -> Value {
    match &output.what {
        What::Constant(value) => value.clone(),
        What::User => Value::Text(session.user.clone()),
        What::Database => Value::Text(session.database.clone()),
        What::Now => Value::Text(now()),
        // A column without a row is null; the parser lets neither of the two get here.
        What::Column(_) | What::Count => Value::Null,
    }
}
