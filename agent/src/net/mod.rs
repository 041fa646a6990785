//! The network of a machine whose init the agent is: DHCPv4 on Ethernet, and names.
//!
//! [`up`] switches the interfaces on, waits for a link, asks on all of them at once (or on the one
//! that booted) and takes the first lease; it does not give up. The [`Keeper`] that it returns
//! renews the lease for as long as it lives, and starts over when the lease is lost. An agent that
//! runs as an ordinary process calls none of this, and uses the [`resolver`] alone; what its machine
//! would be leased it can [`ask`](ask::ask).
//!
//! Interfaces that did not win stay switched on, without an address: a switched-off interface
//! tells nothing of its link, which the inventory reports.

pub mod ask;
mod configure;
mod dhcp;
mod interfaces;
mod netlink;
pub mod resolver;
mod seek;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use nibs_bottlerocket::net_toml;
use nibs_job::Mac;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use self::dhcp::client::{Client, Effect, Event};
use self::dhcp::socket::LeaseSocket;
pub use self::dhcp::{Lease, Route};
pub(crate) use self::interfaces::{Interface, list};
use self::seek::Won;

/// Pause before another attempt when the kernel refuses to use a lease or to open a socket.
const KERNEL_PAUSE: Duration = Duration::from_secs(5);

/// How the network is to come up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The interface that booted, which alone is used if it is there.
    pub boot_mac: Option<Mac>,
    /// Whether interfaces without hardware behind them are left alone. One that is named by its
    /// address is used in any case.
    pub physical_only: bool,
    /// Where sysfs is mounted.
    pub sys: PathBuf,
    /// Folder that `resolv.conf` is written to.
    pub etc: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self { boot_mac: None, physical_only: true, sys: "/sys".into(), etc: "/etc".into() }
    }
}

/// A network that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Name of the interface that has the lease.
    pub interface: String,
    /// Its hardware address.
    pub mac: Mac,
    /// What the server granted.
    pub lease: Lease,
}

impl From<&Network> for net_toml::Lease {
    fn from(Network { mac, lease, .. }: &Network) -> Self {
        let net = |address, prefix| IpNet::from(Ipv4Net::new_assert(address, prefix));
        let route =
            |route: &Route| (net(route.destination, route.prefix), route.gateway.map(IpAddr::V4));
        Self {
            // A MAC address of ours is one of theirs, in the same spelling.
            interface: mac.to_string().parse().expect("a MAC address names an interface"),
            addresses: vec![net(lease.address, lease.prefix)],
            // The default route is among the routes.
            gateway: None,
            routes: lease.routes.iter().map(route).collect(),
            name_servers: lease.name_servers.iter().copied().map(IpAddr::V4).collect(),
            search: lease.search.clone(),
            domain: lease.domain.clone(),
        }
    }
}

/// Keeps a network up. Dropping it ends the renewals; what is configured stays.
#[derive(Debug)]
pub struct Keeper {
    network: watch::Receiver<Option<Network>>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// The network as it is now; none while a lost lease is replaced.
    pub fn network(&self) -> Option<Network> {
        self.network.borrow().clone()
    }

    /// Where the network can be seen for as long as it is kept.
    pub fn watch(&self) -> watch::Receiver<Option<Network>> {
        self.network.clone()
    }

