//! A program's streams on the node's side: pipes or a terminal, its log, those who attach, and its end.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustix::{
    process::{Pid, Signal, WaitId, WaitIdOptions},
    termios::Winsize,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf, unix::AsyncFd},
    net::unix::pipe,
    sync::{broadcast, mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::node::{cgroup::Group, sys};

use super::{
    Attach, ContainerExit, Exited, Output, RuntimeError,
    log::{Lines, LogFile},
};

/// How long a program's end waits for output that a process it left behind may still write.
const DRAIN: Duration = Duration::from_secs(1);

/// Pieces of output that may wait for one who is attached.
const FOLLOWED: usize = 32;
/// How long a container's output waits for one who is attached and takes nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a program whose client is gone may take to end by itself.
const HANGUP: Duration = Duration::from_secs(1);
/// The same for one that has input: so long after it last took some of it, for it may have work to do once it has all.
const FINISH: Duration = Duration::from_secs(10);
/// How often it is looked whether a program still takes its input.
const LOOK: Duration = Duration::from_millis(100);

/// The node's side of a terminal.
#[derive(Clone)]
pub(super) struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(Arc::new(sys::watched(
            fd,
            Interest::READABLE | Interest::WRITABLE,
        )?)))
    }

    /// Applies sizes as they come; a terminal that is gone ends it.
    pub(super) fn resizer(&self) -> mpsc::Sender<(u16, u16)> {
        let (sender, mut sizes) = mpsc::channel::<(u16, u16)>(4);
        let fd = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            while let Some((columns, rows)) = sizes.recv().await {
                let Some(fd) = fd.upgrade() else { break };
                let _ = rustix::termios::tcsetwinsize(&*fd, window(columns, rows));
            }
        });
        sender
    }
}

