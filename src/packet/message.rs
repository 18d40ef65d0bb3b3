//! What one party said to another.

use std::{fmt, net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{CapturePoint, Leak, tls::Certificate};

/// The transport a message came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP, RFC 9293.
    Tcp,
    /// UDP, RFC 768.
    Udp,
}

/// What a message was recognised as, by its bytes and not by its port alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1, RFC 9112.
    Http,
    /// The PostgreSQL frontend/backend protocol, version 3.
    #[serde(alias = "postgresql")]
    Postgres,
    /// DNS, RFC 1035.
    Dns,
    /// TLS: what is inside is encrypted, RFC 8446 and RFC 5246.
    Tls,
    /// TCP that no decoder recognised, and events of the connection itself (opened, refused, reset, closed).
    Tcp,
    /// UDP that no decoder recognised.
    Udp,
}

impl Protocol {
    /// Every protocol, in the order a reader would list them.
    pub const ALL: [Protocol; 6] = [
        Protocol::Http,
        Protocol::Postgres,
        Protocol::Dns,
        Protocol::Tls,
        Protocol::Tcp,
        Protocol::Udp,
    ];

    /// The name used in lab files, filters and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Postgres => "postgres",
            Protocol::Dns => "dns",
            Protocol::Tls => "tls",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What kind of Kubernetes object an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhoKind {
    /// A pod's own address.
    Pod,
    /// A Service's cluster address: seen at the client, before DNAT.
    Service,
    /// The node: the kubelet's probes, DNS, and whatever else runs there.
    Node,
}

impl WhoKind {
    /// As `kubectl` abbreviates it.
    pub const fn short(self) -> &'static str {
        match self {
            WhoKind::Pod => "pod",
            WhoKind::Service => "svc",
            WhoKind::Node => "node",
        }
    }
}

/// The Kubernetes name behind an address at the time of the packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Who {
    /// Pod, Service or node.
    pub kind: WhoKind,
    /// Namespace; a node has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The object's own name (`payments-api-7c9f4d5b8-x2x7k`).
    pub name: String,
    /// The workload the object stands for (`payments-api`): a pod's controller, a Service's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
}

impl Who {
    /// The name people use: the workload where there is one, else the object's name.
    pub fn label(&self) -> &str {
        self.workload.as_deref().unwrap_or(&self.name)
    }

    /// The names for its address in a capture file: the first, which Wireshark shows, says what it is; the workload's
    /// follows where it is another.
    pub fn file_names(&self) -> Vec<String> {
        let mut parts = vec![self.name.as_str()];
        parts.extend(self.namespace.as_deref());
        parts.push(self.kind.short());
        let mut names = vec![parts.join(".")];
        names.extend(self.workload.clone().filter(|workload| *workload != self.name));
        names
    }

    /// Whose address it is by the names of a capture file; `None` for names that somebody else wrote.
    pub fn from_file_names(names: &[String]) -> Option<Self> {
        let (rest, kind) = names.first()?.rsplit_once('.')?;
        let kind = match kind {
            "pod" => WhoKind::Pod,
            "svc" => WhoKind::Service,
            "node" => WhoKind::Node,
            _ => return None,
        };
        let (name, namespace) = match kind {
            WhoKind::Node => (rest, None),
            _ => rest.rsplit_once('.').map(|(name, namespace)| (name, Some(namespace)))?,
        };
        Some(Self {
            kind,
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            workload: names.get(1).cloned(),
        })
    }

    /// Whether `name` means this: the workload's name or the object's.
    pub fn is(&self, name: &str) -> bool {
        self.label() == name || self.name == name
    }
}

/// One end of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// Address and port as they stood in the packet.
    pub addr: SocketAddr,
    /// Whose address that was, where the cluster's API knew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<Arc<Who>>,
    /// What this address had become at another point where the same packets were seen: on the way from client to
    /// server a Service's address is replaced by that of one of its pods (DNAT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub became: Option<Arc<Peer>>,
}

impl Peer {
    /// An end whose name is not known.
    pub const fn unnamed(addr: SocketAddr) -> Self {
        Self {
            addr,
            who: None,
            became: None,
        }
    }

    /// An end that belongs to somebody.
    pub const fn named(addr: SocketAddr, who: Arc<Who>) -> Self {
        Self {
            addr,
            who: Some(who),
            became: None,
        }
    }

