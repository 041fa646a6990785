//! Seeks an interface with a link, and a lease on every one that may have it; the first one wins.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tracing::{info, warn};

use super::dhcp::client::{Client, Effect, Event};
use super::dhcp::socket::PacketSocket;
use super::netlink::Netlink;
use super::{Interface, KERNEL_PAUSE, Lease, Options, VlanId, interfaces, vlan, wait_until};

/// How often interfaces and their links are looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(250);

/// How often the operator is told what is missing, at first; twice as long each time up to the
/// longest.
const FIRST_REMINDER: Duration = Duration::from_secs(10);
const LONGEST_REMINDER: Duration = Duration::from_secs(60);

/// How long an interface that is named, or that booted, is waited for alone. Then the others are
/// asked too: the loader may have spoken through an adapter that this kernel cannot drive, and
/// names are not the same under every system.
const CHOICE_PATIENCE: Duration = Duration::from_secs(60);

/// The interface that has a lease.
#[derive(Debug)]
pub(super) struct Won {
    pub(super) interface: Interface,
    pub(super) client: Client,
    pub(super) lease: Lease,
}

/// Seeks until there is a lease.
pub(super) async fn first_lease(options: &Options) -> Won {
    let mut looks = tokio::time::interval(LOOK_PERIOD);
    let mut search = Search::new(options);
    let mut asked = HashSet::new();
    let mut seekers = JoinSet::new();
    loop {
        tokio::select! {
            _ = looks.tick() => {
                for interface in search.look() {
                    if asked.insert(interface.index) {
                        let Interface { name, mac, .. } = &interface;
                        let on = options.vlan.map(|id| format!(" on VLAN {id}"));
                        let on = on.unwrap_or_default();
                        info!("{name} ({mac}): there is a link; asking for an address by DHCP{on}");
                        seekers.spawn(seek(interface, options.vlan, options.sys.clone()));
                    }
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

/// Waits until there is a link.
pub(super) async fn first_link(options: &Options) -> Interface {
    let mut looks = tokio::time::interval(LOOK_PERIOD);
    let mut search = Search::new(options);
    loop {
        looks.tick().await;
        if let Some(interface) = search.look().into_iter().next() {
            return interface;
        }
    }
}

/// The interface to use where this one has the link: itself, or that of a VLAN on it.
pub(super) fn upon(link: &Interface, vlan: Option<VlanId>, sys: &Path) -> io::Result<Interface> {
    match vlan {
        Some(id) => vlan::interface(sys, link, id),
        None => Ok(link.clone()),
    }
}

/// Looks for interfaces again and again, and tells what is missing.
struct Search<'a> {
    options: &'a Options,
    began: Instant,
    reminder: Reminder,
    switched_on: HashSet<u32>,
    had_link: bool,
}

impl<'a> Search<'a> {
    fn new(options: &'a Options) -> Self {
        let began = Instant::now();
        let reminder = Reminder { at: began + FIRST_REMINDER, period: FIRST_REMINDER };
        Self { options, began, reminder, switched_on: HashSet::new(), had_link: false }
    }

    /// Those to use that have a link. What is seen for the first time is switched on.
    fn look(&mut self) -> Vec<Interface> {
        let waited = self.began.elapsed();
        let all = interfaces::list(&self.options.sys);
        let mut found = candidates(self.options, &all, waited);
        for interface in &found {
            if self.switched_on.insert(interface.index) {
                switch_on(interface);
            }
        }
        self.had_link |= found.iter().any(|interface| interface.carrier);
        if !self.had_link && self.reminder.is_due(Instant::now()) {
            warn!("{}", what_is_missing(self.options, &found, &all, waited));
        }
        found.retain(|interface| interface.carrier);
        found
    }
}

/// The interfaces to use: the one that is named, or the one that booted, or else all that have
/// hardware. A fixed address belongs to its own interface, however long that takes.
fn candidates(options: &Options, all: &[Interface], waited: Duration) -> Vec<Interface> {
    let those = |holds: &dyn Fn(&Interface) -> bool| -> Vec<Interface> {
        all.iter().filter(|i| !i.vlan && holds(i)).cloned().collect()
    };
    if let Some(fixed) = &options.fixed {
        return those(&|i| i.mac == fixed.mac);
    }
    let choice = match (&options.interface, options.boot_mac) {
        (Some(name), _) => Some(those(&|i| i.name == *name)),
        (None, Some(mac)) => Some(those(&|i| i.mac == mac)),
        (None, None) => None,
    };
    match choice {
        Some(chosen) if !chosen.is_empty() || waited < CHOICE_PATIENCE => chosen,
        _ => those(&|i| i.physical || !options.physical_only),
    }
}

fn what_is_missing(
    options: &Options,
    candidates: &[Interface],
    all: &[Interface],
    waited: Duration,
) -> String {
    let seconds = waited.as_secs();
    let names = |interfaces: &[Interface]| {
        let names: Vec<_> = interfaces.iter().map(|i| i.name.as_str()).collect();
        names.join(", ")
    };
    if !candidates.is_empty() {
        let names = names(candidates);
        return format!("no link on {names} for {seconds} s; is the cable plugged in?");
    }
    if all.is_empty() {
        return format!("no network interface for {seconds} s; does this kernel have its driver?");
    }
    let there = names(all);
    match (&options.fixed, &options.interface, options.boot_mac) {
        (Some(fixed), _, _) => format!(
            "no interface has the address {} of ipam=, for {seconds} s; there are {there}",
            fixed.mac
        ),
        (None, Some(name), _) => format!(
            "no interface is called {name}, as interface= names it, for {seconds} s; there are \
             {there}"
        ),
        (None, None, Some(mac)) => format!(
            "no interface has the address {mac} that booted, for {seconds} s; there are {there}"
        ),
        (None, None, None) => {
            format!("no interface with hardware for {seconds} s; there are {there}")
        }
    }
}

fn switch_on(interface: &Interface) {
    if let Err(e) = Netlink::open().and_then(|mut netlink| netlink.set_up(interface.index)) {
        warn!("{}: switching it on: {e}", interface.name);
    }
}

/// Seeks on one interface until it has a lease.
async fn seek(link: Interface, vlan: Option<VlanId>, sys: PathBuf) -> (Won, PacketSocket) {
    loop {
        let tried = match upon(&link, vlan, &sys) {
            Ok(interface) => try_seek(interface).await,
            Err(e) => Err(e),
        };
        match tried {
            Ok(found) => return found,
            Err(e) => {
                let seconds = KERNEL_PAUSE.as_secs();
                warn!("{}: asking by DHCP: {e}; again in {seconds} s", link.name);
                tokio::time::sleep(KERNEL_PAUSE).await;
            }
        }
    }
}

/// Asks on one interface until it has a lease, or its socket fails.
pub(super) async fn try_seek(interface: Interface) -> io::Result<(Won, PacketSocket)> {
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
                Effect::Bound(lease) => return Ok((Won { interface, client, lease }, socket)),
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
    if let Err(e) = socket.broadcast(second.lease.configuration.address, &message).await {
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
            mac: mac(index as u8),
            carrier: true,
            physical,
            vlan: false,
        }
    }

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    fn booted(last: u8) -> Options {
        Options { boot_mac: Some(mac(last)), ..Options::default() }
    }

    /// Which of two with hardware and one without are used.
    fn chosen(options: &Options, waited: Duration) -> Vec<u32> {
        let all = [interface(1, true), interface(2, true), interface(3, false)];
        candidates(options, &all, waited).iter().map(|i| i.index).collect()
    }

    #[test]
    fn the_interface_that_booted_is_asked_alone() {
        assert_eq!(chosen(&booted(2), Duration::ZERO), [2]);
        assert_eq!(chosen(&booted(3), Duration::ZERO), [3], "named, so hardware or not");
        assert_eq!(chosen(&Options::default(), Duration::ZERO), [1, 2]);
    }

    #[test]
    fn one_that_is_named_goes_before_the_one_that_booted() {
        let named = Options { interface: Some("e1".into()), ..booted(2) };
        assert_eq!(chosen(&named, Duration::ZERO), [1]);
    }

    #[test]
    fn one_that_is_not_there_is_waited_for_a_while() {
        let named = Options { interface: Some("eno9".into()), ..Options::default() };
        for options in [booted(9), named] {
            assert!(chosen(&options, CHOICE_PATIENCE / 2).is_empty());
            assert_eq!(chosen(&options, CHOICE_PATIENCE), [1, 2]);
        }
    }

    #[test]
    fn a_fixed_address_waits_for_its_own_interface_for_ever() {
        let fixed = |last| Options {
            fixed: Some(
                format!("{}::10.0.0.9:24", mac(last)).replacen(':', "-", 5).parse().unwrap(),
            ),
            ..booted(1)
        };
        assert_eq!(chosen(&fixed(2), Duration::ZERO), [2]);
        assert!(chosen(&fixed(9), CHOICE_PATIENCE * 9).is_empty());
    }

    #[test]
    fn the_interface_of_a_vlan_is_not_mistaken_for_the_one_that_it_is_on() {
        let vlan = Interface { index: 7, name: "e2.7".into(), vlan: true, ..interface(2, false) };
        let all = [interface(2, true), vlan];
        let found = candidates(&booted(2), &all, Duration::ZERO);
        assert_eq!(found.iter().map(|i| i.index).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn the_operator_is_told_which_of_these_is_missing() {
        let waited = Duration::from_secs(10);
        let e1 = [interface(1, true)];
        let missing =
            |options: &_, found: &[_], all: &[_]| what_is_missing(options, found, all, waited);
        let plain = Options::default();
        assert!(missing(&plain, &e1, &e1).contains("no link on e1"));
        assert!(missing(&plain, &[], &[]).contains("driver"));
        assert!(missing(&plain, &[], &e1).contains("with hardware for 10 s; there are e1"));
        assert!(missing(&booted(9), &[], &e1).contains("02:00:00:00:00:09 that booted"));
        let named = Options { interface: Some("eno1".into()), ..plain };
        let told = missing(&named, &[], &e1);
        assert!(told.contains("called eno1") && told.ends_with("there are e1"), "{told}");
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