/// A terminal's size.
pub(super) fn window(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let space = buf.initialize_unfilled();
            match guard.try_io(|fd| Ok(rustix::io::read(fd, &mut *space)?)) {
                Ok(Ok(length)) => {
                    buf.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // every process has let go of the other side
                Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                Ok(answer) => return Poll::Ready(answer),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The program's ends of its standard streams.
pub(super) struct Theirs {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// The node's ends.
pub(super) struct Ours {
    pub(super) stdin: Option<pipe::Sender>,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
}

/// Standard streams over pipes; without `stdin` the program reads end of file.
pub(super) fn pipes(stdin: bool) -> Result<(Ours, Theirs), RuntimeError> {
    let failed = |error: io::Error| RuntimeError::kernel("make the standard streams")(error);
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| failed(error.into()));
    let (stdout, their_stdout) = pipe()?;
    let (stderr, their_stderr) = pipe()?;
    let (stdin, their_stdin) = if stdin {
        let (theirs, ours) = pipe()?;
        (Some(pipe::Sender::from_owned_fd(ours).map_err(failed)?), theirs)
    } else {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let nothing = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty());
        (None, nothing.map_err(|error| failed(error.into()))?)
    };
    let ours = Ours {
        stdin,
        stdout: pipe::Receiver::from_owned_fd(stdout).map_err(failed)?,
        stderr: pipe::Receiver::from_owned_fd(stderr).map_err(failed)?,
    };
    let theirs = Theirs {
        stdin: their_stdin,
        stdout: their_stdout,
        stderr: their_stderr,
    };
    Ok((ours, theirs))
}

/// Where a container's output goes.
#[derive(Clone)]
pub(super) struct Sink {
    log: Option<Arc<Mutex<LogFile>>>,
    output: broadcast::Sender<(Output, Bytes)>,
    attached: Attached,
}

/// Those who are attached to a container's output.
#[derive(Clone, Default)]
pub(super) struct Attached(Arc<Mutex<Followers>>);

#[derive(Default)]
struct Followers {
    all: Vec<Follower>,
    /// The outputs that have ended.
    ended: Vec<Output>,
}

#[derive(Clone)]
struct Follower {
    output: Output,
    to: mpsc::Sender<Bytes>,
}

impl Attached {
    fn followers(&self) -> MutexGuard<'_, Followers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(&self, output: Output) -> mpsc::Receiver<Bytes> {
        let (to, receiver) = mpsc::channel(FOLLOWED);
        let mut followers = self.followers();
        followers.all.retain(|follower| !follower.to.is_closed());
        if !followers.ended.contains(&output) {
            followers.all.push(Follower { output, to });
        }
        receiver
    }

    /// Passes on what was written; waits for those who are slow.
    async fn pass(&self, output: Output, bytes: &Bytes) {
        let ours: Vec<Follower> = {
            let followers = self.followers();
            followers
                .all
                .iter()
                .filter(|one| one.output == output)
                .cloned()
                .collect()
        };
        for follower in ours {
            let sent = tokio::time::timeout(PATIENCE, follower.to.send(bytes.clone())).await;
            if !matches!(sent, Ok(Ok(()))) {
                // Better an end that shows than a gap that does not.
                self.followers().all.retain(|one| !one.to.same_channel(&follower.to));
            }
        }
    }

    /// Ends one output for all.
    fn end(&self, output: Output) {
        let mut followers = self.followers();
        followers.ended.push(output);
        followers.all.retain(|one| one.output != output);
    }
}

impl Sink {
    pub(super) fn new(log: Option<LogFile>) -> Self {
        Self {
            log: log.map(|log| Arc::new(Mutex::new(log))),
            output: broadcast::channel(256).0,
            attached: Attached::default(),
        }
    }

    fn log(&self, write: impl FnOnce(&mut LogFile) -> io::Result<()>) {
        if let Some(log) = &self.log
            && let Ok(mut log) = log.lock()
            && let Err(error) = write(&mut log)
        {
            tracing::warn!(%error, "a container's log could not be written");
        }
    }

    /// Copies one output until it ends.
    pub(super) fn copy(&self, output: Output, mut from: impl AsyncRead + Send + Unpin + 'static) -> JoinHandle<()> {
        let sink = self.clone();
        tokio::spawn(async move {
            let mut lines = Lines::new(output);
            let mut buffer = vec![0; 32 << 10];
            while let Ok(length @ 1..) = from.read(&mut buffer).await {
                let bytes = buffer.get(..length).unwrap_or_default();
                sink.log(|log| lines.feed(bytes, log));
                // nobody may be attached
                let bytes = Bytes::copy_from_slice(bytes);
                let _ = sink.output.send((output, bytes.clone()));
                sink.attached.pass(output, &bytes).await;
            }
            sink.attached.end(output);
            sink.log(|log| lines.finish(log));
        })
    }

    pub(super) fn attach(
        &self,
        stdin: Option<mpsc::Sender<Bytes>>,
        resize: Option<mpsc::Sender<(u16, u16)>>,
    ) -> Attach {
        Attach {
            output: self.output.clone(),
            attached: self.attached.clone(),
            stdin,
            resize,
        }
    }
}

/// Feeds what is sent to a program's standard input; an empty message closes it.
pub(super) fn feeder(mut to: impl AsyncWrite + Send + Unpin + 'static) -> mpsc::Sender<Bytes> {
    let (sender, mut input) = mpsc::channel::<Bytes>(16);
    tokio::spawn(async move {
        while let Some(bytes) = input.recv().await {
            if bytes.is_empty() || to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    });
    sender
}

/// Waits for a program's end in the background, and then for its output to be written.
pub(super) fn reaper(
    pidfd: OwnedFd,
    started_at: jiff::Timestamp,
    output: Vec<JoinHandle<()>>,
    group: Option<Arc<Group>>,
) -> Exited {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let (code, signal) = end(pidfd).await;
        let finished_at = jiff::Timestamp::now();
        let oom_killed = group.is_some_and(|group| group.oom_killed());
        let _ = tokio::time::timeout(DRAIN, futures::future::join_all(output)).await;
        let _ = sender.send(Some(ContainerExit {
            code,
            signal,
            started_at,
            finished_at,
            oom_killed,
        }));
    });
    Exited(receiver)
}

/// A look at what a program has not read of its standard input. It holds the pipe open on no side.
pub(super) struct Unread(OwnedFd);

impl Unread {
    /// Of the pipe behind `input`; `None` where there is no `/proc` to find it by.
    pub(super) fn of(input: &pipe::Sender) -> Option<Self> {
        open_again(input, rustix::fs::OFlags::PATH).map(Self)
    }

    /// Bytes that wait to be read, once nobody writes any more.
    fn bytes(&self) -> Option<u64> {
        // A reader only as long as this takes, so that a writer whose program has closed its input still hears of it.
        let reader = open_again(&self.0, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK)?;
        rustix::io::ioctl_fionread(&reader).ok()
    }
}

fn open_again(fd: &impl AsRawFd, flags: rustix::fs::OFlags) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let opened = rustix::fs::open(path, flags | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty());
    opened.ok()
}

/// How long a program takes nothing of its input. Pure.
struct Patience {
    left: Option<u64>,
    since: Instant,
}

impl Patience {
    /// Takes what is left now; says whether it is the end of the patience.
    fn ends(&mut self, left: Option<u64>, now: Instant) -> bool {
        if left != self.left {
            *self = Self { left, since: now };
        }
        now.duration_since(self.since) >= FINISH
    }
}

