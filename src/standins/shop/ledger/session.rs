//! The protocol side of the ledger: logins, and both ways to send a statement.

use std::{
    fmt::Debug,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures::{Sink, stream};
use pgwire::{
    api::{
        ClientInfo, ClientPortalStore, METADATA_APPLICATION_NAME, METADATA_DATABASE, METADATA_USER,
        PgWireServerHandlers, Type,
        auth::{
            AuthSource, DefaultServerParameterProvider, LoginInfo, Password, StartupHandler,
            cleartext::CleartextPasswordAuthStartupHandler,
        },
        portal::{Format, Portal},
        query::{ExtendedQueryHandler, SimpleQueryHandler},
        results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag},
        stmt::QueryParser,
        store::PortalStore,
    },
    error::{ErrorInfo, PgWireError, PgWireResult},
    messages::{PgWireBackendMessage, PgWireFrontendMessage},
};

use super::{
    Settings, sql,
    statement::{SqlError, Statement},
    table::{Answer, Kind, Session, Table, Value},
};
use crate::standins::{
    log::{Access, Log, bounded},
    shop::database::PROBE_PREFIX,
    tls::{Proved, Shown},
};

/// What every connection is served with.
pub struct Handlers {
    startup: Arc<Startup>,
    queries: Arc<Queries>,
}

impl Handlers {
    /// Serves `table` to the user of `settings`, over TLS only where `encrypted`.
    pub fn new(settings: Settings, table: Arc<Mutex<Table>>, encrypted: bool, log: Log) -> Handlers {
        let mut parameters = DefaultServerParameterProvider::default();
        parameters.server_version = "15.0 (ztlab stand-in)".to_owned();
        parameters.is_superuser = false;
        let login = Login {
            user: settings.user,
            password: settings.password,
        };
        Handlers {
            startup: Arc::new(Startup {
                inner: CleartextPasswordAuthStartupHandler::new(login, parameters),
                encrypted,
                log: log.clone(),
            }),
            queries: Arc::new(Queries {
                table,
                parser: Arc::new(Sql),
                log,
            }),
        }
    }
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.queries.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.queries.clone()
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.startup.clone()
    }
}

/// The one login there is.
struct Login {
    user: String,
    password: String,
}

impl Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl AuthSource for Login {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        if login.user() == Some(self.user.as_str()) {
            Ok(Password::new(None, self.password.clone().into_bytes()))
        } else {
            Err(refused(login))
        }
    }

    /// One answer for a wrong user and a wrong password: which of the two it was is nobody's business.
    async fn verify_password(&self, login: &LoginInfo, presented: &[u8]) -> PgWireResult<Option<()>> {
        let expected = self.get_password(login).await?;
        if expected.password() == presented {
            Ok(None)
        } else {
            Err(refused(login))
        }
    }
}

fn refused(login: &LoginInfo) -> PgWireError {
    let user = bounded(login.user().unwrap_or_default());
    PgWireError::UserError(Box::new(ErrorInfo::new(
        "FATAL".to_owned(),
        "28P01".to_owned(),
        format!("password authentication failed for user \"{user}\""),
    )))
}

/// As PostgreSQL answers where its `pg_hba.conf` has `hostssl` lines only.
fn unencrypted(peer: SocketAddr) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new(
        "FATAL".to_owned(),
        "28000".to_owned(),
        format!(
            "no pg_hba.conf entry for host \"{}\", no encryption",
            peer.ip().to_canonical()
        ),
    )))
}

