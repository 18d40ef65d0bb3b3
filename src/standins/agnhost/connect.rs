//! `agnhost connect`: tries a connection and says what came of it, in words that tests look for.

use std::{io, time::Duration};

use tokio::net::lookup_host;

use super::{duration, tcp, udp};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long to try, as 1s or 500ms; 0 is as long as the system does
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration::parse)]
    timeout: Duration,
    /// Protocol; sctp is not in this stand-in
    #[arg(long, default_value = "tcp", value_parser = ["tcp", "udp"])]
    protocol: String,
    /// What to send by UDP; any answer will do
    #[arg(long, value_name = "DATA", default_value = "hostname")]
    udp_data: String,
    /// Whom to call
    #[arg(value_name = "HOST:PORT")]
    to: String,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Failure {
    Timeout,
    Refused,
    Dns(io::Error),
    Other(io::Error),
    Unknown(String),
}

impl Failure {
    /// What the system said of a connection.
    pub fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Other(error),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Timeout => "TIMEOUT".to_owned(),
            Self::Refused => "REFUSED".to_owned(),
            Self::Dns(error) => format!("DNS: {error}"),
            Self::Other(error) => format!("OTHER: {error}"),
            Self::Unknown(reason) => format!("UNKNOWN: {reason}"),
        }
    }
}

/// Tries; 0 if it worked, else 1 and a word on stderr.
pub async fn run(args: Args) -> u8 {
    let limit = if args.timeout.is_zero() {
        Duration::MAX
    } else {
        args.timeout
    };
    let outcome = match tokio::time::timeout(limit, attempt(&args)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::Timeout),
    };
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            use std::io::Write;
            // tests look for the word at the beginning of the line
            let _ = writeln!(io::stderr().lock(), "{}", failure.text());
            1
        }
    }
}

async fn attempt(args: &Args) -> Result<(), Failure> {
    let (host, port) = args
        .to
        .rsplit_once(':')
        .ok_or_else(|| Failure::Unknown(format!("{} is not HOST:PORT", args.to)))?;
    let port: u16 = port
        .parse()
        .map_err(|_| Failure::Unknown(format!("{port} is no port")))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut failure = Failure::Dns(io::Error::other("no addresses"));
    for address in lookup_host((host, port)).await.map_err(Failure::Dns)? {
        let outcome = if args.protocol == "udp" {
            udp::ask(address, args.udp_data.as_bytes()).await.map(|_| ())
        } else {
            tcp::open(address).await.map(|_| ())
        };
        match outcome {
            Ok(()) => return Ok(()),
            Err(error) => failure = Failure::of(error),
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Whole {
        #[command(flatten)]
        args: Args,
    }

    async fn tried(line: &str) -> String {
        let args = Whole::try_parse_from(line.split(' ')).unwrap().args;
        match tokio::time::timeout(args.timeout, attempt(&args)).await {
            Ok(Ok(())) => "open".to_owned(),
            Ok(Err(failure)) => failure.text().chars().take_while(|c| *c != ':').collect(),
            Err(_) => "TIMEOUT".to_owned(),
        }
    }

    #[tokio::test]
    async fn outcomes_have_their_words() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let silent_port = silent.local_addr().unwrap().port();
        assert_eq!(tried(&format!("connect 127.0.0.1:{port} --timeout 5s")).await, "open");
        let udp = format!("connect 127.0.0.1:{silent_port} --timeout 50ms --protocol udp");
        assert_eq!(tried(&udp).await, "TIMEOUT");
        drop((listener, silent));
        assert_eq!(
            tried(&format!("connect 127.0.0.1:{port} --timeout 5s")).await,
            "REFUSED"
        );
        assert_eq!(tried(&udp.replace("50ms", "5s")).await, "REFUSED");
        assert_eq!(tried("connect 127.0.0.1 --timeout 5s").await, "UNKNOWN");
        assert_eq!(tried("connect 127.0.0.1:x --timeout 5s").await, "UNKNOWN");
        assert_eq!(tried("connect 255.255.255.255:80 --timeout 5s").await, "OTHER");
    }
}
