//! `psql`: asks a PostgreSQL server from the command line. Statements only: no backslash commands.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal, Read},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use pgwire::{
    api::client::{
        Config,
        auth::DefaultStartupHandler,
        query::{DefaultSimpleQueryHandler, Response},
    },
    api::{Type, results::FieldInfo},
    error::{ErrorInfo, PgWireClientError},
    messages::{ProtocolVersion, data::DataRow, response::CommandComplete},
    tokio::client::PgWireClient,
};
use tokio_rustls::TlsConnector;
use unicode_width::UnicodeWidthStr;

use super::tls::{Demand, Trust};
use crate::standins::{
    process,
    shop::database,
    tls::{Versions, ssl},
    tools,
};

/// How long a server may take to let us in.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Parser)]
#[command(
    name = "psql",
    about = "ztlab's stand-in for psql: runs SQL on a PostgreSQL server and prints what it answers",
    disable_help_flag = true,
    version = concat!("(a stand-in of ztlab, not PostgreSQL's) ", env!("CARGO_PKG_VERSION"))
)]
struct Args {
    /// Server's name or address, else PGHOST
    #[arg(short, long, value_name = "HOST")]
    host: Option<String>,
    /// Server's port, else PGPORT, else 5432
    #[arg(short, long)]
    port: Option<u16>,
    /// User, else PGUSER
    #[arg(short = 'U', long, value_name = "USER")]
    username: Option<String>,
    /// Database, else PGDATABASE, else the user's name; or a postgresql:// URL
    #[arg(short, long, value_name = "NAME")]
    dbname: Option<String>,
    /// SQL to run; without it, SQL is read from stdin
    #[arg(short, long, value_name = "SQL")]
    command: Vec<String>,
    /// Rows only
    #[arg(short, long)]
    tuples_only: bool,
    /// Unaligned, columns separated by |
    #[arg(short = 'A', long)]
    no_align: bool,
    /// Accepted for compatibility: there is never a question for a password, only PGPASSWORD
    #[arg(short = 'w', long)]
    no_password: bool,
    /// Accepted for compatibility: there is no start-up file
    #[arg(short = 'X', long)]
    no_psqlrc: bool,
    /// Print this help
    #[arg(short = '?', long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Database or URL, then user
    #[arg(value_name = "DBNAME [USER]", num_args = 0..=2)]
    positional: Vec<String>,
}

/// Runs the SQL of the arguments, or of stdin. Exit codes as psql's: 1 SQL, 2 connection.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args = match Args::try_parse_from(std::iter::once(OsString::from("psql")).chain(args)) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    process::run("psql", async move {
        match run(&args).await {
            Ok(code) => code,
            Err(message) => {
                process::complain("psql", &format!("error: {message}"));
                2
            }
        }
    })
}

async fn run(args: &Args) -> Result<u8, String> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let server = server(args, variable)?;
    let statements = statements(args)?;
    let mut client = tokio::time::timeout(LOGIN_TIMEOUT, connect(server))
        .await
        .map_err(|_| format!("no answer from the server within {} s", LOGIN_TIMEOUT.as_secs()))?
        .map_err(|error| format!("connection to server failed: {error}"))?;
    for statement in statements {
        if statement.trim_start().starts_with('\\') {
            return Err(format!(
                "`{}`: this psql is a stand-in of ztlab and knows SQL only",
                statement.trim()
            ));
        }
        match client.simple_query(DefaultSimpleQueryHandler::new(), &statement).await {
            Ok(responses) => {
                let text: String = responses.into_iter().map(|response| show(response, args)).collect();
                if process::print(&text).is_err() {
                    return Ok(1);
                }
            }
            Err(error) => {
                process::complain("psql", &told(&error));
                return Ok(1);
            }
        }
    }
    Ok(0)
}

fn statements(args: &Args) -> Result<Vec<String>, String> {
    if !args.command.is_empty() {
        return Ok(args.command.clone());
    }
    if io::stdin().is_terminal() {
        return Err("no SQL: give it with -c, or on stdin".to_owned());
    }
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| format!("stdin: {error}"))?;
    Ok(vec![text])
}

