//! The SQL that the ledger answers, read with a full parser into the few forms it knows. What it does not know it
//! refuses; it never passes over a clause.

use std::mem;

use sqlparser::{
    ast::{
        BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Insert, LimitClause, ObjectName,
        OrderByKind, OrderBySort, Query, Select, SelectItem, SetExpr, Statement as Parsed, TableFactor, TableObject,
        UnaryOperator, Value as Literal,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
};

use super::{
    statement::{Comparison, Condition, Operand, Output, SqlError, Statement, What},
    table::{Column, Value},
};

/// The longest text of SQL, in bytes.
const LONGEST: usize = 32 * 1024;

/// What `SELECT version()` answers.
pub const VERSION: &str = "ledger, a stand-in of ztlab that speaks PostgreSQL's wire protocol; it is not PostgreSQL";

/// Reads `sql`, any number of statements.
///
/// # Errors
/// When it is no SQL, or none that the ledger does.
pub fn parse(sql: &str) -> Result<Vec<Statement>, SqlError> {
    if sql.len() > LONGEST {
        return Err(SqlError::new(
            "54001",
            format!("statement too long: {LONGEST} bytes fit"),
        ));
    }
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql)
        .map_err(|error| SqlError::new("42601", format!("syntax error: {error}")))?;
    parsed.into_iter().map(statement).collect()
}

fn statement(parsed: Parsed) -> Result<Statement, SqlError> {
    match parsed {
        Parsed::Insert(insert) => self::insert(insert),
        Parsed::Query(query) => self::query(*query),
        other => {
            let text = other.to_string();
            let verb = text.split_whitespace().next().unwrap_or("that").to_owned();
            Err(SqlError::unsupported(&verb))
        }
    }
}

/// Takes what is understood out of the statement; what is left must be bare, so that no clause is passed over.
fn nothing_else(left: &str, bare: &str) -> Result<(), SqlError> {
    let left = left.split_whitespace().collect::<Vec<_>>().join(" ");
    match left.strip_prefix(bare) {
        Some("") => Ok(()),
        Some(rest) => Err(SqlError::unsupported(rest.trim())),
        None => Err(SqlError::unsupported(&left)),
    }
}

fn insert(mut insert: Insert) -> Result<Statement, SqlError> {
    let TableObject::TableName(table) = &insert.table else {
        return Err(SqlError::unsupported(&insert.table.to_string()));
    };
    payments(table)?;
    insert.table = TableObject::TableName(ObjectName::from(Ident::new("payments")));
    let columns = mem::take(&mut insert.columns);
    let returning = mem::take(&mut insert.returning).unwrap_or_default();
    let source = insert.source.take();
    // Without the source that was taken out, what is left reads so.
    nothing_else(&insert.to_string(), "INSERT INTO payments DEFAULT VALUES")?;

    let columns = columns
        .iter()
        .map(|name| match name.0.as_slice() {
            [part] => part.as_ident().ok_or_else(|| SqlError::unsupported(&part.to_string())),
            _ => Err(SqlError::unsupported(&name.to_string())),
        })
        .map(|name| column(name?))
        .collect::<Result<Vec<_>, _>>()?;
    if columns.is_empty() {
        return Err(SqlError::unsupported("an INSERT without a list of columns"));
    }
    for (at, column) in columns.iter().enumerate() {
        if matches!(column, Column::Id | Column::PaidAt) {
            let message = format!("cannot insert into column \"{}\": the ledger sets it", column.name());
            return Err(SqlError::new("428C9", message));
        }
        if columns[..at].contains(column) {
            let message = format!("column \"{}\" specified more than once", column.name());
            return Err(SqlError::new("42701", message));
        }
    }
    let mut source = *source.ok_or_else(|| SqlError::unsupported("an INSERT without VALUES"))?;
    let SetExpr::Values(values) = source.body.as_mut() else {
        return Err(SqlError::unsupported("an INSERT without VALUES"));
    };
    let values = mem::take(&mut values.rows);
    nothing_else(&source.to_string(), "VALUES")?;
    let rows = values
        .iter()
        .map(|row| {
            if row.content.len() != columns.len() {
                let message = format!("{} columns, but {} values", columns.len(), row.content.len());
                return Err(SqlError::new("42601", message));
            }
            row.content.iter().map(operand).collect()
        })
        .collect::<Result<Vec<Vec<_>>, _>>()?;
    Ok(Statement::Insert {
        columns,
        rows,
        returning: outputs(&returning, true)?,
    })
}

