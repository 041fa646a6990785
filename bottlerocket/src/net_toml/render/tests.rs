use super::super::network::{NewBond, NewVlan};
use super::*;

fn card(mac: &Mac) -> Option<String> {
    match mac.as_str() {
        "02:00:00:00:00:01" => Some("eno1".to_owned()),
        "02:00:00:00:00:02" => Some("eno2".to_owned()),
        "02:00:00:00:00:03" => Some("no name".to_owned()),
        _ => None,
    }
}

fn rendered(description: &str) -> Result<String, Error> {
    at(description, None)
}

fn at(description: &str, version: Option<u8>) -> Result<String, Error> {
    let network: Network = toml::from_str(description).unwrap();
    let candidates = ["eno1 02:00:00:00:00:01", "eno2 02:00:00:00:00:02"].map(str::to_owned);
    render(&network, version, &Names { find: &card, candidates: &candidates })
}

const DHCP: &str = "[[interfaces]]\nid = 'eno1'\ndhcp4 = true\n";
const FIXED: &str = "[[interfaces]]\nid = 'eno1'\naddresses = ['10.0.0.2/24']\n";
const BY_ADDRESS: &str = "[[interfaces]]\nid = '02:00:00:00:00:01'\ndhcp6 = true\n";

#[test]
fn the_oldest_version_that_can_say_it_is_taken() {
    let cases = [
        (DHCP, "version = 1\n\n[eno1]\ndhcp4 = true\n"),
        (FIXED, "version = 2\n\n[eno1.static4]\naddresses = [\"10.0.0.2/24\"]\n"),
        (BY_ADDRESS, "version = 3\n\n[\"02:00:00:00:00:01\"]\ndhcp6 = true\n"),
        (
            "[[interfaces]]\nid = 'eno1'\nmtu = 9000\nprimary = true\ndhcp6 = false\n\
             dhcp4 = { optional = true, route-metric = 5 }\n",
            "version = 2\n\n[eno1]\nprimary = true\nmtu = 9000\n\n[eno1.dhcp4]\nenabled = true\n\
             optional = true\nroute-metric = 5\n",
        ),
    ];
    for (description, text) in cases {
        assert_eq!(rendered(description).unwrap(), text);
    }
    assert!(at(DHCP, Some(3)).unwrap().starts_with("version = 3\n"));
}

#[test]
fn an_older_version_than_needed_is_refused_with_the_reason() {
    let told = |description, version| at(description, Some(version)).unwrap_err().to_string();
    assert_eq!(
        told(FIXED, 1),
        "making net.toml: eno1 needs version 2, for static addresses, not 1"
    );
    assert!(told(BY_ADDRESS, 2).contains("needs version 3, for a MAC address, not 2"));
    assert_eq!(at(FIXED, Some(0)).unwrap_err(), Error::NoSuchVersion { asked: 0 });
    assert_eq!(at(DHCP, Some(4)).unwrap_err(), Error::NoSuchVersion { asked: 4 });
}

const BOND: &str = "[[interfaces]]\nid = 'bond0'\n\
                    bond = { members = ['02:00:00:00:00:01', 'eno5'] }\n";
const VLAN: &str = "[[interfaces]]\nid = 'storage'\ndhcp4 = true\n\
                    vlan = { device = '02:00:00:00:00:02', id = 5 }\n";

#[test]
fn members_are_written_by_the_names_of_their_cards() {
    let text = rendered(&format!("{BOND}{VLAN}")).unwrap();
    assert!(text.contains("interfaces = [\"eno1\", \"eno5\"]\n"), "{text}");
    assert!(text.contains("device = \"eno2\"\nid = 5\n"), "{text}");
    // Neither a lease nor an address: said in the only way that netdog takes.
    assert!(text.contains("[bond0]\nkind = \"bond\"\nmode = \"active-backup\"\n"), "{text}");
    assert!(
        text.contains("dhcp4 = false\n\n[bond0.monitoring]\nmiimon-frequency-ms = 1\n"),
        "{text}"
    );
}