struct Startup {
    inner: CleartextPasswordAuthStartupHandler<Login, DefaultServerParameterProvider>,
    encrypted: bool,
    log: Log,
}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if self.encrypted && !client.is_secure() {
            let reason = "no TLS: this ledger speaks to nobody in clear";
            self.log.refused(client.socket_addr(), reason);
            return Err(unencrypted(client.socket_addr()));
        }
        let is_login = matches!(message, PgWireFrontendMessage::PasswordMessageFamily(_));
        let outcome = self.inner.on_startup(client, message).await;
        if is_login {
            let mut access = access(client, "login", metadata(client, METADATA_DATABASE));
            access.status = if outcome.is_ok() { 200 } else { 401 };
            if outcome.is_ok() {
                (access.caller, access.certificate) = caller(client);
            }
            self.log.access(&access);
        }
        outcome
    }
}

/// What a client that logged in proved.
fn caller(client: &impl ClientInfo) -> (String, Option<Shown>) {
    let password = format!("password of {}", bounded(metadata(client, METADATA_USER)));
    match Proved::by(client.client_certificates()) {
        Some(proved) => (format!("{} and {password}", proved.text()), Some(proved.shown)),
        None => (password, None),
    }
}

fn metadata<'a>(client: &'a impl ClientInfo, key: &str) -> &'a str {
    client.metadata().get(key).map_or("", String::as_str)
}

/// An access of `client`; the program's name carries a probe's id, since the protocol has no headers.
fn access(client: &impl ClientInfo, method: &str, path: &str) -> Access {
    let program = metadata(client, METADATA_APPLICATION_NAME);
    Access {
        method: method.to_owned(),
        path: bounded(path),
        probe: program.strip_prefix(PROBE_PREFIX).map(bounded),
        user_agent: Some(program).filter(|name| !name.is_empty()).map(bounded),
        ..Access::by(client.socket_addr())
    }
}

struct Queries {
    table: Arc<Mutex<Table>>,
    parser: Arc<Sql>,
    log: Log,
}

impl Queries {
    fn record(&self, client: &impl ClientInfo, text: &str, failed: bool) {
        let mut access = access(client, "query", text);
        (access.caller, access.certificate) = caller(client);
        access.status = if failed { 400 } else { 200 };
        self.log.access(&access);
    }

    fn run(
        &self,
        client: &impl ClientInfo,
        statement: &Statement,
        parameters: &[Value],
        format: &Format,
    ) -> Result<Response, PgWireError> {
        let session = Session {
            user: metadata(client, METADATA_USER).to_owned(),
            database: metadata(client, METADATA_DATABASE).to_owned(),
        };
        let answer = self
            .table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .run(statement, parameters, &session)
            .map_err(reported)?;
        let fields = Arc::new(fields(statement, format));
        match answer {
            Answer::Inserted(_, count) if fields.is_empty() => {
                Ok(Response::Execution(Tag::new("INSERT").with_oid(0).with_rows(count)))
            }
            Answer::Inserted(rows, _) => {
                let mut response = encode(fields, &rows);
                // The protocol's library adds the count; the 0 is the object id that PostgreSQL no longer has.
                response.set_command_tag("INSERT 0");
                Ok(Response::Query(response))
            }
            Answer::Rows(rows) => Ok(Response::Query(encode(fields, &rows))),
        }
    }
}

#[async_trait]
impl SimpleQueryHandler for Queries {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let outcome = sql::parse(query).map_err(reported).and_then(|statements| {
            statements
                .iter()
                .map(|statement| self.run(client, statement, &[], &Format::UnifiedText))
                .collect()
        });
        self.record(client, query, outcome.is_err());
        outcome
    }
}

#[async_trait]
impl ExtendedQueryHandler for Queries {
    type Statement = Prepared;
    type QueryParser = Sql;

    fn query_parser(&self) -> Arc<Sql> {
        self.parser.clone()
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _max_rows: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        let outcome = parameters(portal)
            .and_then(|parameters| self.run(client, &prepared.statement, &parameters, &portal.result_column_format));
        self.record(client, &prepared.text, outcome.is_err());
        outcome
    }
}

/// A statement as the client prepared it.
#[derive(Clone)]
pub struct Prepared {
    text: String,
    statement: Statement,
}

