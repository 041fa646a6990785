//! What holds for any bytes, and for any description.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use nibs_bottlerocket::net_toml::{
    ArpValidate, Destination, Dhcp4, Dhcp4Options, Dhcp4Request, Dhcp6, Dhcp6Options, Dhcp6Request,
    Interface, InterfaceId, Kind, Mac, Monitoring, Names, Network, NewBond, NewVlan, Route, check,
    render,
};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

/// Words of which files are made that get past the first checks.
const WORDS: &[&str] = &[
    "version = 3\n",
    "version = 2\n",
    "version = 1\n",
    "[eno1]\n",
    "[bond0]\n",
    "[vlan1]\n",
    "[\"f8:74:a4:d5:32:64\"]\n",
    "[\"F8-74-a4-d5-32-64\"]\n",
    "[eno1.dhcp4]\n",
    "[eno1.static4]\n",
    "[[eno1.route]]\n",
    "[bond0.monitoring]\n",
    "dhcp4 = true\n",
    "dhcp6 = false\n",
    "primary = true\n",
    "mtu = 9000\n",
    "kind = \"bond\"\n",
    "kind = \"vlan\"\n",
    "mode = \"active-backup\"\n",
    "interfaces = [\"eno1\", \"eno2\"]\n",
    "interfaces = []\n",
    "min-links = 0\n",
    "device = \"vlan1\"\n",
    "id = 4095\n",
    "enabled = false\n",
    "addresses = [\"10.0.0.1/24\", \"fd00::1/64\"]\n",
    "addresses = []\n",
    "to = \"DEFAULT\"\n",
    "via = \"fe80::1\"\n",
    "from = \"10.0.0.2\"\n",
    "route-metric = -1\n",
    "miimon-frequency-ms = 0\n",
    "miimon-updelay-ms = 1\n",
    "miimon-downdelay-ms = 1\n",
    "arpmon-interval-ms = 1\n",
    "arpmon-targets = [\"::1\"]\n",
    "arpmon-validate = \"all\"\n",
    "a = { b = 1,\n",
    "}\n",
    "[\n",
    "]\n",
    "\"\\x41\"",
    " = ",
    ".",
    "\u{feff}",
    "\r\n",
    "é",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes, None);
    }

    #[test]
    fn no_words_make_it_panic(words in prop::collection::vec(select(WORDS), 0..40)) {
        let found = check(words.concat().as_bytes(), None);
        let refused = found.diagnostics.iter().any(|it| it.to_string().contains("error: "));
        prop_assert_eq!(found.is_valid(), !refused);
    }

    #[test]
    fn what_is_made_is_taken_and_says_what_was_described(network in network()) {
        let find = |mac: &Mac| Some(name_of(mac));
        let names = Names { find: &find, candidates: &[] };
        let text = render(&network, None, &names).unwrap();
        let found = check(text.as_bytes(), None);
        let model = found.model.unwrap_or_else(|| panic!("{text}\n{:#?}", found.diagnostics));
        prop_assert_eq!(model.devices.len(), network.interfaces.len());
        for (device, said) in model.devices.iter().zip(&network.interfaces) {
            prop_assert_eq!(device.addresses().count(), said.addresses.len());
            for address in &said.addresses {
                prop_assert!(device.addresses().any(|it| it == address));
            }
            prop_assert_eq!(device.routes.as_deref().unwrap_or_default(), &said.routes[..]);
            prop_assert_eq!(device.primary == Some(true), said.primary);
            prop_assert_eq!(device.mtu, said.mtu);
            let dhcp4 = said.dhcp4.is_some_and(|it| it != Dhcp4Request::Enabled(false));
            prop_assert_eq!(device.dhcp4.is_some_and(Dhcp4::enabled), dhcp4);
            let dhcp6 = said.dhcp6.is_some_and(|it| it != Dhcp6Request::Enabled(false));
            prop_assert_eq!(device.dhcp6.is_some_and(Dhcp6::enabled), dhcp6);
            match &device.kind {
                Kind::Interface => prop_assert!(said.bond.is_none() && said.vlan.is_none()),
                Kind::Bond(bond) => {
                    let said = said.bond.as_ref().unwrap();
                    let members: Vec<_> = said.members.iter().map(spelled).collect();
                    let found: Vec<_> = bond.interfaces.iter().map(ToString::to_string).collect();
                    prop_assert_eq!(found, members);
                    prop_assert_eq!(bond.min_links, said.min_links);
                    prop_assert_eq!(&bond.monitoring, &said.monitoring);
                }
                Kind::Vlan(vlan) => {
                    let said = said.vlan.as_ref().unwrap();
                    prop_assert_eq!(vlan.device.to_string(), spelled(&said.device));
                    prop_assert_eq!(vlan.id, said.id);
                }
            }
        }
        // What it is made of the model again is the same text: nothing is lost on the way.
        prop_assert_eq!(render(&network, Some(model.version), &names).unwrap(), text);
        if model.version > 1 {
            prop_assert!(render(&network, Some(model.version - 1), &names).is_err());
        }
    }
}

