//! The network of a machine whose init the agent is: DHCPv4 on Ethernet or on a VLAN of it, or an
//! address that is given; and names.
//!
//! [`up`] switches the interfaces on, waits for a link, asks on all of them at once (or on the one
//! that is named, or that booted) and takes the first lease; it does not give up. The [`Keeper`]
//! that it returns renews the lease for as long as it lives, and starts over when the lease is
//! lost. An agent that runs as an ordinary process calls none of this, and uses the [`resolver`]
//! alone; what its machine would be leased it can [`ask`](ask::ask).
//!
//! Interfaces that did not win stay switched on, without an address: a switched-off interface
//! tells nothing of its link, which the inventory reports.

pub mod ask;
mod configuration;
mod configure;
mod dhcp;
mod fixed;
mod interfaces;
mod netlink;
pub mod resolver;
mod seek;
mod vlan;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use nibs_bottlerocket::net_toml;
use nibs_job::Mac;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

pub use self::configuration::{Configuration, Route};
pub use self::dhcp::Lease;
use self::dhcp::client::{Client, Effect, Event};
use self::dhcp::socket::LeaseSocket;
pub use self::fixed::Fixed;
pub(crate) use self::interfaces::{Interface, list};
use self::netlink::Decided;
use self::seek::Won;
pub use self::vlan::VlanId;

/// Pause before another attempt when the kernel refuses to use a lease or to open a socket.
const KERNEL_PAUSE: Duration = Duration::from_secs(5);

/// How the network is to come up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The interface that booted, which alone is used if it is there.
    pub boot_mac: Option<Mac>,
    /// Name of the interface to use if it is there, whichever booted.
    pub interface: Option<String>,
    /// The VLAN on that interface to use.
    pub vlan: Option<VlanId>,
    /// The address to use in place of one by DHCP, on the interface that it says.
    pub fixed: Option<Fixed>,
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
        Self {
            boot_mac: None,
            interface: None,
            vlan: None,
            fixed: None,
            physical_only: true,
            sys: "/sys".into(),
            etc: "/etc".into(),
        }
    }
}

/// A network that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Name of the interface that has the address.
    pub interface: String,
    /// Its hardware address.
    pub mac: Mac,
    /// Where its configuration is from.
    pub origin: Origin,
}

impl Network {
    /// How the interface is configured.
    pub fn configuration(&self) -> &Configuration {
        match &self.origin {
            Origin::Lease(lease) => &lease.configuration,
            Origin::Fixed(configuration) => configuration,
        }
    }
}

/// Where a configuration is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A DHCP server granted it for a time.
    Lease(Lease),
    /// It was given.
    Fixed(Configuration),
}

