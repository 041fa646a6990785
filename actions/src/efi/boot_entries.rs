//! Every `Boot####` variable with `BootOrder` and `BootNext`, read in one go.

use std::collections::BTreeMap;

use super::{LoadOption, VariableError, Variables};

/// What the firmware can boot and in which order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootEntries {
    /// The entries by number.
    pub entries: BTreeMap<u16, BootEntry>,
    /// `BootOrder`: numbers in the order they are tried; some may lack an entry.
    pub order: Vec<u16>,
    /// `BootNext`: tried once, before the order.
    pub next: Option<u16>,
}

/// One `Boot####` variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootEntry {
    /// The variable's name as the firmware spells it.
    pub variable: String,
    /// Its content; `None` if it is no load option, then its number is taken and that is all.
    pub option: Option<LoadOption>,
}

impl BootEntries {
    /// Reads all of it.
    pub fn read(variables: &dyn Variables) -> Result<Self, VariableError> {
        let mut entries = BTreeMap::new();
        for variable in variables.list()? {
            let Some(number) = entry_number(&variable) else { continue };
            // A variable that went away since it was listed is no entry.
            let Some(content) = variables.read(&variable)? else { continue };
            let option = LoadOption::parse(&content.data).ok();
            entries.insert(number, BootEntry { variable, option });
        }
        let numbers = |name| -> Result<Vec<u16>, VariableError> {
            let content = variables.read(name)?;
            Ok(content.map(|v| super::utf16::units(&v.data).collect()).unwrap_or_default())
        };
        Ok(Self {
            entries,
            order: numbers("BootOrder")?,
            next: numbers("BootNext")?.first().copied(),
        })
    }

    /// The lowest number that neither an entry nor the order uses.
    pub fn free_number(&self) -> Option<u16> {
        (0..=u16::MAX).find(|n| !self.entries.contains_key(n) && !self.order.contains(n))
    }
}

/// The name of the variable for entry `number`.
pub fn entry_name(number: u16) -> String {
    format!("Boot{number:04X}")
}

fn entry_number(variable: &str) -> Option<u16> {
    let digits = variable.strip_prefix("Boot")?;
    // The specification wants upper case; a firmware that does otherwise has its number taken too.
    let is_number = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_number.then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::efi::{Attributes, MemoryVariables, Variable};

    fn store(variables: &[(&str, &[u8])]) -> MemoryVariables {
        let mut store = MemoryVariables::default();
        for (name, data) in variables {
            let variable = Variable { attributes: Attributes::BOOT_VARIABLE, data: data.to_vec() };
            store.variables.insert((*name).to_owned(), variable);
        }
        store
    }

    #[test]
    fn only_boot_and_four_digits_is_an_entry() {
        let store = store(&[
            ("Boot0000", b"rubbish"),
            ("Boot00ab", b"rubbish"),
            ("BootCurrent", &[0, 0]),
            ("BootOptionSupport", &[0; 4]),
            ("Boot+123", b"rubbish"),
            ("BootOrder", &[0, 0, 1, 0, 9]),
            ("BootNext", &[0xab, 0]),
        ]);
        let entries = BootEntries::read(&store).unwrap();
        assert_eq!(entries.entries.keys().copied().collect::<Vec<_>>(), [0, 0xab]);
        assert_eq!(entries.order, [0, 1]);
        assert_eq!(entries.next, Some(0xab));
    }

    #[test]
    fn a_number_that_only_the_order_knows_is_not_free() {
        let store = store(&[("Boot0000", b"rubbish"), ("BootOrder", &[1, 0])]);
        assert_eq!(BootEntries::read(&store).unwrap().free_number(), Some(2));
        assert_eq!(entry_name(0x1F), "Boot001F");
    }
}
