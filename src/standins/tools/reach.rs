//! `reach`: tries many targets at once, once or for a while, and says of each whether it was open, refused or silent.
//!
//! A tool of ztlab's own: what a row of a reachability matrix takes in one program, and what watches a target while rules
//! change.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write,
    io,
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use tokio::{
    net::{TcpStream, UdpSocket, lookup_host},
    sync::Semaphore,
};

use crate::standins::process;

/// The most attempts under way at once.
const AT_ONCE: usize = 512;
/// What is sent by UDP: servers of tests answer to it with their host name.
const QUESTION: &[u8] = b"hostname";

#[derive(Debug, Parser)]
#[command(
    name = "reach",
    about = "Tries targets, all at once: `tcp://host:port` and `udp://host:port`; 0 if all are open",
    disable_version_flag = true
)]
struct Args {
    /// Milliseconds that an attempt may take
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    timeout: u64,
    /// Try each target again and again for this many milliseconds, and count
    #[arg(long = "for", value_name = "MS")]
    duration: Option<u64>,
    /// Milliseconds between two attempts at a target, with --for
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pause: u64,
    /// Targets
    #[arg(required = true, value_name = "TARGET", value_parser = Target::parse)]
    targets: Vec<Target>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    udp: bool,
    host: String,
    port: u16,
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is not tcp://host:port or udp://host:port");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let udp = match scheme {
            "tcp" => false,
            "udp" => true,
            _ => return Err(wrong()),
        };
        let port = port.parse().map_err(|_| wrong())?;
        let host = host.to_owned();
        if host.is_empty() {
            Err(wrong())
        } else {
            Ok(Self { udp, host, port })
        }
    }

    fn text(&self) -> String {
        let scheme = if self.udp { "udp" } else { "tcp" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }

    async fn attempt(&self) -> io::Result<()> {
        let address = lookup_host((self.host.as_str(), self.port)).await?.next();
        let address = address.ok_or_else(|| io::Error::other("no addresses"))?;
        if self.udp {
            datagram(address).await
        } else {
            TcpStream::connect(address).await.map(|_| ())
        }
    }

    /// One word.
    async fn outcome(&self, limit: Duration) -> String {
        match tokio::time::timeout(limit, self.attempt()).await {
            Ok(Ok(())) => "open".to_owned(),
            Ok(Err(error)) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "refused".to_owned(),
                io::ErrorKind::TimedOut => "timeout".to_owned(),
                kind => format!("{kind:?}").to_lowercase(),
            },
            Err(_) => "timeout".to_owned(),
        }
    }
}

async fn datagram(address: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
    socket.connect(address).await?;
    socket.send(QUESTION).await?;
    let mut answer = [0; 1024];
    socket.recv(&mut answer).await.map(|_| ())
}

/// Tries the targets; a line for each, in the order given.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args = match Args::try_parse_from(std::iter::once(OsString::from("reach")).chain(args)) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    process::run("reach", async move {
        let results = try_all(&args).await;
        let mut text = String::new();
        for (target, counts) in args.targets.iter().zip(&results) {
            let words: Vec<String> = match args.duration {
                None => counts.keys().cloned().collect(),
                Some(_) => counts.iter().map(|(word, count)| format!("{word}={count}")).collect(),
            };
            let _ = writeln!(text, "{} {}", target.text(), words.join(" "));
        }
        let printed = process::print(&text).is_ok();
        let all_open = results.iter().all(|counts| counts.keys().all(|word| word == "open"));
        u8::from(!(printed && all_open))
    })
}

async fn try_all(args: &Args) -> Vec<BTreeMap<String, u64>> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let limit = Duration::from_millis(args.timeout);
    let pause = Duration::from_millis(args.pause);
    let end = args
        .duration
        .map(|millis| Instant::now() + Duration::from_millis(millis));
    let tries = args.targets.iter().map(|target| {
        let places = places.clone();
        async move {
            let mut counts = BTreeMap::new();
            loop {
                // the semaphore is never closed
                let place = places.acquire().await;
                *counts.entry(target.outcome(limit).await).or_insert(0) += 1;
                drop(place);
                if end.is_none_or(|end| Instant::now() >= end) {
                    return counts;
                }
                tokio::time::sleep(pause).await;
            }
        }
    });
    futures::future::join_all(tries).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let target = |udp, host: &str, port| {
            Ok(Target {
                udp,
                host: host.to_owned(),
                port,
            })
        };
        assert_eq!(Target::parse("tcp://10.0.0.1:80"), target(false, "10.0.0.1", 80));
        assert_eq!(Target::parse("udp://web.shop:53"), target(true, "web.shop", 53));
        for text in [
            "",
            "10.0.0.1:80",
            "sctp://a:1",
            "tcp://a",
            "tcp://:80",
            "tcp://a:x",
            "tcp://a:70000",
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn outcomes_are_told_apart() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap().port();
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (closed, silent) = {
            let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            (
                closed.local_addr().unwrap().port(),
                (silent.local_addr().unwrap().port(), silent),
            )
        };
        let targets = [
            format!("tcp://127.0.0.1:{open}"),
            format!("tcp://127.0.0.1:{closed}"),
            format!("udp://127.0.0.1:{}", silent.0),
        ];
        let args = ["reach", "--timeout", "100"]
            .map(str::to_owned)
            .into_iter()
            .chain(targets);
        let args = Args::try_parse_from(args).unwrap();
        let found: Vec<String> = try_all(&args)
            .await
            .iter()
            .flat_map(|counts| counts.keys().cloned())
            .collect();
        assert_eq!(found, ["open", "refused", "timeout"]);
    }
}