#[test]
fn an_unknown_card_is_refused_with_those_there_are() {
    let description = BOND.replace("00:01", "00:09");
    assert_eq!(
        rendered(&description).unwrap_err().to_string(),
        "making net.toml: 02:00:00:00:00:09 of bond0 must be written by name, and no card of this \
         machine has that address; it has eno1 02:00:00:00:00:01, eno2 02:00:00:00:00:02"
    );
    let network = toml::from_str(&description).unwrap();
    let error = render(&network, None, &Names::NONE).unwrap_err();
    assert!(error.to_string().ends_with("it has none"), "{error}");
    let error = rendered(&BOND.replace("00:01", "00:03")).unwrap_err();
    assert!(error.to_string().contains("has ' ', which no interface name may have"), "{error}");
}

/// netdog would make one file for networkd by name and one by address; only one of them is used.
#[test]
fn a_card_is_spelled_in_one_way_throughout() {
    for device in ["02:00:00:00:00:01", "eno1"] {
        let vlan = VLAN.replace("02:00:00:00:00:02", device);
        let text = rendered(&format!("{BY_ADDRESS}{vlan}")).unwrap();
        assert!(text.contains("[eno1]\ndhcp6 = true\n"), "{text}");
        assert!(!text.contains("02:00"), "{text}");
    }
    let error = rendered(&format!("{BY_ADDRESS}{BOND}")).unwrap_err();
    let expected = "making net.toml: netdog would refuse it: error: bond0.interfaces[0]: eno1 is \
                    configured by [eno1]; a member of a bond can be nothing else";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_card_may_do_no_more_than_carry_a_vlan() {
    let card = "[[interfaces]]\nid = 'eno2'\nmtu = 9000\n";
    let text = rendered(&format!("{card}{VLAN}")).unwrap();
    assert!(text.contains("[eno2]\ndhcp4 = false\nmtu = 9000\n"), "{text}");
    assert!(matches!(rendered(card), Err(Error::Nothing { .. })));
}

#[test]
fn contradictions_are_refused() {
    let route = "routes = [{ to = 'default', via = '10.0.0.1' }]\n";
    let cases = [
        (format!("{DHCP}{route}"), "has routes and DHCP"),
        (format!("[[interfaces]]\nid = 'eno1'\n{route}"), "has routes but no addresses"),
        (format!("{BOND}vlan = {{ device = 'eno9', id = 1 }}\n"), "as a bond and as a VLAN"),
        (BOND.replace("bond0", "02:00:00:00:00:07"), "takes a name, not an address"),
        (
            format!("{DHCP}primary = true\n{BY_ADDRESS}primary = true\n"),
            "[eno1] is the primary device already",
        ),
        (format!("{DHCP}{FIXED}"), "is described twice"),
    ];
    for (description, told) in cases {
        let error = rendered(&description).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[test]
fn a_description_is_read_strictly() {
    let read = |text: &str| toml::from_str::<Network>(text).map_err(|error| error.to_string());
    let error = read("[[interfaces]]\nid = 'eno1'\ndhcp = true\n").unwrap_err();
    assert!(error.contains("unknown field `dhcp`"), "{error}");
    let error = read("[[interfaces]]\nid = 'eno1'\ndhcp4 = 'yes'\n").unwrap_err();
    assert!(error.contains("expected true, false or a table"), "{error}");
    let error = read("[[interfaces]]\nid = 'an interface'\n").unwrap_err();
    assert!(error.contains("which no interface name may have"), "{error}");
    let monitoring = "monitoring = { arp = { interval-ms = 5, validate = 'all', targets = \
                      ['10.0.0.1'] } }";
    let bond =
        format!("{}{monitoring} }}\n", BOND.trim_end().trim_end_matches('}').to_owned() + ", ");
    assert!(read(&bond).is_ok(), "{bond}");
}

#[test]
fn types_of_a_description_can_be_made_by_hand() {
    let mut bond = Interface::new("bond0".parse().unwrap());
    let members = vec!["eno1".parse().unwrap()];
    let monitoring = NewBond::default_monitoring();
    bond.bond = Some(NewBond { members, min_links: Some(1), monitoring });
    let mut vlan = Interface::new("vlan7".parse().unwrap());
    vlan.vlan = Some(NewVlan { device: "bond0".parse().unwrap(), id: 7 });
    vlan.addresses = vec!["10.0.0.2/24".parse().unwrap(), "2001:db8::2/64".parse().unwrap()];
    let text = render(&Network { interfaces: vec![bond, vlan] }, None, &Names::NONE).unwrap();
    assert_eq!(check(text.as_bytes(), None).diagnostics, [], "{text}");
}
