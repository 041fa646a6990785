//! Files that are wrong, each refused before anything is written, and files that are made.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use nibs_bottlerocket::net_toml::Lease;
use nibs_bottlerocket::{bootconfig, user_data};
use serde_json::{Value, json};

use super::super::private::System;
use super::bench::{Bench, card, decode, text};
use crate::Context;

const STATIC: &str = "version = 2\n[eno1.static4]\naddresses = [\"10.0.0.9/24\"]\n";

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let number = (0..3).fold(0, |n, i| n << 8 | u32::from(*group.get(i).unwrap_or(&0)));
        let digit = |i: usize| match i <= group.len() {
            true => char::from(DIGITS[(number >> (18 - 6 * i)) as usize & 63]),
            false => '=',
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn user_data(content: &str) -> Value {
    json!({ "user-data": { "content": content } })
}

fn refused(params: Value) -> String {
    let bench = Bench::new();
    let error = bench.prove(params).unwrap_err();
    assert!(error.starts_with("proving the files: nothing was written, for: "), "{error}");
    error
}

#[test]
fn empty_user_data_is_taken_with_a_warning() {
    let bench = Bench::new();
    assert_eq!(bench.prove(user_data("")).unwrap().user_data, Some(Vec::new()));
    assert_eq!(
        bench.warnings(),
        ["user-data.toml: warning: the file is empty: the OS starts with its defaults"]
    );
    let strict = json!({ "user-data": { "content": "" }, "strict": true });
    assert!(refused(strict).contains("user-data.toml: warning: the file is empty"));
}

#[test]
fn user_data_of_comments_only_is_refused() {
    let error = refused(user_data("# nothing yet\n"));
    assert!(error.contains("user-data.toml") && error.contains("settings"), "{error}");
}

#[test]
fn user_data_that_is_too_large_is_refused() {
    let long = format!("[settings]\nmotd = \"{}\"\n", "x".repeat(user_data::MAX_BYTES));
    assert!(refused(user_data(&long)).contains("at most 4194304 are taken"));
}

#[test]
fn a_gzip_bomb_is_refused_and_honest_gzip_is_kept_as_it_is() {
    let packed = |bytes: &[u8]| json!({ "user-data": { "content-base64": base64(&gzip(bytes)) } });
    let bomb = vec![b'#'; 100 << 20];
    assert!(refused(packed(&bomb)).contains("its gzip unpacks to more than 4194304 bytes"));
    let honest = b"[settings]\nmotd = \"hello\"\n";
    let files = Bench::new().prove(packed(honest)).unwrap();
    assert_eq!(files.user_data, Some(gzip(honest)));
}

#[test]
fn every_finding_is_told_with_its_place_and_no_value() {
    let error = refused(json!({
        "user-data": { "content": "[settings]\nmotdd = \"hunter2\"\n[settings.host-containers.a]\nenabled = \"hunter2\"\n" },
        "net": { "content": "version = 1\n[eno1]\ndhcp4 = 3\n" },
        "bootconfig": { "content": "kernel.a = \"b\n" },
    }));
    for part in [
        "; user-data.toml:2:1: error: settings.motdd: ",
        "; user-data.toml:4:11: error: settings.host-containers.a.enabled: ",
        " net.toml:3:9: error: eno1.dhcp4: ",
        "; bootconfig.data:1:12: error: ",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn boot_configurations_that_no_kernel_takes_are_refused() {
    let boot = |content: &str| refused(json!({ "bootconfig": { "content": content } }));
    let long = format!("kernel.a = \"{}\"\n", "x".repeat(bootconfig::MAX_SIZE));
    assert!(boot(&long).contains("bootconfig.data"), "{}", boot(&long));
    let fits = format!("kernel.a = \"{}\"\n", "x".repeat(bootconfig::MAX_SIZE - 15));
    let packed = Bench::new().prove(json!({ "bootconfig": { "content": fits } })).unwrap();
    assert_eq!(packed.bootconfig.unwrap().len(), bootconfig::MAX_SIZE + 20);
    let deep: String = (0..15).map(|level| format!("k{level} {{\n")).collect();
    let deep = format!("kernel {{\n{deep}{}", "}\n".repeat(16));
    assert!(boot(&deep).contains("bootconfig.data:16:1: error: kernel.k0.k1"), "{}", boot(&deep));
    assert!(boot("kernel.a = 'b\n").contains("bootconfig.data:1:"));
    assert!(boot("other.a = b\n").contains("bootconfig.data:1:1: error: other"));
}

#[test]
fn a_vlan_on_itself_is_a_warning_and_refused_where_all_must_be_well() {
    let vlan = "version = 3\n[eno1]\ndhcp4 = true\n[v]\nkind = \"vlan\"\ndevice = \"v\"\nid = 1\ndhcp4 = true\n";
    let bench = Bench::new();
    let files = bench.prove(json!({ "net": { "content": vlan } })).unwrap();
    assert_eq!(text(&files.net), vlan);
    let warnings = bench.warnings();
    assert!(
        warnings[0].starts_with("net.toml:6:10: warning: v.device: is the VLAN itself"),
        "{warnings:?}"
    );
    let error = refused(json!({ "net": { "content": vlan }, "strict": true }));
    assert!(error.contains("net.toml:6:10: warning"), "{error}");
}

#[test]
fn a_static_network_wants_name_servers_in_user_data() {
    let bench = Bench::new();
    let settings = json!({ "content": "[settings]\nmotd = \"x\"\n" });
    bench.prove(json!({ "net": { "content": STATIC }, "user-data": settings })).unwrap();
    let warnings = bench.warnings();
    assert!(warnings[0].contains("user-data.toml: warning: settings.dns: "), "{warnings:?}");
    bench.prove(json!({ "net": { "content": STATIC } })).unwrap();
    assert!(bench.warnings()[0].contains("no user-data that names name servers"));
}

#[test]
fn a_table_of_parameters_goes_into_both_files() {
    let bench = Bench::new();
    let files = bench
        .prove(json!({
            "bootconfig": { "kernel": { "hugepagesz": ["1G"], "hugepages": ["8"] }, "init": { "quiet": [] } },
            "user-data": { "content": "[settings]\nmotd = \"x\"\n" },
        }))
        .unwrap();
    let packed = files.bootconfig.unwrap();
    let told = bootconfig::unpack(&packed).unwrap();
    assert_eq!(told, "kernel.hugepagesz = \"1G\"\nkernel.hugepages = \"8\"\ninit.quiet\n");
    let settings = user_data::boot_settings(text(&files.user_data)).unwrap().unwrap();
    assert_eq!(settings.kernel_parameters.get("hugepages"), Some(&["8".to_owned()][..]));
    assert_eq!(settings.init_parameters.get("quiet"), Some(&[][..]));
    assert_eq!(bench.warnings(), [""; 0]);
}

#[test]
fn without_user_data_a_table_of_parameters_makes_none() {
    let files = Bench::new().prove(json!({ "bootconfig": { "kernel": { "quiet": [] } } })).unwrap();
    assert!(files.user_data.is_none() && files.bootconfig.is_some());
}

#[test]
fn parameters_that_say_the_same_in_both_are_taken_and_others_refused() {
    let of = |kernel: Value, settings: &str| {
        let user_data = format!("[settings.boot.kernel-parameters]\n{settings}\n");
        json!({ "bootconfig": { "kernel": kernel }, "user-data": { "content": user_data } })
    };
    let bench = Bench::new();
    let files = bench.prove(of(json!({ "a": ["1"] }), "a = [\"1\"]")).unwrap();
    assert!(files.bootconfig.is_some());
    assert!(bench.log().contains("has its own settings.boot"), "{}", bench.log());
    let error = refused(of(json!({ "a": ["1"] }), "a = [\"2\"]"));
    assert!(error.contains("error: kernel.a: it is [\"1\"] here and [\"2\"]"), "{error}");
}

/// Any of `settings.boot` keeps the system from reading the file.
#[test]
fn a_setting_that_drops_the_file_is_refused() {
    let error = refused(json!({
        "bootconfig": { "content": "kernel.a = 1\n" },
        "user-data": { "content": "[settings.boot]\nreboot-to-reconcile = true\n" },
    }));
    assert!(
        error.contains("bootconfig.data:1:12: error: kernel.a: it is not in settings.boot"),
        "{error}"
    );
}

#[test]
fn a_new_system_has_the_parameters_of_its_user_data_from_its_first_boot() {
    let params = user_data("[settings.boot.kernel-parameters]\nquiet = []\n");
    let bench = Bench::new();
    let files = bench.prove(params.clone()).unwrap();
    assert_eq!(bootconfig::unpack(&files.bootconfig.unwrap()).unwrap(), "kernel.quiet\ninit\n");
    let files = bench.prove_with(params, System::Installed, &bench.context()).unwrap();
    assert!(files.bootconfig.is_none());
}

fn leased(bench: &Bench) -> Context {
    let lease = Lease {
        interface: "52:54:00:00:00:01".parse().unwrap(),
        addresses: vec!["10.0.0.9/24".parse().unwrap()],
        gateway: Some("10.0.0.1".parse().unwrap()),
        routes: Vec::new(),
        name_servers: vec!["10.0.0.53".parse().unwrap()],
        search: Vec::new(),
        domain: Some("lab.example".into()),
    };
    let mut context = bench.context();
    context.machine.lease = Some(lease);
    context
}

#[test]
fn a_lease_makes_a_static_network_and_its_name_servers_go_into_user_data() {
    let bench = Bench::new();
    let context = leased(&bench);
    let prove = |params| bench.prove_with(params, System::New, &context).unwrap();
    let dns = "[settings.dns]\nname-servers = [\"10.0.0.53\"]\nsearch-list = [\"lab.example\"]\n";

    let files = prove(json!({ "net": { "from": "lease" } }));
    let net = text(&files.net);
    assert!(net.starts_with("version = 3\n\n[\"52:54:00:00:00:01\"]\nprimary = true\n"), "{net}");
    assert_eq!(text(&files.user_data), dns);

    let own = "[settings]\nmotd = \"x\"\n";
    let params = json!({ "net": { "from": "lease" }, "user-data": { "content": own } });
    assert_eq!(text(&prove(params).user_data), format!("{own}\n{dns}"));

    let own = "[settings.dns]\nname-servers = [\"10.9.9.9\"]\n";
    let params = json!({ "net": { "from": "lease" }, "user-data": { "content": own } });
    assert_eq!(text(&prove(params).user_data), own);
    assert_eq!(bench.warnings(), [""; 0]);
}

#[test]
fn an_installed_system_gets_no_user_data_for_name_servers_alone() {
    let bench = Bench::new();
    let params = json!({ "net": { "from": "lease" } });
    let files = bench.prove_with(params, System::Installed, &leased(&bench)).unwrap();
    assert!(files.user_data.is_none() && files.net.is_some());
    assert!(files.leaves_name_servers);
    // What a run does with them, it knows once it has looked at the disk.
    let params = decode(json!({ "disk": { "path": "/dev/vda" }, "net": { "from": "lease" } }));
    let told = super::super::explain(&params, &leased(&bench)).unwrap();
    let names: Vec<_> = told.files.iter().map(|file| &*file.name).collect();
    assert_eq!((names, told.refusals), (vec!["net.toml"], vec![]));
    let warning = &told.warnings[..];
    assert!(
        matches!(warning, [said] if said.contains("go into the user data that is there, if the system has not booted yet")),
        "{warning:?}"
    );
}

#[test]
fn an_old_format_names_the_interface_of_the_lease() {
    let bench = Bench::new();
    let sysfs = bench.fake.machine.sysfs.clone();
    card(&sysfs, "eth0", "52:54:00:00:00:01", "pci0000:00/0000:03:00.0", "pci");
    let params = json!({ "net": { "from": "lease", "format": 2 } });
    let files = bench.prove_with(params, System::New, &leased(&bench)).unwrap();
    assert!(text(&files.net).starts_with("version = 2\n\n[enp3s0]\n"), "{}", text(&files.net));
}

#[test]
fn without_a_lease_there_is_none_to_take() {
    let error = Bench::new().prove(json!({ "net": { "from": "lease" } })).unwrap_err();
    assert!(error.contains("no DHCP lease of the agent's own"), "{error}");
}

fn bond(members: &[&str]) -> Value {
    json!({ "net": { "interfaces": [{ "id": "bond0", "dhcp4": true, "bond": { "members": members } }] } })
}

#[test]
fn members_given_by_address_are_called_what_the_installed_system_calls_them() {
    let bench = Bench::new();
    let sysfs = bench.fake.machine.sysfs.clone();
    card(&sysfs, "eth0", "52:54:00:00:00:01", "pci0000:00/0000:03:00.0", "pci");
    card(&sysfs, "eth1", "52:54:00:00:00:02", "pci0000:00/0000:03:00.1", "pci");
    card(&sysfs, "eth2", "52:54:00:00:00:03", "platform/nic", "platform");

    let files = bench.prove(bond(&["52:54:00:00:00:01", "52-54-00-00-00-02"])).unwrap();
    let net = text(&files.net);
    assert!(net.contains("interfaces = [\"enp3s0\", \"enp3s0f1\"]"), "{net}");

    let error = bench.prove(bond(&["52:54:00:00:00:09"])).unwrap_err();
    assert!(error.contains("no card of this machine has that address"), "{error}");
    assert!(error.contains("52:54:00:00:00:01 (enp3s0; eth0 here)"), "{error}");

    let error = bench.prove(bond(&["52:54:00:00:00:03"])).unwrap_err();
    assert!(error.contains("eth2 here") && error.contains("not on a PCI bus"), "{error}");
    assert!(error.contains("give the member by its name"), "{error}");
}

#[test]
fn an_interface_that_is_not_described_as_one_is_named_by_its_number() {
    let params = json!({ "net": { "interfaces": [{ "id": "eno1", "dhcp5": true }] } });
    let error = Bench::new().prove(params).unwrap_err();
    assert!(error.starts_with("reading net.interfaces[0]: unknown field `dhcp5`"), "{error}");
}

#[test]
fn what_is_proven_can_be_explained() {
    let bench = Bench::new();
    let params = decode(json!({ "net": { "content": STATIC }, "user-data": { "content": "" } }));
    let told = super::super::explain(&params, &bench.context()).unwrap();
    let files: Vec<_> = told.files.iter().map(|file| (&*file.name, file.size)).collect();
    assert_eq!(files, [("net.toml", STATIC.len() as u64), ("user-data.toml", 0)]);
    assert_eq!(told.warnings.len(), 1, "{:?}", told.warnings);
    assert!(told.refusals.is_empty(), "{:?}", told.refusals);
    let params = decode(json!({ "net": { "content": "" }, "disk": { "serial": "none" } }));
    let told = super::super::explain(&params, &bench.context()).unwrap();
    assert_eq!(told.refusals.len(), 2, "{:?}", told.refusals);
}

#[test]
fn keys_that_cannot_be_enrolled_stop_all_before_anything_is_written() {
    let mut bench = Bench::new();
    let efivars = tempfile::tempdir().unwrap();
    bench.fake.machine.efivars = efivars.path().join("absent");
    let params =
        json!({ "disk": { "path": "/dev/vda" }, "secure-boot": { "db-sha256": "ab".repeat(32) } });
    let node = bench.fake.machine.dev.join("vda");
    let before = std::fs::read(&node).unwrap();
    let run = |bench: &Bench| {
        let error = super::super::run(&decode(params.clone()), &bench.context()).unwrap_err();
        assert!(std::fs::read(&node).unwrap() == before);
        error.to_string()
    };
    assert!(run(&bench).contains("no EFI variables are to be seen"), "{}", run(&bench));
    bench.fake.machine.efivars = efivars.path().into();
    let setup_mode = "SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    std::fs::write(efivars.path().join(setup_mode), [6, 0, 0, 0, 0]).unwrap();
    assert!(run(&bench).contains("the firmware is in User Mode"), "{}", run(&bench));
}
