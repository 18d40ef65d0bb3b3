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

use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{session::Handlers, table::Table};
use crate::standins::{log::Log, process, settings};

/// PostgreSQL's port.
const PORT: u16 = 5432;

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
        let settings = Settings::from_env()?;
        serve(
            settings::listener(PORT).await?,
            settings,
            Log::stdout("ledger"),
            shutdown,
        )
        .await
    })
}

/// Serves on `listener` until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, settings: Settings, log: Log, shutdown: CancellationToken) -> io::Result<()> {
    log.info(&format!("listening on {}", listener.local_addr()?));
    let table = Arc::new(Mutex::new(Table::new(settings.rows)));
    let handlers = Arc::new(Handlers::new(settings, table, log.clone()));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    let accepting = shutdown.clone().run_until_cancelled_owned(async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let handlers = handlers.clone();
                    connections.spawn(shutdown.clone().run_until_cancelled_owned(async move {
                        let _place = place;
                        // How a connection ends is its client's affair; logins and statements are logged as they come.
                        let _ = pgwire::tokio::process_socket(stream, None, handlers).await;
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
    Ok(())
}
