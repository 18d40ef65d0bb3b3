//! `/healthz` and `/readyz`, as the kubelet asks for them.

use std::{convert::Infallible, sync::Arc, sync::atomic::AtomicBool, sync::atomic::Ordering, time::Duration};

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

/// How long a caller may take to say what it wants.
const HEADER: Duration = Duration::from_secs(5);
/// Most callers at a time.
const MOST: usize = 32;

/// Answers on `listener` for ever; ready once `ready` is set.
pub async fn serve(listener: TcpListener, ready: Arc<AtomicBool>) {
    let permits = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a health check was not accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let ready = Arc::clone(&ready);
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let answer = answer(request.uri().path(), ready.load(Ordering::Relaxed));
                async move { Ok::<_, Infallible>(answer) }
            });
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
            drop(permit);
        });
    }
}

fn answer(path: &str, ready: bool) -> Response<String> {
    let (status, text) = match (path, ready) {
        ("/healthz", _) | ("/readyz", true) => (StatusCode::OK, "ok"),
        ("/readyz", false) => (StatusCode::SERVICE_UNAVAILABLE, "not everything was seen yet"),
        _ => (StatusCode::NOT_FOUND, "404 page not found"),
    };
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lives_before_it_is_ready() {
        assert_eq!(answer("/healthz", false).status(), StatusCode::OK);
        assert_eq!(answer("/readyz", false).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer("/readyz", true).status(), StatusCode::OK);
        assert_eq!(answer("/metrics", true).status(), StatusCode::NOT_FOUND);
    }
}
