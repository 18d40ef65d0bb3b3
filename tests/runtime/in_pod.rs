//! The programs that scenarios run in pods: this test's own binary under other names.

use std::{
    ffi::{OsStr, OsString},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::ExitCode,
    time::Duration,
};

/// Runs the program called `name`, if it is one.
pub fn main(name: &OsStr, args: &[OsString]) -> Option<ExitCode> {
    let arg = |n: usize| args.get(n).and_then(|arg| arg.to_str()).unwrap_or_default();
    match name.to_str()? {
        "serve" => serve(arg(1), arg(2)),
        "ask" => return Some(ask(arg(1))),
        "sniff" => return Some(sniff()),
        "call" => call(arg(1)),
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}

/// Answers every connection to `address` with `text` and the caller's address.
fn serve(address: &str, text: &str) {
    let listener = TcpListener::bind(address).unwrap();
    println!("listening");
    for connection in listener.incoming() {
        let mut connection = connection.unwrap();
        let peer = connection.peer_addr().unwrap().ip();
        let _ = writeln!(connection, "{text} to {peer}");
    }
}

/// Prints what the server at `address` says, or how it refuses.
fn ask(address: &str) -> ExitCode {
    let address: SocketAddr = address.parse().unwrap();
    match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
        Ok(mut connection) => {
            let mut text = String::new();
            connection.read_to_string(&mut text).unwrap();
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{:?}", error.kind());
            ExitCode::FAILURE
        }
    }
}

/// Connects to a Unix socket, and goes on until the other side ends it.
fn call(path: &str) {
    let mut connection = std::os::unix::net::UnixStream::connect(path).unwrap();
    let _ = connection.read_to_end(&mut Vec::new());
}

/// Opens libpcap on eth0, says so, and prints the first packet it sees that carries `secret`.
fn sniff() -> ExitCode {
    let _ = UdpSocket::bind("127.0.0.1:0");
    let device = pcap::Capture::from_device("eth0").unwrap();
    let mut capture = device.immediate_mode(true).timeout(1000).open().unwrap();
    println!("capturing");
    loop {
        match capture.next_packet() {
            Ok(packet) if packet.data.windows(6).any(|window| window == b"secret") => {
                println!("seen");
                return ExitCode::SUCCESS;
            }
            Ok(_) | Err(pcap::Error::TimeoutExpired) => {}
            Err(error) => {
                println!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
}
