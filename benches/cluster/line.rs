//! Datagrams from one pod to another, sent at a pace, and what became of each.
//!
//! Both sockets are this process's own, made in the pods' network namespaces by a short-lived copy of this program, so that
//! everything is timed by one clock and nothing but packets is on the way.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{Ipv4Addr, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::{
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// The argument with which this program makes sockets for another.
const SOCKETS: &str = "__sockets";
const PORT: u16 = 9000;
/// How far apart datagrams are sent. Sender and receiver sleep between: on two processors they are not to be in the way of
/// what is measured.
pub const PACE: Duration = Duration::from_micros(500);
/// How long nothing must have come through until nothing will.
const SILENCE: Duration = Duration::from_millis(200);

/// If this process was started for it: makes sockets for another, and ends.
pub fn helper() {
    let args: Vec<OsString> = std::env::args_os().collect();
    let [_, what, node, from, to] = args.as_slice() else {
        return;
    };
    if what != SOCKETS {
        return;
    }
    let text = |arg: &OsString| arg.to_str().unwrap().to_owned();
    enter(&format!("/proc/{}/ns/user", text(node)), LinkNameSpaceType::User);
    let [from, to] = [from, to].map(|arg| text(arg).parse::<Ipv4Addr>().unwrap());
    let receiver = socket_at(to, PORT);
    let sender = socket_at(from, 0);
    sender.connect((to, PORT)).unwrap();
    let sockets = [sender.as_fd(), receiver.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    assert!(rights.push(SendAncillaryMessage::ScmRights(&sockets)));
    let byte = [IoSlice::new(b"x")];
    sendmsg(rustix::stdio::stdin(), &byte, &mut rights, SendFlags::empty()).unwrap();
    std::process::exit(0);
}

fn enter(namespace: &str, kind: LinkNameSpaceType) {
    let namespace = File::open(namespace).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(kind)).unwrap();
}

/// A socket with an address that a pod has, made where that pod is.
fn socket_at(address: Ipv4Addr, port: u16) -> UdpSocket {
    let own = format!("|-- {address}\n           /32 host LOCAL");
    let has = |process: &fs::DirEntry| {
        let addresses = fs::read_to_string(process.path().join("net/fib_trie"));
        addresses.is_ok_and(|addresses| addresses.contains(&own))
    };
    let pod = fs::read_dir("/proc").unwrap().flatten().find(has);
    let pod = pod.unwrap_or_else(|| panic!("no process has the address {address}"));
    enter(pod.path().join("ns/net").to_str().unwrap(), LinkNameSpaceType::Network);
    UdpSocket::bind((address, port)).unwrap()
}

/// Sockets in two pods of the node with this process.
fn sockets(node: u32, from: Ipv4Addr, to: Ipv4Addr) -> [UdpSocket; 2] {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args([SOCKETS, &node.to_string(), &from.to_string(), &to.to_string()])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    assert!(helper.wait().unwrap().success());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        &ours,
        &mut [IoSliceMut::new(&mut byte)],
        &mut rights,
        RecvFlags::CMSG_CLOEXEC,
    )
    .unwrap();
    let got: Vec<UdpSocket> = rights
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => sockets.map(UdpSocket::from).collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .collect();
    got.try_into().unwrap()
}

/// What has come through.
#[derive(Clone, Copy)]
struct Arrived {
    /// The last of them.
    last: usize,
    /// The first since which none was missing.
    since: usize,
    /// When the last one came.
    at: Instant,
}

/// A line that is in use.
pub struct Line {
    stop: Arc<AtomicBool>,
    arrived: Arc<Mutex<Arrived>>,
    sender: JoinHandle<Vec<Instant>>,
    receiver: JoinHandle<()>,
}

impl Line {
    /// Sends from now on.
    pub fn start(node: u32, from: Ipv4Addr, to: Ipv4Addr) -> Self {
        let [from, to] = sockets(node, from, to);
        to.set_read_timeout(Some(SILENCE)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let arrived = Arc::new(Mutex::new(Arrived {
            last: 0,
            since: 1,
            at: Instant::now(),
        }));
        let sender = std::thread::spawn({
            let stop = stop.clone();
            move || send(&from, &stop)
        });
        let receiver = std::thread::spawn({
            let (stop, arrived) = (stop.clone(), arrived.clone());
            move || receive(&to, &stop, &arrived)
        });
        Self {
            stop,
            arrived,
            sender,
            receiver,
        }
    }

    /// Until so many came through one after the other: what an earlier policy still held back is not among them.
    pub async fn busy(&self, datagrams: usize) {
        let run = |arrived: Arrived| arrived.last.saturating_sub(arrived.since);
        while run(*self.arrived.lock().unwrap()) < datagrams {
            tokio::time::sleep(SILENCE / 10).await;
        }
    }

    /// Until nothing comes through any more that was sent after `start`; gives when the first datagram that did not was sent. It
    /// is the upper bound of what is asked for: the one before, a pace earlier, passed.
    pub async fn cut(self, start: Instant, limit: Duration) -> Instant {
        while self.arrived.lock().unwrap().at.elapsed() < SILENCE {
            assert!(start.elapsed() < limit, "the policy never cut the line");
            tokio::time::sleep(SILENCE / 10).await;
        }
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().unwrap();
        self.receiver.join().unwrap();
        let arrived = *self.arrived.lock().unwrap();
        assert!(
            sent[arrived.since - 1] < start,
            "datagrams were lost that no policy held back"
        );
        sent[arrived.last]
    }
}

/// When each was sent; their numbers begin with 1.
fn send(to: &UdpSocket, stop: &AtomicBool) -> Vec<Instant> {
    let mut sent = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        sent.push(now);
        to.send(&sent.len().to_be_bytes()).unwrap();
        std::thread::sleep((now + PACE).saturating_duration_since(Instant::now()));
    }
    sent
}

fn receive(from: &UdpSocket, stop: &AtomicBool, arrived: &Mutex<Arrived>) {
    let mut number = [0; size_of::<usize>()];
    while !stop.load(Ordering::Relaxed) {
        if from.recv(&mut number).is_ok() {
            let number = usize::from_be_bytes(number);
            let mut arrived = arrived.lock().unwrap();
            if number != arrived.last + 1 {
                arrived.since = number;
            }
            arrived.last = number;
            arrived.at = Instant::now();
        }
    }
}
