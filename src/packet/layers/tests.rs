//! Headers by themselves, and beside Wireshark's reading of them.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::{Fragments, Trouble, Upper, decode, field_names};
use crate::{
    Frame, Limits, LinkType, Stats, Transport,
    testing::*,
    wireshark::{Capture, Say, Values, differences, normal, tshark},
};

fn frame(link: LinkType, data: &[u8]) -> Frame<'_> {
    Frame {
        number: 1,
        ts_ns: 1,
        link,
        orig_len: data.len() as u32,
        data,
    }
}

fn values(frame: &Frame<'_>) -> Values {
    let mut values = Values::new();
    decode(frame).fields(frame, &mut |name, value, place| {
        assert!(
            place.end <= frame.data.len(),
            "{name} at {place:?} of {}",
            frame.data.len()
        );
        assert!(field_names().contains(&name), "{name} is not listed");
        values
            .entry(name.to_owned())
            .or_default()
            .push(normal(&value.to_string()));
    });
    values
}

const HELLO: &[u8] = b"hello, world";

fn icmp6(kind: u8, code: u8, payload: &[u8]) -> Vec<u8> {
    over_ipv6(58, 2, &icmp(kind, code, [0, 1, 0, 2], payload))
}

/// A TCP header with options: maximum segment size, window scale, timestamps.
fn syn_with_options() -> Vec<u8> {
    let plain = tcp(CLIENT, server(80), 7, 0, SYN, &[]);
    let mut segment = plain[20..].to_vec();
    segment[12] = 0xa0;
    segment.extend_from_slice(b"\x02\x04\x05\xb4\x01\x03\x03\x07\x01\x01\x08\x0a\0\0\0\x09\0\0\0\x08");
    ipv4(6, *CLIENT.ip(), *server(80).ip(), &segment)
}

/// Packets of every kind that is decoded, raw IP.
fn packets() -> Vec<Vec<u8>> {
    let datagram = udp(CLIENT, server(9), HELLO);
    let segment = tcp(CLIENT, server(80), 5, 6, ACK, HELLO);
    let (udp4, tcp4) = (&datagram[20..], &segment[20..]);
    let extended = |next: u8, payload: &[u8]| {
        let headers = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &[next, 0, 1, 4, 0, 0, 0, 0], payload].concat();
        ipv6(0, CLIENT6, SERVER6, &headers)
    };
    let atomic = [&[6, 0, 0, 0, 0, 0, 0, 9][..], tcp4].concat();
    let mut all = vec![
        datagram.clone(),
        segment.clone(),
        syn_with_options(),
        tcp(CLIENT, server(80), 5, 6, ACK | FIN, &[]),
        tcp(CLIENT, server(80), 5, 0, RST, &[]),
        over_ipv6(17, 6, udp4),
        over_ipv6(6, 16, tcp4),
        extended(17, udp4),
        extended(6, tcp4),
        ipv6(44, CLIENT6, SERVER6, &atomic),
        ipv4(1, *CLIENT.ip(), *server(0).ip(), &icmp(8, 0, [1, 2, 3, 4], HELLO)),
        ipv4(1, *CLIENT.ip(), *server(0).ip(), &icmp(0, 0, [1, 2, 3, 4], HELLO)),
        icmp6(128, 0, HELLO),
        icmp6(129, 0, HELLO),
        icmp6(135, 0, &CLIENT6),
        ipv4(132, *CLIENT.ip(), *server(0).ip(), &[0; 16]),
        ipv6(59, CLIENT6, SERVER6, &[]),
    ];
    all.extend(fragments(&udp(CLIENT, server(9), &[b'x'; 100]), 48));
    let long = over_ipv6(17, 6, &udp(CLIENT, server(9), &[b'y'; 60])[20..])[40..].to_vec();
    let (first, last) = long.split_at(32);
    all.push(ipv6(
        44,
        CLIENT6,
        SERVER6,
        &[&[17, 0, 0, 1, 0, 0, 0, 7][..], first].concat(),
    ));
    all.push(ipv6(
        44,
        CLIENT6,
        SERVER6,
        &[&[17, 0, 0, 32, 0, 0, 0, 7][..], last].concat(),
    ));
    all
}

