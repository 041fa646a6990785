//! A lease that is asked for and not used: what a DHCP server gives a machine whose network somebody
//! else keeps up. Nothing of the machine changes, and the lease is not given back: it is the one that
//! the machine has.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Interface, Network, Origin, interfaces, seek};

/// The network of the machine, also where this process runs in a container with the machine's PIDs.
const OF_THE_MACHINE: &str = "/proc/1/ns/net";
/// What shows the interfaces of that network.
const SYS_OF_THE_MACHINE: &str = "/proc/1/root/sys";
const OWN: &str = "/proc/thread-self/ns/net";

/// How a lease is asked for.
#[derive(Debug, Clone)]
pub struct Question {
    /// The network namespace, as a file of procfs.
    pub namespace: PathBuf,
    /// Where sysfs is mounted, if the namespace is another than that of the caller.
    pub sys: PathBuf,
    /// How long a server is asked.
    pub patience: Duration,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The work was stopped.
    #[error("cancelled")]
    Cancelled,
    /// The network could not be reached at all.
    #[error("asking for a DHCP lease, {doing}: {cause}; this needs CAP_SYS_ADMIN and CAP_NET_RAW")]
    Io {
        /// What was being done, in the gerund.
        doing: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// No interface has an address.
    #[error(
        "asking for a DHCP lease: no Ethernet interface of this machine has an IPv4 address; there \
         are {there}"
    )]
    NoInterface {
        /// The interfaces.
        there: String,
    },
    /// No server answers.
    #[error("asking for a DHCP lease on {interface}: no answer for {} s", waited.as_secs())]
    Silent {
        /// The interface.
        interface: String,
        /// How long it was asked.
        waited: Duration,
    },
}

impl Question {
    /// About the machine's own network.
    pub fn of_the_machine(patience: Duration) -> Self {
        Self { namespace: OF_THE_MACHINE.into(), sys: SYS_OF_THE_MACHINE.into(), patience }
    }
}

/// Asks on the interface that has an address. Blocks; to be called from a thread that may.
pub fn ask(question: &Question, cancel: &CancellationToken) -> Result<Network, AskError> {
    let io = |doing| move |cause| AskError::Io { doing, cause };
    std::thread::scope(|scope| {
        // A thread of its own, since it may leave its namespace.
        let thread = std::thread::Builder::new().name("ask".into()).spawn_scoped(scope, || {
            let sys = enter(question).map_err(io("entering the machine's network"))?;
            let interface = addressed(interfaces::list(&sys))?;
            info!("{}: asking what the machine would be leased by DHCP", interface.name);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(io("starting a runtime"))?;
            runtime.block_on(async {
                tokio::select! {
                    () = cancel.cancelled() => Err(AskError::Cancelled),
                    () = tokio::time::sleep(question.patience) => {
                        let waited = question.patience;
                        Err(AskError::Silent { interface: interface.name.clone(), waited })
                    }
                    sought = seek::try_seek(interface.clone()) => {
                        let (won, _) = sought.map_err(io("speaking DHCP"))?;
                        let (interface, mac) = (interface.name.clone(), interface.mac);
                        Ok(Network { interface, mac, origin: Origin::Lease(won.lease) })
                    }
                }
            })
        });
        let thread = thread.map_err(io("starting a thread"))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Enters the namespace unless this is it already, and says where its interfaces are seen.
fn enter(question: &Question) -> io::Result<PathBuf> {
    let own = fs::read_link(OWN)?;
    match fs::read_link(&question.namespace) {
        Ok(its) if its != own => {
            setns(File::open(&question.namespace)?, CloneFlags::CLONE_NEWNET)?;
            Ok(question.sys.clone())
        }
        // That of PID 1 is not to be seen by who may not enter it either.
        Ok(_) | Err(_) => Ok("/sys".into()),
    }
}

/// The interface that has an address which the world may know; one with hardware before others.
fn addressed(mut all: Vec<Interface>) -> Result<Interface, AskError> {
    let addresses = getifaddrs()
        .map_err(|errno| AskError::Io { doing: "listing addresses", cause: errno.into() })?;
    let with_address: Vec<String> = addresses
        .filter(|it| {
            let address = it.address.as_ref().and_then(|address| address.as_sockaddr_in());
            address.is_some_and(|address| is_global_unicast(address.ip()))
        })
        .map(|it| it.interface_name)
        .collect();
    let there = all.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ");
    all.retain(|interface| with_address.contains(&interface.name));
    all.sort_by_key(|interface| (!interface.physical, interface.index));
    let there = if there.is_empty() { "none".to_owned() } else { there };
    all.into_iter().next().ok_or(AskError::NoInterface { there })
}

/// In the words of Go's `net.IP`: private networks count.
fn is_global_unicast(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast())
}
