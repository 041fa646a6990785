use nibs_bottlerocket::diagnostic::Severity;
use nibs_job::FileFormat;

use super::*;

const PRIVATE: &str = "{ type-guid = \"440408bb-eb0b-4328-a6e5-a29038fad706\" }";

/// The findings in a job of these actions.
fn found(actions: &str) -> Vec<String> {
    let text = format!("name = 'demo'\n{actions}");
    let job = Job::parse(&text, FileFormat::Toml).unwrap_or_else(|error| panic!("{error}: {text}"));
    check(&job).iter().map(ToString::to_string).collect()
}

fn assert_finds(actions: &str, expected: &[&str]) {
    let found = found(actions);
    let fits = |(found, expected): (&String, &&str)| found.starts_with(expected);
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(fits),
        "{actions}\nexpected {expected:#?}, found {found:#?}"
    );
}

fn write_files(partition: &str, path: &str, content: &str) -> String {
    format!(
        "[[actions]]\nuses = 'write-files'\nwith.partition = {partition}\n\
         with.files = [{{ path = '{path}', content = {content:?} }}]\n"
    )
}

/// The action with these parameters, on what is installed.
fn bottlerocket(with: &str) -> String {
    format!("[[actions]]\nuses = 'bottlerocket'\n{with}\n")
}

const BAD_NET: &str = "version = 1\n[eno1]\ndhcp4 = 3\n";
const FOUND_NET: &str = "net.toml:3:9: error: eno1.dhcp4: expected";

#[test]
fn files_for_the_private_partition_are_checked() {
    let by_name = "{ name = \"BOTTLEROCKET-PRIVATE\" }";
    for partition in [PRIVATE, by_name] {
        assert_finds(&write_files(partition, "/net.toml", BAD_NET), &[FOUND_NET]);
    }
    assert_finds(
        &write_files(PRIVATE, "/user-data.toml", "[setting]\n"),
        &["user-data.toml: error: there is no table", "user-data.toml:1:2: warning: setting: "],
    );
    assert_finds(
        &write_files(PRIVATE, "/bootconfig.data", "kernel.quiet\n"),
        &["bootconfig.data: error: reading boot configuration: no #BOOTCONFIG magic"],
    );
}

#[test]
fn files_of_other_systems_are_none_of_ours() {
    assert_finds(&write_files("{ label = \"root\" }", "/net.toml", BAD_NET), &[]);
    assert_finds(&write_files("{ number = 12 }", "/net.toml", BAD_NET), &[]);
    assert_finds(&write_files(PRIVATE, "/elsewhere/net.toml", BAD_NET), &[]);
}

#[test]
fn files_of_several_actions_are_checked_together() {
    let user_data = write_files(PRIVATE, "/user-data.toml", "[settings.boot.kernel]\nquiet = []\n");
    let parameters = bottlerocket("with.bootconfig.kernel = { debug = [] }");
    assert_finds(
        &(user_data + &parameters),
        &[
            "bootconfig.data: error: kernel.debug: it is not in settings.boot.kernel-parameters",
            "bootconfig.data: error: kernel.quiet: settings.boot.kernel-parameters of user data",
        ],
    );
}

#[test]
fn what_is_written_last_counts() {
    let good = bottlerocket("with.net.content = \"version = 1\\n[eno1]\\ndhcp4 = true\\n\"");
    let bad = write_files(PRIVATE, "/net.toml", BAD_NET);
    assert_finds(&format!("{bad}{good}"), &[]);
    assert_finds(&format!("{good}{bad}"), &[FOUND_NET]);
}

#[test]
fn every_way_to_give_a_file_is_checked() {
    let base64 = "W3NldHRpbmdzXQptdG9kID0gIngiCg==";
    for (with, expected) in [
        (format!("with.net.content = {BAD_NET:?}"), FOUND_NET),
        (
            "with.net.interfaces = [{ id = 'eno1' }]".into(),
            "net.toml: error: making net.toml: eno1",
        ),
        (
            "with.user-data.content = \"[settings]\\nmtod = 'x'\\n\"".into(),
            "user-data.toml:2:1: error: settings.mtod: unknown key",
        ),
        (
            format!("with.user-data.content-base64 = '{base64}'"),
            "user-data.toml:2:1: error: settings.mtod: unknown key",
        ),
        ("with.bootconfig.content = \"kernel {\\n\"".into(), "bootconfig.data:1:8: error: "),
        (
            "with.bootconfig.init = { 'a b' = [] }".into(),
            "bootconfig.data: error: a key's words are made of",
        ),
    ] {
        assert_finds(&bottlerocket(&with), &[expected]);
    }
}

#[test]
fn nothing_is_said_of_what_is_fetched() {
    let with = "with.user-data.url = 'http://10.0.0.1/u'\nwith.net.from = 'lease'\n\
                with.bootconfig.url = '/b'";
    let before = write_files(PRIVATE, "/net.toml", BAD_NET);
    assert_finds(&format!("{before}{}", bottlerocket(with)), &[]);
}

#[test]
fn the_image_says_what_is_known() {
    let user_data =
        "with.user-data.content = \"[settings.kubernetes]\\nstandalone-mode = true\\n\"";
    assert_finds(&bottlerocket(user_data), &[]);
    let refused = "user-data.toml:1:11: error: settings.kubernetes: images of metal-dev do not";
    let said = format!("{user_data}\nwith.variant = 'metal-dev'");
    assert_finds(&bottlerocket(&said), &[refused]);
    let image = "with.image.tuf = { metadata-url = '/m', targets-url = '/t', root = '/r', \
                 root-sha512 = 'SHA512', variant = 'metal-dev', version = '1.20.0' }\n\
                 with.disk.path = '/dev/vda'"
        .replace("SHA512", &"0".repeat(128));
    assert_finds(&bottlerocket(&format!("{user_data}\n{image}")), &[refused]);
    let streamed = format!("[[actions]]\nuses = 'stream-image'\n{image}\n");
    let mtu = "version = 2\n[eno1]\ndhcp4 = true\nmtu = 1500\n";
    let found = found(&format!("{streamed}{}", write_files(PRIVATE, "/net.toml", mtu)));
    assert!(matches!(&found[..], [one] if one.contains("1.20.0")), "{found:?}");
}

#[test]
fn a_strict_job_takes_no_warning() {
    let with = "with.net.content = \"version = 1\\n\"";
    let severities = |with: &str| -> Vec<_> {
        let text = format!("name = 'demo'\n{}", bottlerocket(with));
        let job = Job::parse(&text, FileFormat::Toml).unwrap();
        check(&job).iter().map(|found| found.diagnostic.severity).collect()
    };
    assert_eq!(severities(with), [Severity::Warning]);
    assert_eq!(severities(&format!("{with}\nwith.strict = true")), [Severity::Error]);
}
