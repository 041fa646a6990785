//! Adds a table to user data, and leaves every byte of it as it is.
//!
//! A table with a header can stand at the end of any TOML, so it is appended. What is there already
//! is never merged: two sources of one setting are for the operator to choose from.

use std::fmt::Write;

use thiserror::Error;
use toml::de::DeTable;

use super::form::{BOOT_KEY, BOOT_VALUE, Form, HOSTNAME};
use super::syntax;
use crate::bootconfig::BootSettings;
use crate::bootconfig::settings::Parameters;
use crate::diagnostic::Diagnostic;
use crate::net_toml::Dns;

/// Why settings are not added.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AddError {
    /// The text is not TOML.
    #[error("adding {table} to user data: {diagnostic}")]
    Syntax {
        /// The table that was to be added.
        table: &'static str,
        /// What is wrong, and where.
        diagnostic: Diagnostic,
    },
    /// The table is there already.
    #[error("adding {table} to user data: it has that table already; give it in one place only")]
    Exists {
        /// The table that was to be added.
        table: &'static str,
    },
    /// `settings` is an inline table, which nothing can be added to.
    #[error(
        "adding {table} to user data: its settings are an inline table or none at all; write them \
         under a header, [settings]"
    )]
    NotExtensible {
        /// The table that was to be added.
        table: &'static str,
    },
    /// What is to be added would be refused by the OS.
    #[error("adding {table} to user data: expected {expected} in {key}, found another string")]
    Invalid {
        /// The table that was to be added.
        table: &'static str,
        /// The key in that table.
        key: &'static str,
        /// What is allowed.
        expected: &'static str,
    },
}

const DNS: &str = "settings.dns";
const BOOT: &str = "settings.boot";

/// Adds `settings.dns`. Adding nothing gives the text as it is.
pub fn add_dns(text: &str, dns: &Dns) -> Result<String, AddError> {
    if *dns == Dns::default() {
        return Ok(text.to_owned());
    }
    for domain in &dns.search_list {
        valid(&HOSTNAME, domain, DNS, "search-list")?;
    }
    append(text, DNS, "dns", &dns.to_toml())
}

/// Adds `settings.boot`. Adding nothing gives the text as it is.
pub fn add_boot(text: &str, boot: &BootSettings) -> Result<String, AddError> {
    if *boot == BootSettings::default() {
        return Ok(text.to_owned());
    }
    let mut body = format!("[{BOOT}]\n");
    if let Some(reboot) = boot.reboot_to_reconcile {
        line(&mut body, "reboot-to-reconcile", &reboot.to_string());
    }
    parameters(&mut body, "kernel-parameters", &boot.kernel_parameters)?;
    parameters(&mut body, "init-parameters", &boot.init_parameters)?;
    append(text, BOOT, "boot", &body)
}

fn parameters(
    body: &mut String,
    key: &'static str,
    parameters: &Parameters,
) -> Result<(), AddError> {
    if parameters.is_empty() {
        return Ok(());
    }
    let _ = writeln!(body, "\n[{BOOT}.{key}]");
    for (name, values) in parameters.iter() {
        valid(&BOOT_KEY, name, BOOT, key)?;
        for value in values {
            valid(&BOOT_VALUE, value, BOOT, key)?;
        }
        line(body, &quoted(name), &array(values));
    }
    Ok(())
}

fn valid(form: &Form, text: &str, table: &'static str, key: &'static str) -> Result<(), AddError> {
    if (form.taken)(text) {
        Ok(())
    } else {
        Err(AddError::Invalid { table, key, expected: form.expected })
    }
}

fn append(text: &str, table: &'static str, name: &str, body: &str) -> Result<String, AddError> {
    let root = syntax::parse(text).map_err(|diagnostic| AddError::Syntax { table, diagnostic })?;
    if settings(&root).is_some_and(|settings| settings.contains_key(name)) {
        return Err(AddError::Exists { table });
    }
    let mut added = text.to_owned();
    if !text.is_empty() {
        added.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
    }
    added.push_str(body);
    match syntax::parse(&added) {
        Ok(root) if settings(&root).is_some_and(|settings| settings.contains_key(name)) => {}
        _ => return Err(AddError::NotExtensible { table }),
    }
    Ok(added)
}

