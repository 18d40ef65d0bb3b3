//! The client against an agent that says what it is told, over a real socket.

use std::sync::Arc;

use tempfile::TempDir;
use ztlab_identity::{
    Authorizer, JwtBundle, TrustDomain,
    jwt::Signer,
    tls::{MutualTls, peer_id},
};

use super::{
    testing::{Agent, Ca, Tokens, address},
    *,
};
use crate::api::workload::{JwtBundlesResponse, Jwtsvid, JwtsvidResponse, X509svidResponse};

fn domain(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

fn denied() -> Status {
    Status::permission_denied("no identity issued")
}

/// An agent's socket, and the agent that begins with this answer.
fn agent(first: Result<X509svidResponse, Status>) -> (TempDir, Agent, Client, WorkloadSource) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let agent = Agent::start(&socket, first, Tokens::default());
    let source = WorkloadSource::start(address(&socket));
    (dir, agent, Client::new(address(&socket)), source)
}

async fn until(source: &WorkloadSource, wanted: impl FnMut(&State) -> bool) {
    source.state().wait_for(wanted).await.unwrap();
}

fn serial(source: &WorkloadSource) -> String {
    source.current().unwrap().default_svid().leaf().serial().to_owned()
}

#[tokio::test]
async fn the_first_answer_is_waited_for() {
    let ca = Ca::of("shop.test");
    let (_dir, agent, _, source) = agent(Ok(ca.message("/orders")));
    let context = source.ready().await.unwrap();
    assert_eq!(context.default_svid().id().to_string(), "spiffe://shop.test/orders");
    let authorities = context.bundles().get(&domain("shop.test")).unwrap().authorities();
    assert_eq!(authorities[0].der().as_ref(), ca.der());
    assert_eq!(*source.state().borrow(), State::Current(1));
    assert_eq!(agent.times_asked(), 1);
}

#[tokio::test]
async fn a_rotation_arrives_on_the_open_stream() {
    let ca = Ca::of("shop.test");
    let (_dir, agent, _, source) = agent(Ok(ca.message("/orders")));
    source.ready().await.unwrap();
    let mut before = serial(&source);
    for number in 2..6 {
        agent.say(Ok(ca.message("/orders")));
        until(&source, |state| *state == State::Current(number)).await;
        assert_ne!(serial(&source), before);
        before = serial(&source);
    }
    assert_eq!(agent.times_asked(), 1, "one stream carries all");
}

#[tokio::test]
async fn workload_api_4_4_what_is_absent_is_redacted() {
    let (ca, partner) = (Ca::of("shop.test"), Ca::of("partner.test"));
    let mut message = ca.message("/orders");
    message.svids.push(ca.svid("/second"));
    message
        .federated_bundles
        .insert("spiffe://partner.test".to_owned(), partner.der());
    let (_dir, agent, _, source) = agent(Ok(message));
    let context = source.ready().await.unwrap();
    assert_eq!((context.svids().len(), context.bundles().len()), (2, 2));
    agent.say(Ok(ca.message("/second")));
    until(&source, |state| *state == State::Current(2)).await;
    let context = source.current().unwrap();
    assert_eq!(context.default_svid().id().to_string(), "spiffe://shop.test/second");
    assert_eq!(context.svids().len(), 1);
    assert!(context.bundles().get(&domain("partner.test")).is_none());
}

#[tokio::test]
async fn workload_api_5_2_1_an_identity_that_is_taken_away_is_dropped_and_one_given_later_taken() {
    let ca = Ca::of("shop.test");
    // A pod that comes before its registration entry.
    let (_dir, agent, _, source) = agent(Err(denied()));
    let none = State::NoIdentity("no identity issued".to_owned());
    until(&source, |state| *state == none).await;
    assert!(source.current().is_none());
    agent.say(Ok(ca.message("/orders")));
    source.ready().await.unwrap();
    // The entry is deleted.
    agent.say(Err(denied()));
    until(&source, |state| *state == none).await;
    assert!(source.current().is_none());
    agent.say(Ok(ca.message("/orders")));
    until(&source, |state| *state == State::Current(2)).await;
}

#[tokio::test]
async fn workload_api_5_2_1_hints_and_the_first_of_two() {
    let ca = Ca::of("shop.test");
    let mut message = ca.message("/default");
    for (path, hint) in [("/a", "internal"), ("/b", "external"), ("/c", "internal")] {
        let mut svid = ca.svid(path);
        svid.hint = hint.to_owned();
        message.svids.push(svid);
    }
    let (_dir, _agent, _, source) = agent(Ok(message));
    let context = source.ready().await.unwrap();
    let path = |hint| context.svid_of_hint(hint).unwrap().id().path().to_string();
    assert_eq!((path("internal"), path("external")), ("/a".to_owned(), "/b".to_owned()));
    assert_eq!(context.default_svid().id().path().as_str(), "/default");
    assert!(context.svid_of_hint("other").is_none());
}

