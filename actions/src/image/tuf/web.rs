//! How the metadata of a repository is fetched: as images are, with their patience, proxies and
//! credentials, and within bounds of size and time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tough::{Limits, Transport, TransportError, TransportErrorKind, TransportStream, async_trait};
use url::Url;

use super::{Error, Fetch, MAX_ROOT, Result, TufError, open, shown};
use crate::{Interrupted, Stop};

/// How large the files may be, where no signed file says it; and how many new roots may follow
/// the trusted one. A repository that rotates its keys every month does so for five years.
pub(super) const LIMITS: Limits = Limits {
    max_root_size: MAX_ROOT,
    max_targets_size: 16 << 20,
    max_timestamp_size: 64 << 10,
    max_snapshot_size: 4 << 20,
    max_root_updates: 64,
};

/// How long one file may take in all, beyond the time for which it may bring nothing: a server
/// that drips keeps a machine from seeing that the repository has moved on.
const DRIP_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How many chunks may wait for `tough`.
const QUEUE: usize = 4;

/// Statuses by which servers say that a file is not there; stores of objects say 403 to those
/// who may not list them.
const NOT_THERE: [&str; 3] = ["403", "404", "410"];

/// Fetches metadata, and keeps why it could not: `tough` would make text of it.
#[derive(Debug, Clone)]
pub(super) struct Web {
    fetch: Fetch,
    /// How long one file may take in all.
    patience: Duration,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Web {
    pub(super) fn new(fetch: Fetch) -> Self {
        let fetch = Fetch { connections: 1, proven_by_digest: false, ..fetch };
        let patience = fetch.stall_timeout + DRIP_TIMEOUT;
        Self { fetch, patience, failure: Arc::default() }
    }

    /// Takes away why the last file could not be fetched.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl Transport for Web {
    /// Never fails by itself: all trouble comes out of the stream. For `tough` takes an answer
    /// that fails here for "there is no newer root", whatever the reason.
    async fn fetch(&self, url: Url) -> std::result::Result<TransportStream, TransportError> {
        // That there is no newer root is no failure of what comes after it.
        self.failure();
        let patience = self.patience;
        let deadline = Instant::now() + patience;
        let asked = &self.fetch.stop;
        let stop = Stop {
            deadline: Some(asked.deadline.map_or(deadline, |own| own.min(deadline))),
            ..asked.child()
        };
        let fetch = Fetch { stop: stop.clone(), ..self.fetch.clone() };
        let (send, chunks) = channel(QUEUE);
        let (place, asked) = (url.clone(), asked.clone());
        self.fetch.runtime.spawn_blocking(move || {
            let result = pump(&fetch, &place, &send).map_err(|error| match error {
                Error::Interrupted(Interrupted::TimedOut) if asked.check().is_ok() => {
                    TufError::Slow { url: shown(&place), waited: patience }.into()
                }
                error => error,
            });
            if let Err(error) = result {
                // Nobody listens if the work was stopped.
                let _ = send.blocking_send(Err(error));
            }
        });
        Ok(Box::pin(Chunks { chunks, url, stop, failure: Arc::clone(&self.failure) }))
    }
}

fn pump(fetch: &Fetch, url: &Url, send: &Sender<Result<Bytes>>) -> Result<()> {
    let mut source = open(fetch, url)?;
    while let Some(chunk) = source.next()? {
        if send.blocking_send(Ok(chunk)).is_err() {
            break;
        }
    }
    Ok(())
}

/// A file as it comes. Who drops it wants no more of it.
#[derive(Debug)]
struct Chunks {
    chunks: Receiver<Result<Bytes>>,
    url: Url,
    stop: Stop,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.stop.cancel.cancel();
    }
}

impl Stream for Chunks {
    type Item = std::result::Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_recv(context).map(|chunk| {
            chunk.map(|chunk| {
                chunk.map_err(|error| {
                    let kind = kind(&error);
                    let failure = &mut *self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                    *failure = Some(error);
                    TransportError::new(kind, &self.url)
                })
            })
        })
    }
}

fn kind(error: &Error) -> TransportErrorKind {
    let not_there = match error {
        Error::Refused { status, .. } => NOT_THERE.iter().any(|code| status.starts_with(code)),
        Error::File { cause, .. } => cause.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    };
    match not_there {
        true => TransportErrorKind::FileNotFound,
        false => TransportErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use nibs_job::Class;
    use tough::IntoVec;

    use super::*;
    use crate::context::Deaf;
    use crate::{http, image::Access};

    /// A byte every 20 ms, of a thousand.
    fn drip() -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/t.json", listener.local_addr().unwrap()).parse().unwrap();
        std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let _ = connection.read(&mut [0; 4096]);
            let mut alive =
                connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
            while alive.is_ok() {
                std::thread::sleep(Duration::from_millis(20));
                alive = connection.write_all(b" ");
            }
        });
        url
    }

    fn get(patience: Duration, stop: Stop) -> Option<Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let web = Web::new(Fetch {
            urls: Vec::new(),
            client: http::client(&http::Options::default()).unwrap(),
            access: Access::Open,
            accept: None,
            runtime: runtime.handle().clone(),
            stop,
            sink: Arc::new(Deaf),
            stall_timeout: Duration::from_secs(60),
            proven_by_digest: false,
            connections: 1,
        });
        let web = Web { patience, ..web };
        runtime.block_on(async { web.fetch(drip()).await.unwrap().into_vec().await }).unwrap_err();
        web.failure()
    }

    #[test]
    fn a_server_that_drips_is_given_up_though_bytes_keep_coming() {
        let Some(Error::Tuf(error)) = get(Duration::from_millis(200), Stop::default()) else {
            panic!("another error");
        };
        assert!(matches!(&error, TufError::Slow { url, .. } if url.ends_with("t.json")), "{error}");
        assert_eq!(error.class(), Class::Transient);
    }

    #[test]
    fn the_actions_own_timeout_is_told_as_such() {
        let deadline = Some(Instant::now() + Duration::from_millis(200));
        let error = get(Duration::from_secs(60), Stop { deadline, ..Stop::default() });
        assert!(matches!(error, Some(Error::Interrupted(Interrupted::TimedOut))), "{error:?}");
    }
}