impl From<&Network> for net_toml::Lease {
    fn from(network: &Network) -> Self {
        let Network { mac, .. } = network;
        let configuration = network.configuration();
        let net = |address, prefix| IpNet::from(Ipv4Net::new_assert(address, prefix));
        let route =
            |route: &Route| (net(route.destination, route.prefix), route.gateway.map(IpAddr::V4));
        Self {
            // A MAC address of ours is one of theirs, in the same spelling.
            interface: mac.to_string().parse().expect("a MAC address names an interface"),
            addresses: vec![net(configuration.address, configuration.prefix)],
            // The default route is among the routes.
            gateway: None,
            routes: configuration.routes.iter().map(route).collect(),
            name_servers: configuration.name_servers.iter().copied().map(IpAddr::V4).collect(),
            search: configuration.search.clone(),
            domain: configuration.domain.clone(),
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

/// Brings the network up. Returns when there is an address and it is in use, however long it takes;
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

/// A network in use, and what keeps it.
#[derive(Debug)]
struct Held {
    interface: Interface,
    /// Renews the lease; there is none to renew if the address is fixed.
    client: Option<Client>,
    network: Network,
}

async fn establish(options: &Options) -> Held {
    loop {
        let configured = match &options.fixed {
            Some(fixed) => configure_fixed(options, fixed).await,
            None => configure_lease(options).await,
        };
        match configured {
            Ok(held) => {
                info!("{}", summary(&held.network));
                return held;
            }
            Err(e) => {
                let seconds = KERNEL_PAUSE.as_secs();
                warn!("{e}; again in {seconds} s");
                tokio::time::sleep(KERNEL_PAUSE).await;
            }
        }
    }
}

async fn configure_lease(options: &Options) -> Result<Held, String> {
    let Won { interface, client, lease } = seek::first_lease(options).await;
    configure::apply(&options.etc, &interface, &lease.configuration, Decided::ByDhcp)
        .map_err(|e| format!("{}: using the lease: {e}", interface.name))?;
    Ok(Held::new(interface, Some(client), Origin::Lease(lease)))
}

async fn configure_fixed(options: &Options, fixed: &Fixed) -> Result<Held, String> {
    let link = seek::first_link(options).await;
    let configuration = &fixed.configuration;
    let interface = seek::upon(&link, fixed.vlan.or(options.vlan), &options.sys)
        .map_err(|e| format!("{}: {e}", link.name))?;
    configure::apply(&options.etc, &interface, configuration, Decided::ByHand)
        .map_err(|e| format!("{}: using the address of ipam=: {e}", interface.name))?;
    Ok(Held::new(interface, None, Origin::Fixed(configuration.clone())))
}

fn summary(network: &Network) -> String {
    let Network { interface, .. } = network;
    let Configuration { address, prefix, routes, name_servers, .. } = network.configuration();
    let from = match &network.origin {
        Origin::Lease(Lease { server, duration: Some(duration), .. }) => {
            format!("from DHCP server {server} for {} s", duration.as_secs())
        }
        Origin::Lease(Lease { server, .. }) => format!("from DHCP server {server} for ever"),
        Origin::Fixed(_) => "as ipam= gives it".to_owned(),
    };
    let default = routes.iter().find(|route| route.prefix == 0).and_then(|r| r.gateway);
    let router =
        default.map_or_else(|| "no router".to_owned(), |router| format!("router {router}"));
    let names = match name_servers.as_slice() {
        [] => "no name server".to_owned(),
        servers => {
            let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
            format!("name servers {}", servers.join(" "))
        }
    };
    format!("{interface}: address {address}/{prefix} {from}, {router}, {names}")
}

impl Held {
    fn new(interface: Interface, client: Option<Client>, origin: Origin) -> Self {
        let network = Network { interface: interface.name.clone(), mac: interface.mac, origin };
        Self { interface, client, network }
    }

    /// Renews the lease until it is lost.
    async fn hold(&mut self, options: &Options, sender: &watch::Sender<Option<Network>>) {
        let Some(mut client) = self.client.take() else { return std::future::pending().await };
        let name = self.interface.name.clone();
        let socket = LeaseSocket::open(&name)
            .inspect_err(|e| warn!("{name}: the lease cannot be renewed: opening a socket: {e}"))
            .ok();
        loop {
            let effects = tokio::select! {
                () = wait_until(client.deadline()) => {
                    client.handle(Instant::now(), Event::Deadline)
                }
                message = next_message(socket.as_ref()) => {
                    client.handle(Instant::now(), Event::Message(&message))
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
                        let configuration = self.network.configuration();
                        warn!("{name}: the lease of {} is lost: {why}", configuration.address);
                        configure::remove(&self.interface, configuration);
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
        let name = &self.interface.name;
        tracing::debug!("{name}: lease of {} renewed", lease.configuration.address);
        let before = self.network.configuration().clone();
        self.network.origin = Origin::Lease(lease);
        let now = self.network.configuration();
        // An address is not taken away under an image that streams just to be given again.
        if before == *now {
            return;
        }
        configure::remove(&self.interface, &before);
        if let Err(e) = configure::apply(&options.etc, &self.interface, now, Decided::ByDhcp) {
            warn!("{name}: using the renewed lease: {e}");
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
        let configuration = Configuration {
            address: Ipv4Addr::new(10, 0, 0, 9),
            prefix: 24,
            routes: vec![to(Ipv4Addr::UNSPECIFIED, 0, Some(gateway))],
            mtu: None,
            name_servers: vec![gateway],
            domain: Some("lab.example".into()),
            search: Vec::new(),
            host_name: None,
        };
        let mac = "52:54:00:AB:00:01".parse().unwrap();
        let origin = Origin::Fixed(configuration);
        let network = Network { interface: "eth0".into(), mac, origin };
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