/// Connects; in the mode `prefer` without TLS where that did not work with it, as libpq does.
async fn connect(server: Server) -> Result<PgWireClient, String> {
    let connector = server.ssl.connector()?;
    let config = Arc::new(server.config);
    let first = PgWireClient::connect(config.clone(), DefaultStartupHandler::new(), connector).await;
    let error = match first {
        Ok(client) => return Ok(client),
        Err(error) => error,
    };
    let is_tls = ssl::reason(&error).is_some();
    if server.ssl.mode != SslMode::Prefer || !is_tls {
        return Err(told(&error));
    }
    let mut plain = (*config).clone();
    ssl::set_mode(&mut plain, "disable");
    let again = PgWireClient::connect(Arc::new(plain), DefaultStartupHandler::new(), None).await;
    again.map_err(|second| format!("with TLS: {}; without TLS: {}", told(&error), told(&second)))
}

/// What is asked of TLS, as libpq names it (PostgreSQL, SSL Support, Protection Provided in Different Modes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Debug)]
struct Ssl {
    mode: SslMode,
    root: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl Ssl {
    fn read(option: impl Fn(&str) -> Option<String>) -> Result<Ssl, String> {
        let mode = match option("sslmode").as_deref() {
            Some("disable") => SslMode::Disable,
            None | Some("prefer") => SslMode::Prefer,
            Some("require") => SslMode::Require,
            Some("verify-ca") => SslMode::VerifyCa,
            Some("verify-full") => SslMode::VerifyFull,
            Some(other) => {
                return Err(format!(
                    "sslmode={other}: this psql is a stand-in of ztlab and does not know it"
                ));
            }
        };
        let root = option("sslrootcert").map(PathBuf::from);
        if root.is_none() && matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull) {
            return Err("sslmode verifies the server: name the authority's certificate in sslrootcert".to_owned());
        }
        let identity = match (option("sslcert"), option("sslkey")) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => return Err("sslcert and sslkey go together".to_owned()),
        };
        Ok(Ssl { mode, root, identity })
    }

    fn connector(&self) -> Result<Option<TlsConnector>, String> {
        let demand = match (self.mode, &self.root) {
            (SslMode::Disable, _) => return Ok(None),
            (SslMode::VerifyFull, _) => Demand::Full,
            // `require` with an authority verifies as `verify-ca` does, says libpq.
            (SslMode::VerifyCa, _) | (SslMode::Require, Some(_)) => Demand::Chain,
            (SslMode::Prefer, _) | (SslMode::Require, None) => Demand::Nothing,
        };
        let (mut config, _) = tools::tls::client(Trust {
            authorities: self.root.as_deref(),
            identity: self
                .identity
                .as_ref()
                .map(|(certificate, key)| (certificate.as_path(), key.as_path())),
            demand,
            versions: Versions::Both,
        })
        .map_err(|error| error.to_string())?;
        if let Some(config) = Arc::get_mut(&mut config) {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(Some(TlsConnector::from(config)))
    }
}

#[derive(Debug)]
struct Server {
    config: Config,
    ssl: Ssl,
}

fn server(args: &Args, variable: impl Fn(&str) -> Option<String>) -> Result<Server, String> {
    let database = args.dbname.as_ref().or(args.positional.first());
    let (bare, options) = match database {
        Some(url) => ssl::split(url)?,
        None => Default::default(),
    };
    let ssl = Ssl::read(|name| {
        let option = options.get(name).cloned();
        option.or_else(|| variable(&format!("PG{}", name.to_uppercase())))
    })?;
    let mut config = config(args, database.map(|_| bare), variable)?;
    let mode = match ssl.mode {
        SslMode::Disable => "disable",
        SslMode::Prefer => "prefer",
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => "require",
    };
    ssl::set_mode(&mut config, mode);
    Ok(Server { config, ssl })
}