fn query(mut query: Query) -> Result<Statement, SqlError> {
    if let Some(catalog) = catalog(&query) {
        return Ok(catalog);
    }
    let order = query.order_by.take();
    let limit = query.limit_clause.take();
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(SqlError::unsupported(&query.body.to_string()));
    };
    let projection = mem::take(&mut select.projection);
    let from = mem::take(&mut select.from);
    let selection = select.selection.take();
    nothing_else(&query.to_string(), "SELECT")?;

    let table = match from.as_slice() {
        [] => None,
        [only] if only.joins.is_empty() => Some(&only.relation),
        _ => return Err(SqlError::unsupported("joins")),
    };
    let Some(table) = table else {
        if selection.is_some() || order.is_some() || limit.is_some() {
            return Err(SqlError::unsupported("WHERE, ORDER BY or LIMIT without a table"));
        }
        return Ok(Statement::Constants {
            outputs: outputs(&projection, false)?,
        });
    };
    let TableFactor::Table { name, .. } = table else {
        return Err(SqlError::unsupported(&format!("FROM {table}")));
    };
    payments(name)?;
    nothing_else(&table.to_string(), &name.to_string())?;

    let outputs = outputs(&projection, true)?;
    let counts = outputs.iter().any(|output| output.what == What::Count);
    if counts && outputs.iter().any(|output| matches!(output.what, What::Column(_))) {
        return Err(SqlError::new(
            "42803",
            "a column cannot stand beside count(*): there is no GROUP BY here".to_owned(),
        ));
    }
    let mut filter = Vec::new();
    if let Some(selection) = &selection {
        conditions(selection, &mut filter)?;
    }
    Ok(Statement::Select {
        outputs,
        filter,
        order: order.map_or(Ok(Vec::new()), |order| ordering(&order.kind))?,
        limit: limit.map_or(Ok(None), |limit| self::limit(&limit))?,
    })
}

fn ordering(kind: &OrderByKind) -> Result<Vec<(Column, bool)>, SqlError> {
    let OrderByKind::Expressions(expressions) = kind else {
        return Err(SqlError::unsupported("ORDER BY ALL"));
    };
    expressions
        .iter()
        .map(|by| {
            let unsupported = || SqlError::unsupported(&format!("ORDER BY {by}"));
            let descending = match &by.options.sort {
                None | Some(OrderBySort::Asc) => false,
                Some(OrderBySort::Desc) => true,
                Some(_) => return Err(unsupported()),
            };
            match &by.expr {
                Expr::Identifier(name) if by.options.nulls_first.is_none() && by.with_fill.is_none() => {
                    Ok((column(name)?, descending))
                }
                _ => Err(unsupported()),
            }
        })
        .collect()
}

fn limit(clause: &LimitClause) -> Result<Option<Operand>, SqlError> {
    match clause {
        LimitClause::LimitOffset {
            limit,
            offset: None,
            limit_by,
        } if limit_by.is_empty() => limit.as_ref().map(operand).transpose(),
        other => Err(SqlError::unsupported(other.to_string().trim())),
    }
}

/// psql asks the catalog for relations; of those there is one, a table.
fn catalog(query: &Query) -> Option<Statement> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let TableFactor::Table { name, .. } = &select.from.first()?.relation else {
        return None;
    };
    if name.to_string() != "pg_catalog.pg_class" {
        return None;
    }
    let columns = select
        .projection
        .iter()
        .map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    if !columns.iter().any(|name| name == "Name") {
        return None;
    }
    Some(Statement::Catalog {
        columns,
        listed: asks_for_payments(select),
    })
}

/// Whether psql's condition lets a table named `payments` through: its kind is among those listed, and its name
/// matches the pattern, if one is given.
fn asks_for_payments(select: &Select) -> bool {
    let Some(condition) = select.selection.as_ref().map(ToString::to_string) else {
        return true;
    };
    let Some((_, kinds)) = condition.split_once("relkind IN (") else {
        return false;
    };
    let tables = kinds.split(')').next().is_some_and(|kinds| kinds.contains("'r'"));
    let named = match condition.split_once("relname OPERATOR(pg_catalog.~) '") {
        None => true,
        Some((_, pattern)) => pattern
            .split('\'')
            .next()
            .and_then(|pattern| regex::Regex::new(pattern).ok())
            .is_some_and(|pattern| pattern.is_match("payments")),
    };
    tables && named
}

fn payments(name: &ObjectName) -> Result<(), SqlError> {
    let name = name.to_string().to_lowercase().replace('"', "");
    match name.as_str() {
        "payments" | "public.payments" => Ok(()),
        _ => Err(SqlError {
            code: "42P01",
            message: format!("relation \"{name}\" does not exist"),
            hint: Some("The ledger has one table: payments."),
        }),
    }
}

fn column(name: &Ident) -> Result<Column, SqlError> {
    let wanted = match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    };
    Column::ALL
        .into_iter()
        .find(|column| column.name() == wanted)
        .ok_or_else(|| SqlError {
            code: "42703",
            message: format!("column \"{}\" does not exist", name.value),
            hint: Some("The columns are id, paid_at, order_id, customer, card and amount_cents."),
        })
}

