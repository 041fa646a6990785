//! How a device gets its addresses and its routes.

use ipnet::IpNet;

use super::super::fields::Value;
use super::super::findings::Findings;
use super::super::model::{Destination, Dhcp4, Dhcp6, Route};
use super::{ADDRESS, Fields, NUMBER};

pub(super) fn dhcp4(value: &Value<'_>, findings: &mut Findings) -> Dhcp4 {
    let Some((enabled, optional, options)) = dhcp(value, &["route-metric"], findings) else {
        return Dhcp4::Enabled(value.as_bool().unwrap_or(true));
    };
    let route_metric =
        options.get("route-metric", findings).and_then(|value| value.integer(NUMBER, findings));
    Dhcp4::Options { enabled, optional, route_metric }
}

pub(super) fn dhcp6(value: &Value<'_>, findings: &mut Findings) -> Dhcp6 {
    match dhcp(value, &[], findings) {
        Some((enabled, optional, _)) => Dhcp6::Options { enabled, optional },
        None => Dhcp6::Enabled(value.as_bool().unwrap_or(true)),
    }
}

/// What both families have, if the value is a table.
fn dhcp<'a>(
    value: &Value<'a>,
    own: &[&'static str],
    findings: &mut Findings,
) -> Option<(bool, Option<bool>, Fields<'a>)> {
    let Some(options) = value.as_table() else {
        if value.as_bool().is_none() {
            value.refuse("true, false or a table with `enabled`", findings);
        }
        return None;
    };
    options.refuse_unknown("DHCP", &[&["enabled", "optional"], own].concat(), findings);
    let enabled = options.require("enabled", "true or false", findings);
    let enabled = enabled.and_then(|value| value.bool(findings)).unwrap_or(true);
    let optional = options.get("optional", findings).and_then(|value| value.bool(findings));
    Some((enabled, optional, options))
}

pub(super) fn addresses(value: &Value<'_>, findings: &mut Findings) -> Vec<IpNet> {
    const EXPECTED: &str = "a table with `addresses`";
    const LIST: &str = "an array of addresses as ADDRESS/PREFIX";
    const ITEM: &str = "an address with its prefix, such as \"10.0.0.2/24\"";
    let Some(fields) = value.table(EXPECTED, findings) else { return Vec::new() };
    fields.refuse_unknown("static addresses", &["addresses"], findings);
    let list = fields.require("addresses", LIST, findings);
    let items = list.and_then(|value| value.items(LIST, findings)).unwrap_or_default();
    items.iter().filter_map(|item| item.parse(ITEM, findings)).collect()
}

pub(super) fn routes(value: &Value<'_>, findings: &mut Findings) -> Vec<Route> {
    let items = value.items("an array of tables, `[[NAME.route]]`", findings).unwrap_or_default();
    items.iter().filter_map(|item| route(item, findings)).collect()
}

fn route(value: &Value<'_>, findings: &mut Findings) -> Option<Route> {
    const TO: &str = "\"default\" or a network as ADDRESS/PREFIX";
    let fields = value.table("a table with the route's keys", findings)?;
    fields.refuse_unknown("a route", &["to", "from", "via", "route-metric"], findings);
    let to = fields.require("to", TO, findings);
    let to = to.and_then(|value| {
        let to = value.as_str().and_then(|text| Destination::try_from(text.to_owned()).ok());
        if to.is_none() {
            value.refuse(TO, findings);
        }
        to
    });
    let address = |name: &str, findings: &mut Findings| {
        fields.get(name, findings).and_then(|value| value.parse(ADDRESS, findings))
    };
    let (from, via) = (address("from", findings), address("via", findings));
    let route_metric =
        fields.get("route-metric", findings).and_then(|value| value.integer(NUMBER, findings));
    Some(Route { to: to?, from, via, route_metric })
}
