//! `upload-image`: what is on a disk, to a server, as the file of a form (RFC 7578).
//!
//! ```text
//! disk ──> sha256 ──> gzip, if asked ──> a few chunks that wait ──> body of the request
//! ```
//!
//! The disk is read as fast as the server takes it. A form whose disk is not read to its end is not
//! ended either: the server sees that it is broken. Redirects are not followed: most of them turn a POST
//! into a GET, which sends nothing and is answered well.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::write::GzEncoder;
use futures_core::Stream;
use nibs_job::params::{UploadCompression, UploadImage};
use nibs_job::{Class, HexDigest, Location, Progress, Size};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::disk::{self, Disk, Use};
use crate::{Context, Done, Error, Stop, http};

/// How much is read at once, and how many such chunks may wait.
const CHUNK: usize = 256 << 10;
const AHEAD: usize = 4;

/// How often progress is told.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// How much of a server's own words an error has, bytes.
const WORDS: usize = 200;

/// Why what is on a disk could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The disk cannot be read.
    #[error("reading {} at {offset} to send it to {url}: {cause}", disk.display())]
    Read {
        /// The disk.
        disk: PathBuf,
        /// Where.
        offset: u64,
        /// Where it was to go.
        url: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The disk is shorter than the kernel says.
    #[error("reading {}: expected {expected} bytes, found {found}", disk.display())]
    Short {
        /// The disk.
        disk: PathBuf,
        /// Its size.
        expected: u64,
        /// What could be read.
        found: u64,
    },
    /// The server takes nothing, or says nothing.
    #[error(
        "sending {} to {url}: {what} for {} s, after {sent} bytes", disk.display(),
        waited.as_secs_f64()
    )]
    Stalled {
        /// The disk.
        disk: PathBuf,
        /// Where it was to go.
        url: String,
        /// What does not happen.
        what: &'static str,
        /// How long.
        waited: Duration,
        /// How much had been sent.
        sent: u64,
    },
    /// The connection broke.
    #[error("sending {} to {url}: {cause}{}", disk.display(), after(*sent))]
    Broken {
        /// The disk.
        disk: PathBuf,
        /// Where it was to go.
        url: String,
        /// What was wrong.
        cause: String,
        /// How much had been sent.
        sent: u64,
    },
    /// The server does not want it.
    #[error("sending {} to {url}: the server answered {status}{said}", disk.display())]
    Refused {
        /// The disk.
        disk: PathBuf,
        /// Where it was to go.
        url: String,
        /// Status code and its text.
        status: reqwest::StatusCode,
        /// The start of its answer.
        said: String,
    },
}

fn after(sent: u64) -> String {
    if sent == 0 { String::new() } else { format!(", after {sent} bytes") }
}

impl UploadError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Read { .. } | Self::Short { .. } => Class::Environment,
            Self::Stalled { .. } | Self::Broken { .. } => Class::Transient,
            Self::Refused { status, .. } if status.is_server_error() => Class::Transient,
            Self::Refused { .. } => Class::InvalidInput,
        }
    }
}

/// Does the action.
pub(crate) fn run(params: &UploadImage, context: &Context) -> Result<Done, Error> {
    let disk = disk::find_place(&params.disk, &context.machine)?;
    let uses = disk::busy(&context.machine, &disk)?;
    if !uses.is_empty() {
        let uses: Vec<_> = uses.iter().map(Use::to_string).collect();
        context.sink.warning(format!(
            "{} is sent while it is in use, and may change on the way: {}",
            disk.path.display(),
            uses.join(", ")
        ));
    }
    let file = File::open(&disk.path).map_err(|cause| disk::Error::Io {
        doing: "opening",
        path: disk.path.clone(),
        cause,
    })?;
    let upload = Upload {
        params,
        disk: &disk,
        context,
        url: params.url.to_string(),
        stop: context.stop.child(),
        sent: Arc::default(),
        is_whole: Arc::default(),
        all_sent: Notify::new(),
    };
    let form = Form::new(&params.field, &params.file_name);
    let (send, chunks) = channel(AHEAD);
    let (answer, read) = std::thread::scope(|scope| {
        let form = &form;
        let reader = std::thread::Builder::new()
            .name("upload".into())
            .spawn_scoped(scope, || upload.read(file, form, send));
        let answer = upload.post(form, chunks);
        let read = reader
            .map(|reader| reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (answer, read)
    });
    let read = read.map_err(|cause| {
        Error::Disk(disk::Error::Io {
            doing: "starting a thread to read",
            path: disk.path.clone(),
            cause,
        })
    })?;
    // The server's word goes first where it has said something: it may have hung up on a reader.
    let (bytes, digest) = match (answer, read) {
        (Err(Error::Upload(refused @ UploadError::Refused { .. })), _) => {
            return Err(refused.into());
        }
        (_, Err(Some(error))) | (Err(error), _) => return Err(error),
        (Ok(()), Ok(read)) => read,
        (Ok(()), Err(None)) => {
            let cause = "the server answered before it had all".into();
            return Err(upload.broken(cause).into());
        }
    };
    context.info(format!(
        "sent {} ({}) to {}; sha256 of it, uncompressed: {digest}",
        disk.path.display(),
        Size(bytes),
        upload.url
    ));
    Ok(Done::default())
}

struct Upload<'a> {
    params: &'a UploadImage,
    disk: &'a Disk,
    context: &'a Context,
    url: String,
    /// Ends the request when reading fails.
    stop: Stop,
    /// How much of the form the connection has taken.
    sent: Arc<AtomicU64>,
    /// Whether all of the form has been handed on.
    is_whole: Arc<AtomicBool>,
    all_sent: Notify,
}

