//! What shows of real TLS connections.

use proptest::prelude::*;
use rustls::{
    crypto::ring::kx_group,
    version::{TLS12, TLS13},
};

use super::testing::{CLIENT_ID, Session, talk, turns};
use crate::{Detail, Message, Protocol, testing::*};

/// The records of a connection, and who sent each.
fn ladder(messages: &[Message]) -> Vec<(bool, &str)> {
    messages
        .iter()
        .filter_map(|message| match &message.detail {
            Detail::Tls { record, .. } => Some((message.from.addr == CLIENT.into(), record.as_str())),
            _ => None,
        })
        .collect()
}

#[test]
fn in_tls_12_both_certificates_show() {
    let messages = talk(&Session::mutual(&TLS12)).messages();
    assert_eq!(
        ladder(&messages),
        [
            (true, "client-hello"),
            (false, "server-hello"),
            (false, "certificate"),
            (false, "server-key-exchange"),
            (false, "certificate-request"),
            (false, "server-hello-done"),
            (true, "certificate"),
            (true, "client-key-exchange"),
            (true, "certificate-verify"),
            (true, "finished"),
            (false, "finished"),
            (true, "application-data"),
            (false, "application-data"),
        ]
    );
    let Detail::Tls {
        sni,
        alpn,
        version,
        ciphers,
        ..
    } = &messages[0].detail
    else {
        panic!("a hello")
    };
    assert_eq!(sni.as_deref(), Some("payments-api.shop"));
    assert_eq!(
        (alpn.join(" ").as_str(), version.as_deref()),
        ("h2 http/1.1", Some("1.2"))
    );
    assert!(
        ciphers.contains(&"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384".to_owned()),
        "{ciphers:?}"
    );
    let Detail::Tls { alpn, ciphers, .. } = &messages[1].detail else {
        panic!("a hello")
    };
    assert_eq!((alpn.join(" ").as_str(), ciphers.len()), ("http/1.1", 1));
    assert_eq!(messages[1].in_reply_to, Some(messages[0].seq));
    let certificate = |message: &Message| match &message.detail {
        Detail::Tls { certificates, .. } => certificates[0].clone(),
        other => panic!("{other:?}"),
    };
    let server = certificate(&messages[2]);
    assert_eq!(
        (server.subject.as_str(), server.issuer.as_str()),
        ("CN=payments-api", "CN=shop CA")
    );
    assert_eq!(
        (server.names.join(" ").as_str(), server.spiffe_id),
        ("payments-api.shop", None)
    );
    let client = certificate(&messages[6]);
    assert_eq!(
        (client.subject.as_str(), client.spiffe_id.as_deref()),
        ("CN=orders-api", Some(CLIENT_ID))
    );
    assert!(messages[6].summary.contains(CLIENT_ID));
    assert!(client.not_after > client.not_before && !client.ca && client.trouble.is_empty());
}

#[test]
fn in_tls_13_nothing_shows_behind_the_hellos() {
    for session in [Session::new(&TLS13), Session::mutual(&TLS13)] {
        let messages = talk(&session).messages();
        let ladder = ladder(&messages);
        assert_eq!(ladder[..2], [(true, "client-hello"), (false, "server-hello")]);
        assert!(
            ladder[2..].iter().all(|(_, record)| *record == "application-data"),
            "{ladder:?}"
        );
        let Detail::Tls { version, ciphers, .. } = &messages[1].detail else {
            panic!("a hello")
        };
        assert_eq!(version.as_deref(), Some("1.3"));
        assert!(ciphers[0].starts_with("TLS_"), "{ciphers:?}");
        assert!(
            messages[2].text.contains("the server's certificate is in here"),
            "{}",
            messages[2].text
        );
        assert!(!messages.iter().any(|message| message.text.contains("shop CA")));
    }
}

#[test]
fn a_retried_hello_is_told() {
    let session = Session {
        groups: [vec![kx_group::X25519, kx_group::SECP384R1], vec![kx_group::SECP384R1]],
        ..Session::new(&TLS13)
    };
    let messages = talk(&session).messages();
    assert_eq!(
        ladder(&messages)[..4],
        [
            (true, "client-hello"),
            (false, "hello-retry-request"),
            (true, "client-hello"),
            (false, "server-hello")
        ]
    );
}

#[test]
fn refusals_are_named_where_they_are_in_clear() {
    let alerts = |session: &Session| -> Vec<String> {
        let messages = talk(session).messages();
        messages
            .iter()
            .filter_map(|message| match &message.detail {
                Detail::Tls { alert: Some(alert), .. } => Some(alert.clone()),
                _ => None,
            })
            .collect()
    };
    let without = |version| Session {
        shown: false,
        ..Session::mutual(version)
    };
    assert_eq!(alerts(&without(&TLS12)), ["certificate_required"]);
    assert!(alerts(&without(&TLS13)).is_empty());
    let stranger = Session {
        trusted: false,
        ..Session::new(&TLS12)
    };
    assert_eq!(alerts(&stranger), ["unknown_ca"]);
}

#[test]
fn handshakes_may_be_cut_anywhere_and_damaged_anyhow() {
    let turns = turns(&Session::mutual(&TLS12));
    let mut talk = Talk::open(443);
    for (from, bytes) in &turns {
        talk.cut(*from, bytes, &[1, 7, 300]);
    }
    let cut = talk.close().messages();
    let mut talk = Talk::open(443);
    for (from, bytes) in &turns {
        talk.send(*from, ACK, bytes);
    }
    let whole = talk.close().messages();
    assert_eq!(ladder(&cut), ladder(&whole));
    let said = |messages: &[Message]| messages.iter().map(|one| one.text.clone()).collect::<Vec<_>>();
    assert_eq!(said(&cut), said(&whole));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_change_is_survived(turn in 0_usize..6, at in any::<prop::sample::Index>(), with in any::<u8>()) {
        use std::sync::LazyLock;
        static TURNS: LazyLock<Vec<(usize, Vec<u8>)>> = LazyLock::new(|| turns(&Session::mutual(&TLS12)));
        let mut turns = TURNS.clone();
        let turn = turn % turns.len();
        let at = at.index(turns[turn].1.len());
        turns[turn].1[at] = with;
        let mut talk = Talk::open(443);
        for (from, bytes) in &turns {
            talk.send(*from, ACK, bytes);
        }
        for message in talk.messages() {
            prop_assert!(matches!(message.protocol, Protocol::Tls | Protocol::Tcp));
            prop_assert!(!message.text.chars().any(|char| char.is_control() && char != '\n'));
        }
    }
}