/// Where to connect to and as whom. A URL (or a `host=… user=…` string) says the server; options and the environment
/// say what it leaves out.
fn config(args: &Args, database: Option<String>, variable: impl Fn(&str) -> Option<String>) -> Result<Config, String> {
    let user = args.username.clone().or_else(|| args.positional.get(1).cloned());
    let mut config = match database {
        Some(url) if url.contains("://") || url.contains('=') => {
            if args.host.is_some() || args.port.is_some() {
                return Err("the server is named twice: leave out -h and -p, or the URL".to_owned());
            }
            url.parse().map_err(|error: PgWireClientError| error.to_string())?
        }
        _ => {
            let host = args.host.clone().or_else(|| variable("PGHOST"));
            let port = match (args.port, variable("PGPORT")) {
                (Some(port), _) => port,
                (None, Some(text)) => text.parse().map_err(|_| format!("PGPORT={text} is no port"))?,
                (None, None) => 5432,
            };
            let mut config = Config::new();
            config
                .host(host.ok_or("no server: give one with -h, in PGHOST, or as a postgresql:// URL")?)
                .port(port);
            if let Some(name) = database.or_else(|| variable("PGDATABASE")) {
                config.dbname(name);
            }
            config
        }
    };
    let user = user
        .or_else(|| config.get_user().map(str::to_owned))
        .or_else(|| variable("PGUSER"));
    let user = user.ok_or("no user: give one with -U, or in PGUSER")?;
    config.user(&user);
    if config.get_dbname().is_none() {
        config.dbname(user);
    }
    if config.get_password().is_none()
        && let Some(password) = variable("PGPASSWORD")
    {
        config.password(password);
    }
    config
        .application_name("psql (ztlab)")
        .protocol_version(ProtocolVersion::PROTOCOL3_0);
    Ok(config)
}

/// An error as psql says it.
fn told(error: &PgWireClientError) -> String {
    let PgWireClientError::RemoteError(info) = error else {
        return ssl::reason(error).unwrap_or_else(|| error.to_string());
    };
    let ErrorInfo {
        severity,
        message,
        detail,
        hint,
        ..
    } = info.as_ref();
    let mut text = format!("{severity}:  {message}");
    for (name, more) in [("DETAIL", detail), ("HINT", hint)] {
        if let Some(more) = more {
            text.push_str(&format!("\n{name}:  {more}"));
        }
    }
    text
}

fn show(response: Response, args: &Args) -> String {
    match response {
        Response::EmptyQuery => String::new(),
        Response::Execution(tag) => format!("{}\n", CommandComplete::from(tag).tag),
        Response::Query((tag, fields, rows)) => {
            let text = table(&fields, &rows, args);
            let tag = CommandComplete::from(tag).tag;
            if tag.starts_with("SELECT") || args.tuples_only {
                text
            } else {
                format!("{text}{tag}\n")
            }
        }
    }
}

/// Rows as psql prints them: numbers to the right, the rest to the left.
fn table(fields: &[FieldInfo], rows: &[DataRow], args: &Args) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let values = database::fields(row).unwrap_or_default();
            values
                .into_iter()
                .map(|value| printable(&value.unwrap_or_default()))
                .collect()
        })
        .collect();
    let names: Vec<String> = fields.iter().map(|field| printable(field.name())).collect();
    let mut text = String::new();
    if args.no_align {
        if !args.tuples_only {
            text.push_str(&(names.join("|") + "\n"));
        }
        for row in &cells {
            text.push_str(&(row.join("|") + "\n"));
        }
    } else {
        aligned(fields, &names, &cells, args.tuples_only, &mut text);
    }
    if !args.tuples_only {
        let plural = if rows.len() == 1 { "" } else { "s" };
        text.push_str(&format!("({} row{plural})\n", rows.len()));
    }
    if !args.no_align {
        text.push('\n');
    }
    text
}