/// Waits as long as a program whose client is gone may take to end by itself.
async fn patience(unread: Option<Unread>) {
    let Some(unread) = unread else {
        return tokio::time::sleep(HANGUP).await;
    };
    let mut patience = Patience {
        left: unread.bytes(),
        since: Instant::now(),
    };
    while !patience.ends(unread.bytes(), Instant::now()) {
        tokio::time::sleep(LOOK).await;
    }
}

/// As [`reaper`], for a program of `exec`: hangs it up when `hangup` is cancelled and it has had time to end by itself; one that is to
/// be killed gets no time, and SIGKILL.
pub(super) fn exec_reaper(
    pidfd: OwnedFd,
    pid: Pid,
    started_at: jiff::Timestamp,
    hangup: CancellationToken,
    killed: bool,
    unread: Option<Unread>,
) -> Exited {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let end = end(pidfd);
        tokio::pin!(end);
        let ended = tokio::select! {
            ended = &mut end => Some(ended),
            () = async {
                hangup.cancelled().await;
                if !killed {
                    patience(unread).await;
                }
            } => None,
        };
        let (code, signal) = match ended {
            Some(ended) => ended,
            None => {
                // Not reaped yet, so the number still means this program, which leads its session and group.
                let signals: &[Signal] = if killed {
                    &[Signal::KILL]
                } else {
                    &[Signal::HUP, Signal::CONT]
                };
                for &signal in signals {
                    let _ = rustix::process::kill_process_group(pid, signal);
                }
                end.await
            }
        };
        let finished_at = jiff::Timestamp::now();
        let _ = sender.send(Some(ContainerExit {
            code,
            signal,
            started_at,
            finished_at,
            oom_killed: false,
        }));
    });
    Exited(receiver)
}

/// Exit code and signal of a process, once it has ended and is reaped.
pub(super) async fn end(pidfd: OwnedFd) -> (i32, Option<i32>) {
    let Ok(pidfd) = sys::watched(pidfd, Interest::READABLE) else {
        return (255, None);
    };
    loop {
        let Ok(mut guard) = pidfd.readable().await else {
            return (255, None);
        };
        match rustix::process::waitid(
            WaitId::PidFd(rustix::fd::AsFd::as_fd(&pidfd)),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        ) {
            Ok(Some(status)) => {
                let signal = status.terminating_signal();
                let code = status.exit_status().or(signal.map(|signal| 128 + signal));
                return (code.unwrap_or(255), signal);
            }
            Ok(None) => guard.clear_ready(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return (255, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe to a program that is this test.
    fn input() -> (pipe::Sender, std::fs::File, Unread) {
        let (Ours { stdin, .. }, Theirs { stdin: theirs, .. }) = pipes(true).unwrap();
        let stdin = stdin.unwrap();
        let unread = Unread::of(&stdin).unwrap();
        (stdin, theirs.into(), unread)
    }

    #[tokio::test]
    async fn looking_at_the_input_holds_it_open_on_no_side() {
        let (mut stdin, mut theirs, unread) = input();
        stdin.write_all(b"input").await.unwrap();
        assert_eq!(unread.bytes(), Some(5));
        drop(stdin);
        assert_eq!(unread.bytes(), Some(5));
        let mut all = Vec::new();
        io::Read::read_to_end(&mut theirs, &mut all).unwrap();
        assert_eq!((all.as_slice(), unread.bytes()), (&b"input"[..], Some(0)));

        let (mut stdin, theirs, unread) = input();
        assert_eq!(unread.bytes(), Some(0));
        drop(theirs);
        assert!(stdin.write_all(b"input").await.is_err());
    }

    #[test]
    fn a_program_that_takes_its_input_is_left_to_it() {
        let begin = Instant::now();
        let at = |tenths: u32| begin + FINISH * tenths / 10;
        for (looks, ends_at) in [
            // one that reads nothing, whether or not there is something, or nobody can tell
            (&[(0, Some(7)), (9, Some(7)), (10, Some(7))][..], 10),
            (&[(0, Some(0)), (9, Some(0)), (10, Some(0))], 10),
            (&[(0, None), (9, None), (10, None)], 10),
            // one that reads slowly, and has its time after the last of it
            (
                &[
                    (0, Some(7)),
                    (9, Some(6)),
                    (18, Some(5)),
                    (19, Some(5)),
                    (27, Some(5)),
                    (28, Some(5)),
                ],
                28,
            ),
            (
                &[(0, Some(7)), (9, Some(3)), (18, Some(0)), (27, Some(0)), (29, Some(0))],
                29,
            ),
        ] {
            let (_, left) = looks[0];
            let mut patience = Patience { left, since: begin };
            let ended: Vec<_> = looks
                .iter()
                .filter(|(when, left)| patience.ends(*left, at(*when)))
                .map(|(when, _)| *when)
                .collect();
            assert_eq!(ended, [ends_at], "{looks:?}");
        }
    }
}