fn arp_packet() -> Vec<u8> {
    b"\0\x01\x08\0\x06\x04\0\x02\x02\0\0\0\0\x0a\x0a\xf4\0\x0a\x02\0\0\0\0\x14\x0a\xf4\0\x14".to_vec()
}

fn captures() -> Vec<Capture> {
    let kind = |packet: &[u8]| if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    let wrap = |around: &dyn Fn(u16, &[u8]) -> Vec<u8>| -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = packets().iter().map(|packet| around(kind(packet), packet)).collect();
        all.push(around(0x0806, &arp_packet()));
        all
    };
    let sll = |kind: u16, packet: &[u8]| {
        [
            &b"\0\x04\0\x01\0\x06\x02\0\0\0\0\x0a\0\0"[..],
            &kind.to_be_bytes(),
            packet,
        ]
        .concat()
    };
    let null = |kind: u16, packet: &[u8]| {
        // AF_INET and AF_INET6 of macOS.
        let family: u32 = if kind == 0x0800 { 2 } else { 30 };
        [&family.to_le_bytes()[..], packet].concat()
    };
    let padded = |kind: u16, packet: &[u8]| {
        let mut frame = ethernet(&[], kind, packet);
        frame.resize(frame.len().max(60), 0);
        frame
    };
    vec![
        Capture::new("raw", LinkType::RAW, packets()),
        Capture::new("ethernet", LinkType::ETHERNET, wrap(&padded)),
        Capture::new(
            "vlan",
            LinkType::ETHERNET,
            wrap(&|kind, packet| ethernet(&[(0x8100, 5)], kind, packet)),
        ),
        Capture::new(
            "qinq",
            LinkType::ETHERNET,
            wrap(&|kind, packet| ethernet(&[(0x88a8, 100), (0x8100, 5)], kind, packet)),
        ),
        Capture::new("sll", LinkType::LINUX_SLL, wrap(&sll)),
        Capture::new("sll2", LinkType::LINUX_SLL2, wrap(&sll2)),
        Capture::new(
            "null",
            LinkType::NULL,
            packets().iter().map(|packet| null(kind(packet), packet)),
        ),
    ]
}

