//! The environment as a service reads it.

use std::{env, io, net::SocketAddr};

use tokio::net::TcpListener;

use super::{http::door::Door, tls::environment::Environment};

/// The port of the plain HTTP health check of a service that otherwise speaks TLS: the kubelet has no certificate.
const HEALTH_PORT: u16 = 8081;

/// The value of `variable`.
///
/// # Errors
/// When it is unset or empty: the service cannot do its work and says which variable it misses.
pub fn required(variable: &str) -> io::Result<String> {
    optional(variable).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{variable} is not set: set it to start"),
        )
    })
}

/// The value of `variable`, unless it is unset or empty.
pub fn optional(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.is_empty())
}

/// The value of `variable` read as `T`, or `default` if unset.
///
/// # Errors
/// When the value does not read as a `T`.
pub fn parsed<T: std::str::FromStr>(variable: &str, default: T) -> io::Result<T> {
    let Some(value) = optional(variable) else {
        return Ok(default);
    };
    value.parse().map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{variable}={value} is not a valid {}", std::any::type_name::<T>()),
        )
    })
}

/// Listens on `LISTEN` (`address:port`), else on `port` of every address.
///
/// # Errors
/// When `LISTEN` is no address, or it is taken.
pub async fn listener(port: u16) -> io::Result<TcpListener> {
    bind(parsed("LISTEN", SocketAddr::from(([0, 0, 0, 0], port)))?).await
}

/// Listens as [`listener`], with TLS where the environment has it, and for health checks on `HEALTH_LISTEN`; a service
/// with TLS has those on port 8081 where the variable is unset. `protocols` are spoken inside TLS.
///
/// # Errors
/// When an address is taken, or the settings of TLS do not do.
pub async fn door(port: u16, tls: &Environment, protocols: &[&[u8]]) -> io::Result<Door> {
    let tls = tls.acceptor(protocols)?;
    let usual = SocketAddr::from(([0, 0, 0, 0], HEALTH_PORT));
    let health = match optional("HEALTH_LISTEN") {
        Some(_) => Some(parsed("HEALTH_LISTEN", usual)?),
        None => tls.is_some().then_some(usual),
    };
    Ok(Door {
        listener: listener(port).await?,
        tls: tls.map(std::sync::Arc::new),
        health: match health {
            Some(address) => Some(bind(address).await?),
            None => None,
        },
    })
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("listening on {address}: {error}")))
}