/// What is around the file in a form.
struct Form {
    boundary: String,
    head: Bytes,
    tail: Bytes,
}

impl Form {
    fn new(field: &str, file_name: &str) -> Self {
        // A disk that has this by chance is as unlikely as one that has a digest's preimage.
        let random = || RandomState::new().hash_one(0_u8);
        let boundary = format!("nibs-{:016x}{:016x}", random(), random());
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; \
             filename=\"{file_name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        Self { boundary, head: head.into(), tail: tail.into() }
    }
}

impl Upload<'_> {
    /// Reads the disk into the form. No error of its own, where the request has ended.
    fn read(
        &self,
        file: File,
        form: &Form,
        send: Sender<Bytes>,
    ) -> Result<(u64, HexDigest<32>), Option<Error>> {
        let mut out = Outlet { upload: self, send, failure: None };
        let read = self.read_into(file, form, &mut out);
        match &read {
            Ok(_) => {
                self.is_whole.store(true, Ordering::Release);
                self.all_sent.notify_one();
            }
            Err(_) => self.stop.cancel.cancel(),
        }
        let failure = out.failure.take();
        read.map_err(|error| failure.unwrap_or(error))
    }

    fn read_into(
        &self,
        mut file: File,
        form: &Form,
        out: &mut Outlet<'_>,
    ) -> Result<(u64, HexDigest<32>), Option<Error>> {
        let ended = |_: io::Error| None;
        out.write_all(&form.head).map_err(ended)?;
        let mut packer = match self.params.compression {
            UploadCompression::None => Packer::Plain(out),
            UploadCompression::Gzip => {
                Packer::Gzip(Box::new(GzEncoder::new(out, flate2::Compression::default())))
            }
        };
        let (mut offset, mut hasher) = (0, Sha256::new());
        let mut bytes = vec![0; CHUNK];
        let mut reported = Instant::now();
        while offset < self.disk.size {
            self.context.check().map_err(|interrupted| Some(interrupted.into()))?;
            let most = (self.disk.size - offset).min(CHUNK as u64) as usize;
            let length = file.read(&mut bytes[..most]).map_err(|cause| {
                let (disk, url) = (self.disk.path.clone(), self.url.clone());
                Some(UploadError::Read { disk, offset, url, cause }.into())
            })?;
            if length == 0 {
                let (disk, expected) = (self.disk.path.clone(), self.disk.size);
                return Err(Some(UploadError::Short { disk, expected, found: offset }.into()));
            }
            hasher.update(&bytes[..length]);
            packer.write(&bytes[..length]).map_err(ended)?;
            offset += length as u64;
            if reported.elapsed() >= REPORT_EVERY || offset == self.disk.size {
                reported = Instant::now();
                let total = Some(self.disk.size);
                self.context.sink.progress(Progress {
                    bytes_in: offset,
                    bytes_out: offset,
                    total_in: total,
                    total_out: total,
                    ..Progress::default()
                });
            }
        }
        packer.finish().map_err(ended)?.write_all(&form.tail).map_err(ended)?;
        Ok((offset, HexDigest(hasher.finalize().into())))
    }

    /// Sends the form, and waits for the server's word on it.
    fn post(&self, form: &Form, chunks: Receiver<Bytes>) -> Result<(), Error> {
        let Location::Http(url) = &self.params.url else {
            return Err(self.broken("it is no http:// or https:// URL".into()).into());
        };
        let client = http::client(&self.options())?;
        let mut request = client
            .post(url.clone())
            .header(CONTENT_TYPE, format!("multipart/form-data; boundary={}", form.boundary));
        if self.params.compression == UploadCompression::None {
            let around = (form.head.len() + form.tail.len()) as u64;
            request = request.header(CONTENT_LENGTH, around + self.disk.size);
        }
        let chunks =
            Chunks { chunks, sent: Arc::clone(&self.sent), is_whole: Arc::clone(&self.is_whole) };
        let request = request.body(reqwest::Body::wrap_stream(chunks));
        let exchange = async {
            let mut answer = request.send().await.map_err(http::describe)?;
            let status = answer.status();
            if status.is_redirection() {
                let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                let to = to.and_then(|to| url.join(to).ok()).map(Location::Http);
                let to = to.map_or_else(|| "elsewhere".to_owned(), |to| to.to_string());
                let said = format!("it sends to {to}; if that is right, name it in the job");
                return Ok((status, said.into_bytes()));
            }
            let mut said = Vec::new();
            while said.len() < WORDS
                && let Ok(Some(chunk)) = answer.chunk().await
            {
                said.extend_from_slice(&chunk);
            }
            said.truncate(WORDS);
            Ok::<_, String>((status, said))
        };
        let waited = self.params.stall_timeout.0;
        let silence = async {
            self.all_sent.notified().await;
            tokio::time::sleep(waited).await;
        };
        let answer = async {
            tokio::select! {
                answer = exchange => Some(answer),
                () = silence => None,
            }
        };
        let Some(answer) = self.context.runtime.block_on(self.stop.guard(answer))? else {
            let (disk, url) = (self.disk.path.clone(), self.url.clone());
            let (what, sent) = ("the server does not answer", self.sent());
            return Err(UploadError::Stalled { disk, url, what, waited, sent }.into());
        };
        match answer {
            Ok((status, _)) if status.is_success() => Ok(()),
            Ok((status, said)) => {
                let said = String::from_utf8_lossy(&said).trim().replace(char::is_control, " ");
                let said = if said.is_empty() { said } else { format!(": {said}") };
                let (disk, url) = (self.disk.path.clone(), self.url.clone());
                Err(UploadError::Refused { disk, url, status, said }.into())
            }
            Err(cause) => Err(self.broken(cause).into()),
        }
    }

    fn options(&self) -> http::Options {
        let mut options = http::Options { no_redirects: true, ..self.context.http.clone() };
        options.ca = self.params.ca.clone().or(options.ca);
        for (asked, proxy) in [
            (&self.params.http_proxy, &mut options.proxies.http),
            (&self.params.https_proxy, &mut options.proxies.https),
        ] {
            if let Some(Location::Http(url)) = asked {
                *proxy = Some(url.clone());
            }
        }
        if let Some(no) = &self.params.no_proxy {
            options.proxies.no.clone_from(no);
        }
        options
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn broken(&self, cause: String) -> UploadError {
        let (disk, url) = (self.disk.path.clone(), self.url.clone());
        UploadError::Broken { disk, url, cause, sent: self.sent() }
    }
}

