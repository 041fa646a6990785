//! Maps that are named and maps that are found, over HTTP and in files.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;

use bytes::Bytes;
use nibs_job::{Class, Progress};
use serde_json::json;
use tokio::runtime::Runtime;

use super::*;
use crate::{Machine, Sink, http};

const MAP: &str = "<bmap version=\"1.2\"><ImageSize>1024</ImageSize><BlockSize>512</BlockSize>\
                   <BlocksCount>2</BlocksCount><MappedBlocksCount>1</MappedBlocksCount>\
                   <BlockMap><Range>0-0</Range></BlockMap></bmap>";
const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>";

/// What a server has for a path; for any other it is the last one.
type Site = Vec<(&'static str, u16, &'static str)>;

/// Serves a site, and remembers paths and credentials.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<(String, bool)>>>,
}

impl Server {
    fn start(site: Site) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<(String, bool)>>> = Arc::default();
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(connection) = connection else { return };
                let Some((path, is_signed)) = read_request(&connection) else { continue };
                let known = site.iter().find(|(known, ..)| *known == path).or(site.last());
                let (_, status, body) = *known.unwrap();
                seen.lock().unwrap().push((path, is_signed));
                // The client may be gone, which is its right.
                let _ = answer(connection, status, body);
            }
        });
        Self { address, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn paths(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }
}

fn read_request(connection: &TcpStream) -> Option<(String, bool)> {
    let mut lines = BufReader::new(connection).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<String> =
        lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let is_signed = headers.iter().any(|line| line.to_lowercase().starts_with("authorization:"));
    Some((path, is_signed))
}

