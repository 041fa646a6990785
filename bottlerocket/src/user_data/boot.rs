//! `settings.boot`: the kernel's and init's parameters as user data has them.
//!
//! The OS rewrites `bootconfig.data` from them at every boot, and if there are any, it does not
//! read that file before: the two must say the same.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Options;
use super::findings::Findings;
use super::settings::BOOT;
use super::syntax;
use super::walk::Walk;
use crate::bootconfig::BootSettings;
use crate::bootconfig::settings::Parameters;
use crate::diagnostic::Diagnostic;

/// Reads the table `settings.boot` of user data; none if it has none.
///
/// The error is the first that [`super::check`] finds in the text as TOML or in this table.
pub fn boot_settings(text: &str) -> Result<Option<BootSettings>, Diagnostic> {
    let root = syntax::parse(text)?;
    let settings = root.get("settings").and_then(|settings| settings.get_ref().as_table());
    let Some((name, value)) = settings.and_then(|settings| settings.get_key_value("boot")) else {
        return Ok(None);
    };
    let mut findings = Findings::new(text);
    let options = Options::default();
    let mut walk = Walk::at(&options, &mut findings, &["settings", "boot"]);
    walk.value(&BOOT, name, value);
    if let Some(error) = findings.first_error() {
        return Err(error.clone());
    }
    let Some(table) = value.get_ref().as_table() else { return Ok(None) };
    let boolean = |name| table.get(name).and_then(|value| value.get_ref().as_bool());
    Ok(Some(BootSettings {
        reboot_to_reconcile: boolean("reboot-to-reconcile"),
        kernel_parameters: parameters(table, "kernel-parameters", "kernel"),
        init_parameters: parameters(table, "init-parameters", "init"),
    }))
}

/// The parameters in the order of the file, which matters to the kernel: `hugepagesz` must come
/// before `hugepages`.
fn parameters(table: &DeTable<'_>, name: &str, alias: &str) -> Parameters {
    let value = table.get(name).or_else(|| table.get(alias));
    let table = value.and_then(|value| value.get_ref().as_table());
    let mut entries: Vec<_> = table.into_iter().flat_map(|table| table.iter()).collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries.into_iter().map(|(name, value)| (name.get_ref().to_string(), texts(value))).collect()
}

fn texts(value: &Spanned<DeValue<'_>>) -> Vec<String> {
    let items = value.get_ref().as_array().into_iter().flat_map(|items| items.iter());
    items.filter_map(|item| item.get_ref().as_str()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, values: &[&str]) -> (String, Vec<String>) {
        (name.to_owned(), values.iter().map(|&value| value.to_owned()).collect())
    }

    #[test]
    fn parameters_come_in_the_order_of_the_file() {
        let text = "[settings.boot]\nreboot-to-reconcile = true\n\
                    [settings.boot.kernel-parameters]\n\
                    hugepagesz = ['1G']\nhugepages = ['10']\n\
                    console = ['tty0', 'ttyS0,115200n8']\n\"a.b\" = []\n\
                    [settings.boot.init]\nsplash = ['']\n";
        let expected = BootSettings {
            kernel_parameters: Parameters::from_iter([
                parameter("hugepagesz", &["1G"]),
                parameter("hugepages", &["10"]),
                parameter("console", &["tty0", "ttyS0,115200n8"]),
                parameter("a.b", &[]),
            ]),
            init_parameters: Parameters::from_iter([parameter("splash", &[""])]),
            reboot_to_reconcile: Some(true),
        };
        assert_eq!(boot_settings(text), Ok(Some(expected)));
    }

    #[test]
    fn no_table_is_told_from_an_empty_one() {
        assert_eq!(boot_settings(""), Ok(None));
        assert_eq!(boot_settings("[settings]\nmotd = ''\n"), Ok(None));
        assert_eq!(boot_settings("[settings.boot]\n"), Ok(Some(BootSettings::default())));
    }

    #[test]
    fn a_wrong_table_is_refused_with_its_place() {
        let error = boot_settings("[settings.boot]\nkernel.a = 'b'\n").unwrap_err();
        let shown = error.to_string();
        assert!(
            shown.starts_with("2:12: error: settings.boot.kernel.a: expected an array"),
            "{shown}"
        );
        assert!(boot_settings("[settings]\nboot = 1\n").is_err());
        assert!(boot_settings("[settings\n").is_err());
    }
}
