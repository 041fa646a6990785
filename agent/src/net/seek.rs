//! Seeks a lease on every interface that may have one; the first one wins.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tracing::{info, warn};

use super::dhcp::client::{Client, Effect, Event};
use super::dhcp::socket::PacketSocket;
use super::netlink::Netlink;
use super::{Interface, KERNEL_PAUSE, Lease, Options, interfaces, wait_until};

/// How often interfaces and their links are looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(250);

/// How often the operator is told what is missing, at first; twice as long each time up to the
/// longest.
const FIRST_REMINDER: Duration = Duration::from_secs(10);
const LONGEST_REMINDER: Duration = Duration::from_secs(60);

/// How long the interface that booted is waited for alone. Then the others are asked too: the
/// loader may have spoken through an adapter that this kernel cannot drive.
const BOOT_MAC_PATIENCE: Duration = Duration::from_secs(60);

/// The interface that has a lease.
#[derive(Debug)]
pub(super) struct Won {
    pub(super) interface: Interface,
    pub(super) client: Client,
    pub(super) lease: Lease,
}

/// Seeks until there is a lease.
pub(super) async fn first_lease(options: &Options) -> Won {
    let began = Instant::now();
    let mut looks = tokio::time::interval(LOOK_PERIOD);
    let mut reminder = Reminder { at: began + FIRST_REMINDER, period: FIRST_REMINDER };
    let mut switched_on = HashSet::new();
    let mut asked = HashSet::new();
    let mut seekers = JoinSet::new();
    loop {
        tokio::select! {
            _ = looks.tick() => {
                let candidates = candidates(options, interfaces::list(&options.sys), began.elapsed());
                for interface in &candidates {
                    if switched_on.insert(interface.index) {
                        switch_on(interface);
                    }
                    if interface.carrier && asked.insert(interface.index) {
                        let Interface { name, mac, .. } = interface;
                        info!("{name} ({mac}): there is a link; asking for an address by DHCP");
                        seekers.spawn(seek(interface.clone()));
                    }
                }
                if asked.is_empty() && reminder.is_due(Instant::now()) {
                    warn!("{}", what_is_missing(options, &candidates, began.elapsed()));
                }
            }
            Some(Ok((won, _socket))) = seekers.join_next() => {
                seekers.abort_all();
                while let Some(result) = seekers.join_next().await {
                    if let Ok((second, socket)) = result {
                        give_back(second, &socket).await;
                    }
                }
                return won;
            }
        }
    }
}

/// The interfaces to ask on: the one that booted, or else all that have hardware.
fn candidates(options: &Options, all: Vec<Interface>, waited: Duration) -> Vec<Interface> {
    if let Some(mac) = options.boot_mac {
        let booted: Vec<_> = all.iter().filter(|i| i.mac == mac).cloned().collect();
        if !booted.is_empty() || waited < BOOT_MAC_PATIENCE {
            return booted;
        }
    }
    all.into_iter().filter(|i| i.physical || !options.physical_only).collect()
}

fn what_is_missing(options: &Options, candidates: &[Interface], waited: Duration) -> String {
    let seconds = waited.as_secs();
    if !candidates.is_empty() {
        let names: Vec<_> = candidates.iter().map(|i| i.name.as_str()).collect();
        return format!(
            "no link on {} for {seconds} s; is the cable plugged in?",
            names.join(", ")
        );
    }
    match options.boot_mac {
        Some(mac) => format!("no interface has the address {mac} that booted, for {seconds} s"),
        None => format!("no network interface for {seconds} s; does this kernel have its driver?"),
    }
}

fn switch_on(interface: &Interface) {
    if let Err(e) = Netlink::open().and_then(|mut netlink| netlink.set_up(interface.index)) {
        warn!("{}: switching it on: {e}", interface.name);
    }
}

/// Seeks on one interface until it has a lease.
async fn seek(interface: Interface) -> (Won, PacketSocket) {
    loop {
        match try_seek(&interface).await {
            Ok((client, lease, socket)) => return (Won { interface, client, lease }, socket),
            Err(e) => {
                let seconds = KERNEL_PAUSE.as_secs();
                warn!("{}: asking by DHCP: {e}; again in {seconds} s", interface.name);
                tokio::time::sleep(KERNEL_PAUSE).await;
            }
        }
    }
}

