//! The network comes up against a real DHCP server: Debian's dnsmasq, in network namespaces of the
//! test's own. Needs root, dnsmasq and ip; skipped with a reason otherwise.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nibs_agent::net::ask::{AskError, Question, ask};
use nibs_agent::net::resolver::Resolver;
use nibs_agent::net::{self, Keeper, Options, Origin};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, geteuid, gethostname, sethostname};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Longer than anything here should take on a busy machine, questions asked again included.
const PATIENCE: Duration = Duration::from_secs(90);

const CLIENT_MAC: &str = "52:54:00:77:00:01";

/// Runs a test on a thread in network, mount and name namespaces of its own.
fn in_namespaces(test: impl Future<Output = ()> + Send + 'static) {
    if !geteuid().is_root() {
        eprintln!("skipped: needs root for network namespaces");
        return;
    }
    for program in ["dnsmasq", "ip", "unshare"] {
        let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(program).exists());
        if !found {
            eprintln!("skipped: needs {program}");
            return;
        }
    }
    let thread = std::thread::spawn(|| {
        let flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
        if let Err(e) = unshare(flags) {
            eprintln!("skipped: this machine gives no namespaces: {e}");
            return;
        }
        // sysfs shows the interfaces of the namespace in which it was mounted.
        run("mount --make-rprivate /");
        run("mount -t sysfs sysfs /sys");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") });
    });
    thread.join().unwrap();
}

