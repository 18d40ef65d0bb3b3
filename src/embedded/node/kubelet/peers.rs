//! What `hostPID` is on this node. No pod sees the node's processes; one that asks for them may ask the node which pod a Unix
//! connection comes from, which is what a node's agent of SPIRE needs of them.
//!
//! In such a pod, [`SOCKET`] answers one question a connection: one byte and, beside it (`SCM_RIGHTS`), the accepted end of the
//! connection that is asked about. The answer is one line of JSON, `{"podUID", "containerID", "containerName"}` or `{"error"}`.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::node::{
    beneath,
    runtime::{Mount, MountSource},
};

use super::{Inner, host_path::NodeDirs, lock};

/// Where a pod with `hostPID` finds the directory of the socket.
const TARGET: &str = "/run/ztlab/peers";
/// The socket's name in it.
const SOCKET: &str = "attest.sock";
/// Its directory in the node's own; no `hostPath` leads there.
const PLACE: &str = "peers";
/// Questions that are answered at once; more wait.
const ASKING: usize = 32;
/// How long a question may take to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// When it is tried again to take one.
const AGAIN: Duration = Duration::from_millis(100);

/// What a pod with `hostPID` gets.
pub(super) fn mount(dirs: &NodeDirs) -> Mount {
    Mount {
        source: MountSource::Dir(directory(dirs)),
        target: TARGET.into(),
        sub_path: None,
        read_only: true,
    }
}

fn directory(dirs: &NodeDirs) -> PathBuf {
    dirs.memory.join(PLACE)
}

/// Answers until `stop`.
///
/// # Errors
/// The socket cannot be made.
pub(super) fn serve(inner: &Arc<Inner>, stop: CancellationToken) -> io::Result<()> {
    let directory = beneath::open_or_make(&inner.dirs.memory, PLACE.as_ref())?;
    // A socket's path has 108 bytes, the cluster's may have more.
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))?;
    drop(directory);
    let inner = inner.clone();
    let places = Arc::new(Semaphore::new(ASKING));
    tokio::spawn(async move {
        // It is never closed.
        while let Ok(place) = places.clone().acquire_owned().await {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // The node has no descriptor left, for now.
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            let inner = inner.clone();
            tokio::spawn(async move {
                // Who takes no answer needs none.
                let _ = timeout(PATIENCE, answer(&inner, stream)).await;
                drop(place);
            });
        }
    });
    Ok(())
}

async fn answer(inner: &Inner, mut stream: UnixStream) -> io::Result<()> {
    let said = match asked_about(&stream).await {
        Ok(connection) => told(inner, connection).await,
        Err(error) => json!({ "error": error.to_string() }),
    };
    stream.write_all(format!("{said}\n").as_bytes()).await?;
    stream.shutdown().await
}

async fn told(inner: &Inner, connection: OwnedFd) -> Value {
    match inner.runtime.owner(connection).await {
        Err(why) => json!({ "error": why }),
        Ok(owner) => {
            let instances = lock(&inner.instances);
            let of_pod = instances.get(&owner.sandbox);
            let name = of_pod.and_then(|all| {
                let mut all = all.iter();
                all.find(|(_, instance)| instance.id == owner.container)
                    .map(|(name, _)| name)
            });
            json!({ "podUID": owner.sandbox, "containerID": owner.container, "containerName": name })
        }
    }
}

/// The connection that a question brings.
async fn asked_about(stream: &UnixStream) -> io::Result<OwnedFd> {
    loop {
        stream.readable().await?;
        match stream.try_io(Interest::READABLE, || receive(stream)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

fn receive(stream: &UnixStream) -> io::Result<OwnedFd> {
    let wrong = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "a question is one byte and one connection beside it",
        )
    };
    let mut byte = [0_u8; 1];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut beside, flags)?;
    if received.bytes != 1 {
        return Err(wrong());
    }
    let rights = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    rights.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use std::{io::IoSlice, mem::MaybeUninit, os::fd::AsFd};

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    /// Sends these bytes, with these descriptors beside them.
    fn say(stream: &UnixStream, bytes: &[u8], beside: &[&OwnedFd]) {
        let fds: Vec<_> = beside.iter().map(|fd| fd.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut buffer = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(buffer.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        sendmsg(stream, &[IoSlice::new(bytes)], &mut buffer, SendFlags::empty()).unwrap();
    }

    fn end() -> OwnedFd {
        std::os::unix::net::UnixStream::pair().unwrap().0.into()
    }

    #[tokio::test]
    async fn a_question_is_a_byte_and_a_connection_and_nothing_else_is_one() {
        let (ours, node) = UnixStream::pair().unwrap();
        say(&ours, b"?", &[]);
        let error = asked_about(&node).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // The byte alone was the question: what follows is the next.
        let about = end();
        say(&ours, b"?", &[&about]);
        let same = rustix::fs::fstat(asked_about(&node).await.unwrap()).unwrap().st_ino;
        assert_eq!(same, rustix::fs::fstat(&about).unwrap().st_ino);
        drop(ours);
        assert!(asked_about(&node).await.is_err(), "nobody asks");
    }

    #[tokio::test]
    async fn more_connections_than_one_leave_none_open() {
        let (ours, node) = UnixStream::pair().unwrap();
        let (mut others, many): (Vec<_>, Vec<OwnedFd>) = (0..3)
            .map(|_| {
                let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
                (other, OwnedFd::from(one))
            })
            .unzip();
        say(&ours, b"?", &many.iter().collect::<Vec<_>>());
        // There is room for one: the kernel lets the rest go (unix(7), MSG_CTRUNC).
        drop(asked_about(&node).await);
        drop(many);
        for other in &mut others {
            use std::io::Read;
            assert_eq!(other.read(&mut [0]).unwrap(), 0, "no copy of it is left in the node");
        }
    }
}
