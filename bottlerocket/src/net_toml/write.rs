//! From the model to the text of a `net.toml`.

use std::fmt::Display;

use super::findings::{quoted, string};
use super::model::{Device, Dhcp4, Dhcp6, Kind, Monitoring, NetToml};

/// A table's lines; a table without any is not written.
struct Table {
    header: String,
    lines: Vec<String>,
}

impl Table {
    fn new(header: String) -> Self {
        Self { header, lines: Vec::new() }
    }

    fn set(&mut self, key: &str, value: impl Display) {
        self.lines.push(format!("{key} = {value}\n"));
    }

    fn maybe(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    fn write(self, text: &mut String) {
        if !self.lines.is_empty() {
            text.push('\n');
            text.push_str(&self.header);
            text.push('\n');
            text.extend(self.lines);
        }
    }
}

pub(super) fn text(model: &NetToml) -> String {
    let mut text = format!("version = {}\n", model.version);
    for device in &model.devices {
        self::device(device, &mut text);
    }
    text
}

fn device(device: &Device, text: &mut String) {
    let name = quoted(device.id.as_str());
    let sub = |key: &str| Table::new(format!("[{name}.{key}]"));
    let mut main = Table::new(format!("[{name}]"));
    let mut tables = Vec::new();
    main.maybe("primary", device.primary);
    match &device.kind {
        Kind::Interface => {}
        Kind::Bond(bond) => {
            main.set("kind", string("bond"));
            main.set("mode", string("active-backup"));
            main.set("interfaces", array(&bond.interfaces));
            main.maybe("min-links", bond.min_links);
            let mut table = sub("monitoring");
            monitoring(&bond.monitoring, &mut table);
            tables.push(table);
        }
        Kind::Vlan(vlan) => {
            main.set("kind", string("vlan"));
            main.set("device", string(vlan.device.as_str()));
            main.set("id", vlan.id);
        }
    }
    match device.dhcp4 {
        Some(Dhcp4::Enabled(enabled)) => main.set("dhcp4", enabled),
        Some(Dhcp4::Options { enabled, optional, route_metric }) => {
            let mut table = sub("dhcp4");
            table.set("enabled", enabled);
            table.maybe("optional", optional);
            table.maybe("route-metric", route_metric);
            tables.push(table);
        }
        None => {}
    }
    match device.dhcp6 {
        Some(Dhcp6::Enabled(enabled)) => main.set("dhcp6", enabled),
        Some(Dhcp6::Options { enabled, optional }) => {
            let mut table = sub("dhcp6");
            table.set("enabled", enabled);
            table.maybe("optional", optional);
            tables.push(table);
        }
        None => {}
    }
    main.maybe("mtu", device.mtu);
    for (key, list) in [("static4", &device.static4), ("static6", &device.static6)] {
        let mut table = sub(key);
        table.maybe("addresses", list.as_ref().map(array));
        tables.push(table);
    }
    for route in device.routes.iter().flatten() {
        let mut table = Table::new(format!("[[{name}.route]]"));
        table.set("to", string(&String::from(route.to)));
        table.maybe("from", route.from.map(|address| string(&address.to_string())));
        table.maybe("via", route.via.map(|address| string(&address.to_string())));
        table.maybe("route-metric", route.route_metric);
        tables.push(table);
    }
    main.write(text);
    for table in tables {
        table.write(text);
    }
}

fn monitoring(monitoring: &Monitoring, table: &mut Table) {
    match monitoring {
        Monitoring::Mii { frequency_ms, updelay_ms, downdelay_ms } => {
            table.set("miimon-frequency-ms", frequency_ms);
            table.set("miimon-updelay-ms", updelay_ms);
            table.set("miimon-downdelay-ms", downdelay_ms);
        }
        Monitoring::Arp { interval_ms, validate, targets } => {
            table.set("arpmon-interval-ms", interval_ms);
            table.set("arpmon-validate", string(validate.as_str()));
            table.set("arpmon-targets", array(targets));
        }
    }
}

/// An array of strings.
pub(super) fn array<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| string(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}
