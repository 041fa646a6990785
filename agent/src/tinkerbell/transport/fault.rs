//! What broke on the way to a server. gRPC says of a connection that broke only that it is gone;
//! the cause is known where the bytes flow, as when a server refuses a client certificate, which
//! TLS 1.3 tells after the handshake.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::tls::Proof;

/// The last thing that broke. Clones speak of the same way.
#[derive(Debug, Clone, Default)]
pub(super) struct Fault(Arc<Mutex<Option<String>>>);

impl Fault {
    pub(super) fn note(&self, what: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    /// The way is open.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The last cause of an error, which is the one that says something.
pub(super) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let last = std::iter::successors(Some(error), |&cause| cause.source()).last();
    last.map(ToString::to_string).unwrap_or_default()
}

/// A connection, with TLS in it or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection that notes what breaks it.
pub(super) struct Watched {
    pub(super) stream: Box<dyn Stream>,
    pub(super) fault: Fault,
    /// None without TLS.
    pub(super) proof: Option<Arc<Proof>>,
}

impl Watched {
    fn broke(&self, error: &io::Error) {
        let doubt = self.proof.as_ref().and_then(|proof| proof.doubt());
        let doubt = doubt.map_or(String::new(), |doubt| format!("; {doubt}"));
        self.fault.note(format!("the connection broke: {}{doubt}", innermost(error)));
    }

    /// Notes what a write failed at: what the server said before it hung up, if it can still be
    /// read, says more than that it did.
    fn cannot_write(&mut self, task: &mut Context<'_>, error: &io::Error) {
        let mut last = [0; 1];
        match Pin::new(&mut self.stream).poll_read(task, &mut ReadBuf::new(&mut last)) {
            Poll::Ready(Err(cause)) => self.broke(&cause),
            _ => self.broke(error),
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(task, buffer);
        if let Poll::Ready(Err(error)) = &read {
            self.broke(error);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(task, bytes);
        if let Poll::Ready(Err(error)) = &written {
            self.cannot_write(task, error);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
