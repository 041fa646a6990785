use serde_json::json;

use super::*;

const KERNEL: &str = "kernel.quiet\nkernel.console = \"tty0\"\n";
const STATIC: &str = "version = 2\n[eno1.static4]\naddresses = [\"10.0.0.2/24\"]\n";

fn user_data(text: &str) -> Files<'_> {
    Files { user_data: Some(text.as_bytes().into()), ..Files::default() }
}

fn net(text: &str) -> Option<Net<'_>> {
    Some(Net::Text(text.as_bytes().into()))
}

fn described(interfaces: Value) -> Files<'static> {
    let Value::Array(tables) = interfaces else { panic!("a list") };
    let tables = tables.into_iter().map(|table| table.as_object().unwrap().clone());
    let interfaces = tables.collect::<Vec<_>>().into();
    Files { net_toml: Some(Net::Interfaces { interfaces, version: None }), ..Files::default() }
}

fn found(files: &Files<'_>) -> Vec<String> {
    check(files, &Target::default()).iter().map(ToString::to_string).collect()
}

/// Fails unless the findings are these, each given by its beginning.
fn assert_finds(files: &Files<'_>, expected: &[&str]) {
    let found = found(files);
    let fits = |(found, expected): (&String, &&str)| found.starts_with(expected);
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(fits),
        "expected {expected:#?}, found {found:#?}"
    );
}

#[test]
fn nothing_is_said_about_what_is_not_known() {
    assert_finds(&Files::default(), &[]);
}

#[test]
fn each_file_is_checked_for_itself_with_its_name_and_place() {
    let files = Files {
        net_toml: net("version = 1\n[eno1]\ndhcp4 = 3\n"),
        bootconfig: Some(Bootconfig::Text(b"kernel {\n".as_slice().into())),
        ..user_data("[settings]\nmtod = 'x'\n")
    };
    assert_finds(
        &files,
        &[
            "user-data.toml:2:1: error: settings.mtod: unknown key",
            "net.toml:3:9: error: eno1.dhcp4: expected",
            "bootconfig.data:1:8: error: ",
        ],
    );
    let files = Files { user_data: Some(b"\x1f\x8b\x08".as_slice().into()), ..Files::default() };
    assert_finds(&files, &["user-data.toml: error: reading user data: its gzip is cut short"]);
}

#[test]
fn the_image_decides_what_is_known() {
    let files = Files {
        net_toml: net("version = 2\n[eno1]\ndhcp4 = true\nmtu = 9000\n"),
        ..user_data("[settings.ecs]\n")
    };
    let target = Target { variant: Some(Variant::MetalDev), version: Some(Version::new(1, 20, 0)) };
    let found = check(&files, &target);
    let errors: Vec<_> = found.iter().filter(|it| it.diagnostic.is_error()).collect();
    assert!(
        matches!(errors[..], [user_data, net]
        if user_data.diagnostic.message.contains("metal-dev")
            && net.diagnostic.message.contains("1.20.0")),
        "{errors:#?}"
    );
}

#[test]
fn user_data_must_not_lose_the_kernels_parameters() {
    let both = |settings, bootconfig: &'static str| Files {
        bootconfig: Some(Bootconfig::Text(bootconfig.as_bytes().into())),
        ..user_data(settings)
    };
    assert_finds(&both("[settings]\nmotd = ''\n", KERNEL), &[]);
    let same = "[settings.boot.kernel-parameters]\nquiet = []\nconsole = ['tty0']\n";
    assert_finds(&both(same, KERNEL), &[]);
    assert_finds(
        &both("[settings.boot]\nreboot-to-reconcile = true\n", KERNEL),
        &[
            "bootconfig.data:1:8: error: kernel.quiet: it is not in settings.boot",
            "bootconfig.data:2:18: error: kernel.console: it is not in settings.boot",
        ],
    );
}

#[test]
fn a_static_network_needs_name_servers_in_user_data() {
    let with = |settings, text| Files { net_toml: net(text), ..user_data(settings) };
    let message = "user-data.toml: warning: settings.dns: the network is static";
    assert_finds(&with("[settings]\n", STATIC), &[message]);
    assert_finds(&with("[settings.dns]\nname-servers = ['10.0.0.1']\n", STATIC), &[]);
    assert_finds(&with("[settings]\n", "version = 1\n[eno1]\ndhcp6 = true\n"), &[]);
    let both = format!("{STATIC}[eno2]\ndhcp4 = true\n");
    assert_finds(&with("[settings]\n", &both), &[]);
}