    /// The name to show: workload, node, or the bare address.
    pub fn label(&self) -> String {
        match &self.who {
            Some(who) => who.label().to_owned(),
            None => self.addr.ip().to_string(),
        }
    }

    /// The name to show where both are known: the Service that was asked and the pod that answered,
    /// `payments-api (svc) → payments-api-7c9f-x2 (pod)`; else as [`Self::label`].
    pub fn names(&self) -> String {
        let Some(became) = &self.became else {
            return self.label();
        };
        let name = |peer: &Peer| match &peer.who {
            Some(who) => format!("{} ({})", who.name, who.kind.short()),
            None => peer.addr.ip().to_string(),
        };
        format!("{} → {}", name(self), name(became))
    }

    /// Whether this end is the workload, pod, Service or node called `name`, or became that on the way.
    pub fn is(&self, name: &str) -> bool {
        self.who.as_ref().is_some_and(|who| who.is(name)) || self.became.as_ref().is_some_and(|became| became.is(name))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Some(who) => write!(f, "{}:{}", who.label(), self.addr.port())?,
            None => write!(f, "{}", self.addr)?,
        }
        match &self.became {
            Some(became) => match &became.who {
                Some(who) => write!(f, " (at {}:{})", who.name, became.addr.port()),
                None => write!(f, " (at {})", became.addr),
            },
            None => Ok(()),
        }
    }
}

/// Another point at which the same message was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Where; `None` in a file that does not say.
    pub point: Option<CapturePoint>,
    /// When its first byte was seen there, in nanoseconds since the Unix epoch.
    pub ts_ns: u64,
    /// The frames that carried it there, as [`Message::frames`].
    pub frames: Vec<u64>,
}

/// Which side of its conversation a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// From the party that opened the conversation.
    Request,
    /// From the party that was asked.
    Response,
    /// Neither: an event of the connection, or the opening was not seen.
    Event,
}

/// The facts of a message that checks and filters ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Detail {
    /// An HTTP request.
    HttpRequest {
        /// `GET`, `POST` …
        method: String,
        /// The request target as sent.
        target: String,
        /// The `Host` header.
        host: Option<String>,
    },
    /// An HTTP response.
    HttpResponse {
        /// The status code.
        status: u16,
    },
    /// A PostgreSQL message that opens a session or authenticates it.
    PostgresLogin {
        /// What the message does: `startup`, `ssl-request`, `cancel`, `password-asked`, `password`, `accepted`, `sasl`.
        step: String,
        /// The method in play: `cleartext`, `md5`, `scram-sha-256`, or as the server named it.
        method: Option<String>,
        /// The user, once known.
        user: Option<String>,
        /// The database, once known.
        database: Option<String>,
    },
    /// A PostgreSQL statement (`Query`, `Parse`).
    PostgresQuery {
        /// The SQL text.
        sql: String,
    },
    /// A PostgreSQL answer.
    PostgresResult {
        /// Rows seen.
        rows: u64,
        /// The server's command tag (`SELECT 3`).
        tag: Option<String>,
        /// The server's error, as `SQLSTATE: message`.
        error: Option<String>,
    },
    /// A DNS query or answer.
    Dns {
        /// The name asked.
        name: String,
        /// The record type asked (`A`, `AAAA` …).
        kind: String,
        /// The response code of an answer (`No Error`, `Non-Existent Domain`); `None` in a query.
        code: Option<String>,
        /// The records answered, in text form.
        answers: Vec<String>,
    },
    /// A TLS record: what can be seen of it from outside.
    Tls {
        /// `client-hello`, `server-hello`, `hello-retry-request`, `certificate`, `certificate-request`,
        /// `certificate-verify`, `finished`, `alert`, `application-data` …
        record: String,
        /// The server name the client asked for, in clear (RFC 6066 §3).
        sni: Option<String>,
        /// The protocol version negotiated or offered (`1.2`, `1.3`).
        version: Option<String>,
        /// For an alert in clear: its description (RFC 8446 §6).
        alert: Option<String>,
        /// Application protocols: offered by a client, chosen by a server (RFC 7301).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        alpn: Vec<String>,
        /// Cipher suites by IANA's names: offered by a client, chosen by a server.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ciphers: Vec<String>,
        /// The chain of a Certificate message, the sender's own first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        certificates: Vec<Certificate>,
    },
    /// An event of a TCP connection: `opened`, `refused`, `reset`, `closed`.
    Connection {
        /// Which one.
        event: String,
    },
    /// Nothing typed: the text says it all.
    Other,
}