/// Where the form is written to, no faster than the server takes it.
struct Outlet<'a> {
    upload: &'a Upload<'a>,
    send: Sender<Bytes>,
    failure: Option<Option<Error>>,
}

impl Write for Outlet<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An encoder that is dropped writes on.
        if self.failure.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let Upload { params, context, .. } = self.upload;
        let waited = params.stall_timeout.0;
        let chunk = Bytes::copy_from_slice(bytes);
        let send = async { tokio::time::timeout(waited, self.send.send(chunk)).await };
        let failure = match context.runtime.block_on(context.stop.guard(send)) {
            Ok(Ok(Ok(()))) => return Ok(bytes.len()),
            // The request has ended, and tells why.
            Ok(Ok(Err(_))) => None,
            Ok(Err(_)) => {
                let (disk, url) = (self.upload.disk.path.clone(), self.upload.url.clone());
                let (what, sent) = ("the server takes no byte", self.upload.sent());
                Some(UploadError::Stalled { disk, url, what, waited, sent }.into())
            }
            Err(interrupted) => Some(interrupted.into()),
        };
        self.failure = Some(failure);
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The file as it is written: as it is, or compressed.
enum Packer<W: Write> {
    Plain(W),
    Gzip(Box<GzEncoder<W>>),
}

impl<W: Write> Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

/// Chunks that wait, as the body of a request: one that just ceases is no end.
struct Chunks {
    chunks: Receiver<Bytes>,
    sent: Arc<AtomicU64>,
    is_whole: Arc<AtomicBool>,
}

impl Stream for Chunks {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        self.chunks.poll_recv(context).map(|chunk| match chunk {
            None if !self.is_whole.load(Ordering::Acquire) => {
                Some(Err(io::Error::other("the disk was not read to its end")))
            }
            chunk => chunk.map(|chunk| {
                self.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                Ok(chunk)
            }),
        })
    }
}