fn settings<'r, 't>(root: &'r DeTable<'t>) -> Option<&'r DeTable<'t>> {
    root.get("settings").and_then(|settings| settings.get_ref().as_table())
}

fn line(body: &mut String, key: &str, value: &str) {
    let _ = writeln!(body, "{key} = {value}");
}

fn array(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

/// A basic string. What comes here has no control characters: its form was checked.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::super::boot_settings;
    use super::*;

    fn dns() -> Dns {
        let name_servers = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        Dns { name_servers, search_list: vec!["rack.example".to_owned()] }
    }

    const ADDED: &str = "[settings.dns]\nname-servers = [\"10.0.0.1\", \"fd00::1\"]\n\
                         search-list = [\"rack.example\"]\n";

    #[test]
    fn a_table_is_added_behind_the_text_as_it_was() {
        assert_eq!(add_dns("", &dns()).unwrap(), ADDED);
        for text in [
            "# only a comment",
            "[settings]\nmotd = 'x'",
            "settings.motd = 'x'\n",
            "[settings.boot]\n[settings]\nmotd = 'x' # why\r\n",
            "[settings]\nboot.kernel.a = ['b']\n[[settings.container-registry.mirrors]]\n",
        ] {
            let added = add_dns(text, &dns()).unwrap();
            assert!(added.starts_with(text), "{added}");
            assert!(added.ends_with(ADDED), "{added}");
            assert!(syntax::parse(&added).is_ok(), "{added}");
        }
    }

    #[test]
    fn nothing_to_add_changes_nothing() {
        assert_eq!(add_dns("not TOML", &Dns::default()).unwrap(), "not TOML");
        assert_eq!(add_boot("not TOML", &BootSettings::default()).unwrap(), "not TOML");
    }

    #[test]
    fn boot_settings_come_back_as_they_were_added() {
        let boot = BootSettings {
            kernel_parameters: Parameters::from_iter([
                ("hugepagesz".to_owned(), vec!["1G".to_owned()]),
                ("hugepages".to_owned(), vec!["10".to_owned()]),
                ("a.b".to_owned(), vec!["say \"hi\" \\ there".to_owned(), String::new()]),
            ]),
            init_parameters: Parameters::from_iter([("splash".to_owned(), Vec::new())]),
            reboot_to_reconcile: Some(false),
        };
        let added = add_boot("[settings]\nmotd = 'x'\n", &boot).unwrap();
        assert_eq!(boot_settings(&added), Ok(Some(boot)));
    }

    #[test]
    fn what_is_there_already_is_refused_by_name() {
        for text in ["[settings.dns]\n", "settings.dns.search-list = []\n", "settings = {dns = 1}"]
        {
            assert_eq!(add_dns(text, &dns()), Err(AddError::Exists { table: DNS }), "{text}");
        }
        let boot = BootSettings { reboot_to_reconcile: Some(true), ..Default::default() };
        let error = add_boot("[settings.boot.init]\n", &boot).unwrap_err();
        assert!(error.to_string().contains("settings.boot"), "{error}");
    }

    #[test]
    fn settings_that_nothing_can_be_added_to_are_refused() {
        for text in ["settings = { motd = 'x' }\n", "settings = 1\n", "[[settings]]\n"] {
            assert_eq!(
                add_dns(text, &dns()),
                Err(AddError::NotExtensible { table: DNS }),
                "{text}"
            );
        }
        assert!(matches!(add_dns("[settings", &dns()), Err(AddError::Syntax { .. })));
    }

    #[test]
    fn what_the_os_would_refuse_is_not_added() {
        let dns = Dns { search_list: vec!["a\"]\n[evil]\n".to_owned()], ..Dns::default() };
        let error = add_dns("", &dns).unwrap_err();
        assert!(matches!(error, AddError::Invalid { key: "search-list", .. }), "{error}");
        for (name, value) in [("a b", "c"), ("a", "\n")] {
            let parameter = (name.to_owned(), vec![value.to_owned()]);
            let kernel_parameters = Parameters::from_iter([parameter]);
            let boot = BootSettings { kernel_parameters, ..BootSettings::default() };
            assert!(matches!(add_boot("", &boot), Err(AddError::Invalid { .. })), "{name}");
        }
    }
}