/// The name of a card in the tests.
fn name_of(mac: &Mac) -> String {
    format!("x{}", mac.as_str().replace(':', ""))
}

fn spelled(id: &InterfaceId) -> String {
    match id {
        InterfaceId::Name(name) => name.to_string(),
        InterfaceId::Mac(mac) => name_of(mac),
    }
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
    ]
}

fn net() -> impl Strategy<Value = IpNet> {
    (address(), 0..=32u8).prop_map(|(address, prefix)| IpNet::new(address, prefix).unwrap())
}

fn route() -> impl Strategy<Value = Route> {
    let to = prop_oneof![Just(Destination::Default), net().prop_map(Destination::Net)];
    (to, of(address()), of(address()), of(any::<u32>()))
        .prop_map(|(to, from, via, route_metric)| Route { to, from, via, route_metric })
}

fn monitoring() -> impl Strategy<Value = Monitoring> {
    let validate = select(&[ArpValidate::Active, ArpValidate::All, ArpValidate::None][..]);
    prop_oneof![
        (1..1000u32, 0..1000u32).prop_map(|(frequency_ms, more)| Monitoring::Mii {
            frequency_ms,
            updelay_ms: frequency_ms + more,
            downdelay_ms: frequency_ms,
        }),
        (1..1000u32, validate, prop::collection::vec(address(), 1..=16)).prop_map(
            |(interval_ms, validate, targets)| Monitoring::Arp { interval_ms, validate, targets }
        ),
    ]
}

/// DHCP, or addresses with routes; of a made device also neither.
fn addressed(is_made: bool) -> impl Strategy<Value = Interface> {
    let dhcp4 = prop_oneof![
        Just(Dhcp4Request::Enabled(true)),
        (of(any::<bool>()), of(any::<u32>())).prop_map(|(optional, route_metric)| {
            Dhcp4Request::Options(Dhcp4Options { optional, route_metric })
        }),
    ];
    let dhcp6 = prop_oneof![
        any::<bool>().prop_map(Dhcp6Request::Enabled),
        of(any::<bool>()).prop_map(|optional| Dhcp6Request::Options(Dhcp6Options { optional })),
    ];
    let nets = || prop::collection::vec(net(), 1..4);
    let blank = || Interface::new("blank".parse().unwrap());
    let with_dhcp = (dhcp4, of(dhcp6), of(nets())).prop_map(move |(dhcp4, dhcp6, nets)| {
        let addresses = nets.unwrap_or_default();
        Interface { dhcp4: Some(dhcp4), dhcp6, addresses, ..blank() }
    });
    let fixed = (nets(), prop::collection::vec(route(), 0..4))
        .prop_map(move |(addresses, routes)| Interface { addresses, routes, ..blank() });
    let nothing = if is_made { 1 } else { 0 };
    prop_oneof![2 => with_dhcp, 2 => fixed, nothing => Just(blank())]
}

/// A card by name or by address; the number makes it another one than all others.
fn card(number: usize) -> impl Strategy<Value = InterfaceId> {
    let mac = format!("02:00:00:00:{:02x}:{:02x}", number / 256, number % 256);
    select(vec![format!("eno{number}").parse().unwrap(), mac.parse().unwrap()])
}

fn interface(number: usize) -> impl Strategy<Value = Interface> {
    (card(number), addressed(false), of(any::<u32>())).prop_map(|(id, interface, mtu)| Interface {
        id,
        mtu,
        ..interface
    })
}

fn bond(number: usize) -> impl Strategy<Value = Interface> {
    let members = (card(1000 + 2 * number), card(1001 + 2 * number));
    (members, addressed(true), monitoring(), of(0..=2u64)).prop_map(
        move |((first, second), interface, monitoring, min_links)| {
            let members = vec![first, second];
            let bond = Some(NewBond { members, min_links, monitoring });
            Interface { id: format!("bond{number}").parse().unwrap(), bond, ..interface }
        },
    )
}

fn vlan(number: usize) -> impl Strategy<Value = Interface> {
    let device = prop_oneof![card(number), Just("bond0".parse().unwrap())];
    (device, addressed(true), 0..=4094u16).prop_map(move |(device, interface, id)| {
        let vlan = Some(NewVlan { device, id });
        Interface { id: format!("vlan{number}").parse().unwrap(), vlan, ..interface }
    })
}

fn network() -> impl Strategy<Value = Network> {
    let interfaces = (0..4usize, 0..3usize, 0..3usize).prop_flat_map(|(cards, bonds, vlans)| {
        let cards: Vec<_> = (0..cards).map(interface).collect();
        let bonds: Vec<_> = (0..bonds).map(bond).collect();
        let vlans: Vec<_> = (0..vlans).map(vlan).collect();
        (cards, bonds, vlans).prop_map(|(cards, bonds, vlans)| [cards, bonds, vlans].concat())
    });
    (interfaces.prop_shuffle(), any::<bool>()).prop_map(|(mut interfaces, primary)| {
        if let Some(last) = interfaces.last_mut() {
            last.primary = primary;
        }
        Network { interfaces }
    })
}
