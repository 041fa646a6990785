//! The way to a server: TLS with all that can be wrong with it, and proxies.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lab::tinkerbell::{Authority, Fake, Options, Pair, State};
use nibs_actions::http::{ClientCertificate, Proxies};
use nibs_agent::net::resolver::Resolver;
use nibs_agent::tinkerbell::transport::{self, Error, Server, Transport};
use nibs_job::Secret;

use super::agent::{Agent, Machine, PATIENCE};
use super::{AGENT, WORKFLOW, options, workflow};

const LOOPBACK: &str = "IP:127.0.0.1,DNS:tinkerbell.test";

struct Site {
    directory: tempfile::TempDir,
    authority: Authority,
}

fn site() -> Site {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(&directory.path().join("ca")).unwrap();
    Site { directory, authority }
}

impl Site {
    fn fake(&self, names: &str) -> Fake {
        let tls = Some(self.authority.certify(names).unwrap());
        Fake::start(Options { tls, ..Options::impatient() }).unwrap()
    }

    fn bundle(&self) -> PathBuf {
        self.authority.bundle()
    }
}

fn secure(fake: &Fake, ca_bundle: PathBuf) -> transport::Options {
    transport::Options { tls: true, ca_bundles: vec![ca_bundle], ..options(fake) }
}

/// Does a workflow to its end with these options.
fn works(fake: &Fake, options: transport::Options) {
    fake.add(workflow(&["noop"]));
    let agent = Agent::start(options, Machine::default());
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    agent.stop();
}

/// What a question fails with.
fn failure(options: transport::Options) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = runtime.block_on(async { Server::new(options).unwrap().next().await });
    match asked {
        Err(Error::TryAgain(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_of_the_sites_authority_is_trusted() {
    let site = site();
    let fake = site.fake(LOOPBACK);
    works(&fake, secure(&fake, site.bundle()));
}

#[test]
fn a_server_of_another_authority_is_not_and_it_says_so() {
    let (site, other) = (site(), site());
    let fake = site.fake(LOOPBACK);
    let why = failure(secure(&fake, other.bundle()));
    assert!(why.contains("TLS") && why.contains("certificate") && why.contains("--ca"), "{why}");
    assert!(why.contains(&fake.server()), "{why}");
    let why = failure(secure(&fake, "/nowhere/ca.pem".into()));
    assert!(why.contains("TLS") && why.contains("certificate"), "{why}");
}

#[test]
fn a_server_of_another_name_is_not_trusted() {
    let site = site();
    let fake = site.fake("DNS:other.test");
    let why = failure(secure(&fake, site.bundle()));
    assert!(why.contains("TLS") && why.contains("127.0.0.1"), "{why}");
}

#[test]
fn insecure_tls_takes_any_certificate() {
    let site = site();
    let fake = site.fake("DNS:other.test");
    let options = transport::Options { tls: true, insecure_tls: true, ..options(&fake) };
    works(&fake, options);
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_it() {
    let site = site();
    let tls = Some(site.authority.certify(LOOPBACK).unwrap());
    let client_ca = Some(fs::read_to_string(site.bundle()).unwrap());
    let fake = Fake::start(Options { tls, client_ca, ..Options::impatient() }).unwrap();
    let why = failure(secure(&fake, site.bundle()));
    assert!(why.contains("client certificate, and the agent has none"), "{why}");
    let Pair { certificate, key } = self::site().authority.certify("DNS:agent.test").unwrap();
    let strange = Some(ClientCertificate { certificate, key: Secret::new(key) });
    let client_certificate = strange;
    let why = failure(transport::Options { client_certificate, ..secure(&fake, site.bundle()) });
    assert!(why.contains("client certificate, and may not take this one"), "{why}");
    let Pair { certificate, key } = site.authority.certify("DNS:agent.test").unwrap();
    let client_certificate = Some(ClientCertificate { certificate, key: Secret::new(key) });
    works(&fake, transport::Options { client_certificate, ..secure(&fake, site.bundle()) });
}

#[test]
fn plain_text_and_tls_do_not_meet_and_it_says_what_to_look_at() {
    let site = site();
    let plain = Fake::start(Options::impatient()).unwrap();
    let why = failure(secure(&plain, site.bundle()));
    assert!(why.contains("does it speak TLS"), "{why}");
    let tls = site.fake(LOOPBACK);
    let why = failure(options(&tls));
    assert!(why.contains(&tls.server()), "{why}");
}

#[test]
fn nobody_listens_and_it_says_where() {
    let server = "127.0.0.1:9".to_owned();
    let why = failure(transport::Options { server, agent: AGENT.into(), ..Default::default() });
    assert!(why.contains("127.0.0.1:9") && why.contains("refused"), "{why}");
}

#[test]
fn what_is_given_for_tls_and_cannot_be_used_is_refused_at_once() {
    let site = site();
    let not_pem = site.directory.path().join("not.pem");
    fs::write(&not_pem, "hunter2").unwrap();
    let given = || transport::Options {
        server: "h:1".into(),
        agent: AGENT.into(),
        tls: true,
        ..Default::default()
    };
    let error = Server::new(transport::Options { ca_bundles: vec![not_pem.clone()], ..given() });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("not.pem") && !error.contains("hunter2"), "{error}");
    let certificate = "hunter2".to_owned();
    let pair = Some(ClientCertificate { certificate, key: Secret::new("hunter2") });
    let error = Server::new(transport::Options { client_certificate: pair, ..given() });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("client certificate") && !error.contains("hunter2"), "{error}");
}

/// A proxy on loopback that knows CONNECT, leads to this machine, and counts.
struct Proxy {
    address: String,
    asked: Arc<AtomicUsize>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                count.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || Self::serve(client));
            }
        });
        Self { address, asked }
    }

    fn serve(mut client: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        // "me:pw" in base64.
        if !head.contains("bWU6cHc=") {
            client.write_all(b"HTTP/1.1 407 Who Are You\r\n\r\n").unwrap();
            return;
        }
        let target = head.split_whitespace().nth(1).unwrap();
        let port: u16 = target.rsplit_once(':').unwrap().1.parse().unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"HTTP/1.1 200 Go\r\n\r\n").unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut server, &mut client);
    }
}