fn aligned(fields: &[FieldInfo], names: &[String], cells: &[Vec<String>], tuples_only: bool, text: &mut String) {
    let widths: Vec<usize> = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let cells = cells.iter().filter_map(|row| row.get(at)).map(|cell| cell.width());
            cells.chain([name.width()]).max().unwrap_or(0)
        })
        .collect();
    if !tuples_only {
        let heads: Vec<String> = names
            .iter()
            .zip(&widths)
            .map(|(name, width)| {
                let left = (width - name.width()) / 2;
                format!(
                    " {}{name}{} ",
                    " ".repeat(left),
                    " ".repeat(width - name.width() - left)
                )
            })
            .collect();
        text.push_str(&(heads.join("|") + "\n"));
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        text.push_str(&(rules.join("+") + "\n"));
    }
    for row in cells {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(at, (cell, width))| {
                let room = " ".repeat(width - cell.width());
                let is_number = fields.get(at).is_some_and(|field| is_number(field.datatype()));
                if is_number {
                    format!(" {room}{cell} ")
                } else {
                    format!(" {cell}{room} ")
                }
            })
            .collect();
        text.push_str(&(cells.join("|").trim_end().to_owned() + "\n"));
    }
}

fn is_number(kind: &Type) -> bool {
    matches!(
        *kind,
        Type::INT2 | Type::INT4 | Type::INT8 | Type::NUMERIC | Type::FLOAT4 | Type::FLOAT8
    )
}

/// A server's text cannot steer the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        Ok(whole(line, variables)?.config)
    }

    fn whole(line: &str, variables: &[(&str, &str)]) -> Result<Server, String> {
        let args = Args::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        server(&args, |name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_is_asked_of_tls_is_read_as_libpq_reads_it() {
        let url = "psql postgresql://u@l/d?sslmode";
        for (line, variables, mode) in [
            ("psql postgresql://u@l/d", &[][..], SslMode::Prefer),
            (&format!("{url}=disable"), &[("PGSSLMODE", "require")], SslMode::Disable),
            ("psql postgresql://u@l/d", &[("PGSSLMODE", "require")], SslMode::Require),
            (&format!("{url}=verify-full&sslrootcert=/ca"), &[], SslMode::VerifyFull),
            (
                &format!("{url}=verify-ca"),
                &[("PGSSLROOTCERT", "/ca")],
                SslMode::VerifyCa,
            ),
        ] {
            assert_eq!(whole(line, variables).unwrap().ssl.mode, mode, "{line}");
        }
        for (line, why) in [
            (format!("{url}=verify-full"), "sslrootcert"),
            (format!("{url}=allow"), "does not know"),
            ("psql postgresql://u@l/d?sslcert=/c".to_owned(), "go together"),
        ] {
            let error = whole(&line, &[]).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn a_server_is_named_by_options_by_url_or_by_environment() {
        for (line, variables, user, database, port) in [
            (
                "psql -h ledger -U payments -d shop -p 99",
                &[][..],
                "payments",
                "shop",
                Some(99),
            ),
            ("psql -h ledger -U payments", &[], "payments", "payments", Some(5432)),
            (
                "psql postgresql://payments:x@ledger:77/shop",
                &[],
                "payments",
                "shop",
                Some(77),
            ),
            ("psql postgresql://ledger/shop -U me", &[], "me", "shop", Some(5432)),
            (
                "psql",
                &[("PGHOST", "l"), ("PGUSER", "u"), ("PGPORT", "7")],
                "u",
                "u",
                Some(7),
            ),
        ] {
            let config = read(line, variables).unwrap();
            assert_eq!(config.get_user(), Some(user), "{line}");
            assert_eq!(config.get_dbname(), Some(database), "{line}");
            assert_eq!(config.get_ports().first().copied(), port, "{line}");
        }
        for line in [
            "psql",
            "psql -h x",
            "psql -U x",
            "psql -h x postgresql://u@y/z",
            "psql --nope",
        ] {
            assert!(read(line, &[]).is_err(), "{line}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
        #[test]
        fn no_arguments_panic(args: Vec<String>) {
            let args = std::iter::once("psql".to_owned()).chain(args);
            if let Ok(args) = Args::try_parse_from(args) {
                let _ = server(&args, |_| None);
            }
        }
    }
}