fn run(command: &str) {
    let words: Vec<_> = command.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Output of `ip`.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A DHCP and DNS server at the other end of a cable, in a namespace of its own.
struct Server {
    shell: Child,
    folder: TempDir,
}

impl Server {
    /// `interface` is our end of the cable, `address` the server's own; `options` are lines of
    /// dnsmasq's configuration.
    fn start(interface: &str, mac: &str, address: &str, options: &[&str]) -> Self {
        Self::start_behind("lan", "", interface, mac, address, options)
    }

    /// A server that hears only the frames of one VLAN on the cable.
    fn start_on_vlan(
        interface: &str,
        mac: &str,
        address: &str,
        vlan: u16,
        options: &[&str],
    ) -> Self {
        let tagged = format!(
            "ip link set cable up && ip link add link cable name lan type vlan id {vlan} &&"
        );
        Self::start_behind("cable", &tagged, interface, mac, address, options)
    }

    /// `end` is the server's end of the cable, from which `prepare` makes its interface `lan`.
    fn start_behind(
        end: &str,
        prepare: &str,
        interface: &str,
        mac: &str,
        address: &str,
        options: &[&str],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "cd {}
             until ip link show {end} >ip.log 2>&1; do sleep 0.02; done
             {prepare} ip address add {address} dev lan && ip link set lan up && ip link set lo up
             while true; do dnsmasq --keep-in-foreground --conf-file=conf; done",
            folder.path().display()
        );
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &script]).stdout(Stdio::null()).stderr(log);
        // A group of its own, so that all of it can be ended.
        let shell = command.process_group(0).spawn().unwrap();
        let server = Self { shell, folder };
        server.write_conf(options);
        // The namespace is there when the process has left this one.
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let pid = server.shell.id();
        while fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|its| its == own) {
            std::thread::sleep(Duration::from_millis(5));
        }
        run(&format!(
            "ip link add {interface} address {mac} type veth peer name {end} netns {pid}"
        ));
        // A question that comes before the server is ready is asked again only seconds later.
        let began = Instant::now();
        while !server.log().contains("DHCP, IP range") {
            assert!(began.elapsed() < PATIENCE, "the server does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    fn write_conf(&self, options: &[&str]) {
        let path = self.folder.path().display();
        let conf = format!(
            "user=root\nno-hosts\nno-resolv\nno-ping\nlog-facility=-\nlog-dhcp\npid-file={path}/pid\n\
             dhcp-leasefile={path}/leases\nbind-interfaces\ninterface=lan\n{}\n",
            options.join("\n")
        );
        fs::write(self.folder.path().join("conf"), conf).unwrap();
    }

    /// Starts the server anew, with other options and without its memory.
    fn restart(&self, options: &[&str]) {
        self.write_conf(options);
        let pid = fs::read_to_string(self.folder.path().join("pid")).unwrap();
        fs::remove_file(self.folder.path().join("leases")).unwrap();
        kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn signal(&self, signal: Signal) {
        killpg(Pid::from_raw(self.shell.id() as i32), signal).unwrap();
    }

    /// Waits until the log has this text so often.
    async fn logs(&self, text: &str, times: usize) {
        let began = Instant::now();
        while self.log().matches(text).count() < times {
            assert!(began.elapsed() < PATIENCE, "no {times} {text} in\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
        let _ = killpg(Pid::from_raw(self.shell.id() as i32), Signal::SIGKILL);
        let _ = self.shell.wait();
    }
}

fn options(etc: &Path) -> Options {
    Options { physical_only: false, etc: etc.to_owned(), ..Options::default() }
}

async fn up(etc: &Path, boot_mac: Option<&str>) -> Keeper {
    let boot_mac = boot_mac.map(|mac| mac.parse().unwrap());
    net::up(Options { boot_mac, ..options(etc) }).await
}

/// Whether the kernel makes interfaces for VLANs; says so if not.
fn kernel_has_vlans() -> bool {
    run("ip link add probe0 type veth peer name probe1");
    let add = ["link", "add", "link", "probe0", "name", "probe0.7", "type", "vlan", "id", "7"];
    let works = Command::new("ip").args(add).status().unwrap().success();
    run("ip link delete probe0");
    if !works {
        eprintln!("skipped: this kernel has no VLANs (CONFIG_VLAN_8021Q)");
    }
    works
}

#[test]
fn a_lease_is_taken_and_everything_in_it_is_used() {
    in_namespaces(async {
        sethostname("(none)").unwrap();
        let server = Server::start(
            "eth0",
            CLIENT_MAC,
            "10.77.0.1/24",
            &[
                "dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m",
                "dhcp-host=52:54:00:77:00:01,10.77.0.55,node-7",
                "dhcp-option=option:router,10.77.0.1",
                "dhcp-option=option:mtu,1400",
                "dhcp-option=option:domain-search,lab.example,rack.example",
                "domain=lab.example",
                "address=/image.lab.example/10.77.0.99",
            ],
        );
        let etc = tempfile::tempdir().unwrap();
        let keeper = up(etc.path(), Some(CLIENT_MAC)).await;
        let network = keeper.network().unwrap();
        assert_eq!(
            (network.interface.as_str(), network.mac.to_string()),
            ("eth0", CLIENT_MAC.into())
        );
        assert_eq!(network.configuration().address, Ipv4Addr::new(10, 77, 0, 55));
        assert!(ip("-4 address show eth0").contains("inet 10.77.0.55/24 brd 10.77.0.255"));
        assert!(ip("link show eth0").contains("mtu 1400"));
        let routes = ip("-4 route");
        assert!(
            routes.contains("default via 10.77.0.1 dev eth0 proto dhcp src 10.77.0.55"),
            "{routes}"
        );
        assert_eq!(gethostname().unwrap(), "node-7");
        let conf = fs::read_to_string(etc.path().join("resolv.conf")).unwrap();
        assert!(conf.contains("search lab.example rack.example\nnameserver 10.77.0.1\n"), "{conf}");
        let resolver = Resolver::new(etc.path());
        let address = Ipv4Addr::new(10, 77, 0, 99);
        assert_eq!(resolver.lookup("image.lab.example").await.unwrap(), [address]);
        assert_eq!(resolver.lookup("image").await.unwrap(), [address], "by the search list");
        let error = resolver.lookup("nowhere.lab.example").await.unwrap_err().to_string();
        assert!(error.contains("nowhere.lab.example by 10.77.0.1"), "{error}");
        assert!(server.log().contains("vendor class: nibs"), "{}", server.log());
    });
}

#[test]
fn a_lease_is_asked_for_without_being_used() {
    in_namespaces(async {
        let question = Question {
            namespace: "/proc/thread-self/ns/net".into(),
            sys: "/sys".into(),
            patience: Duration::from_secs(30),
        };
        let cancel = CancellationToken::new();
        let error = ask(&question, &cancel).unwrap_err().to_string();
        assert!(error.contains("no Ethernet interface"), "{error}");
        let options = [
            "dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m",
            "dhcp-host=52:54:00:77:00:01,10.77.0.55",
            "dhcp-option=option:router,10.77.0.1",
        ];
        let _server = Server::start("eth0", CLIENT_MAC, "10.77.0.1/24", &options);
        // As whoever keeps the network up has configured it.
        run("ip address add 10.77.0.55/24 dev eth0");
        run("ip link set eth0 up");
        let network = ask(&question, &cancel).unwrap();
        assert_eq!((&*network.interface, network.mac.to_string()), ("eth0", CLIENT_MAC.into()));
        assert_eq!(network.configuration().address, Ipv4Addr::new(10, 77, 0, 55));
        assert_eq!(ip("-4 route").lines().count(), 1, "{}", ip("-4 route"));

        let silent = Question { patience: Duration::from_millis(300), ..question };
        run("ip address flush dev eth0");
        run("ip link add dead0 type veth peer name dead1");
        run("ip address add 10.78.0.1/24 dev dead0");
        run("ip link set dead0 up");
        let error = ask(&silent, &cancel).unwrap_err().to_string();
        assert!(error.contains("on dead0: no answer"), "{error}");
        cancel.cancel();
        assert!(matches!(ask(&silent, &cancel), Err(AskError::Cancelled)));
    });
}

#[test]
fn classless_routes_are_set_even_by_a_router_outside_of_the_network() {
    in_namespaces(async {
        let _server = Server::start(
            "eth0",
            CLIENT_MAC,
            "10.77.0.1/24",
            &[
                "dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m",
                "dhcp-option-force=option:netmask,255.255.255.255",
                "dhcp-option=121,0.0.0.0/0,10.77.0.1,10.9.0.0/16,10.77.0.2",
                "dhcp-option=option:router,10.77.0.3",
            ],
        );
        let etc = tempfile::tempdir().unwrap();
        let keeper = up(etc.path(), None).await;
        assert_eq!(keeper.network().unwrap().configuration().prefix, 32);
        let routes = ip("-4 route");
        for route in ["default via 10.77.0.1 dev eth0", "10.9.0.0/16 via 10.77.0.2 dev eth0"] {
            assert!(routes.contains(route), "{routes}");
        }
        assert!(!routes.contains("10.77.0.3"), "{routes}");
    });
}

#[test]
fn the_interface_with_a_server_wins_and_the_others_stay_without_an_address() {
    in_namespaces(async {
        let range = "dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m";
        run("ip link add dead0 type veth peer name dead1");
        run("ip link set dead1 up");
        let _server = Server::start("live0", CLIENT_MAC, "10.77.0.1/24", &[range]);
        run("ip link add nolink0 type veth peer name nolink1");
        let etc = tempfile::tempdir().unwrap();
        // dead1 is seen as an interface with a link too: it is the other end of dead0.
        let keeper = up(etc.path(), None).await;
        assert_eq!(keeper.network().unwrap().interface, "live0");
        let addresses = ip("-4 -o address");
        assert_eq!(addresses.lines().count(), 1, "{addresses}");
    });
}

#[test]
fn the_interface_that_booted_is_used_though_another_has_a_server() {
    in_namespaces(async {
        let other = ["dhcp-range=10.78.0.50,10.78.0.60,255.255.255.0,2m"];
        let right = ["dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m"];
        let other = Server::start("a0", "52:54:00:77:00:09", "10.78.0.1/24", &other);
        let _right = Server::start("b0", CLIENT_MAC, "10.77.0.1/24", &right);
        let etc = tempfile::tempdir().unwrap();
        let keeper = up(etc.path(), Some("52-54-00-77-00-01")).await;
        assert_eq!(keeper.network().unwrap().interface, "b0");
        assert!(!other.log().contains("DHCPDISCOVER"), "{}", other.log());
    });
}

#[test]
fn a_server_that_comes_late_is_found() {
    in_namespaces(async {
        let range = "dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m";
        let server = Server::start("eth0", CLIENT_MAC, "10.77.0.1/24", &[range]);
        server.signal(Signal::SIGSTOP);
        let etc = tempfile::tempdir().unwrap();
        let early = tokio::time::timeout(Duration::from_secs(3), up(etc.path(), None)).await;
        assert!(early.is_err(), "who answered?");
        server.signal(Signal::SIGCONT);
        up(etc.path(), None).await;
    });
}

#[test]
fn a_lease_is_renewed_with_its_server_and_replaced_when_it_is_refused() {
    in_namespaces(async {
        let range = "dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m";
        // The shortest T1 that dnsmasq takes, so that the test need not wait for a minute.
        let times = ["dhcp-option=option:T1,3", "dhcp-option=option:T2,90"];
        let options = [range, "dhcp-authoritative", times[0], times[1]];
        let addresses = "10.77.0.1/24 dev lan && ip address add 10.79.0.1/24";
        let server = Server::start("eth0", CLIENT_MAC, addresses, &options);
        let etc = tempfile::tempdir().unwrap();
        let mut keeper = up(etc.path(), None).await;
        let first = keeper.network().unwrap();
        let Origin::Lease(lease) = first.origin else { panic!("{first:?}") };
        assert_eq!(lease.renew_after, Duration::from_secs(3));
        let asked = |log: &str| log.matches("DHCPDISCOVER").count();
        let before = asked(&server.log());
        server.logs("DHCPACK", 2).await;
        assert_eq!(asked(&server.log()), before, "{}", server.log());

        // The server comes back and serves another network.
        let range = "dhcp-range=10.79.0.50,10.79.0.60,255.255.255.0,2m";
        server.restart(&[range, "dhcp-authoritative"]);
        assert_eq!(keeper.changed().await, None, "refused");
        let second = keeper.changed().await.unwrap();
        assert!(second.configuration().address.to_string().starts_with("10.79.0."), "{second:?}");
        let addresses = ip("-4 -o address");
        assert_eq!(addresses.lines().count(), 1, "{addresses}");
    });
}

#[test]
fn the_interface_that_is_named_is_used_though_another_booted() {
    in_namespaces(async {
        let booted = ["dhcp-range=10.78.0.50,10.78.0.60,255.255.255.0,2m"];
        let named = ["dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m"];
        let booted = Server::start("a0", "52:54:00:77:00:09", "10.78.0.1/24", &booted);
        let _named = Server::start("b0", CLIENT_MAC, "10.77.0.1/24", &named);
        let etc = tempfile::tempdir().unwrap();
        let options = Options { interface: Some("b0".into()), ..options(etc.path()) };
        let boot_mac = Some("52:54:00:77:00:09".parse().unwrap());
        let keeper = net::up(Options { boot_mac, ..options }).await;
        assert_eq!(keeper.network().unwrap().interface, "b0");
        assert!(!booted.log().contains("DHCPDISCOVER"), "{}", booted.log());
    });
}

#[test]
fn a_fixed_address_is_used_and_nobody_is_asked_for_one() {
    in_namespaces(async {
        sethostname("localhost").unwrap();
        let range = "dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m";
        let name = "address=/image.lab.example/10.77.0.99";
        let server = Server::start("eth0", CLIENT_MAC, "10.77.0.1/24", &[range, name]);
        let etc = tempfile::tempdir().unwrap();
        let ipam = "52-54-00-77-00-01::10.77.0.9:255.255.255.0:10.77.0.1:node-9:10.77.0.1:\
                    lab.example:10.77.0.4";
        let fixed = Some(ipam.parse().unwrap());
        let mut keeper = net::up(Options { fixed, ..options(etc.path()) }).await;
        let network = keeper.network().unwrap();
        assert_eq!(network.interface, "eth0");
        assert_eq!(network.configuration().address, Ipv4Addr::new(10, 77, 0, 9));
        assert!(ip("-4 address show eth0").contains("inet 10.77.0.9/24 brd 10.77.0.255"));
        let routes = ip("-4 route");
        let default = "default via 10.77.0.1 dev eth0 proto static src 10.77.0.9";
        assert!(routes.contains(default), "{routes}");
        assert_eq!(gethostname().unwrap(), "node-9");
        let address = Ipv4Addr::new(10, 77, 0, 99);
        assert_eq!(Resolver::new(etc.path()).lookup("image").await.unwrap(), [address]);
        let changed = tokio::time::timeout(Duration::from_secs(1), keeper.changed()).await;
        assert!(changed.is_err(), "it stays: {changed:?}");
        assert!(!server.log().contains("DHCPDISCOVER"), "{}", server.log());
    });
}

#[test]
fn a_lease_is_sought_on_the_vlan_of_the_interface_that_booted() {
    in_namespaces(async {
        if !kernel_has_vlans() {
            return;
        }
        let tagged = ["dhcp-range=10.77.7.50,10.77.7.60,255.255.255.0,2m"];
        let server = Server::start_on_vlan("eth0", CLIENT_MAC, "10.77.7.1/24", 7, &tagged);
        let etc = tempfile::tempdir().unwrap();
        let boot_mac = Some(CLIENT_MAC.parse().unwrap());
        let vlan = Some("7".parse().unwrap());
        for again in [false, true] {
            // The second time its interface is there already.
            let keeper = net::up(Options { boot_mac, vlan, ..options(etc.path()) }).await;
            let network = keeper.network().unwrap();
            assert_eq!(network.interface, "eth0.7", "{again}");
            assert_eq!(network.mac.to_string(), CLIENT_MAC);
            let addresses = ip("-4 -o address");
            assert!(addresses.contains("eth0.7    inet 10.77.7.5"), "{addresses}");
        }
        assert!(ip("-d link show eth0.7").contains("vlan protocol 802.1Q id 7"));
        assert!(server.log().contains("DHCPACK"));
    });
}

#[test]
fn a_fixed_address_may_be_on_a_vlan() {
    in_namespaces(async {
        if !kernel_has_vlans() {
            return;
        }
        let range = "dhcp-range=10.77.7.50,10.77.7.60,255.255.255.0,2m";
        let named = [range, "address=/image.lab.example/10.77.7.99"];
        let _server = Server::start_on_vlan("eth0", CLIENT_MAC, "10.77.7.1/24", 7, &named);
        let etc = tempfile::tempdir().unwrap();
        let fixed = Some("52-54-00-77-00-01:7:10.77.7.9:24:::10.77.7.1".parse().unwrap());
        let keeper = net::up(Options { fixed, ..options(etc.path()) }).await;
        assert_eq!(keeper.network().unwrap().interface, "eth0.7");
        let addresses = Resolver::new(etc.path()).lookup("image.lab.example").await.unwrap();
        assert_eq!(addresses, [Ipv4Addr::new(10, 77, 7, 99)], "by the VLAN");
    });
}