#[test]
fn a_proxy_is_asked_for_a_way_with_tls_and_without() {
    let site = site();
    let etc = site.directory.path();
    fs::write(etc.join("hosts"), "127.0.0.1 proxy.test\n").unwrap();
    let proxy = Proxy::start();
    let by = |fake: &Fake, who: &str, no: &str| {
        let port = proxy.address.rsplit_once(':').unwrap().1;
        let https = Some(format!("http://{who}@proxy.test:{port}").parse().unwrap());
        transport::Options {
            // A name that this machine cannot resolve: only the proxy knows the way.
            server: format!("tinkerbell.test:{}", fake.server().rsplit_once(':').unwrap().1),
            proxies: Proxies { https, no: no.into(), ..Proxies::default() },
            resolver: Resolver::new(etc),
            ..secure(fake, site.bundle())
        }
    };
    let tls = site.fake(LOOPBACK);
    works(&tls, by(&tls, "me:pw", ""));
    let plain = Fake::start(Options::impatient()).unwrap();
    works(&plain, transport::Options { tls: false, ..by(&plain, "me:pw", "") });
    assert_eq!(proxy.asked.load(Ordering::SeqCst), 2);

    let why = failure(by(&tls, "me:hunter2", ""));
    assert!(why.contains("by the proxy proxy.test") && why.contains("authorization"), "{why}");
    assert!(!why.contains("hunter2"), "{why}");
    let why = failure(by(&tls, "me:pw", "tinkerbell.test"));
    assert!(why.contains("resolving tinkerbell.test"), "{why}");
}
