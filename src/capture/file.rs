//! Live captures as a pcapng file: with the names of pods, the points that they were seen at, and comments that say what the
//! packets say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Interface, Names, Packet};
use crate::packet::{CapturePoint, Dissector, Frame, LinkType, Message, decode, pcapfile::write};

/// Addresses whose names are written.
const ADDRESSES: usize = 65_536;

/// A point's part of the file.
struct Point {
    point: CapturePoint,
    link: LinkType,
    /// Number in the file of what no interface is known for.
    any: u32,
    /// Interfaces by index: number in the file, and where that is.
    interfaces: BTreeMap<u32, (u32, CapturePoint)>,
    dissector: Dissector,
    packets: u64,
    dropped: u64,
}

impl Point {
    /// The interface of an index, and its number in the file.
    fn of(&self, ifindex: Option<u32>) -> (u32, &CapturePoint) {
        let known = ifindex.and_then(|index| self.interfaces.get(&index));
        known.map_or((self.any, &self.point), |(number, point)| (*number, point))
    }
}

/// Makes the bytes of a file from what happens in captures, as it happens.
pub struct CaptureFile {
    names: Names,
    snaplen: u32,
    points: BTreeMap<usize, Point>,
    interfaces: u32,
    packets: u64,
    last_ns: u64,
    addresses: BTreeSet<IpAddr>,
}

impl CaptureFile {
    /// A file, and its first bytes.
    pub fn begin(names: Names, snaplen: u32) -> (Self, Vec<u8>) {
        let file = Self {
            names,
            snaplen,
            points: BTreeMap::new(),
            interfaces: 0,
            packets: 0,
            last_ns: 0,
            addresses: BTreeSet::new(),
        };
        (file, write::pcapng_header())
    }

    /// The bytes that describe another point, which is called by this number from here on.
    pub fn join(&mut self, at: usize, point: CapturePoint, link: LinkType, interfaces: Vec<Interface>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut describe = |point: &CapturePoint| {
            let kind = point.kind();
            let description = format!(
                "in pod {}/{}: {}; seen by {}; hidden from {}",
                point.namespace,
                point.pod,
                point.place(),
                kind.seen_by(),
                kind.hidden_from()
            );
            write::pcapng_interface(link, self.snaplen, &point.file_name(), &description, &mut out);
            self.interfaces += 1;
            self.interfaces - 1
        };
        let any = describe(&point);
        let interfaces = interfaces
            .into_iter()
            .map(|one| {
                let point = point.clone().on(one.name);
                (one.index, (describe(&point), point))
            })
            .collect();
        let point = Point {
            point,
            link,
            any,
            interfaces,
            dissector: Dissector::default(),
            packets: 0,
            dropped: 0,
        };
        self.points.insert(at, point);
        out
    }

    /// The bytes of a packet of a point; its comments are the messages that it completes, and what leaks in them.
    pub fn packet(&mut self, at: usize, packet: &Packet) -> Vec<u8> {
        let Some(point) = self.points.get_mut(&at) else {
            return Vec::new();
        };
        self.packets += 1;
        point.packets += 1;
        self.last_ns = self.last_ns.max(packet.ts_ns);
        let frame = Frame {
            number: self.packets,
            ts_ns: packet.ts_ns,
            link: point.link,
            orig_len: packet.orig_len,
            data: &packet.data,
        };
        let layers = decode(&frame);
        if let Some(ip) = layers.ip().filter(|_| self.addresses.len() < ADDRESSES) {
            self.addresses.extend([ip.src, ip.dst]);
        }
        let mut comments = Vec::new();
        for mut message in point.dissector.feed(frame) {
            self.names.name(&mut message);
            comment(&message, point.of(message.ifindex).1, &mut comments);
        }
        let (interface, _) = point.of(layers.link.ifindex());
        let mut out = Vec::with_capacity(packet.data.len() + 64);
        write::pcapng_packet(interface, &frame, &comments, &mut out);
        out
    }

    /// How many packets the kernel of a point dropped so far.
    pub fn dropped(&mut self, at: usize, dropped: u64) {
        if let Some(point) = self.points.get_mut(&at) {
            point.dropped = dropped;
        }
    }

    /// The last bytes of the file: the names, and for each point how many packets there were and how many the kernel dropped.
    pub fn end(self) -> Vec<u8> {
        let names: BTreeMap<IpAddr, Vec<String>> = self
            .addresses
            .iter()
            .filter_map(|addr| Some((*addr, self.names.lookup(*addr, self.last_ns)?.file_names())))
            .collect();
        let mut out = Vec::new();
        write::pcapng_names(names.iter().map(|(addr, names)| (*addr, names.as_slice())), &mut out);
        for point in self.points.values() {
            // The kernel counts for all interfaces of a pod together.
            let seen = point.packets + point.dropped;
            write::pcapng_counters(point.any, self.last_ns, seen, point.dropped, &mut out);
        }
        out
    }

    /// What each point came to: the pod, its packets, and how many its kernel dropped.
    pub fn counted(&self) -> impl Iterator<Item = (&CapturePoint, u64, u64)> {
        self.points
            .values()
            .map(|point| (&point.point, point.packets, point.dropped))
    }

