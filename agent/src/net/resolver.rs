//! Names to addresses without the C library: `/etc/hosts`, then the servers of
//! `/etc/resolv.conf`, and no others, ever.
//!
//! Both files are read at every lookup, so a client that was built before there was a lease
//! resolves after it; the addresses that servers told are kept as long as `resolv.conf` stays the
//! same. Where no server is configured a lookup says so, instead of asking a public one as some
//! resolvers do.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How long it is believed that there is no such name. A zone may say hours, and whoever asks for
/// ever wants to know whether the name is there by now.
const ABSENCE_KEPT: Duration = Duration::from_secs(1);

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// Nobody to ask.
    #[error(
        "resolving {name}: no name server is configured in {}; expected a line such as \
         \"nameserver 10.0.0.1\", which the DHCP server's option 6 gives",
        file.display()
    )]
    NoServer {
        /// What was to be resolved.
        name: String,
        /// Where name servers are named.
        file: PathBuf,
    },
    /// The configuration is there and cannot be used.
    #[error("resolving {name}: reading {}: {why}", file.display())]
    Configuration {
        /// What was to be resolved.
        name: String,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The servers have no answer, or none that helps.
    #[error("resolving {name} by {servers}: {why}")]
    Failed {
        /// What was to be resolved.
        name: String,
        /// Who was asked.
        servers: String,
        /// What they said.
        why: String,
    },
}

/// Resolves names by the files in one folder. Clones share what they have learnt.
#[derive(Debug, Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    etc: PathBuf,
    current: Mutex<Option<Current>>,
}

/// A resolver, and the `resolv.conf` that it was built from.
#[derive(Debug, Clone)]
struct Current {
    text: String,
    resolver: TokioResolver,
    servers: String,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new("/etc")
    }
}

impl Resolver {
    /// Reads `resolv.conf` and `hosts` from this folder, when they are first needed.
    pub fn new(etc: impl Into<PathBuf>) -> Self {
        Self { shared: Arc::new(Shared { etc: etc.into(), current: Mutex::default() }) }
    }

    /// The addresses of a name, IPv4 first. A numeric name is its own address.
    pub async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let hosts = self.shared.etc.join("hosts");
        let local = hosts_addresses(&fs::read_to_string(hosts).unwrap_or_default(), name);
        if !local.is_empty() {
            return Ok(local);
        }
        // No server is asked for it (RFC 6761 section 6.3), and an initramfs has no hosts file.
        if name.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
        }
        let current = self.current(name)?;
        let failed = |why: String| LookupError::Failed {
            name: name.to_owned(),
            servers: current.servers.clone(),
            why,
        };
        let found = current.resolver.lookup_ip(name).await.map_err(|e| failed(e.to_string()))?;
        let mut addresses: Vec<_> = found.iter().collect();
        addresses.sort_by_key(IpAddr::is_ipv6);
        if addresses.is_empty() {
            return Err(failed("the name has no address".into()));
        }
        Ok(addresses)
    }

    /// The resolver for `resolv.conf` as it is now.
    fn current(&self, name: &str) -> Result<Current, LookupError> {
        let file = self.shared.etc.join("resolv.conf");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = current.as_ref().filter(|current| current.text == text) {
            return Ok(current.clone());
        }
        if !has_server(&text) {
            return Err(LookupError::NoServer { name: name.to_owned(), file });
        }
        let wrong = |why: String| LookupError::Configuration {
            name: name.to_owned(),
            file: file.clone(),
            why,
        };
        let (config, mut options) = parse_resolv_conf(&text).map_err(|e| wrong(e.to_string()))?;
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.negative_max_ttl = Some(ABSENCE_KEPT);
        let servers: Vec<_> = config.name_servers().iter().map(|s| s.ip.to_string()).collect();
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|e| wrong(e.to_string()))?;
        Ok(current.insert(Current { text, resolver, servers: servers.join(", ") }).clone())
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.lookup(name.as_str()).await?;
            // Port 0 stands for that of the URL.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// The words of a line of `hosts` or `resolv.conf`, without its comment.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(['#', ';']).next().unwrap_or_default().split_whitespace()
}

fn has_server(resolv_conf: &str) -> bool {
    resolv_conf.lines().any(|line| {
        let mut words = words(line);
        words.next() == Some("nameserver") && words.next().is_some()
    })
}