/// Reads statements for the extended protocol, one at a time.
pub struct Sql;

#[async_trait]
impl QueryParser for Sql {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, _client: &C, text: &str, _types: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = sql::parse(text).map_err(reported)?;
        if statements.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement".to_owned();
            return Err(reported(SqlError::new("42601", message)));
        }
        Ok(statements.pop().map(|statement| Prepared {
            text: text.to_owned(),
            statement,
        }))
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        Ok(prepared.statement.parameters().into_iter().map(wire_type).collect())
    }

    fn get_result_schema(&self, prepared: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        Ok(fields(&prepared.statement, format.unwrap_or(&Format::UnifiedText)))
    }
}

fn parameters(portal: &Portal<Prepared>) -> PgWireResult<Vec<Value>> {
    if let Format::Individual(codes) = &portal.parameter_format
        && codes.len() != portal.parameter_len()
    {
        let message = format!(
            "bind message has {} parameter formats but {} parameters",
            codes.len(),
            portal.parameter_len()
        );
        return Err(reported(SqlError::new("08P01", message)));
    }
    let inferred = portal.statement.statement.statement.parameters();
    (0..portal.parameter_len())
        .map(|at| {
            let declared = portal.statement.parameter_types.get(at).cloned().flatten();
            let inferred = inferred.get(at).copied().map_or(Type::TEXT, wire_type);
            parameter(
                portal,
                at,
                &declared.filter(|kind| *kind != Type::UNKNOWN).unwrap_or(inferred),
            )
        })
        .collect()
}

fn parameter(portal: &Portal<Prepared>, at: usize, kind: &Type) -> PgWireResult<Value> {
    let number = match *kind {
        Type::INT2 => portal.parameter::<i16>(at, kind)?.map(i64::from),
        Type::INT4 => portal.parameter::<i32>(at, kind)?.map(i64::from),
        Type::INT8 => portal.parameter::<i64>(at, kind)?,
        _ => return Ok(portal.parameter::<String>(at, kind)?.map_or(Value::Null, Value::Text)),
    };
    Ok(number.map_or(Value::Null, Value::Int8))
}

fn wire_type(kind: Kind) -> Type {
    match kind {
        Kind::Int8 => Type::INT8,
        Kind::Text => Type::TEXT,
    }
}

fn fields(statement: &Statement, format: &Format) -> Vec<FieldInfo> {
    statement
        .columns()
        .into_iter()
        .enumerate()
        .map(|(at, (name, kind))| {
            let format = if is_binary(format, at) {
                FieldFormat::Binary
            } else {
                FieldFormat::Text
            };
            let size = match kind {
                Kind::Int8 => 8,
                Kind::Text => -1,
            };
            FieldInfo::new(name, None, None, wire_type(kind), format).with_type_size(size)
        })
        .collect()
}

/// Text where the client named fewer formats than there are columns.
fn is_binary(format: &Format, at: usize) -> bool {
    match format {
        Format::UnifiedText => false,
        Format::UnifiedBinary => true,
        Format::Individual(codes) => codes.get(at) == Some(&1),
    }
}

fn encode(fields: Arc<Vec<FieldInfo>>, rows: &[Vec<Value>]) -> QueryResponse {
    let mut encoder = DataRowEncoder::new(fields.clone());
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            for value in row {
                match value {
                    Value::Int8(number) => encoder.encode_field(number)?,
                    Value::Text(text) => encoder.encode_field(text)?,
                    Value::Null => encoder.encode_field(&None::<String>)?,
                }
            }
            Ok(encoder.take_row())
        })
        .collect();
    QueryResponse::new(fields, stream::iter(rows))
}

fn reported(error: SqlError) -> PgWireError {
    let mut info = ErrorInfo::new("ERROR".to_owned(), error.code.to_owned(), error.message);
    info.hint = error.hint.map(str::to_owned);
    PgWireError::UserError(Box::new(info))
}