    /// Packets written.
    pub fn packets(&self) -> u64 {
        self.packets
    }
}

fn comment(message: &Message, point: &CapturePoint, comments: &mut Vec<String>) {
    let own = if message.is_probe() { "ztlab's own probe, " } else { "" };
    comments.push(format!(
        "{own}{}: {} {}, seen on {}",
        message.route(),
        message.protocol,
        message.summary,
        point.place()
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
        comments.push(format!(
            "leaks: {} in {}; to {}",
            leak.kind,
            places.join(", "),
            point.kind().seen_by()
        ));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::packet::{Limits, Reading, pcapfile::PcapReader};

    fn packet(ts_ns: u64, packet: &[u8]) -> Packet {
        // IPv4, seen on the interface 7 (LINKTYPE_LINUX_SLL2).
        let data = [&b"\x08\0\0\0\0\0\0\x07\0\x01\0\x06\x02\0\0\0\0\x0a\0\0"[..], packet].concat();
        Packet {
            ts_ns,
            orig_len: data.len() as u32,
            data: Bytes::from(data),
        }
    }

    /// The packets of a request, up to the one that completes it.
    fn request() -> Vec<Vec<u8>> {
        let mut file = PcapReader::default();
        file.push(include_bytes!("../../fuzz/corpus/capture/payment.pcap"));
        let (mut dissector, mut packets) = (Dissector::default(), Vec::new());
        loop {
            let record = file.next_record().unwrap().unwrap();
            packets.push(record.data.to_vec());
            if !dissector.feed(record.frame(packets.len() as u64)).is_empty() {
                return packets;
            }
        }
    }

    fn interfaces() -> Vec<Interface> {
        vec![
            Interface {
                index: 1,
                name: "lo".to_owned(),
            },
            Interface {
                index: 7,
                name: "eth0".to_owned(),
            },
        ]
    }

    #[test]
    fn packets_carry_what_they_say() {
        let (mut file, mut bytes) = CaptureFile::begin(Names::default(), 65_535);
        let point = CapturePoint::pod("shop", "payments-api");
        bytes.extend(file.join(0, point.clone(), LinkType::LINUX_SLL2, interfaces()));
        let packets = request();
        for one in &packets {
            bytes.extend(file.packet(0, &packet(1, one)));
        }
        assert!(file.packet(9, &packet(1, &packets[0])).is_empty());
        file.dropped(0, 3);
        assert_eq!(file.counted().collect::<Vec<_>>(), [(&point, packets.len() as u64, 3)]);
        bytes.extend(file.end());
        let mut reader = PcapReader::default();
        reader.push(&bytes);
        let mut comments = Vec::new();
        while let Some(record) = reader.next_record().unwrap() {
            assert_eq!(record.interface, Some("eth0@payments-api.shop"));
            comments.push(record.comment.map(str::to_owned));
        }
        assert_eq!(reader.finish(), Ok(()));
        let last = comments.pop().unwrap().unwrap();
        assert!(comments.iter().all(Option::is_none), "{comments:?}");
        // The request of this file has the header of a probe.
        assert!(
            last.starts_with("ztlab's own probe, 10.244.0.10 → 10.244.0.20: http POST /charge"),
            "{last}"
        );
        assert!(last.ends_with(", seen on eth0, on the wire"), "{last}");
    }

    #[test]
    fn what_two_pods_saw_is_read_back_as_one() {
        let (mut file, mut bytes) = CaptureFile::begin(Names::default(), 65_535);
        for (at, pod) in [(0, "orders-api"), (1, "payments-api")] {
            let point = CapturePoint::pod("shop", pod);
            bytes.extend(file.join(at, point, LinkType::LINUX_SLL2, interfaces()));
        }
        let packets = request();
        for (number, one) in (1..).zip(&packets) {
            bytes.extend(file.packet(0, &packet(number * 1000, one)));
            bytes.extend(file.packet(1, &packet(number * 1000 + 10, one)));
        }
        bytes.extend(file.end());
        let mut reading = Reading::new(Limits::default(), true);
        reading.push(&bytes);
        let mut messages = Vec::new();
        let all = 2 * packets.len() as u64;
        let mut frames = 0;
        while let Some(step) = reading.step().unwrap() {
            frames += 1;
            messages.extend(step.messages);
        }
        assert_eq!(
            (frames, reading.stats().frames, reading.stats().retransmissions),
            (all, all, 0)
        );
        let (rest, flows) = reading.end();
        messages.extend(rest);
        assert_eq!((messages.len(), flows.len()), (1, 1));
        let pods = |one: Option<&CapturePoint>| one.map(|point| (point.pod.clone(), point.interface.clone()));
        let on = |pod: &str| Some((pod.to_owned(), Some("eth0".to_owned())));
        assert_eq!(pods(messages[0].point.as_ref()), on("orders-api"));
        assert_eq!(pods(messages[0].also[0].point.as_ref()), on("payments-api"));
        let numbers = [&messages[0].frames, &messages[0].also[0].frames].map(|frames| *frames.last().unwrap());
        assert_eq!(numbers, [all - 1, all]);
        assert_eq!(flows[0].also.len(), 1);
    }
}
