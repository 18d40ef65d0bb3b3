//! Names to addresses as the pod's own programs see them: `/etc/hosts`, then DNS with the search list of
//! `/etc/resolv.conf` (resolv.conf(5)).
//!
//! Not through the C library, whose answers do not tell "no such name" from "no answer".

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};

use super::port;

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// DNS says that there is no such name, or no address for it.
    NoSuchName,
    /// No server answered.
    NoAnswer,
    /// A server answered with an error, or cannot be asked.
    Failed(String),
}

/// What DNS says of one name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Records(Vec<IpAddr>),
    /// NXDOMAIN.
    NoSuchName,
    /// REFUSED: the server does not serve that part of the name space.
    Declined,
}

/// What `/etc/resolv.conf` and `/etc/hosts` say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    hosts: Vec<(String, IpAddr)>,
}

/// How long one server has to answer one question.
const ANSWER: Duration = Duration::from_secs(1);
/// How often a question is put.
const ATTEMPTS: usize = 2;
/// Names of a search list that are tried.
const SEARCH: usize = 16;

impl Resolver {
    pub(super) fn of_this_machine() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/etc/resolv.conf"), &read("/etc/hosts"))
    }

    fn parse(resolv_conf: &str, hosts: &str) -> Self {
        let mut resolver = Self {
            ndots: 1,
            ..Self::default()
        };
        for line in resolv_conf.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| word.parse().ok());
                    resolver
                        .servers
                        .extend(server.map(|addr: IpAddr| SocketAddr::new(addr, 53)));
                }
                Some("search" | "domain") => {
                    resolver.search = words
                        .take(SEARCH)
                        .map(|word| word.trim_end_matches('.').to_owned())
                        .collect();
                }
                Some("options") => {
                    let ndots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    resolver.ndots = ndots.unwrap_or(resolver.ndots).min(15);
                }
                _ => {}
            }
        }
        for line in hosts.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(addr) = words.next().and_then(|word| word.parse().ok()) else {
                continue;
            };
            resolver
                .hosts
                .extend(words.map(|name| (name.to_ascii_lowercase(), addr)));
        }
        resolver
    }

    /// The names to ask for, in order.
    fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let mut candidates: Vec<String> = self.search.iter().map(|domain| format!("{name}.{domain}")).collect();
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let at = if dots >= self.ndots { 0 } else { candidates.len() };
        candidates.insert(at, name.to_owned());
        candidates
    }

    /// The addresses of a name.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let wanted = name.trim_end_matches('.').to_ascii_lowercase();
        let known: Vec<IpAddr> = self
            .hosts
            .iter()
            .filter(|(host, _)| *host == wanted)
            .map(|(_, addr)| *addr)
            .collect();
        if !known.is_empty() {
            return Ok(known);
        }
        let mut denied = false;
        for candidate in self.candidates(name) {
            for kind in [RecordType::A, RecordType::AAAA] {
                match self.ask(&candidate, kind).await? {
                    Answer::Records(addresses) if !addresses.is_empty() => return Ok(addresses),
                    Answer::Records(_) => denied = true,
                    // There is no such name, for any type.
                    Answer::NoSuchName => {
                        denied = true;
                        break;
                    }
                    // A cluster's DNS without an upstream declines names outside the cluster; what it said of the
                    // names within stands.
                    Answer::Declined if denied => break,
                    Answer::Declined => return Err(Unresolved::Failed("the server declines to answer".to_owned())),
                }
            }
        }
        Err(Unresolved::NoSuchName)
    }

    /// Asks the servers one after another.
    async fn ask(&self, name: &str, kind: RecordType) -> Result<Answer, Unresolved> {
        let name = Name::from_ascii(format!("{name}."))
            .map_err(|error| Unresolved::Failed(format!("{name:?} is no DNS name: {error}")))?;
        let mut last = Unresolved::Failed("/etc/resolv.conf names no server".to_owned());
        for server in self.servers.iter().cycle().take(self.servers.len() * ATTEMPTS) {
            match tokio::time::timeout(ANSWER, exchange(*server, &name, kind)).await {
                Ok(Ok(answer)) => match answer.metadata.response_code {
                    ResponseCode::NoError => return Ok(Answer::Records(addresses(&answer))),
                    ResponseCode::NXDomain => return Ok(Answer::NoSuchName),
                    ResponseCode::Refused => return Ok(Answer::Declined),
                    code => last = Unresolved::Failed(format!("{server} says: {code}")),
                },
                Ok(Err(error)) => last = Unresolved::Failed(format!("{server}: {error}")),
                Err(_) => last = Unresolved::NoAnswer,
            }
        }
        Err(last)
    }
}

