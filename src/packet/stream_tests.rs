//! TCP put in order: whatever happens to segments on their way, the same is read.

use proptest::{collection::vec, prelude::*};

use super::{testing::*, *};

/// What is said on a connection, turn by turn.
type Turns = Vec<(usize, Vec<u8>)>;

fn dialogue() -> Turns {
    let body = "0123456789".repeat(30);
    let post = format!("POST /a HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    vec![
        (0, post.into_bytes()),
        (
            1,
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec(),
        ),
        (0, b"GET /b HTTP/1.1\r\nCookie: sid=1\r\n\r\n".to_vec()),
        (1, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec()),
    ]
}

/// Summary, text, and where secrets stand in it.
type Read = (String, String, Vec<(usize, usize)>);

fn read(messages: &[Message]) -> Vec<Read> {
    messages
        .iter()
        .map(|message| {
            let leaks = message.leaks.iter().map(|leak| (leak.start, leak.end)).collect();
            (message.summary.clone(), message.text.clone(), leaks)
        })
        .collect()
}

/// A dialogue on a connection; each turn is cut at these sizes, and its segments are sent in this order, some again.
fn sent(turns: &Turns, sizes: &[usize], order: &[u16], again: &[bool]) -> Talk {
    let mut talk = Talk::open(80);
    for (from, bytes) in turns {
        let start = talk.packets.len();
        talk.cut(*from, bytes, sizes);
        let ack = talk.packets.pop().unwrap();
        let segments = talk.packets.split_off(start);
        let mut keyed: Vec<(u16, Vec<u8>)> = Vec::new();
        for (index, segment) in segments.into_iter().enumerate() {
            let key = |index: usize| order.get(index % order.len().max(1)).copied().unwrap_or_default();
            if again.get(index % again.len().max(1)).copied().unwrap_or_default() {
                keyed.push((key(index * 7 + 3), segment.clone()));
            }
            keyed.push((key(index), segment));
        }
        keyed.sort_by_key(|(key, _)| *key);
        talk.packets.extend(keyed.into_iter().map(|(_, segment)| segment));
        talk.packets.push(ack);
    }
    talk.close();
    talk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_split_in_any_order_with_duplicates_reads_the_same(
        sizes in vec(4_usize..200, 1..8),
        order in vec(any::<u16>(), 1..64),
        again in vec(any::<bool>(), 1..16),
    ) {
        let straight = sent(&dialogue(), &[usize::MAX], &[0], &[false]);
        let other = sent(&dialogue(), &sizes, &order, &again);
        prop_assert_eq!(read(&other.messages()), read(&straight.messages()));
    }

    #[test]
    fn what_leaks_is_found_at_its_place(sizes in vec(1_usize..60, 1..6), order in vec(any::<u16>(), 1..32)) {
        let talk = sent(&dialogue(), &sizes, &order, &[false]);
        let messages = talk.messages();
        let leak = &messages.iter().find(|message| message.summary == "GET /b").unwrap().leaks[0];
        let bytes: Vec<u8> = leak
            .places
            .iter()
            .flat_map(|place| talk.packets[place.frame as usize - 1][place.start..place.end].to_vec())
            .collect();
        prop_assert_eq!(String::from_utf8(bytes).unwrap(), "sid=1");
        prop_assert_eq!(leak.value.as_str(), "sid=1");
        prop_assert_eq!(leak.frame, leak.places[0].frame);
    }

    #[test]
    fn what_is_lost_hides_nothing_behind_it(lost in 0_usize..400, sizes in vec(10_usize..100, 1..5)) {
        let mut talk = sent(&dialogue(), &sizes, &[0], &[false]);
        // The handshake and the last request with its answer stay.
        let kept = 4.max(talk.packets.len().saturating_sub(12));
        if kept > 4 {
            talk.packets.remove(3 + lost % (kept - 4));
        }
        let messages = talk.messages();
        prop_assert_eq!(messages.last().map(|message| message.summary.as_str()), Some("200 OK (5 bytes)"));
    }
}