/// The addresses that `hosts` (hosts(5)) has for a name, IPv4 first.
fn hosts_addresses(hosts: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let mut addresses: Vec<IpAddr> = hosts
        .lines()
        .filter_map(|line| {
            let mut words = words(line);
            let address = words.next()?.parse().ok()?;
            words.any(|alias| alias.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::config::{NameServerConfig, ResolverConfig};
    use std::sync::atomic::{AtomicBool, Ordering};
    use tempfile::TempDir;
    use tokio::net::UdpSocket;
    use tokio::task::JoinHandle;

    fn etc(files: &[(&str, &str)]) -> (TempDir, Resolver) {
        let etc = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(etc.path().join(name), text).unwrap();
        }
        let resolver = Resolver::new(etc.path());
        (etc, resolver)
    }

    #[tokio::test]
    async fn numbers_and_hosts_need_no_server() {
        let hosts = "10.0.0.7 Control.Lab.Example control # 10.0.0.8 other\nfe80::1 control\n";
        let (_etc, resolver) = etc(&[("hosts", hosts)]);
        let address: IpAddr = "10.0.0.7".parse().unwrap();
        assert_eq!(resolver.lookup("10.0.0.7").await.unwrap(), [address]);
        assert_eq!(resolver.lookup("control.lab.example.").await.unwrap(), [address]);
        let both = resolver.lookup("control").await.unwrap();
        assert_eq!((both.len(), both[0]), (2, address));
        assert_eq!(resolver.lookup("localhost").await.unwrap(), [Ipv4Addr::LOCALHOST]);
        assert!(resolver.lookup("other").await.is_err());
    }

    #[tokio::test]
    async fn without_a_server_nobody_is_asked() {
        for files in [&[][..], &[("resolv.conf", "search lab\n#nameserver 8.8.8.8\n")]] {
            let (_etc, resolver) = etc(files);
            let error = resolver.lookup("control.example").await.unwrap_err();
            assert!(matches!(error, LookupError::NoServer { .. }), "{error}");
            assert!(error.to_string().contains("control.example"), "{error}");
        }
    }

    /// What a name server answers to a question, in RFC 1035's encoding.
    fn answer(question: &[u8], address: Option<[u8; 4]>) -> Vec<u8> {
        let end = 12 + question[12..].iter().position(|b| *b == 0).unwrap() + 5;
        let is_a = question[end - 4..end] == [0, 1, 0, 1];
        let record = address.filter(|_| is_a);
        let mut answer = question[..end].to_vec();
        answer[2..4].copy_from_slice(&[0x81, if address.is_some() { 0x80 } else { 0x83 }]);
        let (answers, authorities) = if record.is_some() { (1, 0) } else { (0, 1) };
        answer[6..12].copy_from_slice(&[0, answers, 0, authorities, 0, 0]);
        match record {
            Some(address) => {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(address);
            }
            // There is nothing, and that is so for an hour (the SOA record of RFC 2308).
            None => {
                answer.extend([0, 0, 6, 0, 1, 0, 0, 14, 16, 0, 22, 0, 0]);
                answer.extend([0, 0, 14, 16].repeat(5));
            }
        }
        answer
    }

    /// A name server on loopback that knows one IPv4 address for all names, once it is told.
    async fn server(address: [u8; 4], knows: Arc<AtomicBool>) -> (u16, JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let known = knows.load(Ordering::Relaxed).then_some(address);
                socket.send_to(&answer(&question[..length], known), from).await.unwrap();
            }
        });
        (port, task)
    }

    /// Has the resolver ask on another port: resolv.conf has no ports.
    fn redirect(resolver: &Resolver, port: u16) {
        let mut current = resolver.current("x").unwrap();
        let mut server = NameServerConfig::udp("127.0.0.1".parse().unwrap());
        server.connections[0].port = port;
        let config = ResolverConfig::from_name_servers(vec![server]);
        current.resolver =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
                .with_options(current.resolver.options().clone())
                .build()
                .unwrap();
        *resolver.shared.current.lock().unwrap() = Some(current);
    }

    #[tokio::test]
    async fn an_answer_is_kept_and_the_absence_of_one_not_for_long() {
        let knows = Arc::new(AtomicBool::new(false));
        let (port, task) = server([10, 0, 0, 5], Arc::clone(&knows)).await;
        let (_etc, resolver) = etc(&[("resolv.conf", "nameserver 127.0.0.1\n")]);
        redirect(&resolver, port);
        let error = resolver.lookup("image.lab.example").await.unwrap_err();
        assert!(matches!(error, LookupError::Failed { .. }), "{error}");
        knows.store(true, Ordering::Relaxed);
        tokio::time::sleep(ABSENCE_KEPT).await;
        let expected: IpAddr = "10.0.0.5".parse().unwrap();
        assert_eq!(resolver.lookup("image.lab.example").await.unwrap(), [expected]);
        // Nobody is left to be asked.
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(resolver.lookup("image.lab.example").await.unwrap(), [expected]);
    }

    #[tokio::test]
    async fn a_new_resolv_conf_is_seen() {
        let (etc, resolver) = etc(&[("resolv.conf", "nameserver 127.0.0.1\n")]);
        assert_eq!(resolver.current("x").unwrap().servers, "127.0.0.1");
        fs::write(etc.path().join("resolv.conf"), "nameserver 127.0.0.2\n").unwrap();
        assert_eq!(resolver.current("x").unwrap().servers, "127.0.0.2");
    }
}
