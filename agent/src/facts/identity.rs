//! By which id a machine goes at its control plane.

use nibs_job::{Facts, Mac};

use crate::cmdline::Parameters;

/// The id of this machine: `nibs.id=`, else the hardware address that booted (`hw_addr=`,
/// `BOOTIF=`), else that of the interface which got a lease, else the DMI UUID. None if the
/// machine tells none of them.
pub fn machine_id(parameters: &Parameters, leased: Option<Mac>, facts: &Facts) -> Option<String> {
    parameters
        .id
        .clone()
        .or_else(|| parameters.boot_mac.or(leased).map(|mac| mac.to_string()))
        .or_else(|| facts.uuid.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_goes_before_the_next() {
        let leased = Some(Mac([2, 0, 0, 0, 0, 1]));
        let facts = Facts { uuid: Some("u".into()), ..Facts::default() };
        let id = |line, leased, facts: &Facts| machine_id(&Parameters::parse(line), leased, facts);
        let both = "nibs.id=rack1-u7 hw_addr=52-54-00-AA-00-01";
        assert_eq!(id(both, leased, &facts).unwrap(), "rack1-u7");
        let booted = "BOOTIF=01-52-54-00-AA-00-01";
        assert_eq!(id(booted, leased, &facts).unwrap(), "52:54:00:aa:00:01");
        assert_eq!(id("nibs.id=", leased, &facts).unwrap(), "02:00:00:00:00:01");
        assert_eq!(id("", None, &facts).unwrap(), "u");
        assert_eq!(id("", None, &Facts::default()), None);
    }
}