/// Breaks a message in one way; the authority is another trust domain's.
type Change = fn(&mut X509svidResponse, &Ca);

#[tokio::test]
async fn workload_api_4_5_a_message_that_breaks_the_rules_is_discarded_and_the_stream_goes_on() {
    let (ca, other) = (Ca::of("shop.test"), Ca::of("other.test"));
    let (_dir, agent, _, source) = agent(Ok(ca.message("/orders")));
    source.ready().await.unwrap();
    let before = serial(&source);
    let broken = |change: Change| {
        let mut message = ca.message("/orders");
        change(&mut message, &other);
        message
    };
    let messages: [(Change, &str); 11] = [
        (|it, _| it.svids.clear(), "empty svids"),
        (|it, _| it.svids[0].x509_svid.clear(), "empty x509_svid"),
        (|it, _| it.svids[0].x509_svid_key.clear(), "empty x509_svid_key"),
        (|it, _| it.svids[0].bundle.clear(), "empty bundle"),
        (
            |it, _| it.svids[0].spiffe_id = "spiffe://shop.test/admin".to_owned(),
            "but it is for",
        ),
        (|it, _| it.svids[0].spiffe_id.clear(), "no SPIFFE ID"),
        (|it, _| it.svids[0].x509_svid = vec![1], "not an X.509 certificate"),
        (
            |it, other| it.svids[0].x509_svid_key = other.svid("/x").x509_svid_key,
            "does not belong",
        ),
        (|it, _| it.svids[0].bundle.truncate(9), "not an X.509 certificate"),
        (
            |it, other| {
                it.federated_bundles
                    .insert("spiffe://shop.test".to_owned(), other.der());
            },
            "two bundles",
        ),
        (
            |it, other| {
                it.federated_bundles
                    .insert("spiffe://other.test/a".to_owned(), other.der());
            },
            "has no path",
        ),
    ];
    for (change, part) in messages {
        agent.say(Ok(broken(change)));
        until(
            &source,
            |state| matches!(state, State::Unreachable(told) if told.contains(part)),
        )
        .await;
        assert_eq!(serial(&source), before, "{part}");
    }
    agent.say(Ok(ca.message("/orders")));
    until(&source, |state| *state == State::Current(2)).await;
    assert_ne!(serial(&source), before);
    assert_eq!(agent.times_asked(), 1);
}

#[tokio::test]
async fn a_foreign_bundle_that_cannot_be_read_is_left_out_and_the_rotation_goes_on() {
    let (ca, partner) = (Ca::of("shop.test"), Ca::of("partner.test"));
    let mut message = ca.message("/orders");
    message
        .federated_bundles
        .insert("spiffe://partner.test".to_owned(), partner.der());
    message
        .federated_bundles
        .insert("spiffe://broken.test".to_owned(), vec![0x30, 9, 1]);
    message
        .federated_bundles
        .insert("spiffe://empty.test".to_owned(), Vec::new());
    let (_dir, _agent, _, source) = agent(Ok(message));
    let context = source.ready().await.unwrap();
    let bundle = |name| context.bundles().get(&domain(name));
    assert!(bundle("shop.test").is_some() && !bundle("partner.test").unwrap().is_empty());
    assert!(bundle("broken.test").is_none() && bundle("empty.test").unwrap().is_empty());
}

#[tokio::test]
async fn workload_api_4_2_an_agent_that_comes_back_is_asked_again() {
    let ca = Ca::of("shop.test");
    let (dir, first, _, source) = agent(Ok(ca.message("/orders")));
    source.ready().await.unwrap();
    let before = serial(&source);
    first.kill().await;
    until(&source, |state| matches!(state, State::Unreachable(_))).await;
    // What there was stays: open services go on until it expires.
    assert_eq!(serial(&source), before);
    let socket = dir.path().join("agent.sock");
    std::fs::remove_file(&socket).unwrap();
    let _second = Agent::start(&socket, Ok(ca.message("/orders")), Tokens::default());
    until(&source, |state| *state == State::Current(2)).await;
    assert_ne!(serial(&source), before);
}

#[tokio::test]
async fn a_workload_that_starts_before_the_agent_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let source = WorkloadSource::start(address(&socket));
    until(
        &source,
        |state| matches!(state, State::Unreachable(told) if told.contains("look whether the agent runs")),
    )
    .await;
    let ca = Ca::of("shop.test");
    let _agent = Agent::start(&socket, Ok(ca.message("/orders")), Tokens::default());
    source.ready().await.unwrap();
}