fn outputs(items: &[SelectItem], with_table: bool) -> Result<Vec<Output>, SqlError> {
    let mut outputs = Vec::new();
    for item in items {
        let (expression, alias) = match item {
            SelectItem::UnnamedExpr(expression) => (expression, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.clone())),
            SelectItem::Wildcard(_) if with_table && item.to_string() == "*" => {
                outputs.extend(Column::ALL.into_iter().map(|column| Output {
                    name: column.name().to_owned(),
                    what: What::Column(column),
                }));
                continue;
            }
            other => return Err(SqlError::unsupported(&other.to_string())),
        };
        let (name, what) = output(expression, with_table)?;
        outputs.push(Output {
            name: alias.unwrap_or(name),
            what,
        });
    }
    Ok(outputs)
}

/// The name that PostgreSQL would give to an expression, and what it answers.
fn output(expression: &Expr, with_table: bool) -> Result<(String, What), SqlError> {
    match expression {
        Expr::Identifier(name) if with_table => {
            let column = column(name)?;
            Ok((column.name().to_owned(), What::Column(column)))
        }
        Expr::Function(function) => {
            let call = function.to_string().to_lowercase();
            let call = call.strip_prefix("pg_catalog.").unwrap_or(&call);
            let what = match call {
                "count(*)" if with_table => What::Count,
                "version()" => What::Constant(Value::Text(VERSION.to_owned())),
                "current_user" | "user" | "session_user" => What::User,
                "current_database()" | "current_catalog" => What::Database,
                "current_schema()" | "current_schema" => What::Constant(Value::Text("public".to_owned())),
                "now()" | "current_timestamp" => What::Now,
                _ if has_no_arguments(&function.args) => {
                    return Err(SqlError::new("42883", format!("function {call} does not exist here")));
                }
                _ => return Err(SqlError::unsupported(call)),
            };
            let name = call.split('(').next().unwrap_or(call);
            Ok((name.to_owned(), what))
        }
        other => match operand(other)? {
            Operand::Literal(value) => Ok(("?column?".to_owned(), What::Constant(value))),
            Operand::Parameter(_) => Err(SqlError::unsupported("a parameter in the SELECT list")),
        },
    }
}

fn has_no_arguments(arguments: &FunctionArguments) -> bool {
    match arguments {
        FunctionArguments::None => true,
        FunctionArguments::List(list) => list
            .args
            .iter()
            .all(|argument| matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Wildcard))),
        FunctionArguments::Subquery(_) => false,
    }
}

fn conditions(expression: &Expr, found: &mut Vec<Condition>) -> Result<(), SqlError> {
    let unsupported = || SqlError::unsupported(&format!("WHERE {expression}"));
    match expression {
        Expr::Nested(inner) => conditions(inner, found),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => {
            conditions(left, found)?;
            conditions(right, found)
        }
        Expr::BinaryOp { left, op, right } => {
            let Expr::Identifier(name) = left.as_ref() else {
                return Err(unsupported());
            };
            let comparison = match op {
                BinaryOperator::Eq => Comparison::Equal,
                BinaryOperator::NotEq => Comparison::NotEqual,
                BinaryOperator::Lt => Comparison::Less,
                BinaryOperator::LtEq => Comparison::LessOrEqual,
                BinaryOperator::Gt => Comparison::Greater,
                BinaryOperator::GtEq => Comparison::GreaterOrEqual,
                _ => return Err(unsupported()),
            };
            found.push(Condition {
                column: column(name)?,
                comparison,
                operand: operand(right)?,
            });
            Ok(())
        }
        _ => Err(unsupported()),
    }
}

fn operand(expression: &Expr) -> Result<Operand, SqlError> {
    let unsupported = || SqlError::unsupported(&expression.to_string());
    match expression {
        Expr::Nested(inner) => operand(inner),
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => match operand(expr)? {
            Operand::Literal(Value::Int8(number)) => Ok(Operand::Literal(Value::Int8(-number))),
            _ => Err(unsupported()),
        },
        Expr::Value(value) => match &value.value {
            Literal::Number(text, _) => {
                let number = text.parse().map_err(|_| unsupported())?;
                Ok(Operand::Literal(Value::Int8(number)))
            }
            Literal::SingleQuotedString(text) => Ok(Operand::Literal(Value::Text(text.clone()))),
            Literal::Null => Ok(Operand::Literal(Value::Null)),
            Literal::Placeholder(text) => parameter(text).map(Operand::Parameter).ok_or_else(unsupported),
            _ => Err(unsupported()),
        },
        _ => Err(unsupported()),
    }
}

/// `$1` → 0. PostgreSQL's protocol counts parameters in 16 bits.
fn parameter(text: &str) -> Option<usize> {
    let number: u16 = text.strip_prefix('$')?.parse().ok()?;
    usize::from(number).checked_sub(1)
}
