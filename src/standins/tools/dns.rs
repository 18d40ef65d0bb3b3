//! The DNS client that `dig` and `nslookup` share: which server to ask, and one question and its answer.
//!
//! Source: RFC 1035 for the messages, resolv.conf(5) for the file.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{DNSClass, Name, RecordType},
};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

/// The largest answer over UDP that is taken, in bytes.
const LARGEST: usize = 4096;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum DnsError {
    /// Nothing to ask.
    #[error("no name server: /etc/resolv.conf names none")]
    NoServer,
    /// The question cannot be asked.
    #[error("`{0}` is no name")]
    Name(String),
    /// No answer within the time.
    #[error("no answer from {server} within {} s", .after.as_secs_f32())]
    Timeout {
        /// Who was asked.
        server: SocketAddr,
        /// For how long.
        after: Duration,
    },
    /// It could not be asked.
    #[error("{server}: {source}")]
    Io {
        /// Who was asked.
        server: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The answer is no DNS message.
    #[error("{server} answered what is no DNS message: {reason}")]
    Malformed {
        /// Who was asked.
        server: SocketAddr,
        /// What is wrong with it.
        reason: String,
    },
}

/// The part of resolv.conf(5) that matters here.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolver {
    /// Servers in order.
    pub servers: Vec<IpAddr>,
    /// Domains to try after a name.
    pub search: Vec<String>,
    /// A name with fewer dots is tried with the domains first.
    pub ndots: usize,
}

impl Resolver {
    /// Reads `/etc/resolv.conf`; a missing file names nothing.
    pub fn system() -> Resolver {
        Resolver::parse(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }

    /// Reads the file's text; lines it does not know are passed over, as resolv.conf(5) says.
    pub fn parse(text: &str) -> Resolver {
        let mut resolver = Resolver {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver
                    .servers
                    .extend(words.next().and_then(|ip| ip.parse::<IpAddr>().ok())),
                Some("search" | "domain") => resolver.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    for option in words {
                        if let Some(Ok(ndots)) = option.strip_prefix("ndots:").map(str::parse::<usize>) {
                            resolver.ndots = ndots.min(15);
                        }
                    }
                }
                _ => {}
            }
        }
        resolver
    }

    /// The full names to try for `name`, in order.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let with_domains = self
            .search
            .iter()
            .map(|domain| format!("{name}.{}.", domain.trim_end_matches('.')));
        let mut candidates: Vec<String> = with_domains.collect();
        let bare = format!("{name}.");
        if name.matches('.').count() >= self.ndots {
            candidates.insert(0, bare);
        } else {
            candidates.push(bare);
        }
        candidates
    }
}

/// An answer and how it came.
#[derive(Debug)]
pub struct Answer {
    /// The message.
    pub message: Message,
    /// Its length, in bytes.
    pub size: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether it came over TCP.
    pub tcp: bool,
}

/// How to ask.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Over TCP from the start; a truncated answer is asked for again over TCP anyway.
    pub tcp: bool,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How often to try.
    pub tries: u32,
}

/// Asks `server` for `kind` of `name`.
///
/// # Errors
/// [`DnsError`]; an answer of any response code is an answer.
pub async fn ask(server: SocketAddr, name: &str, kind: RecordType, manner: Manner) -> Result<Answer, DnsError> {
    let mut question = Name::from_ascii(name).map_err(|_| DnsError::Name(name.to_owned()))?;
    question.set_fqdn(true);
    let mut query = Query::query(question, kind);
    query.set_query_class(DNSClass::IN);
    let id = rand::random();
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(query);
    let bytes = message.to_vec().map_err(|_| DnsError::Name(name.to_owned()))?;
    let mut outcome = Err(DnsError::NoServer);
    for _ in 0..manner.tries.max(1) {
        outcome = attempt(server, id, &bytes, manner).await;
        if !matches!(outcome, Err(DnsError::Timeout { .. })) {
            break;
        }
    }
    outcome
}

async fn attempt(server: SocketAddr, id: u16, question: &[u8], manner: Manner) -> Result<Answer, DnsError> {
    let start = Instant::now();
    let io = |source| DnsError::Io { server, source };
    let exchange = async {
        if !manner.tcp {
            let bytes = over_udp(server, id, question).await.map_err(io)?;
            let message = decode(server, &bytes)?;
            if !message.metadata.truncation {
                return Ok((message, bytes.len(), false));
            }
        }
        let bytes = over_tcp(server, question).await.map_err(io)?;
        Ok((decode(server, &bytes)?, bytes.len(), true))
    };
    match tokio::time::timeout(manner.timeout, exchange).await {
        Ok(outcome) => outcome.map(|(message, size, tcp)| Answer {
            message,
            size,
            took: start.elapsed(),
            tcp,
        }),
        Err(_) => Err(DnsError::Timeout {
            server,
            after: manner.timeout,
        }),
    }
}

fn decode(server: SocketAddr, bytes: &[u8]) -> Result<Message, DnsError> {
    Message::from_vec(bytes).map_err(|error| DnsError::Malformed {
        server,
        reason: error.to_string(),
    })
}

async fn over_udp(server: SocketAddr, id: u16, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut answer).await?;
        // An answer to another question is not ours (RFC 5452 §9.1).
        if answer[..length].starts_with(&id.to_be_bytes()) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes()[..], question].concat())
        .await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: &str = "# made by the kubelet\nnameserver 10.96.0.10\nnameserver nonsense\n\
                        search shop.svc.cluster.local svc.cluster.local\noptions ndots:5 edns0\n";

    #[test]
    fn the_search_list_comes_first_for_short_names() {
        let resolver = Resolver::parse(PODS);
        assert_eq!(resolver.servers, ["10.96.0.10".parse::<IpAddr>().unwrap()]);
        let candidates = resolver.candidates("ledger");
        assert_eq!(
            candidates,
            ["ledger.shop.svc.cluster.local.", "ledger.svc.cluster.local.", "ledger."]
        );
        assert_eq!(resolver.candidates("ledger."), ["ledger."]);
        assert_eq!(Resolver::parse("search a").candidates("b.c")[0], "b.c.");
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(text in ".*", name in ".*") {
            let _ = Resolver::parse(&text).candidates(&name);
        }
    }
}
