//! `nc`: TCP and UDP by hand, as OpenBSD's netcat, for the options that labs need.

use std::{ffi::OsString, io, net::SocketAddr, ops::RangeInclusive, process::ExitCode, time::Duration};

use clap::Parser;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, stdin, stdout},
    net::{TcpListener, TcpStream, UdpSocket, lookup_host},
};

use crate::standins::process;

#[derive(Debug, Parser)]
#[command(
    name = "nc",
    about = "ztlab's stand-in for netcat: connects or listens, and passes stdin and stdout through",
    override_usage = "nc [-nuvz] [-w seconds] host port[-port]\n       nc -l [-nuv] [-p] port",
    disable_version_flag = true
)]
struct Args {
    /// Listen for one connection
    #[arg(short)]
    listen: bool,
    /// Only see whether somebody listens
    #[arg(short, conflicts_with = "listen")]
    zero: bool,
    /// Say what happens
    #[arg(short, action = clap::ArgAction::Count)]
    verbose: u8,
    /// UDP
    #[arg(short)]
    udp: bool,
    /// Addresses are numbers, no names
    #[arg(short)]
    numeric: bool,
    /// Seconds to wait for a connection, and for input when connected
    #[arg(short, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Close the sending side at the end of stdin
    #[arg(short = 'N')]
    shutdown: bool,
    /// Port to listen on
    #[arg(short, value_name = "PORT")]
    port: Option<u16>,
    /// Print the version
    #[arg(long)]
    version: bool,
    /// Host and port, or with -l the port
    #[arg(value_name = "HOST PORT", num_args = 0..=2)]
    to: Vec<String>,
}

/// What to do, checked.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Listen(SocketAddr),
    Connect(String, RangeInclusive<u16>),
}

/// Connects or listens; 0 if that worked.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args = match Args::try_parse_from(std::iter::once(OsString::from("nc")).chain(args)) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    if args.version {
        let version = env!("CARGO_PKG_VERSION");
        let _ = process::print(&format!("nc (a stand-in of ztlab, not netcat) {version}\n"));
        return ExitCode::SUCCESS;
    }
    let task = match task(&args) {
        Ok(task) => task,
        Err(why) => {
            process::complain("nc", &why);
            return ExitCode::from(1);
        }
    };
    process::run("nc", async move {
        let outcome = match &task {
            Task::Listen(address) => listen(*address, &args).await.map(|()| true),
            Task::Connect(host, ports) => connect(host, ports.clone(), &args).await,
        };
        match outcome {
            Ok(worked) => u8::from(!worked),
            Err(error) => {
                process::complain("nc", &error.to_string());
                1
            }
        }
    })
}

fn task(args: &Args) -> Result<Task, String> {
    if args.listen {
        let (host, port) = match (args.to.as_slice(), args.port) {
            ([], Some(port)) => ("0.0.0.0", port),
            ([host], Some(port)) => (host.as_str(), port),
            ([port], None) => ("0.0.0.0", single(port)?),
            ([host, port], None) => (host.as_str(), single(port)?),
            _ => return Err("-l wants a port, and perhaps an address before it".to_owned()),
        };
        let host = host.parse().map_err(|_| format!("{host} is no address to listen on"))?;
        return Ok(Task::Listen(SocketAddr::new(host, port)));
    }
    let [host, ports] = args.to.as_slice() else {
        return Err("missing host and port: nc [-nuvz] [-w seconds] host port[-port]".to_owned());
    };
    let ports = match ports.split_once('-') {
        Some((first, last)) => single(first)?..=single(last)?,
        None => single(ports)?..=single(ports)?,
    };
    if ports.start() != ports.end() && !args.zero {
        return Err("a range of ports wants -z".to_owned());
    }
    if args.numeric && host.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("{host} is a name, and -n forbids to look it up"));
    }
    Ok(Task::Connect(host.clone(), ports))
}

fn single(port: &str) -> Result<u16, String> {
    match port.parse() {
        Ok(0) | Err(_) => Err(format!("{port} is no port: 1 to 65535")),
        Ok(port) => Ok(port),
    }
}

async fn listen(address: SocketAddr, args: &Args) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
    if args.udp {
        let socket = UdpSocket::bind(address).await.map_err(named)?;
        say(args, &format!("Bound on {address}"));
        let mut first = [0; 65536];
        let (length, peer) = socket.recv_from(&mut first).await?;
        say(args, &format!("Connection received on {peer}"));
        socket.connect(peer).await?;
        stdout().write_all(&first[..length]).await?;
        stdout().flush().await?;
        return datagrams(&socket, args).await;
    }
    let listener = TcpListener::bind(address).await.map_err(named)?;
    say(args, &format!("Listening on {}", listener.local_addr()?));
    let (stream, peer) = listener.accept().await?;
    say(args, &format!("Connection received on {peer}"));
    pass(stream, args).await
}