#[tokio::test]
async fn workload_endpoint_6_some_errors_are_asked_again_and_some_are_not() {
    let ca = Ca::of("shop.test");
    for status in [
        Status::unavailable("busy"),
        Status::internal("?"),
        Status::resource_exhausted("?"),
    ] {
        let (_dir, agent, _, source) = agent(Err(status));
        until(&source, |state| matches!(state, State::Unreachable(_))).await;
        agent.say(Ok(ca.message("/orders")));
        source.ready().await.unwrap();
    }
    for status in [
        Status::invalid_argument("security header missing"),
        Status::unimplemented("?"),
    ] {
        let (_dir, agent, _, source) = agent(Err(status));
        source.ready().await.unwrap_err();
        assert!(matches!(&*source.state().borrow(), State::Failed(_)));
        // The task is over: it cannot ask again.
        let mut state = source.state();
        state.borrow_and_update();
        assert!(state.changed().await.is_err());
        assert_eq!(agent.times_asked(), 1);
    }
}

#[tokio::test]
async fn a_source_that_is_dropped_hangs_up() {
    let ca = Ca::of("shop.test");
    let (_dir, _agent, _, source) = agent(Ok(ca.message("/orders")));
    source.ready().await.unwrap();
    let mut state = source.state();
    state.borrow_and_update();
    drop(source);
    assert!(state.changed().await.is_err());
}

#[tokio::test]
async fn workload_api_6_2_tokens_and_their_keys() {
    let signer = Signer::from_pkcs8("k", &Signer::generate_pkcs8().unwrap()).unwrap();
    let id = SpiffeId::parse("spiffe://shop.test/orders").unwrap();
    let svid = signer.sign(&id, &["payments".to_owned()], 1, 2).unwrap();
    let keys = JwtBundle::new(domain("shop.test"), [("k".to_owned(), signer.public_key())]).unwrap();
    let tokens = |said: &str, name: &str| Tokens {
        svids: JwtsvidResponse {
            svids: vec![Jwtsvid {
                spiffe_id: said.to_owned(),
                svid: svid.token().to_owned(),
                hint: "h".to_owned(),
            }],
        },
        bundles: JwtBundlesResponse {
            bundles: [(name.to_owned(), keys.to_json().unwrap().into_bytes())].into(),
        },
    };
    let dir = tempfile::tempdir().unwrap();
    let start = |name: &str, tokens| {
        let socket = dir.path().join(name);
        (
            Agent::start(&socket, Err(denied()), tokens),
            Client::new(address(&socket)),
        )
    };
    let (_agent, client) = start("good", tokens("spiffe://shop.test/orders", "spiffe://shop.test"));
    let found = client.jwt_svids(&["payments".to_owned()], Some(&id)).await.unwrap();
    assert_eq!((found[0].token(), found[0].hint()), (svid.token(), "h"));
    assert_eq!(
        client.jwt_bundles().await.unwrap().get(&domain("shop.test")),
        Some(&keys)
    );
    assert_eq!(client.validate_jwt_svid("good", "payments").await.unwrap(), id);
    let error = client.validate_jwt_svid("bad", "payments").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the Workload API answered InvalidArgument: token is not valid"
    );
    let error = client.jwt_svids(&[], None).await.unwrap_err();
    assert!(error.to_string().contains("audience must be specified"), "{error}");

    let (_agent, client) = start("other", tokens("spiffe://shop.test/admin", "spiffe://shop.test/path"));
    let error = client.jwt_svids(&["payments".to_owned()], None).await.unwrap_err();
    assert!(
        matches!(error, WorkloadError::Message(MessageError::OtherId { .. })),
        "{error}"
    );
    let error = client.jwt_bundles().await.unwrap_err();
    assert!(
        matches!(error, WorkloadError::Message(MessageError::Id { .. })),
        "{error}"
    );
    let (_agent, client) = start("empty", Tokens::default());
    assert!(client.jwt_svids(&["payments".to_owned()], None).await.is_err());
    assert!(client.jwt_bundles().await.is_err());
}