/// Asks on one interface until it has a lease, or its socket fails.
pub(super) async fn try_seek(interface: &Interface) -> io::Result<(Client, Lease, PacketSocket)> {
    let socket = PacketSocket::open(interface.index)?;
    let seed = RandomState::new().hash_one(interface.mac);
    let mut client = Client::new(interface.mac, seed, Instant::now());
    loop {
        let effects = tokio::select! {
            () = wait_until(client.deadline()) => client.handle(Instant::now(), Event::Deadline),
            message = socket.receive() => {
                client.handle(Instant::now(), Event::Message(&message?))
            }
        };
        for effect in effects {
            match effect {
                Effect::Broadcast(message) | Effect::Unicast(_, message) => {
                    socket.broadcast(Ipv4Addr::UNSPECIFIED, &message).await?;
                }
                Effect::Bound(lease) => return Ok((client, lease, socket)),
                Effect::Note(note) => warn!("{}: {note}", interface.name),
                // There was none to lose.
                Effect::Lost(_) => {}
            }
        }
    }
}

/// Gives a lease back that came at the same moment as the one that won.
async fn give_back(mut second: Won, socket: &PacketSocket) {
    let message = second.client.release(&second.lease);
    if let Err(e) = socket.broadcast(second.lease.address, &message).await {
        warn!("{}: giving the lease back: {e}", second.interface.name);
    }
}

struct Reminder {
    at: Instant,
    period: Duration,
}

impl Reminder {
    fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.at;
        if due {
            self.period = (self.period * 2).min(LONGEST_REMINDER);
            self.at = now + self.period;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nibs_job::Mac;

    fn interface(index: u32, physical: bool) -> Interface {
        Interface {
            name: format!("e{index}"),
            index,
            mac: Mac([2, 0, 0, 0, 0, index as u8]),
            carrier: true,
            physical,
        }
    }

    fn chosen(boot_mac: Option<u8>, waited: Duration) -> Vec<u32> {
        let boot_mac = boot_mac.map(|last| Mac([2, 0, 0, 0, 0, last]));
        let options = Options { boot_mac, ..Options::default() };
        let all = vec![interface(1, true), interface(2, true), interface(3, false)];
        candidates(&options, all, waited).iter().map(|i| i.index).collect()
    }

    #[test]
    fn the_interface_that_booted_is_asked_alone() {
        assert_eq!(chosen(Some(2), Duration::ZERO), [2]);
        assert_eq!(chosen(Some(3), Duration::ZERO), [3], "named, so hardware or not");
        assert_eq!(chosen(None, Duration::ZERO), [1, 2]);
    }

    #[test]
    fn one_that_is_not_there_is_waited_for_a_while() {
        assert!(chosen(Some(9), BOOT_MAC_PATIENCE / 2).is_empty());
        assert_eq!(chosen(Some(9), BOOT_MAC_PATIENCE), [1, 2]);
    }

    #[test]
    fn the_operator_is_told_which_of_three_things_is_missing() {
        let options = Options::default();
        let waited = Duration::from_secs(10);
        let missing = |options: &_, candidates: &[_]| what_is_missing(options, candidates, waited);
        assert!(missing(&options, &[interface(1, true)]).contains("no link on e1"));
        assert!(missing(&options, &[]).contains("driver"));
        let options = Options { boot_mac: Some(Mac([2, 0, 0, 0, 0, 9])), ..options };
        assert!(missing(&options, &[]).contains("02:00:00:00:00:09"));
    }

    #[test]
    fn reminders_grow_rarer() {
        let start = Instant::now();
        let mut reminder = Reminder { at: start + FIRST_REMINDER, period: FIRST_REMINDER };
        let due: Vec<_> =
            (0..300).filter(|s| reminder.is_due(start + Duration::from_secs(*s))).collect();
        assert_eq!(due, [10, 30, 70, 130, 190, 250]);
    }
}