#[test]
fn wireshark_reads_the_same_headers() {
    let fields: BTreeSet<&str> = field_names().iter().copied().collect();
    let mut wrong = Vec::new();
    for capture in captures() {
        let Some(theirs) = tshark(&capture.file(), &fields) else {
            return;
        };
        assert_eq!(theirs.len(), capture.frames.len(), "{}", capture.name);
        let (mut fragments, mut stats) = (Fragments::default(), Stats::default());
        for (frame, theirs) in capture.frames().zip(&theirs) {
            let mut ours = values(&frame);
            // Wireshark shows the transport header of a packet in the frame that completes it.
            let layers = decode(&frame);
            let whole = layers
                .ip()
                .and_then(|ip| fragments.add(ip, (frame.number, frame.ts_ns), &Limits::default(), &mut stats));
            if let Some(whole) = whole {
                whole.upper().fields(&mut |name, value, _| {
                    ours.entry(name.to_owned())
                        .or_default()
                        .push(normal(&value.to_string()));
                });
            }
            for (field, ours, theirs) in differences(&fields, &ours, theirs, Say::Everything) {
                wrong.push(format!(
                    "{} {}: {field} {ours:?}, Wireshark {theirs:?}",
                    capture.name, frame.number
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every frame cut at every length, and every byte of its headers changed.
fn damaged(capture: &Capture) -> Vec<Capture> {
    let mut cut = Capture {
        frames: Vec::new(),
        ..capture.clone()
    };
    let mut changed = cut.clone();
    // What stands behind the link layer is damaged once, in the raw packets.
    let frames = if capture.name == "raw" { capture.frames.len() } else { 4 };
    let arp = capture.frames.len().saturating_sub(1);
    let chosen = capture
        .frames
        .iter()
        .enumerate()
        .filter(|(index, _)| *index < frames || *index == arp);
    for (_, (frame, length)) in chosen {
        for kept in 1..frame.len() {
            cut.frames.push((frame[..kept].to_vec(), *length));
        }
        for at in 0..frame.len().min(80) {
            for flip in [0xff, 0x10] {
                let mut other = frame.clone();
                other[at] ^= flip;
                changed.frames.push((other, *length));
            }
        }
    }
    vec![cut, changed]
}

#[test]
fn wireshark_does_not_contradict_what_is_read_of_damaged_frames() {
    let families = [
        "eth.",
        "ip.src",
        "ip.dst",
        "ip.len",
        "ipv6.src",
        "ipv6.dst",
        "ipv6.plen",
        "arp.",
        "tcp.",
        "udp.",
        "icmp",
        "vlan.",
        "sll.",
    ];
    let fields: BTreeSet<&str> = field_names()
        .iter()
        .copied()
        .filter(|name| families.iter().any(|family| name.starts_with(family)))
        .collect();
    let mut wrong = Vec::new();
    for capture in captures().iter().flat_map(damaged) {
        let Some(theirs) = tshark(&capture.file(), &fields) else {
            return;
        };
        for (frame, theirs) in capture.frames().zip(&theirs) {
            for (field, ours, theirs) in differences(&fields, &values(&frame), theirs, Say::NoOther) {
                wrong.push(format!(
                    "{} {}: {field} {ours:?}, Wireshark {theirs:?} {:?} {}",
                    capture.name,
                    frame.number,
                    decode(&frame).troubles.iter().collect::<Vec<_>>(),
                    frame.data.iter().map(|b| format!("{b:02x}")).collect::<String>()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_is_wrong_is_said() {
    let packet = udp(CLIENT, server(9), HELLO);
    let with = |at: usize, value: u8| {
        let mut packet = packet.clone();
        packet[at] = value;
        packet
    };
    let cases: Vec<(&str, LinkType, Vec<u8>, &[Trouble])> = vec![
        ("sound", LinkType::RAW, packet.clone(), &[]),
        ("no link", LinkType::ETHERNET, vec![0; 9], &[Trouble::Link]),
        ("unknown link", LinkType(9999), packet.clone(), &[Trouble::Link]),
        ("no version", LinkType::RAW, with(0, 0x95), &[Trouble::IpHeader]),
        (
            "version of another type",
            LinkType::ETHERNET,
            ethernet(&[], 0x86dd, &packet),
            &[Trouble::IpHeader],
        ),
        ("short header", LinkType::RAW, with(0, 0x43), &[Trouble::IpHeader]),
        ("checksum", LinkType::RAW, with(8, 1), &[Trouble::IpChecksum]),
        (
            "length",
            LinkType::RAW,
            with(3, 200),
            &[Trouble::IpLength, Trouble::IpChecksum],
        ),
        ("UDP length", LinkType::RAW, with(25, 200), &[Trouble::UdpLength]),
        ("UDP header", LinkType::RAW, with(25, 3), &[Trouble::Transport]),
        (
            "VLAN",
            LinkType::ETHERNET,
            ethernet(&[], 0x8100, &[0]),
            &[Trouble::Vlan],
        ),
        (
            "ARP",
            LinkType::ETHERNET,
            ethernet(&[], 0x0806, &[0; 7]),
            &[Trouble::Arp],
        ),
        (
            "extension",
            LinkType::RAW,
            ipv6(0, CLIENT6, SERVER6, &[17, 9, 0, 0]),
            &[Trouble::IpExtension],
        ),
    ];
    for (name, link, data, troubles) in cases {
        let found: Vec<Trouble> = decode(&frame(link, &data)).troubles.iter().collect();
        assert_eq!(found, troubles, "{name}");
    }
    let cut = Frame {
        orig_len: 1000,
        ..frame(LinkType::RAW, &packet)
    };
    assert_eq!(decode(&cut).troubles.iter().collect::<Vec<_>>(), [Trouble::Cut]);
}

#[test]
fn an_icmp_error_names_the_packet_it_is_about() {
    let lost = tcp(CLIENT, server(80), 5, 6, SYN, &[]);
    let error = ipv4(1, *server(0).ip(), *CLIENT.ip(), &icmp(3, 13, [0; 4], &lost[..28]));
    let bytes = frame(LinkType::RAW, &error);
    let layers = decode(&bytes);
    let icmp = layers.icmp().unwrap();
    let quote = icmp.quote().unwrap();
    assert_eq!(
        (icmp.name(), quote.transport, quote.src, quote.dst),
        (
            "administratively prohibited",
            Transport::Tcp,
            CLIENT.into(),
            server(80).into()
        )
    );
    let syn = tcp(CLIENT, server(80), 5, 0, SYN, &[]);
    let messages = dissect(&[syn, error]);
    assert_eq!(messages.len(), 1);
    assert_eq!(
        messages[0].summary,
        "was told by the network: administratively prohibited"
    );
}

/// What fragments give, put together in this order.
fn assemble(packets: &[Vec<u8>], limits: &Limits) -> (Vec<Vec<u8>>, Stats) {
    let (mut fragments, mut stats) = (Fragments::default(), Stats::default());
    let mut out = Vec::new();
    for (packet, number) in packets.iter().zip(1..) {
        let bytes = frame(LinkType::RAW, packet);
        let layers = decode(&bytes);
        if let Some(whole) = fragments.add(layers.ip().unwrap(), (number, number), limits, &mut stats) {
            let Upper::Udp(udp) = whole.upper() else {
                panic!("a datagram")
            };
            out.push(udp.payload.to_vec());
        }
        assert!(fragments.held() <= limits.fragment_bytes + 2000);
    }
    (out, stats)
}

#[test]
fn fragments_make_the_packet_whole() {
    let said = vec![b'z'; 100];
    let pieces = fragments(&udp(CLIENT, server(9), &said), 40);
    assert_eq!(pieces.len(), 3);
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
        let shuffled: Vec<_> = order.iter().map(|at| pieces[*at].clone()).collect();
        assert_eq!(
            assemble(&shuffled, &Limits::default()).0,
            std::slice::from_ref(&said),
            "{order:?}"
        );
    }
    let again = [pieces.clone(), pieces.clone()].concat();
    assert_eq!(assemble(&again, &Limits::default()).0, [said.clone(), said.clone()]);
    let messages = dissect(&pieces);
    assert_eq!((messages[0].text.len(), &messages[0].frames[..]), (100, &[1, 2, 3][..]));
}

#[test]
fn fragments_that_overlap_or_never_end_are_given_up() {
    let pieces = fragments(&udp(CLIENT, server(9), &[b'z'; 100]), 40);
    let mut liar = pieces[1].clone();
    let last = liar.len() - 1;
    liar[last] ^= 1;
    let (out, stats) = assemble(
        &[pieces[0].clone(), pieces[1].clone(), liar, pieces[2].clone()],
        &Limits::default(),
    );
    assert_eq!((out.len(), stats.fragments_dropped), (0, 4));
    let few = Limits {
        fragmented: 8,
        fragment_bytes: 4000,
        ..Limits::default()
    };
    let many: Vec<Vec<u8>> = (0..1000_u16)
        .map(|id| {
            let mut piece = pieces[0].clone();
            piece[4..6].copy_from_slice(&id.to_be_bytes());
            piece
        })
        .collect();
    assert!(assemble(&many, &few).1.fragments_dropped > 900);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_have_their_places_within_the_frame(
        link in prop_oneof![Just(0_u32), Just(1), Just(101), Just(113), Just(276), any::<u32>()],
        kind in prop_oneof![Just([8_u8, 0]), Just([0x86, 0xdd]), Just([0x81, 0]), Just([8, 6]), any::<[u8; 2]>()],
        rest in vec(any::<u8>(), 0..120),
    ) {
        let data = [&[0; 12][..], &kind, &rest].concat();
        for data in [&data, &rest] {
            let frame = frame(LinkType(link), data);
            values(&frame);
            let (payload, place) = decode(&frame).payload();
            prop_assert_eq!(payload, data.get(place).unwrap());
        }
    }

    #[test]
    fn any_fragments_are_survived(pieces in vec((0_u16..64, any::<bool>(), 0_usize..40, 0_u16..3), 0..60)) {
        let packets: Vec<Vec<u8>> = pieces.iter().map(|(offset, more, length, id)| {
            let mut packet = ipv4(17, *CLIENT.ip(), *server(9).ip(), &vec![*length as u8; *length]);
            packet[4..6].copy_from_slice(&id.to_be_bytes());
            packet[6..8].copy_from_slice(&(*offset | if *more { 0x2000 } else { 0 }).to_be_bytes());
            packet
        }).collect();
        dissect(&packets);
    }
}
