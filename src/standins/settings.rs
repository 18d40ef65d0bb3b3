//! The environment as a service reads it.

use std::{env, io, net::SocketAddr};

use tokio::net::TcpListener;

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
    let address = parsed("LISTEN", SocketAddr::from(([0, 0, 0, 0], port)))?;
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("listening on {address}: {error}")))
}
