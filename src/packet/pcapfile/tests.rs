//! Files written, read back, and shown to Wireshark.

use std::{collections::BTreeSet, net::IpAddr};

use proptest::{collection::vec, prelude::*};

use super::{write::*, *};
use crate::{testing::*, wireshark::tshark};

fn written(packets: &[(Vec<u8>, Vec<String>)], names: &[(IpAddr, &[String])]) -> Vec<u8> {
    let mut file = pcapng_header();
    let place = "pod shop/payments-api, on the wire";
    pcapng_interface(LinkType::RAW, 262_144, "eth0", place, &mut file);
    let mut ts_ns = 1_700_000_000_123_456_789;
    for (data, comments) in packets {
        let frame = Frame {
            number: 1,
            ts_ns,
            link: LinkType::RAW,
            orig_len: data.len() as u32 + 7,
            data,
        };
        pcapng_packet(0, &frame, comments, &mut file);
        ts_ns += 1_000_000;
    }
    pcapng_names(names.iter().copied(), &mut file);
    pcapng_counters(0, ts_ns, packets.len() as u64, 3, &mut file);
    file
}

type Packet = (u64, Vec<u8>, Option<String>, Option<String>);

fn read(file: &[u8], piece: usize) -> (Vec<Packet>, BTreeMap<IpAddr, Vec<String>>) {
    let mut reader = PcapReader::default();
    let mut packets = Vec::new();
    for bytes in file.chunks(piece) {
        reader.push(bytes);
        while let Some(record) = reader.next_record().unwrap() {
            assert_eq!(record.orig_len as usize, record.data.len() + 7);
            let owned = |text: Option<&str>| text.map(str::to_owned);
            packets.push((
                record.ts_ns,
                record.data.to_vec(),
                owned(record.comment),
                owned(record.interface),
            ));
        }
    }
    assert_eq!(reader.finish(), Ok(()));
    (packets, reader.names().clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        packets in vec((vec(any::<u8>(), 0..70), vec("[a-zé ]{0,9}", 0..3)), 0..6),
        piece in 1_usize..50,
    ) {
        let (v4, v6) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([1_u16; 8]));
        let several = ["orders-api.shop.pod".to_owned(), "orders-api".to_owned()];
        let one = ["ledger".to_owned()];
        let file = written(&packets, &[(v4, &several), (v6, &one)]);
        let (read, names) = read(&file, piece);
        prop_assert_eq!(read.len(), packets.len());
        for ((ts, data, comment, interface), (written, comments)) in read.iter().zip(&packets) {
            prop_assert_eq!(data, written);
            prop_assert_eq!(comment.as_ref(), comments.first());
            prop_assert_eq!(interface.as_deref(), Some("eth0"));
            prop_assert!(*ts >= 1_700_000_000_123_456_789);
        }
        prop_assert_eq!(names.get(&v4).map(Vec::as_slice), Some(&several[..]));
        prop_assert_eq!(names.get(&v6).map(Vec::as_slice), Some(&one[..]));
    }
}

#[test]
fn wireshark_shows_the_comments() {
    let comment = "a card number, 4111 1111 1111 1111".to_owned();
    let packets = [
        (udp(CLIENT, server(9), b"hello"), vec![comment.clone()]),
        (udp(server(9), CLIENT, b"hello"), vec![]),
    ];
    let file = written(&packets, &[(IpAddr::V4(*CLIENT.ip()), &["orders-api".to_owned()])]);
    let fields = BTreeSet::from([
        "frame.comment",
        "frame.interface_name",
        "frame.interface_description",
        "udp.srcport",
    ]);
    let Some(frames) = tshark(&file, &fields) else { return };
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0]["frame.comment"], [comment]);
    assert!(!frames[1].contains_key("frame.comment"));
    assert_eq!(frames[1]["frame.interface_name"], ["eth0"]);
    assert_eq!(
        frames[1]["frame.interface_description"],
        ["pod shop/payments-api, on the wire"]
    );
}
