//! Where the Workload API is (SPIFFE Workload Endpoint section 4).

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use thiserror::Error;

/// The environment variable that says where the Workload API is.
pub const VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

/// Where the Workload API is: `unix:///path/to/socket` or `tcp://127.0.0.1:8000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket, by its absolute path.
    Unix(PathBuf),
    /// An address of TCP.
    Tcp(SocketAddr),
}

/// Why a text says no such place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no address of the Workload API: {reason}; write unix:///path/to/socket or tcp://127.0.0.1:8000")]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        read(text).map_err(|reason| AddressError {
            text: text.chars().take(200).collect(),
            reason,
        })
    }
}

fn read(text: &str) -> Result<Address, &'static str> {
    let (scheme, rest) = text.split_once(':').ok_or("it has no scheme")?;
    if rest.contains(['?', '#']) {
        return Err("it has a query or a fragment");
    }
    match scheme {
        "unix" => {
            let path = match rest.strip_prefix("//") {
                Some(path) if path.starts_with('/') => path,
                Some(_) => return Err("a unix socket has no host, so three slashes come before its path"),
                None => rest,
            };
            if !path.starts_with('/') || path == "/" {
                return Err("the path of the socket is not absolute");
            }
            if path.contains(['%', '\0']) {
                return Err("the path of the socket has a character that a URI writes otherwise");
            }
            Ok(Address::Unix(path.into()))
        }
        "tcp" => {
            let host = rest.strip_prefix("//").ok_or("two slashes are missing")?;
            if host.contains('/') {
                return Err("it has a path");
            }
            host.parse()
                .map(Address::Tcp)
                .map_err(|_| "it is no IP address with a port")
        }
        _ => Err("the scheme is neither unix nor tcp"),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workload_endpoint_4_what_is_an_address() {
        for (text, path) in [
            ("unix:///run/a.sock", "/run/a.sock"),
            ("unix:/run/a.sock", "/run/a.sock"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address, Address::Unix(path.into()), "{text}");
            assert_eq!(address.to_string(), "unix:///run/a.sock");
        }
        for text in ["tcp://127.0.0.1:8000", "tcp://[::1]:8000"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn workload_endpoint_4_what_is_none() {
        for text in [
            "",
            "/run/a.sock",
            "unix:",
            "unix://",
            "unix:///",
            "unix://run/a.sock",
            "unix:run/a.sock",
            "unix:///run/a.sock?x",
            "unix:///run/a.sock#x",
            "unix:///run/a%20b",
            "UNIX:///run/a.sock",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:8000/foo",
            "tcp://localhost:8000",
            "tcp://user@127.0.0.1:8000",
            "tcp:127.0.0.1:8000",
            "https://127.0.0.1:8000",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("unix:///path/to/socket"), "{text}: {error}");
        }
    }
}