/// Tries every port; whether the last one worked.
async fn connect(host: &str, ports: RangeInclusive<u16>, args: &Args) -> io::Result<bool> {
    let mut worked = false;
    for port in ports {
        let found = lookup_host((host, port)).await;
        let addresses: Vec<_> = found
            .map_err(|error| io::Error::new(error.kind(), format!("could not resolve {host}: {error}")))?
            .collect();
        if args.udp {
            worked = send_datagrams(host, &addresses, args).await?;
            continue;
        }
        worked = false;
        for address in addresses {
            let service = format!("{host} ({}) {port} port [tcp/*]", address.ip());
            match within(args, TcpStream::connect(address)).await {
                Ok(stream) => {
                    say(args, &format!("Connection to {service} succeeded!"));
                    worked = true;
                    if !args.zero {
                        pass(stream, args).await?;
                    }
                    break;
                }
                Err(error) if args.verbose > 0 || !args.zero => {
                    let reason = system_words(&error);
                    process::complain(
                        "nc",
                        &format!(
                            "connect to {host} ({}) port {port} (tcp) failed: {reason}",
                            address.ip()
                        ),
                    );
                }
                Err(_) => {}
            }
        }
    }
    Ok(worked)
}

/// `Connection refused` rather than `Connection refused (os error 111)`.
fn system_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

async fn within<T>(args: &Args, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match args.wait {
        None => work.await,
        Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds.max(1)), work)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "Operation timed out"))),
    }
}

/// stdin to the peer, the peer to stdout, until the peer has said all.
async fn pass(stream: TcpStream, args: &Args) -> io::Result<()> {
    let (mut from, mut to) = stream.into_split();
    let sending = async {
        // A peer that closes first ends the sending, and that is no error.
        let _ = tokio::io::copy(&mut stdin(), &mut to).await;
        if args.shutdown {
            let _ = to.shutdown().await;
        }
        std::future::pending::<io::Result<()>>().await
    };
    let receiving = async {
        let mut out = stdout();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = match within(args, from.read(&mut buffer)).await {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(()),
                Err(error) => return Err(error),
            };
            out.write_all(&buffer[..length]).await?;
            out.flush().await?;
        }
    };
    tokio::select! {
        result = sending => result,
        result = receiving => result,
    }
}

/// UDP has no connection: with `-z`, silence counts as success, and only an ICMP refusal as failure, as in netcat.
async fn send_datagrams(host: &str, addresses: &[SocketAddr], args: &Args) -> io::Result<bool> {
    let Some(address) = addresses.first() else {
        return Ok(false);
    };
    let any: SocketAddr = if address.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    if !args.zero {
        return datagrams(&socket, args).await.map(|()| true);
    }
    for _ in 0..2 {
        socket.send(b"X").await?;
        let mut answer = [0; 1];
        let answered = tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut answer)).await;
        if matches!(answered, Ok(Err(_))) {
            return Ok(false);
        }
    }
    say(
        args,
        &format!("Connection to {host} {} port [udp/*] succeeded!", address.port()),
    );
    Ok(true)
}

async fn datagrams(socket: &UdpSocket, args: &Args) -> io::Result<()> {
    let mut input = vec![0; 16 * 1024];
    let mut output = vec![0; 64 * 1024];
    let mut open = true;
    let (mut stdin, mut stdout) = (stdin(), stdout());
    loop {
        tokio::select! {
            read = stdin.read(&mut input), if open => match read? {
                0 => open = false,
                length => drop(socket.send(&input[..length]).await?),
            },
            received = within(args, socket.recv(&mut output)) => match received {
                Ok(length) => {
                    stdout.write_all(&output[..length]).await?;
                    stdout.flush().await?;
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(()),
                Err(error) => return Err(error),
            },
        }
    }
}

fn say(args: &Args, message: &str) {
    if args.verbose > 0 {
        eprintln!("{message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Task, String> {
        let args = Args::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        task(&args)
    }

    #[test]
    fn the_usual_command_lines_are_understood() {
        let to = |host: &str, ports| Ok(Task::Connect(host.to_owned(), ports));
        assert_eq!(read("nc -zv ledger 5432"), to("ledger", 5432..=5432));
        assert_eq!(read("nc -vzw1 ledger 80-90"), to("ledger", 80..=90));
        assert_eq!(read("nc -l 9000"), Ok(Task::Listen(([0, 0, 0, 0], 9000).into())));
        assert_eq!(read("nc -lvp 9000"), Ok(Task::Listen(([0, 0, 0, 0], 9000).into())));
        for line in [
            "nc",
            "nc a",
            "nc a 0",
            "nc a 80-90",
            "nc -l",
            "nc -zn a 80",
            "nc -e sh a 80",
            "nc a 99999",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[tokio::test]
    async fn an_open_port_is_told_from_a_closed_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let args = Args::try_parse_from(["nc", "-z", "127.0.0.1", "1"]).unwrap();
        assert!(connect("127.0.0.1", port..=port, &args).await.unwrap());
        drop(listener);
        assert!(!connect("127.0.0.1", port..=port, &args).await.unwrap());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
        #[test]
        fn no_arguments_panic(args: Vec<String>) {
            if let Ok(args) = Args::try_parse_from(std::iter::once("nc".to_owned()).chain(args)) {
                let _ = task(&args);
            }
        }
    }
}