#[test]
fn a_segment_larger_than_any_packet_is_read() {
    // Segmentation offload: one segment of 60,000 bytes whose IP length is left to the network card.
    let body = vec![b'x'; 60_000];
    let mut talk = Talk::open(80);
    talk.client(&[b"POST / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n", &body[..]].concat());
    let large = talk.packets.last_mut().unwrap();
    large[2..4].copy_from_slice(&[0, 0]);
    let messages = talk.messages();
    assert_eq!(messages[0].summary, "POST / (60000 bytes)");
    assert!(!messages[0].incomplete);
}

#[test]
fn each_direction_may_end_by_itself() {
    let mut talk = Talk::open(80);
    talk.send(0, ACK, b"GET / HTTP/1.0\r\n\r\n").send(0, ACK | FIN, &[]);
    talk.server(b"HTTP/1.0 200 OK\r\n\r\nfirst ")
        .server(b"second")
        .send(1, ACK | FIN, &[]);
    let messages = talk.messages();
    assert_eq!(messages[1].summary, "200 OK (12 bytes)");
    assert!(messages[1].text.ends_with("first second") && !messages[1].incomplete);
}

#[test]
fn a_forged_reset_ends_nothing() {
    let mut talk = Talk::open(80);
    talk.client(b"GET /1 HTTP/1.1\r\n\r\n");
    let forged = tcp(server(80), CLIENT, 0x5000_0000, 0, RST, &[]);
    talk.packets.push(forged);
    talk.server(b"HTTP/1.1 204 No Content\r\n\r\n").send(1, RST | ACK, &[]);
    let mut dissector = Dissector::default();
    let messages = feed(&mut dissector, &talk.packets);
    let said: Vec<&str> = messages.iter().map(|message| message.summary.as_str()).collect();
    assert_eq!(said, ["GET /1", "204 No Content", "broke the connection off"]);
    assert_eq!(dissector.stats().conflicts, 1);
}

#[test]
fn what_was_lost_and_what_came_late_is_counted() {
    let mut talk = Talk::open(80);
    talk.cut(0, b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabcdefghi", &[39, 3, 3]);
    let late = talk.packets.remove(4);
    talk.server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    talk.packets.push(late);
    let mut dissector = Dissector::default();
    let messages = feed(&mut dissector, &talk.packets);
    assert!(messages[0].incomplete && messages[0].text.contains("3 bytes of this body were not captured"));
    let stats = dissector.stats();
    assert_eq!((stats.gaps, stats.missing_bytes, stats.retransmissions), (1, 3, 1));
}

#[test]
fn a_probe_of_a_silent_connection_says_nothing() {
    // A keep-alive repeats the last byte that was acknowledged.
    let mut talk = Talk::open(80);
    talk.client(b"GET / HTTP/1.1\r\n\r\n").send(1, ACK, &[]);
    talk.packets.push(tcp(
        CLIENT,
        server(80),
        0xffff_fff1_u32.wrapping_add(17),
        78,
        ACK,
        b"\n",
    ));
    talk.server(b"HTTP/1.1 204 No Content\r\n\r\n");
    let mut dissector = Dissector::default();
    let messages = feed(&mut dissector, &talk.packets);
    assert_eq!(messages.len(), 2);
    assert_eq!((dissector.stats().retransmissions, dissector.stats().gaps), (1, 0));
}

#[test]
fn a_hole_in_what_no_decoder_knows_is_shown() {
    let mut talk = Talk::open(25);
    talk.server(b"220 mail.shop ready\r\n")
        .client(b"HELO a\r\n")
        .client(b"lost")
        .client(b"MAIL\r\n");
    talk.packets.remove(5);
    talk.send(1, ACK, &[]);
    let messages = talk.close().messages();
    let text: Vec<&str> = messages.iter().map(|message| message.text.as_str()).collect();
    assert!(
        text.iter().any(|text| text.contains("[4 bytes were not captured]")),
        "{text:?}"
    );
    assert!(text.iter().any(|text| text.contains("MAIL")), "{text:?}");
}
