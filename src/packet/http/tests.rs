//! HTTP, message by message.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::inflate::tests::gzip;
use crate::{LeakKind, Message, testing::*};

/// What each side says in turn, client first, and what is read of it.
fn said(turns: &[&[u8]]) -> Vec<Message> {
    let mut talk = Talk::open(80);
    for (index, bytes) in turns.iter().enumerate() {
        talk.send(index % 2, ACK, bytes);
    }
    talk.close().messages()
}

#[test]
fn messages_end_where_they_end() {
    let get: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    let head: &[u8] = b"HEAD / HTTP/1.1\r\n\r\n";
    for (name, turns, summaries) in [
        (
            "keep-alive",
            vec![get, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", get, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"],
            vec!["GET /", "200 OK (2 bytes)", "GET /", "404 Not Found"],
        ),
        (
            "no body after HEAD, 204 and 304",
            vec![
                head,
                b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
                get,
                b"HTTP/1.1 204 No Content\r\n\r\n",
                get,
                b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
                get,
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            ],
            vec!["HEAD /", "200 OK", "GET /", "204 No Content", "GET /", "304 Not Modified", "GET /", "200 OK (1 bytes)"],
        ),
        (
            "100 before the answer",
            vec![
                b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\n",
                b"hi",
                b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
            ],
            vec!["100 Continue", "POST / (2 bytes)", "201 Created"],
        ),
        (
            "an upgrade",
            vec![
                b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
                b"\x81\x02hi",
                b"\x81\x03you",
            ],
            vec!["GET /ws", "101 Switching Protocols", "4 bytes", "5 bytes"],
        ),
        (
            "a tunnel",
            vec![
                b"CONNECT a:443 HTTP/1.1\r\n\r\n",
                b"HTTP/1.1 200 OK\r\n\r\n",
                b"anything",
                b"else",
            ],
            vec!["CONNECT a:443", "200 OK", "8 bytes", "4 bytes"],
        ),
        (
            "chunks win over a length",
            vec![
                b"POST / HTTP/1.1\r\nContent-Length: 99\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc",
            ],
            vec!["POST / (2 bytes)", "200 OK (3 bytes)"],
        ),
        (
            "until the end",
            vec![get, b"HTTP/1.0 200 OK\r\n\r\nabcdef"],
            vec!["GET /", "200 OK (6 bytes)"],
        ),
        ("a chunk size that is none", vec![get, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"], vec!["GET /", "200 OK"]),
    ] {
        let messages = said(&turns);
        let read: Vec<&str> = messages.iter().map(|message| message.summary.as_str()).collect();
        assert_eq!(read, summaries, "{name}");
    }
}

#[test]
fn a_compressed_body_is_read_and_what_leaks_in_it_found() {
    let body = gzip(b"{\"card\":\"4111 1111 1111 1111\"}");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let response = [head.as_bytes(), &body].concat();
    let messages = said(&[b"GET / HTTP/1.1\r\n\r\n", &response]);
    let [_, answer] = &messages[..] else {
        panic!("two messages")
    };
    assert!(
        answer.text.contains("{\"card\":\"4111 1111 1111 1111\"}"),
        "{}",
        answer.text
    );
    assert!(
        answer
            .text
            .ends_with(&format!("[decompressed from {} bytes, gzip]", body.len()))
    );
    let leak = &answer.leaks[0];
    assert_eq!((leak.kind, leak.places.len()), (LeakKind::CardNumber, 1));
    // It stands somewhere in the compressed body, which is behind 40 bytes of TCP/IP and the head.
    let at = 40 + head.len();
    assert_eq!((leak.places[0].start, leak.places[0].end), (at, at + body.len()));
    let broken = said(&[
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ]);
    assert!(broken[1].text.ends_with("[3 bytes, gzip]"));
}

#[test]
fn trailers_are_shown_and_searched() {
    let messages = said(&[
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX-Api-Key: k-1\r\nB: 2\r\n\r\n",
    ]);
    assert!(
        messages[1]
            .text
            .ends_with("ok\nx-api-key (trailer): k-1\nb (trailer): 2"),
        "{}",
        messages[1].text
    );
    assert_eq!(
        (messages[1].leaks[0].kind, messages[1].leaks[0].value.as_str()),
        (LeakKind::ApiKey, "k-1")
    );
}

#[test]
fn a_token_is_shown_decoded() {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let token = format!(
        "{}.{}.c2ln",
        part(r#"{"alg":"ES256"}"#),
        part(r#"{"sub":"orders-api"}"#)
    );
    let request = format!("GET / HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n");
    let messages = said(&[request.as_bytes()]);
    assert!(
        messages[0].text.ends_with(
            "JWT header: {\"alg\":\"ES256\"}\nJWT claims (signature not verified): {\"sub\":\"orders-api\"}"
        )
    );
    let leak = &messages[0].leaks[0];
    assert_eq!(
        (leak.kind, leak.value.as_str()),
        (LeakKind::BearerToken, token.as_str())
    );
    assert_eq!(
        leak.token.as_deref(),
        Some("JWT (signature not verified): alg ES256, sub orders-api, never expires")
    );
}
