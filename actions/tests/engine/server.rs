//! An HTTP server of one resource that breaks as it is told: one fault per request, in order.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is wrong with one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The connection ends after so many bytes of this answer's body.
    Cut(usize),
    /// After so many bytes of the body nothing comes for this long, then the connection ends.
    Stall(usize, Duration),
    /// Another status, with an empty body.
    Status(u16),
    /// Ranges are ignored: the whole, with 200.
    IgnoreRange,
    /// The validator is another one.
    OtherTag,
    /// The part that is sent is right, what is said of it is not.
    WrongRange(&'static str),
    /// The bytes of another place, honestly labelled.
    OtherPlace(usize),
    /// A redirect to itself.
    Redirect,
}

/// What an answer carries to tell versions apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    Strong,
    Weak,
    Date,
    None,
}

pub(crate) struct Server {
    pub(crate) url: url::Url,
    /// `Range` of each request, in order.
    pub(crate) requests: Arc<Mutex<Vec<Option<String>>>>,
}

impl Server {
    /// Serves `body`. The n-th request meets the n-th fault; those after the last meet none.
    pub(crate) fn start(body: Vec<u8>, tag: Tag, faults: Vec<Fault>) -> Self {
        let body = Arc::new(body);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/image", listener.local_addr().unwrap()).parse().unwrap();
        let requests: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(mut connection) = connection else { return };
                let Some(range) = read_request(&connection) else { continue };
                let index = seen.lock().unwrap().len();
                seen.lock().unwrap().push(range.clone());
                let fault = faults.get(index).copied().unwrap_or(Fault::None);
                let body = Arc::clone(&body);
                std::thread::spawn(move || {
                    // The client may be gone, which is its right.
                    let _ = answer(&mut connection, &body, tag, fault, range.as_deref());
                });
            }
        });
        Self { url, requests }
    }

    pub(crate) fn requests(&self) -> Vec<Option<String>> {
        self.requests.lock().unwrap().clone()
    }
}

/// Reads a request, and gives its `Range`.
fn read_request(connection: &TcpStream) -> Option<Option<String>> {
    let mut range = None;
    let mut lines = BufReader::new(connection).lines();
    lines.next()?.ok()?;
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            return Some(range);
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.to_owned());
        }
    }
    None
}

fn answer(
    connection: &mut TcpStream,
    body: &[u8],
    tag: Tag,
    fault: Fault,
    range: Option<&str>,
) -> std::io::Result<()> {
    match fault {
        Fault::Status(status) => {
            return write!(
                connection,
                "HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        Fault::Redirect => {
            let head = "HTTP/1.1 302 Found\r\nLocation: /image\r\nContent-Length: 0\r\n";
            return write!(connection, "{head}Connection: close\r\n\r\n");
        }
        _ => {}
    }
    let asked = range
        .and_then(|range| range.strip_prefix("bytes=")?.split_once('-'))
        .map(|(first, last)| (first.parse().unwrap(), last.parse::<usize>().ok()))
        .filter(|_| !matches!(fault, Fault::IgnoreRange));
    let start = match fault {
        Fault::OtherPlace(place) => place,
        _ => asked.map_or(0, |(first, _)| first),
    };
    let last = asked.and_then(|(_, last)| last).unwrap_or(usize::MAX).min(body.len() - 1);
    let part = &body[start..=last];
    let mut head = match asked {
        None => "HTTP/1.1 200 OK\r\n".to_owned(),
        Some(_) => {
            let honest = format!("bytes {start}-{last}/{}", body.len());
            let said = match fault {
                Fault::WrongRange(said) => said,
                _ => &honest,
            };
            format!("HTTP/1.1 206 Partial Content\r\nContent-Range: {said}\r\n")
        }
    };
    let version = if matches!(fault, Fault::OtherTag) { 2 } else { 1 };
    head += &match tag {
        Tag::Strong => format!("ETag: \"v{version}\"\r\n"),
        Tag::Weak => format!("ETag: W/\"v{version}\"\r\n"),
        Tag::Date => format!("Last-Modified: Sat, 21 Nov 2026 06:00:0{version} GMT\r\n"),
        Tag::None => String::new(),
    };
    write!(connection, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n", part.len())?;
    match fault {
        Fault::Cut(at) => connection.write_all(&part[..at.min(part.len())]),
        Fault::Stall(at, pause) => {
            connection.write_all(&part[..at.min(part.len())])?;
            std::thread::sleep(pause);
            Ok(())
        }
        _ => connection.write_all(part),
    }
}