fn addresses(answer: &Message) -> Vec<IpAddr> {
    answer
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(addr) => Some(IpAddr::V4(addr.0)),
            RData::AAAA(addr) => Some(IpAddr::V6(addr.0)),
            _ => None,
        })
        .collect()
}

/// One question and its answer, over UDP.
async fn exchange(server: SocketAddr, name: &Name, kind: RecordType) -> std::io::Result<Message> {
    let socket = port::udp(server).await?;
    let mut question = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    socket.send(&question.to_vec().map_err(std::io::Error::other)?).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let count = socket.recv(&mut buffer).await?;
        // Anything else is a late answer to somebody else's question.
        if let Ok(answer) = Message::from_vec(&buffer[..count])
            && answer.metadata.id == question.metadata.id
            && answer.metadata.message_type == MessageType::Response
        {
            return Ok(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;

    use super::*;

    const RESOLV_CONF: &str = "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10 # dns\noptions ndots:5 edns0\n";

    #[test]
    fn names_are_searched_as_resolv_conf_says() {
        let resolver = Resolver::parse(RESOLV_CONF, "127.0.0.1 localhost\n10.244.0.9 Mallory-x # me\n");
        assert_eq!(resolver.servers, ["10.96.0.10:53".parse().unwrap()]);
        assert_eq!(
            resolver.candidates("ledger"),
            [
                "ledger.shop.svc.cluster.local",
                "ledger.svc.cluster.local",
                "ledger.cluster.local",
                "ledger"
            ]
        );
        assert_eq!(resolver.candidates("a.b.c.d.e.f")[0], "a.b.c.d.e.f");
        assert_eq!(resolver.candidates("ledger."), ["ledger"]);
        assert_eq!(
            resolver.hosts[1],
            ("mallory-x".to_owned(), "10.244.0.9".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn no_such_name_and_no_answer_are_told_apart() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = server.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            loop {
                let (count, from) = server.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..count]).unwrap();
                let name = question.queries[0].name().to_ascii();
                let mut answer = question.clone();
                answer.metadata.message_type = MessageType::Response;
                answer.metadata.response_code = match name.as_str() {
                    "broken." => ResponseCode::ServFail,
                    "outside." => ResponseCode::Refused,
                    "here.local." => ResponseCode::NoError,
                    _ => ResponseCode::NXDomain,
                };
                if name == "here.local." && question.queries[0].query_type() == RecordType::A {
                    let data = RData::A("10.1.2.3".parse().unwrap());
                    answer.add_answer(hickory_proto::rr::Record::from_rdata(
                        Name::from_ascii(name).unwrap(),
                        1,
                        data,
                    ));
                }
                server.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        let resolver = Resolver {
            servers: vec![addr],
            search: vec!["local".into()],
            ndots: 5,
            hosts: Vec::new(),
        };
        assert_eq!(resolver.addresses("here").await, Ok(vec!["10.1.2.3".parse().unwrap()]));
        assert_eq!(resolver.addresses("gone").await, Err(Unresolved::NoSuchName));
        assert!(matches!(
            resolver.addresses("broken.").await,
            Err(Unresolved::Failed(_))
        ));
        answering.abort();
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = Resolver {
            servers: vec![silent.local_addr().unwrap()],
            ..Resolver::default()
        };
        assert_eq!(resolver.addresses("here").await, Err(Unresolved::NoAnswer));
        assert!(matches!(
            Resolver::default().addresses("here").await,
            Err(Unresolved::Failed(_))
        ));
    }
}
