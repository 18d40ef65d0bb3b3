//! A live capture as a pcapng file: with the names of pods, and comments that say what the packets say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Interface, Names, Packet};
use crate::packet::{CapturePoint, Dissector, Frame, LinkType, Message, decode, pcapfile::write};

/// Addresses whose names are written.
const ADDRESSES: usize = 65_536;

/// Makes the bytes of a file from the events of a capture, as they come.
pub struct CaptureFile {
    names: Names,
    dissector: Dissector,
    link: LinkType,
    interfaces: Vec<Interface>,
    packets: u64,
    last_ns: u64,
    addresses: BTreeSet<IpAddr>,
}

impl CaptureFile {
    /// A file, and its first bytes.
    pub fn begin(
        names: Names,
        point: &CapturePoint,
        link: LinkType,
        interfaces: Vec<Interface>,
        snaplen: u32,
    ) -> (Self, Vec<u8>) {
        let seen: Vec<String> = interfaces
            .iter()
            .map(|one| format!("{} is {}", one.index, place(&one.name)))
            .collect();
        let description = format!(
            "in pod {}/{}; interface {}",
            point.namespace,
            point.pod,
            seen.join(", ")
        );
        let header = write::pcapng_header(link, snaplen, "any", &description);
        let file = Self {
            names,
            dissector: Dissector::default(),
            link,
            interfaces,
            packets: 0,
            last_ns: 0,
            addresses: BTreeSet::new(),
        };
        (file, header)
    }

    /// The bytes of a packet; its comments are the messages that it completes, and what leaks in them.
    pub fn packet(&mut self, packet: &Packet) -> Vec<u8> {
        self.packets += 1;
        self.last_ns = packet.ts_ns;
        let frame = Frame {
            number: self.packets,
            ts_ns: packet.ts_ns,
            link: self.link,
            orig_len: packet.orig_len,
            data: &packet.data,
        };
        if let Some(ip) = decode(&frame).ip().filter(|_| self.addresses.len() < ADDRESSES) {
            self.addresses.extend([ip.src, ip.dst]);
        }
        let mut comments = Vec::new();
        for mut message in self.dissector.feed(frame) {
            self.names.name(&mut message);
            self.comment(&message, &mut comments);
        }
        let mut out = Vec::with_capacity(packet.data.len() + 64);
        write::pcapng_packet(packet.ts_ns, packet.orig_len, &packet.data, &comments, &mut out);
        out
    }

    fn comment(&self, message: &Message, comments: &mut Vec<String>) {
        let interface = message
            .ifindex
            .and_then(|index| self.interfaces.iter().find(|one| one.index == index));
        let seen = interface
            .map(|one| format!(", seen on {}", place(&one.name)))
            .unwrap_or_default();
        comments.push(format!(
            "{}: {} {}{seen}",
            message.route(),
            message.protocol,
            message.summary
        ));
        for leak in &message.leaks {
            let places: Vec<String> = leak
                .places
                .iter()
                .map(|place| {
                    format!(
                        "bytes {} to {} of packet {}",
                        place.start,
                        place.end.saturating_sub(1),
                        place.frame
                    )
                })
                .collect();
            comments.push(format!("leaks: {} in {}", leak.kind, places.join(", ")));
        }
    }

    /// The last bytes of the file: the names, and how many packets the kernel dropped.
    pub fn end(self, dropped: u64) -> Vec<u8> {
        let names: BTreeMap<IpAddr, Vec<String>> = self
            .addresses
            .iter()
            .filter_map(|addr| Some((*addr, self.names.lookup(*addr, self.last_ns)?.file_names())))
            .collect();
        let mut out = Vec::new();
        write::pcapng_names(names.iter().map(|(addr, names)| (*addr, names.as_slice())), &mut out);
        write::pcapng_counters(self.last_ns, self.packets + dropped, dropped, &mut out);
        out
    }

    /// Packets written.
    pub fn packets(&self) -> u64 {
        self.packets
    }
}

/// An interface of a pod, with who can see what crosses it.
fn place(interface: &str) -> String {
    match interface {
        "lo" => "lo, inside the pod".to_owned(),
        other => format!("{other}, on the wire"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::packet::{pcapfile::PcapReader, testing::*};

    #[test]
    fn packets_carry_what_they_say() {
        let point = CapturePoint {
            namespace: "shop".to_owned(),
            pod: "payments-api".to_owned(),
            interface: None,
        };
        let interfaces = vec![Interface {
            index: 7,
            name: "eth0".to_owned(),
        }];
        let (mut file, mut bytes) =
            CaptureFile::begin(Names::default(), &point, LinkType::LINUX_SLL2, interfaces, 65_535);
        let mut talk = Talk::open(80);
        talk.client(b"GET / HTTP/1.1\r\nCookie: sid=1\r\n\r\n");
        for packet in &talk.packets {
            let data = sll2(0x0800, packet);
            bytes.extend(file.packet(&Packet {
                ts_ns: 1,
                orig_len: data.len() as u32,
                data: Bytes::from(data),
            }));
        }
        assert_eq!(file.packets(), 4);
        bytes.extend(file.end(0));
        let mut reader = PcapReader::default();
        reader.push(&bytes);
        let mut comments = Vec::new();
        while let Some(record) = reader.next_record().unwrap() {
            comments.push(record.comment.map(str::to_owned));
        }
        assert_eq!(reader.finish(), Ok(()));
        assert_eq!(comments[..3], [None, None, None]);
        assert_eq!(
            comments[3].as_deref(),
            Some("10.244.0.10 → 10.244.0.20: http GET /, seen on eth0, on the wire")
        );
    }
}
