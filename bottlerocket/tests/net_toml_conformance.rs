//! The verdict on each file of netdog's own test data, as each version, against netdog's.

use std::fs;
use std::path::{Path, PathBuf};

use nibs_bottlerocket::net_toml::check;

/// Where the data is: beside the checkout.
fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance/netdog")
}

/// The two constructs of Handlebars that the files have: the version, and a block for one.
fn rendered(template: &str, version: u8) -> String {
    let mut text = String::new();
    let mut shown = true;
    for line in template.lines() {
        match line.trim().strip_prefix("{{#if (eq version ") {
            Some(block) => shown = block == format!("{version})}}}}"),
            None if line.trim() == "{{/if}}" => shown = true,
            None if shown => {
                text.extend([&line.replace("{{version}}", &version.to_string()), "\n"]);
            }
            None => {}
        }
    }
    text
}

#[test]
fn each_file_is_taken_or_refused_as_netdog_does() {
    let data = data();
    let Ok(expected) = fs::read_to_string(data.join("EXPECTED-per-version.txt")) else {
        eprintln!("skipped: needs netdog's test data at {}", data.display());
        return;
    };
    let mut checked = 0;
    for line in expected.lines() {
        let mut words = line.split_whitespace();
        let (version, verdict, file) =
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let version = version.strip_prefix('v').unwrap().parse().unwrap();
        let template = fs::read_to_string(data.join(file)).unwrap();
        let found = check(rendered(&template, version).as_bytes(), None);
        let context = format!("{line}\n{:#?}", found.diagnostics);
        match verdict {
            "ERR" => assert!(!found.is_valid(), "{context}"),
            _ => {
                let model = found.model.expect(&context);
                let primary = model.primary().map(|it| format!("primary={}", it.id));
                assert_eq!(primary.as_deref(), words.next(), "{context}");
                let count =
                    words.next().map_or(0, |n| n.strip_prefix("n=").unwrap().parse().unwrap());
                assert_eq!(model.devices.len(), count, "{context}");
            }
        }
        checked += 1;
    }
    // 40 files and the root one. The netdog of these verdicts did not have the one of `mtu` yet.
    assert_eq!(checked, 3 * 41, "verdicts in EXPECTED-per-version.txt");
}

/// The change that brought `mtu` has a file for it, valid from version 3 on.
#[test]
fn the_file_with_mtu_is_taken() {
    let Ok(template) = fs::read_to_string(data().join("net_config/mtu/net_config.toml")) else {
        eprintln!("skipped: needs netdog's test data at {}", data().display());
        return;
    };
    let found = check(rendered(&template, 3).as_bytes(), None);
    assert!(found.is_valid(), "{:#?}", found.diagnostics);
    assert!(!check(rendered(&template, 2).as_bytes(), None).is_valid());
}