#[test]
fn a_text_that_nobody_packed_is_refused_where_the_file_belongs() {
    let packed = |data: &[u8]| Files {
        bootconfig: Some(Bootconfig::Packed(data.to_vec().into())),
        ..Files::default()
    };
    assert_finds(&packed(&bootconfig::pack(KERNEL).unwrap()), &[]);
    assert_finds(
        &packed(KERNEL.as_bytes()),
        &["bootconfig.data: error: reading boot configuration: no #BOOTCONFIG magic"],
    );
    let bad = bootconfig::pack("kernel.a = 1\nother = 1\n").unwrap();
    assert_finds(&packed(&bad), &["bootconfig.data:2:1: error: other: "]);
}

#[test]
fn parameters_are_checked_as_the_text_they_will_be() {
    let parameters = |key: &str, value: &str| {
        let pair = (key.to_owned(), vec![value.to_owned()]);
        let settings =
            BootSettings { kernel_parameters: [pair].into_iter().collect(), ..<_>::default() };
        Files { bootconfig: Some(Bootconfig::Settings(settings)), ..Files::default() }
    };
    assert_finds(&parameters("console", "ttyS0,115200n8"), &[]);
    assert_finds(&parameters("a b", ""), &["bootconfig.data: error: a key's words are made"]);
    assert_finds(&parameters("a", "\n"), &["bootconfig.data: error: kernel.a: Bottlerocket"]);
    let long = "x".repeat(bootconfig::MAX_SIZE);
    assert_finds(&parameters("a", &long), &["bootconfig.data: error: writing boot configur"]);
}

#[test]
fn a_description_of_interfaces_is_checked_as_the_file_it_will_be() {
    let good = json!([
        { "id": "bond0", "dhcp4": true, "bond": { "members": ["02:00:00:00:00:01", "eno2"] } },
    ]);
    let errors = |files: &Files<'_>| -> Vec<String> {
        let found = check(files, &Target::default()).into_iter();
        found.filter(|it| it.diagnostic.is_error()).map(|it| it.to_string()).collect()
    };
    assert_eq!(errors(&described(good)), [""; 0], "a card need not be here to be checked");
    let bad = json!([{ "id": "eno1", "dhcp4": true }, { "id": "eno2", "dhpc4": true }]);
    assert_finds(
        &described(bad),
        &["net.toml: error: making net.toml: interfaces[1]: unknown field `dhpc4`"],
    );
    let nothing = json!([{ "id": "eno1" }]);
    assert_finds(&described(nothing), &["net.toml: error: making net.toml: eno1 has neither"]);
}

#[test]
fn a_finding_is_flat_json() {
    let found = check(&user_data("[settings]\nmtod = 'x'\n"), &Target::default());
    let value = serde_json::to_value(&found).unwrap();
    let message = &value[0]["message"];
    assert_eq!(
        value,
        json!([{
            "file": "user-data.toml", "severity": "error", "line": 2, "column": 1,
            "key": "settings.mtod", "message": message,
        }])
    );
}

#[test]
fn what_is_written_last_counts() {
    let mut files = Files::default();
    for (path, bytes) in [
        ("/net.toml", "version = 9\n"),
        ("/net.toml", STATIC),
        ("/user-data.toml", "[settings]\n"),
        ("/bootconfig.data", KERNEL),
        ("/etc/net.toml", "neither"),
    ] {
        files.write(Path::new(path), bytes.into());
    }
    let packed = "bootconfig.data: error: reading boot configuration: no #BOOTCONFIG magic";
    assert_finds(&files, &["user-data.toml: warning: settings.dns: the network", packed]);
}

#[test]
fn a_path_on_the_partition_is_one_of_the_files_or_none() {
    let at = |path: &str| PrivateFile::at(Path::new(path));
    assert_eq!(at("/net.toml"), Some(PrivateFile::NetToml));
    for file in PrivateFile::ALL {
        assert_eq!(at(&format!("/{file}")), Some(file));
    }
    for other in ["net.toml", "/etc/net.toml", "/net.toml~", "/"] {
        assert_eq!(at(other), None, "{other}");
    }
}