    /// Waits until the network has changed: renewed with other values, lost, or up again.
    pub async fn changed(&mut self) -> Option<Network> {
        match self.network.changed().await {
            Ok(()) => self.network.borrow_and_update().clone(),
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Brings the network up. Returns when there is a lease and it is in use, however long it takes;
/// what it waits for is logged. Needs a tokio runtime, CAP_NET_ADMIN and CAP_NET_RAW.
pub async fn up(options: Options) -> Keeper {
    let mut held = establish(&options).await;
    let (sender, network) = watch::channel(Some(held.network.clone()));
    let task = tokio::spawn(async move {
        loop {
            held.hold(&options, &sender).await;
            sender.send_replace(None);
            held = establish(&options).await;
            sender.send_replace(Some(held.network.clone()));
        }
    });
    Keeper { network, task }
}

/// A lease in use, and the client that renews it.
#[derive(Debug)]
struct Held {
    interface: Interface,
    client: Client,
    network: Network,
}

async fn establish(options: &Options) -> Held {
    loop {
        let Won { interface, client, lease } = seek::first_lease(options).await;
        match configure::apply(options, &interface, &lease) {
            Ok(()) => {
                let network =
                    Network { interface: interface.name.clone(), mac: interface.mac, lease };
                info!("{}", summary(&network));
                return Held { interface, client, network };
            }
            Err(e) => {
                let seconds = KERNEL_PAUSE.as_secs();
                warn!("{}: using the lease: {e}; again in {seconds} s", interface.name);
                tokio::time::sleep(KERNEL_PAUSE).await;
            }
        }
    }
}

fn summary(network: &Network) -> String {
    let Network { interface, lease, .. } = network;
    let time = match lease.duration {
        Some(duration) => format!("for {} s", duration.as_secs()),
        None => "for ever".to_owned(),
    };
    let default = lease.routes.iter().find(|route| route.prefix == 0).and_then(|r| r.gateway);
    let router =
        default.map_or_else(|| "no router".to_owned(), |router| format!("router {router}"));
    let names = match lease.name_servers.as_slice() {
        [] => "no name server".to_owned(),
        servers => {
            let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
            format!("name servers {}", servers.join(" "))
        }
    };
    format!(
        "{interface}: address {}/{} from DHCP server {} {time}, {router}, {names}",
        lease.address, lease.prefix, lease.server
    )
}

impl Held {
    /// Renews the lease until it is lost.
    async fn hold(&mut self, options: &Options, sender: &watch::Sender<Option<Network>>) {
        let name = self.interface.name.clone();
        let socket = LeaseSocket::open(&name)
            .inspect_err(|e| warn!("{name}: the lease cannot be renewed: opening a socket: {e}"))
            .ok();
        loop {
            let effects = tokio::select! {
                () = wait_until(self.client.deadline()) => {
                    self.client.handle(Instant::now(), Event::Deadline)
                }
                message = next_message(socket.as_ref()) => {
                    self.client.handle(Instant::now(), Event::Message(&message))
                }
            };
            for effect in effects {
                match effect {
                    Effect::Broadcast(message) => {
                        send(&name, socket.as_ref(), Ipv4Addr::BROADCAST, &message).await;
                    }
                    Effect::Unicast(server, message) => {
                        send(&name, socket.as_ref(), server, &message).await;
                    }
                    Effect::Bound(lease) => self.renewed(options, sender, lease),
                    Effect::Lost(why) => {
                        let address = self.network.lease.address;
                        warn!("{name}: the lease of {address} is lost: {why}");
                        configure::remove(&self.interface, &self.network.lease);
                        return;
                    }
                    Effect::Note(note) => warn!("{name}: {note}"),
                }
            }
        }
    }

    fn renewed(
        &mut self,
        options: &Options,
        sender: &watch::Sender<Option<Network>>,
        lease: Lease,
    ) {
        tracing::debug!("{}: lease of {} renewed", self.interface.name, lease.address);
        let before = std::mem::replace(&mut self.network.lease, lease);
        let lease = &self.network.lease;
        // An address is not taken away under an image that streams just to be given again.
        if before.configures_as(lease) {
            return;
        }
        configure::remove(&self.interface, &before);
        if let Err(e) = configure::apply(options, &self.interface, lease) {
            warn!("{}: using the renewed lease: {e}", self.interface.name);
        }
        info!("{}", summary(&self.network));
        sender.send_replace(Some(self.network.clone()));
    }
}

async fn send(name: &str, socket: Option<&LeaseSocket>, server: Ipv4Addr, message: &[u8]) {
    if let Some(socket) = socket
        && let Err(e) = socket.send(server, message).await
    {
        warn!("{name}: asking {server} to renew the lease: {e}");
    }
}

async fn next_message(socket: Option<&LeaseSocket>) -> Vec<u8> {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        match socket.receive().await {
            Ok(message) => return message,
            // An interface that went down says so at every call.
            Err(_) => tokio::time::sleep(KERNEL_PAUSE).await,
        }
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Switches the loopback interface on, which the kernel leaves off.
pub(crate) fn switch_on_loopback() -> std::io::Result<()> {
    let index = nix::net::if_::if_nametoindex("lo")?;
    netlink::Netlink::open()?.set_up(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_handed_on_with_its_routes_and_its_interface_by_address() {
        let to = |destination, prefix, gateway| Route { destination, prefix, gateway };
        let gateway = Ipv4Addr::new(10, 0, 0, 1);
        let lease = Lease {
            address: Ipv4Addr::new(10, 0, 0, 9),
            prefix: 24,
            routes: vec![to(Ipv4Addr::UNSPECIFIED, 0, Some(gateway))],
            mtu: None,
            name_servers: vec![gateway],
            domain: Some("lab.example".into()),
            search: Vec::new(),
            host_name: None,
            server: gateway,
            duration: None,
            renew_after: Duration::MAX,
            rebind_after: Duration::MAX,
        };
        let mac = "52:54:00:AB:00:01".parse().unwrap();
        let network = Network { interface: "eth0".into(), mac, lease };
        let (made, dns) = net_toml::from_lease(&(&network).into()).unwrap();
        let text = net_toml::render(&made, None, &net_toml::Names::NONE).unwrap();
        assert!(
            text.contains("[\"52:54:00:ab:00:01\".static4]\naddresses = [\"10.0.0.9/24\"]"),
            "{text}"
        );
        assert!(text.contains("to = \"default\"\nvia = \"10.0.0.1\""), "{text}");
        assert_eq!(dns.search_list, ["lab.example"]);
    }
}
