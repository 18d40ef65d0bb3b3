//! libpcap in the pod's network namespace.

use std::{
    io::{self, Write},
    time::Duration,
};

use futures::StreamExt;
use pcap::{Active, Capture, Linktype, Packet, PacketCodec, PacketStream, Precision};
use tokio::io::AsyncReadExt;

use super::{Note, Options, note};
use crate::{
    capture::Interface,
    packet::{
        LinkType,
        pcapfile::{pcap_header, pcap_record},
    },
};

/// How long the kernel may gather packets before it hands them over. libpcap's immediate mode would hand over each at
/// once, but reserves a whole snapshot length for every packet in its ring. The ring is parted into blocks of 256 KiB
/// (libpcap's largest packet), and a block that is handed over takes no more, however little is in it: so many
/// milliseconds times the blocks is how long this program may be kept from running before packets are dropped, half a
/// second for a ring of 16 MiB. At 100,000 small packets a second a block is about two thirds full by then.
const GATHER_MS: i32 = 8;
/// Bytes that may wait on standard output, where whoever reads it can be behind without the reading of the ring stopping.
/// An ordinary user may have as many (pipe(7), `/proc/sys/fs/pipe-max-size`).
const PIPE: usize = 1 << 20;
/// How often the counters are looked at.
const COUNTERS: Duration = Duration::from_millis(250);
/// Packets read before anything else gets its turn.
const BATCH: usize = 512;

/// Captures until standard input ends, or as long as asked for.
pub(super) fn capture(options: &Options) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))?;
    let outcome = runtime.block_on(listen(options));
    // A read of standard input may still be blocked.
    runtime.shutdown_background();
    outcome
}

async fn listen(options: &Options) -> Result<(), String> {
    // Where it is no pipe, or may not be larger, it stays as it is.
    let _ = rustix::pipe::fcntl_setpipe_size(rustix::stdio::stdout(), PIPE);
    let mut capture = open(options)?;
    if let Some(filter) = &options.filter
        && let Err(error) = capture.filter(filter, true)
    {
        note(&Note::BadFilter { detail: reason(&error) });
        return Ok(());
    }
    let capture = capture
        .setnonblock()
        .map_err(|error| format!("libpcap: {}", reason(&error)))?;
    let link = LinkType(capture.get_datalink().0 as u32);
    let mut listener = Listener::new(capture, options)?;
    listener.out = pcap_header(link, options.snaplen);
    if !listener.write() {
        return Ok(());
    }
    note(&Note::Started {
        interfaces: interfaces(),
    });
    let ended = listener.run(options.duration).await;
    listener.count();
    if ended? == Ended::Complete {
        note(&Note::Complete);
    }
    Ok(())
}

/// Opens the device `any`, which sees every interface and says which; where it does not exist, `eth0`.
fn open(options: &Options) -> Result<Capture<Active>, String> {
    let device = |name: &str| {
        Capture::from_device(name)?
            .snaplen(options.snaplen as i32)
            .buffer_size(options.ring as i32)
            .timeout(GATHER_MS)
            .precision(Precision::Nano)
            .open()
    };
    let mut capture = match device("any") {
        Ok(capture) => capture,
        Err(any) => device("eth0").map_err(|error| {
            format!(
                "libpcap cannot listen on any ({}) nor on eth0 ({})",
                reason(&any),
                reason(&error)
            )
        })?,
    };
    // Version 2 of the "cooked" header has the interface; a libpcap before 1.10 has only version 1.
    let _ = capture.set_datalink(Linktype(LinkType::LINUX_SLL2.0 as i32));
    Ok(capture)
}

fn reason(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The interfaces of this network namespace.
fn interfaces() -> Vec<Interface> {
    let Ok(table) = std::fs::read_to_string("/proc/net/dev") else {
        return Vec::new();
    };
    let Ok(socket) = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None) else {
        return Vec::new();
    };
    table
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter_map(|(name, _)| {
            let name = name.trim();
            let index = rustix::net::netdevice::name_to_index(&socket, name).ok()?;
            Some(Interface {
                index,
                name: name.to_owned(),
            })
        })
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Complete,
    /// Nobody listens any more.
    Unheard,
}