/// One thing said by one party to another: an HTTP request, a DNS answer, a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Number of this message within its capture, from 1, in the order in which messages became complete.
    pub seq: u64,
    /// When its first byte was seen, in nanoseconds since the Unix epoch.
    pub ts_ns: u64,
    /// When its last byte was seen, in nanoseconds since the Unix epoch.
    pub end_ts_ns: u64,
    /// Number of the conversation (connection, or pair of UDP ports) within its capture, from 1.
    pub flow: u64,
    /// Who said it.
    pub from: Peer,
    /// To whom.
    pub to: Peer,
    /// TCP or UDP.
    pub transport: Transport,
    /// What it was recognised as.
    pub protocol: Protocol,
    /// Which side of the conversation it is.
    pub role: Role,
    /// For a response, the `seq` of its request, where that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<u64>,
    /// One line, safe for a terminal.
    pub summary: String,
    /// The message in full (up to a limit), lines separated by `\n`, safe for a terminal: other control characters,
    /// and bytes that are not UTF-8, are shown escaped.
    pub text: String,
    /// Whether `text` was cut at the limit.
    #[serde(default)]
    pub truncated: bool,
    /// Whether bytes of this message were never seen by the capture.
    #[serde(default)]
    pub incomplete: bool,
    /// The facts.
    pub detail: Detail,
    /// Value of `x-ztlab-probe`, where this is (or answers) a request of ztlab's own probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// Numbers of the frames that carried it, from 1, as Wireshark counts them (up to a limit).
    pub frames: Vec<u64>,
    /// Secrets that this message showed to whoever could see it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaks: Vec<Leak>,
    /// Interface index of the first frame, where the capture recorded it (SLL2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
    /// Where it was captured; `None` in a file that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<CapturePoint>,
    /// The other points at which it was seen, where several were captured together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Sighting>,
}

impl Message {
    /// Whether it is a question or an answer of ztlab's own probes, by its header or by the port they ask from
    /// ([`PROBE_PORTS`](crate::PROBE_PORTS)).
    pub fn is_probe(&self) -> bool {
        let port = |peer: &Peer| crate::PROBE_PORTS.contains(&peer.addr.port());
        self.probe.is_some() || port(&self.from) || port(&self.to)
    }

    /// Whether it went between these two, in either direction, by workload, pod, Service or node name.
    pub fn between(&self, one: &str, other: &str) -> bool {
        (self.from.is(one) && self.to.is(other)) || (self.from.is(other) && self.to.is(one))
    }

    /// `orders-api → payments-api`; with the pod behind a Service where that was seen, see [`Peer::names`].
    pub fn route(&self) -> String {
        // What a Service's pod answers came from the pod first.
        let from = match &self.from.became {
            Some(pod) => Peer {
                became: Some(Arc::new(Peer {
                    became: None,
                    ..self.from.clone()
                })),
                ..Peer::clone(pod)
            },
            None => self.from.clone(),
        };
        format!("{} → {}", from.names(), self.to.names())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_capture_file() {
        let who = |kind, namespace: Option<&str>, name: &str, workload: Option<&str>| Who {
            kind,
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            workload: workload.map(str::to_owned),
        };
        for (who, first) in [
            (
                who(WhoKind::Pod, Some("shop"), "orders-api-7c9f-x2", Some("orders-api")),
                "orders-api-7c9f-x2.shop.pod",
            ),
            (who(WhoKind::Service, Some("shop"), "ledger", None), "ledger.shop.svc"),
            (who(WhoKind::Node, None, "node.with.dots", None), "node.with.dots.node"),
        ] {
            let names = who.file_names();
            assert_eq!(names[0], first);
            assert_eq!(Who::from_file_names(&names), Some(who));
        }
        for names in [
            vec![],
            vec!["example.com".to_owned()],
            vec!["pod".to_owned()],
            vec!["a.pod".to_owned()],
        ] {
            assert_eq!(Who::from_file_names(&names), None);
        }
    }
}