/// A service and its callers, each with what its agent gives it, while both rotate again and again: no request fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_traffic_fails_no_request() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let ca = Ca::of("shop.test");
    let (_d1, orders_agent, _, orders) = agent(Ok(ca.message("/orders")));
    let (_d2, payments_agent, _, payments) = agent(Ok(ca.message("/payments")));
    orders.ready().await.unwrap();
    payments.ready().await.unwrap();
    let (mut orders_state, mut payments_state) = (orders.state(), payments.state());
    let only = |id: &str| id.parse::<Authorizer>().unwrap();
    let server = MutualTls::new(Arc::new(payments), only("spiffe://shop.test/orders"))
        .server()
        .unwrap();
    let client = MutualTls::new(Arc::new(orders), only("spiffe://shop.test/payments"))
        .client()
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                assert_eq!(
                    peer_id(stream.get_ref().1.peer_certificates()).unwrap().to_string(),
                    "spiffe://shop.test/orders"
                );
                let mut byte = [0];
                while stream.read(&mut byte).await.unwrap_or(0) == 1 {
                    stream.write_all(&byte).await.unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    let open = async || {
        let stream = tokio::net::TcpStream::connect(port).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from("payments").unwrap();
        connector.connect(name, stream).await.unwrap()
    };
    let mut kept = open().await;
    for number in 2..12 {
        orders_agent.say(Ok(ca.message("/orders")));
        payments_agent.say(Ok(ca.message("/payments")));
        // Before, while and after both took it.
        for wait in [false, true] {
            if wait {
                orders_state.wait_for(|it| *it == State::Current(number)).await.unwrap();
                payments_state
                    .wait_for(|it| *it == State::Current(number))
                    .await
                    .unwrap();
            }
            let mut fresh = open().await;
            for stream in [&mut kept, &mut fresh] {
                let mut byte = [7];
                stream.write_all(&byte).await.unwrap();
                stream.flush().await.unwrap();
                stream.read_exact(&mut byte).await.unwrap();
                assert_eq!(byte, [7]);
            }
        }
    }
    serving.abort();
}

/// One of many workloads: what its agent gives it, and how many requests it has made of its neighbour.
struct Busy {
    _dir: TempDir,
    agent: Agent,
    state: watch::Receiver<State>,
    made: Arc<std::sync::atomic::AtomicUsize>,
}

/// A hundred workloads in a ring, each calling the next over and over on new connections, while all of them rotate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_workloads_rotate_under_load_and_no_request_fails() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    const WORKLOADS: usize = 100;
    let ca = Ca::of("shop.test");
    let path = |at: usize| format!("/w{}", at % WORKLOADS);
    let only = |at: usize| format!("spiffe://shop.test{}", path(at)).parse::<Authorizer>().unwrap();
    let mut busy = Vec::new();
    let mut doors = Vec::new();
    for at in 0..WORKLOADS {
        let (dir, agent, _, source) = agent(Ok(ca.message(&path(at))));
        source.ready().await.unwrap();
        let state = source.state();
        let source: Arc<dyn Source> = Arc::new(source);
        let server = MutualTls::new(Arc::clone(&source), only(at + WORKLOADS - 1))
            .server()
            .unwrap();
        let client = MutualTls::new(source, only(at + 1)).client().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        doors.push((listener.local_addr().unwrap(), client));
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // What fails here fails for the caller, which counts it.
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut byte = [0];
                    if stream.read_exact(&mut byte).await.is_ok() {
                        let _ = stream.write_all(&byte).await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        let made = Arc::new(AtomicUsize::new(0));
        busy.push(Busy {
            _dir: dir,
            agent,
            state,
            made,
        });
    }
    let mut calling = tokio::task::JoinSet::new();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for at in 0..WORKLOADS {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(doors[at].1.clone()));
        let next = doors[(at + 1) % WORKLOADS].0;
        let (made, stop) = (Arc::clone(&busy[at].made), Arc::clone(&stop));
        calling.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let stream = TcpStream::connect(next).await?;
                let name = rustls_pki_types::ServerName::from(next.ip());
                let mut stream = connector.connect(name, stream).await?;
                stream.write_all(&[7]).await?;
                let mut byte = [0];
                stream.read_exact(&mut byte).await?;
                assert_eq!(byte, [7]);
                made.fetch_add(1, Ordering::SeqCst);
            }
            std::io::Result::Ok(())
        });
    }
    for round in 2..5 {
        let before: Vec<usize> = busy.iter().map(|it| it.made.load(Ordering::SeqCst)).collect();
        for (at, workload) in busy.iter().enumerate() {
            workload.agent.say(Ok(ca.message(&path(at))));
        }
        for workload in &mut busy {
            workload
                .state
                .wait_for(|it| *it == State::Current(round))
                .await
                .unwrap();
        }
        // Each has called with what it has now, before the next rotation.
        for (workload, before) in busy.iter().zip(before) {
            while workload.made.load(Ordering::SeqCst) <= before && !calling.is_empty() {
                tokio::task::yield_now().await;
                if let Some(ended) = calling.try_join_next() {
                    panic!("a request failed: {ended:?}");
                }
            }
        }
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = calling.join_next().await {
        ended.unwrap().unwrap();
    }
}