/// Makes a packet a record of the capture file.
struct Records;

impl PacketCodec for Records {
    type Item = Vec<u8>;

    fn decode(&mut self, packet: Packet<'_>) -> Vec<u8> {
        let mut record = Vec::with_capacity(packet.data.len() + 16);
        append(&packet, &mut record);
        record
    }
}

fn append(packet: &Packet<'_>, out: &mut Vec<u8>) {
    // With nanosecond precision libpcap puts nanoseconds where the microseconds stand.
    let ts_ns = packet.header.ts.tv_sec as u64 * 1_000_000_000 + packet.header.ts.tv_usec as u64;
    pcap_record(ts_ns, packet.header.len, packet.data, out);
}

struct Listener {
    capture: PacketStream<Active, Records>,
    out: Vec<u8>,
    left: Option<u64>,
    counters: (u64, u64),
}

impl Listener {
    fn new(capture: Capture<Active>, options: &Options) -> Result<Self, String> {
        let capture = capture
            .stream(Records)
            .map_err(|error| format!("cannot wait for packets: {}", reason(&error)))?;
        Ok(Self {
            capture,
            out: Vec::new(),
            left: options.packets,
            counters: (0, 0),
        })
    }

    async fn run(&mut self, duration: Option<Duration>) -> Result<Ended, String> {
        let mut stdin = tokio::io::stdin();
        let mut ignored = [0; 64];
        let mut counters = tokio::time::interval(COUNTERS);
        counters.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let deadline = async move {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(deadline);
        loop {
            let ended = tokio::select! {
                () = &mut deadline => {
                    self.read()?;
                    Some(Ended::Complete)
                }
                read = stdin.read(&mut ignored) => match read {
                    Ok(0) | Err(_) => Some(Ended::Unheard),
                    Ok(_) => None,
                },
                record = self.capture.next() => {
                    let record = record.ok_or("libpcap stopped")?;
                    let record = record.map_err(|error| format!("libpcap: {}", reason(&error)))?;
                    self.out.extend_from_slice(&record);
                    self.left = self.left.map(|left| left.saturating_sub(1));
                    self.read()?
                }
                _ = counters.tick() => {
                    self.count();
                    self.read()?
                }
            };
            if !self.write() {
                return Ok(Ended::Unheard);
            }
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    /// Reads everything that waits.
    fn read(&mut self) -> Result<Option<Ended>, String> {
        loop {
            for _ in 0..BATCH {
                if self.left == Some(0) {
                    return Ok(Some(Ended::Complete));
                }
                match self.capture.capture_mut().next_packet() {
                    Ok(packet) => {
                        append(&packet, &mut self.out);
                        self.left = self.left.map(|left| left - 1);
                    }
                    Err(pcap::Error::TimeoutExpired) => return Ok(None),
                    Err(error) => return Err(format!("libpcap: {}", reason(&error))),
                }
            }
            if !self.write() {
                return Ok(Some(Ended::Unheard));
            }
        }
    }

    /// Sends what was gathered; `false` when nobody reads it.
    fn write(&mut self) -> bool {
        if self.out.is_empty() {
            return true;
        }
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&self.out).and_then(|()| stdout.flush());
        self.out.clear();
        written.is_ok()
    }

    /// Tells the counters where they changed.
    fn count(&mut self) {
        let Ok(stat) = self.capture.capture_mut().stats() else {
            return;
        };
        let counters = (
            u64::from(stat.received),
            u64::from(stat.dropped) + u64::from(stat.if_dropped),
        );
        if counters != self.counters {
            self.counters = counters;
            note(&Note::Counters {
                received: counters.0,
                dropped: counters.1,
            });
        }
    }
}
