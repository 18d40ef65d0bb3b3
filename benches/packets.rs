//! How fast captures are read: a large one made here, with reassembly and the search for secrets on, against
//! `tshark -T fields` and `tcpdump -A` over the same file in the same run. `make bench` runs it on the release build.
//! Nothing here passes or fails.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{
    fs::File,
    io::{BufWriter, Read, Write},
    path::Path,
    process::{Command, Stdio},
};

use common::{Bench, Row, ms, print, row, time};
use ztlab::packet::{
    Dissector, LinkType,
    pcapfile::{PcapReader, pcap_header, pcap_record},
};

const RUNS: usize = 3;
/// Connections of the capture; each asks and is answered [`CALLS`] times.
const CONNECTIONS: u32 = 400;
const CALLS: u32 = 20;
/// Bytes of a segment, as on Ethernet.
const SEGMENT: usize = 1448;

/// One TCP connection on Ethernet, written packet by packet.
struct Talk {
    host: u16,
    seq: [u32; 2],
}

impl Talk {
    fn send(&mut self, from: usize, flags: u8, payload: &[u8], out: &mut Vec<Vec<u8>>) {
        let host = self.host.to_be_bytes();
        let ends = [[10, 244, host[0], host[1]], [10, 245, 0, 1]];
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let length = (40 + payload.len()) as u16;
        let mut ip = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0];
        ip[2..4].copy_from_slice(&length.to_be_bytes());
        ip.extend_from_slice(&ends[from]);
        ip.extend_from_slice(&ends[1 - from]);
        let sum: u32 = ip
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let sum = !((sum & 0xffff) as u16).wrapping_add((sum >> 16) as u16);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend_from_slice(&ip);
        let ports: [u16; 2] = [40_000, 80];
        frame.extend_from_slice(&ports[from].to_be_bytes());
        frame.extend_from_slice(&ports[1 - from].to_be_bytes());
        frame.extend_from_slice(&self.seq[from].to_be_bytes());
        frame.extend_from_slice(&self.seq[1 - from].to_be_bytes());
        frame.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend_from_slice(payload);
        let opens = u32::from(flags & 3 != 0);
        self.seq[from] = self.seq[from].wrapping_add(payload.len() as u32 + opens);
        out.push(frame);
    }

    fn say(&mut self, from: usize, bytes: &[u8], out: &mut Vec<Vec<u8>>) {
        for segment in bytes.chunks(SEGMENT) {
            self.send(from, 0x18, segment, out);
        }
        self.send(1 - from, 0x10, &[], out);
    }
}

/// Writes the capture; gives its packets and bytes.
fn capture(path: &Path) -> (u64, u64) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&pcap_header(LinkType::ETHERNET, 65_535)).unwrap();
    let (mut packets, mut bytes, mut ts) = (0, 0, 1_700_000_000_000_000_000);
    let payments: String = (0..60)
        .map(|id| format!("{{\"id\":{id},\"amount\":\"12.50\",\"note\":\"thank you\"}},"))
        .collect();
    for connection in 0..CONNECTIONS {
        let mut talk = Talk {
            host: connection as u16,
            seq: [connection * 77, connection * 99],
        };
        let mut out = Vec::new();
        talk.send(0, 0x02, &[], &mut out);
        talk.send(1, 0x12, &[], &mut out);
        talk.send(0, 0x10, &[], &mut out);
        for call in 0..CALLS {
            let body = format!("{{\"card\":\"4111 1111 1111 1111\",\"amount\":\"{call}.00\"}}");
            let request = format!(
                "POST /charge/{call} HTTP/1.1\r\nHost: payments-api\r\nAuthorization: Bearer not-a-real-token\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{payments}",
                payments.len()
            );
            talk.say(0, request.as_bytes(), &mut out);
            talk.say(1, answer.as_bytes(), &mut out);
        }
        // Some segments change places, as on a busy network.
        for at in (10..out.len().saturating_sub(1)).step_by(50) {
            out.swap(at, at + 1);
        }
        let mut records = Vec::new();
        for frame in out {
            ts += 1000;
            packets += 1;
            pcap_record(ts, frame.len() as u32, &frame, &mut records);
        }
        bytes += records.len() as u64;
        file.write_all(&records).unwrap();
    }
    file.flush().unwrap();
    (packets, bytes)
}

/// Reads the capture as `ztlab packets` does; gives messages, secrets, and the most bytes held at once.
fn read(path: &Path) -> (usize, usize, usize) {
    let mut file = File::open(path).unwrap();
    let (mut reader, mut dissector) = (PcapReader::default(), Dissector::default());
    let (mut number, mut messages, mut leaks, mut held) = (0, 0, 0, 0);
    loop {
        let count = file.read(reader.room(256 << 10)).unwrap();
        if count == 0 {
            break;
        }
        reader.filled(count);
        while let Some(record) = reader.next_record().unwrap() {
            number += 1;
            for message in dissector.feed(record.frame(number)) {
                messages += 1;
                leaks += message.leaks.len();
            }
        }
        held = held.max(dissector.held());
    }
    messages += dissector.finish().len();
    (messages, leaks, held)
}

fn program(bench: &Bench, name: &str, args: &[&str]) -> Option<Vec<f64>> {
    if Command::new(name).arg("--version").output().is_err() {
        eprintln!("bench: no {name} on this machine: its row is left out");
        return None;
    }
    let run = || {
        let mut command = bench.command(name);
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        ms(time(|| drop(command.status())))
    };
    Some((0..RUNS).map(|_| run()).collect())
}

/// The most memory this process had at once, in MiB, since [`forget_peak`].
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Counts the peak anew (proc(5), `clear_refs`).
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn main() {
    let bench = Bench::new("packets");
    let path = bench.home.join("large.pcap");
    let (packets, bytes) = capture(&path);
    let mut seen = (0, 0, 0);
    forget_peak();
    let ours: Vec<f64> = (0..RUNS).map(|_| ms(time(|| seen = read(&path)))).collect();
    let peak = peak();
    let calls = (CONNECTIONS * CALLS) as usize;
    assert_eq!(seen.0, calls * 2, "every request and every answer is read");
    assert_eq!(seen.1, calls * 2, "every token and every card is found");
    let file = path.display().to_string();
    let fields = [
        "-r",
        &file,
        "-n",
        "-T",
        "fields",
        "-e",
        "http.request.uri",
        "-e",
        "http.response.code",
    ];
    let mut rows = vec![row("reading with reassembly and the search for secrets", ours, "-")];
    if let Some(times) = program(&bench, "tshark", &fields) {
        rows.push(row("`tshark -T fields` of two fields", times, "20 times ours"));
    }
    if let Some(times) = program(&bench, "tcpdump", &["-r", &file, "-n", "-A"]) {
        rows.push(row("`tcpdump -A`", times, "10 times ours"));
    }
    rows.push(Row {
        what: "the capture".to_owned(),
        measured: format!("{} MB", bytes / 1_000_000),
        spread: format!("{packets} packets"),
        aim: "-",
    });
    rows.push(Row {
        what: "held at most by the dissector".to_owned(),
        measured: format!("{} KiB", seen.2 / 1024),
        spread: format!("{} messages", seen.0),
        aim: "64 MiB",
    });
    if let Some(peak) = peak {
        rows.push(Row {
            what: "memory of the reading process at its peak".to_owned(),
            measured: format!("{peak:.0} MiB"),
            spread: "VmHWM".to_owned(),
            aim: "-",
        });
    }
    print(&rows);
}
