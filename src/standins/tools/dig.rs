//! `dig`: asks a name server and shows the answer in the form of BIND's dig.

use std::{
    ffi::OsString,
    fmt::Write,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use hickory_proto::rr::{Name, Record, RecordType};

use super::dns::{self, Answer, Manner, Resolver};
use crate::standins::process;

const USAGE: &str = "usage: dig [@server] [-p port] [-x address] name [type] [+short] [+tcp] [+search] [+time=s] \
                     [+tries=n]\nThis is ztlab's stand-in for dig: it knows these options only.";

/// What to ask.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    server: Option<String>,
    port: u16,
    name: String,
    kind: RecordType,
    short: bool,
    tcp: bool,
    search: bool,
    timeout: Duration,
    tries: u32,
}

/// Asks; 9 if no server answers, as dig's exit codes have it.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    match args.first().map(String::as_str) {
        Some("-v" | "--version") => {
            let version = env!("CARGO_PKG_VERSION");
            let _ = process::print(&format!("dig (a stand-in of ztlab, not BIND's) {version}\n"));
            return ExitCode::SUCCESS;
        }
        Some("-h" | "--help") => {
            let _ = process::print(&format!("{USAGE}\n"));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let question = match parse(&args) {
        Ok(question) => question,
        Err(why) => {
            process::complain("dig", &format!("{why}\n{USAGE}"));
            return ExitCode::from(1);
        }
    };
    process::run("dig", async move {
        match run(&question, &Resolver::system()).await {
            Ok(text) => u8::from(process::print(&text).is_err()),
            Err(why) => {
                process::complain("dig", &why);
                9
            }
        }
    })
}

fn parse(args: &[String]) -> Result<Question, String> {
    let mut question = Question {
        server: None,
        port: 53,
        name: String::new(),
        kind: RecordType::A,
        short: false,
        tcp: false,
        search: false,
        timeout: Duration::from_secs(5),
        tries: 3,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "-p" => question.port = number(arg, value()?)?,
            "-t" => question.kind = kind(value()?).ok_or("-t wants a type, such as A or SRV")?,
            "-x" => {
                let address: IpAddr = value()?.parse().map_err(|_| "-x wants an address".to_owned())?;
                question.name = Name::from(address).to_ascii();
                question.kind = RecordType::PTR;
            }
            "+short" => question.short = true,
            "+tcp" => question.tcp = true,
            "+search" => question.search = true,
            _ => {
                if let Some(server) = arg.strip_prefix('@') {
                    question.server = Some(server.to_owned());
                } else if let Some(seconds) = arg.strip_prefix("+time=") {
                    question.timeout = Duration::from_secs(u64::from(number::<u16>(arg, seconds)?.max(1)));
                } else if let Some(tries) = arg.strip_prefix("+tries=") {
                    question.tries = u32::from(number::<u8>(arg, tries)?.max(1));
                } else if arg.starts_with(['+', '-']) {
                    return Err(format!("{arg} is not known"));
                } else if let Some(kind) = kind(arg).filter(|_| !question.name.is_empty()) {
                    question.kind = kind;
                } else if question.name.is_empty() {
                    question.name.clone_from(arg);
                } else {
                    return Err(format!("{arg} is one name too many"));
                }
            }
        }
    }
    if question.name.is_empty() {
        return Err("no name to ask for".to_owned());
    }
    Ok(question)
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{option}: {text} is no number that fits"))
}

fn kind(text: &str) -> Option<RecordType> {
    text.to_ascii_uppercase().parse().ok()
}

async fn run(question: &Question, resolver: &Resolver) -> Result<String, String> {
    let server = server(question.server.as_deref(), question.port, resolver).await?;
    let manner = Manner {
        tcp: question.tcp,
        timeout: question.timeout,
        tries: question.tries,
    };
    let names = if question.search {
        resolver.candidates(&question.name)
    } else {
        vec![question.name.clone()]
    };
    let mut text = String::new();
    for name in names {
        let answer = dns::ask(server, &name, question.kind, manner)
            .await
            .map_err(|error| error.to_string())?;
        let found = !answer.message.answers.is_empty();
        text = if question.short {
            short(&answer)
        } else {
            long(&answer, server)
        };
        if found {
            break;
        }
    }
    Ok(text)
}

/// The server to ask: the one given, by address or name, or the first of resolv.conf(5).
///
/// # Errors
/// When there is none.
pub async fn server(given: Option<&str>, port: u16, resolver: &Resolver) -> Result<SocketAddr, String> {
    match given {
        Some(server) => {
            let found = tokio::net::lookup_host((server, port)).await;
            let found = found.map_err(|error| format!("server {server}: {error}"))?.next();
            found.ok_or_else(|| format!("server {server} has no address"))
        }
        None => match resolver.servers.first() {
            Some(ip) => Ok(SocketAddr::new(*ip, port)),
            None => Err(dns::DnsError::NoServer.to_string()),
        },
    }
}