fn answer(mut connection: TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 {status} Whatever\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[derive(Default)]
struct Log(Mutex<Vec<(LogLevel, String)>>);

impl Sink for Log {
    fn progress(&self, _: Progress) {}
    fn reset(&self, _: String) {}
    fn warning(&self, message: String) {
        self.log(LogLevel::Info, message);
    }
    fn log(&self, level: LogLevel, message: String) {
        self.0.lock().unwrap().push((level, message));
    }
}

/// A source that reads from the n-th mirror.
struct Mirror(usize);

impl Source for Mirror {
    fn next(&mut self) -> image::Result<Option<Bytes>> {
        Ok(None)
    }
    fn total(&self) -> Option<u64> {
        None
    }
    fn mirror(&self) -> usize {
        self.0
    }
}

struct Found {
    map: Result<Option<Arc<BlockMap>>, Error>,
    log: Vec<(LogLevel, String)>,
}

impl Found {
    fn place(&self) -> Option<&str> {
        self.map.as_ref().unwrap().as_ref().map(|map| map.place())
    }

    fn said(&self, level: LogLevel, text: &str) -> bool {
        self.log.iter().any(|(said, line)| *said == level && line.contains(text))
    }
}

fn find_for(image: serde_json::Value, mirror: usize) -> Found {
    let image: Image = serde_json::from_value(image).unwrap();
    let runtime: Runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let log = Arc::new(Log::default());
    let context = Context {
        machine: Machine::default(),
        stop: Stop::default(),
        sink: log.clone(),
        runtime: runtime.handle().clone(),
        http: http::Options::default(),
        installed_disk: None,
    };
    let map = find(&image, &Mirror(mirror), &context, &context.stop);
    let log = log.0.lock().unwrap().clone();
    Found { map, log }
}

fn looked_for(image: &str) -> Vec<String> {
    let location = Location::try_from(image.to_owned()).unwrap();
    places(&location).into_iter().map(String::from).collect()
}

#[test]
fn a_map_is_looked_for_beside_the_image_with_and_without_its_compression() {
    assert_eq!(looked_for("/srv/os.img"), ["/srv/os.img.bmap"]);
    assert_eq!(looked_for("/srv/os.wic.bz2"), ["/srv/os.wic.bz2.bmap", "/srv/os.wic.bmap"]);
    assert_eq!(
        looked_for("https://me:pw@h/a%20b/os.img.zst?v=1"),
        ["https://me:pw@h/a%20b/os.img.zst.bmap?v=1", "https://me:pw@h/a%20b/os.img.bmap?v=1"]
    );
    assert_eq!(looked_for("http://h/images/"), [""; 0]);
    assert_eq!(looked_for("oci://registry.example/os/demo:1.0"), [""; 0]);
}

#[test]
fn one_beside_the_image_is_found_with_its_credentials_and_said_so() {
    let server = Server::start(vec![("/os.img.bmap", 200, MAP), ("", 404, "")]);
    let image = json!({ "url": server.url("/os.img.gz?key=s3cret"), "bearer-token": "t0ken" });
    let found = find_for(image, 0);
    // The server is asked with the query, and nobody is told of it.
    assert_eq!(found.place(), None);
    assert_eq!(server.paths(), ["/os.img.gz.bmap?key=s3cret", "/os.img.bmap?key=s3cret"]);
    assert!(!found.log.iter().any(|(_, line)| line.contains("s3cret")), "{:?}", found.log);

    let image = json!({ "url": server.url("/os.img.gz"), "bearer-token": "t0ken" });
    let found = find_for(image, 0);
    assert_eq!(found.place(), Some(&*server.url("/os.img.bmap")));
    assert!(
        found.said(LogLevel::Debug, "os.img.gz.bmap: the server answered 404"),
        "{:?}",
        found.log
    );
    assert!(
        found.said(LogLevel::Info, "which is beside the image: 512 B of 1.0 KiB"),
        "{:?}",
        found.log
    );
    assert!(server.requests.lock().unwrap().iter().all(|(_, is_signed)| *is_signed));
}

#[test]
fn none_is_no_trouble_and_neither_is_a_page_that_says_so() {
    for (status, body) in [(404, ""), (403, PAGE), (500, MAP), (204, "")] {
        let server = Server::start(vec![("", status, body)]);
        assert_eq!(find_for(json!({ "url": server.url("/os.img") }), 0).place(), None);
        assert_eq!(server.paths(), ["/os.img.bmap"]);
    }
    let server = Server::start(vec![("", 200, PAGE)]);
    let found = find_for(json!({ "url": server.url("/os.img") }), 0);
    assert_eq!(found.place(), None);
    assert!(found.said(LogLevel::Info, "is no block map, and passed over"), "{:?}", found.log);
    // Nobody listens.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(find_for(json!({ "url": format!("http://{gone}/os.img.xz") }), 0).place(), None);
}

#[test]
fn servers_that_say_nothing_are_not_waited_for_long() {
    // Connections come up, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/os.img.zst", silent.local_addr().unwrap());
    let since = Instant::now();
    let found = find_for(json!({ "url": url }), 0);
    assert_eq!(found.place(), None);
    assert!(since.elapsed() < PATIENCE + Duration::from_secs(2), "{:?}", since.elapsed());
    assert!(found.said(LogLevel::Debug, "no answer for"), "{:?}", found.log);
}

#[test]
fn a_broken_map_beside_the_image_is_an_error_that_says_how_to_go_on() {
    let broken = &MAP[..MAP.len() - 20];
    let server = Server::start(vec![("", 200, broken)]);
    let error = find_for(json!({ "url": server.url("/os.img") }), 0).map.unwrap_err();
    assert_eq!(error.class(), Class::InvalidInput);
    let text = error.to_string();
    assert!(text.contains("/os.img.bmap: reading its XML"), "{text}");
    assert!(text.contains("image.bmap = \"none\""), "{text}");
    let image = json!({ "url": server.url("/os.img"), "bmap": "none" });
    assert_eq!(find_for(image, 0).place(), None);
    assert_eq!(server.paths().len(), 1);
}

#[test]
fn it_is_looked_for_beside_the_mirror_that_answered() {
    let first = Server::start(vec![("", 200, MAP)]);
    let second = Server::start(vec![("", 200, MAP)]);
    let image = json!({ "urls": [first.url("/os.img"), second.url("/copy/os.img")] });
    let found = find_for(image, 1);
    assert_eq!(found.place(), Some(&*second.url("/copy/os.img.bmap")));
    assert_eq!(first.paths(), [""; 0]);
}

#[test]
fn one_that_the_job_names_has_to_be_there_and_a_map() {
    let server = Server::start(vec![("/maps/os", 200, MAP), ("/page", 200, PAGE), ("", 404, "")]);
    let given = |path: &str| {
        let image = json!({ "url": "/srv/os.img", "bmap": server.url(path), "bearer-token": "t" });
        find_for(image, 0)
    };
    let found = given("/maps/os");
    assert_eq!(found.place(), Some(&*server.url("/maps/os")));
    assert!(found.said(LogLevel::Info, "as the job says"), "{:?}", found.log);
    for (path, said) in [("/gone", "the server answered 404"), ("/page", "a root named html")] {
        let error = given(path).map.unwrap_err();
        assert_eq!(error.class(), Class::InvalidInput);
        assert!(error.to_string().contains(said), "{error}");
    }
    // It is not the image's server.
    assert!(server.requests.lock().unwrap().iter().all(|(_, is_signed)| !is_signed));
}

#[test]
fn one_in_a_file_is_found_named_and_missed() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("os.img.lz4");
    assert_eq!(find_for(json!({ "url": image }), 0).place(), None);
    let map = folder.path().join("os.img.bmap");
    std::fs::write(&map, MAP).unwrap();
    assert_eq!(find_for(json!({ "url": image }), 0).place(), map.to_str());
    assert_eq!(find_for(json!({ "url": "/srv/os", "bmap": map }), 0).place(), map.to_str());
    let gone = folder.path().join("gone.bmap");
    let error = find_for(json!({ "url": image, "bmap": gone }), 0).map.unwrap_err();
    assert!(error.to_string().contains(gone.to_str().unwrap()), "{error}");
}
