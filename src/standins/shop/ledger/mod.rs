//! `ledger`: the shop's database. PostgreSQL's wire protocol with a cleartext password, and one table in memory.

mod session;
mod sql;
mod statement;
mod table;

use std::{
    ffi::OsString,
    io,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{session::Handlers, table::Table};
use crate::standins::{
    http::{door::Door, server},
    log::Log,
    process, settings,
    tls::{self, Acceptor, environment::Environment},
};

/// PostgreSQL's port.
const PORT: u16 = 5432;

/// PostgreSQL's name in ALPN.
const ALPN: &[&[u8]] = &[b"postgresql"];

/// How many clients may be connected at once; more wait.
const CONNECTIONS: usize = 64;

/// How many payments are kept where `LEDGER_ROWS` does not say.
const ROWS: usize = 1000;

/// How `ledger` is configured.
pub struct Settings {
    /// The one user.
    pub user: String,
    /// Its password.
    pub password: String,
    /// How many payments are kept: the newest.
    pub rows: usize,
}

impl Settings {
    fn from_env() -> io::Result<Settings> {
        Ok(Settings {
            user: settings::required("LEDGER_USER")?,
            password: settings::required("LEDGER_PASSWORD")?,
            rows: settings::parsed("LEDGER_ROWS", ROWS)?,
        })
    }
}

/// Runs `ledger` with the settings of the environment.
pub fn main(_args: Vec<OsString>) -> ExitCode {
    process::serve("ledger", async |shutdown| {
        let log = Log::stdout("ledger");
        let settings = Settings::from_env()?;
        serve(
            settings::door(PORT, &Environment::read(&log).await?, ALPN).await?,
            settings,
            log,
            shutdown,
        )
        .await
    })
}

/// Serves at `door` until `shutdown`. Where TLS is spoken, nobody is served without.
///
/// # Errors
/// When a listener fails.
pub async fn serve(door: impl Into<Door>, settings: Settings, log: Log, shutdown: CancellationToken) -> io::Result<()> {
    let Door { listener, tls, health } = door.into();
    let with = if tls.is_some() { " with TLS" } else { "" };
    log.info(&format!("listening on {}{with}", listener.local_addr()?));
    let health = server::health(health, log.clone(), shutdown.clone());
    let table = Arc::new(Mutex::new(Table::new(settings.rows)));
    let handlers = Arc::new(Handlers::new(settings, table, tls.is_some(), log.clone()));
    let clients = serve_clients(listener, tls, handlers, log, shutdown);
    let ((), health) = tokio::join!(clients, health);
    health
}

async fn serve_clients(
    listener: TcpListener,
    tls: Option<Arc<Acceptor>>,
    handlers: Arc<Handlers>,
    log: Log,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    let accepting = shutdown.clone().run_until_cancelled_owned(async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let serving = converse(stream, tls.clone(), handlers.clone());
                    connections.spawn(shutdown.clone().run_until_cancelled_owned(async move {
                        let _place = place;
                        // How a connection ends is its client's affair; logins and statements are logged as they come.
                        let _ = serving.await;
                    }));
                }
                // Such as too many open files: it passes when connections close.
                Err(error) => {
                    log.warn(&format!("cannot accept a connection: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    accepting.await;
    connections.close();
    connections.wait().await;
}

async fn converse(stream: TcpStream, tls: Option<Arc<Acceptor>>, handlers: Arc<Handlers>) -> io::Result<()> {
    let Some(tls) = tls else {
        return pgwire::tokio::process_socket(stream, None, handlers).await;
    };
    let peer = stream.peer_addr()?;
    let stream = stream.into_std()?;
    // The protocol's library drops the stream of a failed handshake, and with it the alert that says why.
    let kept = TcpStream::from_std(stream.try_clone()?)?;
    let stream = TcpStream::from_std(stream)?;
    let (outcome, noted) = tls::noting(pgwire::tokio::process_socket(stream, Some(tls.library()), handlers)).await;
    if let Err(error) = &outcome
        && tls::cause(error).is_some()
    {
        tls.refused(peer, error, noted.as_deref());
        tls::farewell(kept).await;
    }
    outcome
}
