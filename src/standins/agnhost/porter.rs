//! `agnhost porter`: serves the text of each `SERVE_PORT_<number>` variable on that port, over HTTP.

use std::{env, io, process::ExitCode};

use axum::Router;

use super::{NAME, tcp};
use crate::standins::{http::server, process};

/// Serves until SIGTERM.
pub fn main() -> ExitCode {
    process::serve(NAME, async |shutdown| {
        let ports =
            ports(env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))))
                .map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
        let mut servers = tokio::task::JoinSet::new();
        for (port, text) in ports {
            let listener = tcp::listen(port).await?;
            let routes = Router::new().fallback(move || std::future::ready(text.clone()));
            servers.spawn(server::serve_silently(listener, routes, shutdown.clone()));
        }
        while let Some(ended) = servers.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    })
}

/// Ports with what they serve; at least one.
fn ports(variables: impl Iterator<Item = (String, String)>) -> Result<Vec<(u16, String)>, String> {
    let mut ports = Vec::new();
    for (name, text) in variables {
        if let Some(number) = name.strip_prefix("SERVE_PORT_") {
            let port = number.parse().map_err(|_| format!("{name}: {number} is no port"))?;
            ports.push((port, text));
        } else if name.starts_with("SERVE_TLS_PORT_") || name.starts_with("SERVE_SCTP_PORT_") {
            return Err(format!("{name}: ztlab's stand-in for agnhost serves TCP only"));
        }
    }
    if ports.is_empty() {
        return Err("nothing to serve: set SERVE_PORT_<number> to a text".to_owned());
    }
    ports.sort();
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_ports() {
        let read = |pairs: &[(&str, &str)]| ports(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let found = read(&[("SERVE_PORT_81", "b"), ("PATH", "/"), ("SERVE_PORT_80", "a")]);
        assert_eq!(found, Ok(vec![(80, "a".to_owned()), (81, "b".to_owned())]));
        for (name, says) in [
            ("SERVE_PORT_x", "no port"),
            ("SERVE_SCTP_PORT_80", "TCP only"),
            ("A", "nothing to serve"),
        ] {
            let error = read(&[(name, "")]).unwrap_err();
            assert!(error.contains(says), "{name}: {error}");
        }
    }
}