fn short(answer: &Answer) -> String {
    let lines = answer.message.answers.iter().map(|record| format!("{}\n", record.data));
    lines.collect()
}

fn long(answer: &Answer, server: SocketAddr) -> String {
    let message = &answer.message;
    let metadata = &message.metadata;
    let mut flags = String::from("qr");
    for (set, flag) in [
        (metadata.authoritative, " aa"),
        (metadata.truncation, " tc"),
        (metadata.recursion_desired, " rd"),
        (metadata.recursion_available, " ra"),
    ] {
        if set {
            flags.push_str(flag);
        }
    }
    let status = format!("{:?}", metadata.response_code).to_uppercase();
    let mut text = format!(
        "; <<>> dig (ztlab) {} <<>>\n;; ->>HEADER<<- opcode: QUERY, status: {status}, id: {}\n\
         ;; flags: {flags}; QUERY: {}, ANSWER: {}, AUTHORITY: {}, ADDITIONAL: {}\n\n;; QUESTION SECTION:\n",
        env!("CARGO_PKG_VERSION"),
        metadata.id,
        message.queries.len(),
        message.answers.len(),
        message.authorities.len(),
        message.additionals.len(),
    );
    for query in &message.queries {
        let _ = writeln!(
            text,
            ";{}\t\t{}\t{}",
            query.name(),
            query.query_class(),
            query.query_type()
        );
    }
    section(&mut text, "ANSWER", &message.answers);
    section(&mut text, "AUTHORITY", &message.authorities);
    section(&mut text, "ADDITIONAL", &message.additionals);
    let over = if answer.tcp { "TCP" } else { "UDP" };
    let _ = writeln!(
        text,
        "\n;; Query time: {} msec\n;; SERVER: {}#{} ({over})\n;; MSG SIZE  rcvd: {}",
        answer.took.as_millis(),
        server.ip(),
        server.port(),
        answer.size,
    );
    text
}

fn section(text: &mut String, title: &str, records: &[Record]) {
    if records.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n;; {title} SECTION:");
    for record in records {
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}",
            record.name,
            record.ttl,
            record.dns_class,
            record.record_type(),
            record.data,
        );
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{Message, ResponseCode},
        rr::{RData, rdata::A},
    };
    use tokio::net::UdpSocket;

    use super::*;

    /// A name server that knows `ledger.shop.svc.cluster.local` and nothing else.
    pub async fn name_server() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                let mut message = Message::from_vec(&buffer[..length]).unwrap();
                message.metadata.message_type = hickory_proto::op::MessageType::Response;
                let query = message.queries[0].clone();
                if query.name().to_ascii() != "ledger.shop.svc.cluster.local." {
                    message.metadata.response_code = ResponseCode::NXDomain;
                } else if query.query_type() == RecordType::A {
                    let data = RData::A(A::new(10, 96, 0, 7));
                    message.answers.push(Record::from_rdata(query.name().clone(), 5, data));
                }
                socket.send_to(&message.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        address
    }

    fn read(line: &str) -> Result<Question, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn an_answer_is_shown_in_both_forms() {
        let server = name_server().await;
        let resolver = Resolver::parse("search shop.svc.cluster.local\noptions ndots:5");
        let ask = |line: &str| {
            let question = read(&format!("@127.0.0.1 -p {} {line}", server.port())).unwrap();
            let resolver = &resolver;
            async move { run(&question, resolver).await.unwrap() }
        };
        assert_eq!(ask("+short ledger.shop.svc.cluster.local").await, "10.96.0.7\n");
        assert_eq!(ask("+short +search ledger").await, "10.96.0.7\n");
        assert_eq!(ask("+short ledger").await, "");
        let long = ask("ledger.shop.svc.cluster.local").await;
        assert!(long.contains("status: NOERROR"), "{long}");
        assert!(
            long.contains("ledger.shop.svc.cluster.local.\t5\tIN\tA\t10.96.0.7"),
            "{long}"
        );
        assert!(ask("nobody").await.contains("status: NXDOMAIN"));
    }

    #[tokio::test]
    async fn silence_is_told() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let mut question = read(&format!("@127.0.0.1 -p {port} +tries=1 x")).unwrap();
        question.timeout = Duration::from_millis(20);
        let why = run(&question, &Resolver::parse("")).await.unwrap_err();
        assert!(why.starts_with("no answer from 127.0.0.1"), "{why}");
    }

    #[test]
    fn questions_are_read() {
        let question = read("-x 10.96.0.10 @10.96.0.10").unwrap();
        assert_eq!(
            (question.name.as_str(), question.kind),
            ("10.0.96.10.in-addr.arpa.", RecordType::PTR)
        );
        let question = read("ledger SRV +tcp").unwrap();
        assert_eq!((question.kind, question.tcp), (RecordType::SRV, true));
        for line in ["", "+nope x", "-p", "-p x y", "-x nonsense", "a b c"] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_arguments_panic(args: Vec<String>) {
            let _ = parse(&args);
        }
    }
}
