//! `agnhost serve-hostname`: says this pod's host name to whoever asks.

use std::{io, process::ExitCode};

use axum::{Router, http::header, response::IntoResponse};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use super::{NAME, hostname, tcp, udp};
use crate::standins::{http::server, process};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Serve raw TCP
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    tcp: bool,
    /// Serve raw UDP
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    udp: bool,
    /// Serve HTTP; not together with --tcp or --udp
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    http: bool,
    /// Close the connection after each HTTP answer
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    close: bool,
    /// Port
    #[arg(long, default_value_t = 9376)]
    port: u16,
}

/// Serves until SIGTERM.
pub fn main(args: Args) -> ExitCode {
    process::serve(NAME, async move |shutdown| serve(args, shutdown).await)
}

async fn serve(args: Args, shutdown: CancellationToken) -> io::Result<()> {
    let name = hostname();
    if args.http && (args.tcp || args.udp) {
        let text = "--http cannot be given together with --tcp or --udp: say --http=false";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    if args.http {
        return web(args.port, name, args.close, shutdown).await;
    }
    match (args.tcp, args.udp) {
        (true, false) => raw(args.port, &name).await,
        (false, true) => udp::serve(args.port, |_, _| Some(name.clone().into_bytes())).await,
        (true, true) => {
            let datagrams = udp::serve(args.port, |_, _| Some(name.clone().into_bytes()));
            tokio::select! {
                ended = raw(args.port, &name) => ended,
                ended = datagrams => ended,
            }
        }
        (false, false) => {
            let text = "nothing to serve: give --tcp, --udp or --http";
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

async fn web(port: u16, name: String, close: bool, shutdown: CancellationToken) -> io::Result<()> {
    let answer = move || {
        let (name, close) = (name.clone(), close);
        async move {
            let headers = close.then_some([(header::CONNECTION, "close")]);
            match headers {
                Some(headers) => (headers, name).into_response(),
                None => name.into_response(),
            }
        }
    };
    let routes = Router::new().fallback(answer);
    server::serve_silently(tcp::listen(port).await?, routes, shutdown).await
}

async fn raw(port: u16, name: &str) -> io::Result<()> {
    let listener = tcp::listen(port).await?;
    loop {
        let Ok((mut connection, _)) = listener.accept().await else {
            // out of descriptors, most likely: others may be closed by then
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let name = format!("{name}\n");
        tokio::spawn(async move {
            // whoever hangs up early has seen enough
            let _ = connection.write_all(name.as_bytes()).await;
            let _ = connection.shutdown().await;
        });
    }
}
