//! What every program of a pod shares: a runtime, the end by a signal, and output that a closed pipe does not break.

use std::{
    future::Future,
    io::{self, Write},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long a service may take to finish its last answers: less than the shop's termination grace period of 1 s.
const GRACE: Duration = Duration::from_millis(500);

/// Runs a client to its end on a single-threaded runtime; SIGTERM and SIGINT end it with 128 + the signal's number,
/// as a shell reports it.
///
/// PID 1 of a container gets no default signal actions, so without a handler it would outlive its grace period.
pub fn run(name: &str, program: impl Future<Output = u8>) -> ExitCode {
    let code = block_on(name, async {
        let (mut terminate, mut interrupt) = signals()?;
        Ok(tokio::select! {
            code = program => code,
            _ = terminate.recv() => 128 + 15,
            _ = interrupt.recv() => 128 + 2,
        })
    });
    ExitCode::from(code)
}

/// Runs a service until SIGTERM or SIGINT. Then `shutdown` is cancelled, and the service has [`GRACE`] to finish what
/// it is answering; 0 is the exit code either way.
///
/// A service that ends by itself has failed, and says why.
pub fn serve<F>(name: &str, service: impl FnOnce(CancellationToken) -> F) -> ExitCode
where
    F: Future<Output = io::Result<()>>,
{
    let code = block_on(name, async {
        let (mut terminate, mut interrupt) = signals()?;
        let shutdown = CancellationToken::new();
        let mut service = pin!(service(shutdown.clone()));
        tokio::select! {
            result = &mut service => return result.map(|()| 0),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
        match tokio::time::timeout(GRACE, service).await {
            Ok(result) => result.map(|()| 0),
            Err(_) => Ok(0),
        }
    });
    ExitCode::from(code)
}

fn signals() -> io::Result<(Signal, Signal)> {
    Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
}

fn block_on(name: &str, program: impl Future<Output = io::Result<u8>>) -> u8 {
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| {
            let result = runtime.block_on(program);
            // A name look-up or a read of the terminal may still sit in a blocking thread: it must not delay the end.
            runtime.shutdown_background();
            result
        });
    match result {
        Ok(code) => code,
        Err(error) => {
            complain(name, &error.to_string());
            1
        }
    }
}

/// Writes `text` to stdout.
///
/// # Errors
/// When stdout is closed: the reader of a pipe has gone.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes `name: message` to stderr; a closed stderr is no error.
pub fn complain(name: &str, message: &str) {
    let _ = writeln!(io::stderr().lock(), "{name}: {message}");
}
