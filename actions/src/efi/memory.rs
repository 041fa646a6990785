//! EFI variables in memory, for tests: with a limit of bytes, a fault on demand, a count of writes,
//! and firmware's way with Secure Boot's variables.

use std::collections::BTreeMap;
use std::io;

use super::secure_boot::authenticated;
use super::variables::{Attributes, Variable, VariableError, Variables};

/// An EFI variable store that lives and dies with the value.
#[derive(Debug, Default)]
pub struct MemoryVariables {
    /// The variables by name.
    pub variables: BTreeMap<String, Variable>,
    /// How many writes and deletes were made.
    pub changes: usize,
    /// The errno with which every change fails from now on.
    pub fails_with: Option<i32>,
    /// How many bytes all data together may have, before a write fails with `ENOSPC`.
    pub capacity: Option<usize>,
    /// Firmware that accepts a change of this variable and forgets it.
    pub forgets: Option<String>,
    /// Firmware that refuses a change of this variable with `EACCES`.
    pub refuses: Option<String>,
    /// Firmware that wants the platform key to sign itself, as EDK II does.
    pub wants_signed_platform_key: bool,
}

impl MemoryVariables {
    fn change(&mut self, operation: &'static str, name: &str) -> Result<(), VariableError> {
        self.changes += 1;
        match self.fails_with {
            Some(errno) => {
                Err(VariableError::new(operation, name, io::Error::from_raw_os_error(errno)))
            }
            None if self.refuses.as_deref() == Some(name) => Err(refused(name, libc::EACCES)),
            None => Ok(()),
        }
    }

    /// The data in a write of a Secure Boot variable, as firmware takes it out: in Setup Mode only,
    /// for the checks of a signature are not in here. A platform key ends Setup Mode.
    fn take_out(&mut self, name: &str, written: &[u8]) -> Result<Vec<u8>, VariableError> {
        const SETUP_MODE: &str = "SetupMode";
        let (signature, data) =
            authenticated::read(written).ok_or_else(|| refused(name, libc::EINVAL))?;
        let is_setup_mode = self.variables.get(SETUP_MODE).is_some_and(|mode| mode.data == [1]);
        let is_platform_key = name == "PK";
        let is_signed = !signature.is_empty() || !self.wants_signed_platform_key;
        if !is_setup_mode || is_platform_key && !is_signed {
            return Err(refused(name, libc::EACCES));
        }
        if is_platform_key && !data.is_empty() && self.forgets.as_deref() != Some(name) {
            let mode = Variable { attributes: Attributes(0b110), data: vec![0] };
            self.variables.insert(SETUP_MODE.into(), mode);
        }
        Ok(data.to_owned())
    }
}

fn refused(name: &str, errno: i32) -> VariableError {
    VariableError::new("writing", name, io::Error::from_raw_os_error(errno))
}

impl Variables for MemoryVariables {
    fn read(&self, name: &str) -> Result<Option<Variable>, VariableError> {
        Ok(self.variables.get(name).cloned())
    }

    fn write(&mut self, name: &str, variable: &Variable) -> Result<(), VariableError> {
        self.change("writing", name)?;
        let others: usize =
            self.variables.iter().filter(|(n, _)| *n != name).map(|(_, v)| v.data.len()).sum();
        if self.capacity.is_some_and(|capacity| others + variable.data.len() > capacity) {
            return Err(refused(name, libc::ENOSPC));
        }
        let mut variable = variable.clone();
        let is_authenticated = variable.attributes == Attributes::AUTHENTICATED;
        if is_authenticated {
            variable.data = self.take_out(name, &variable.data)?;
        }
        if self.forgets.as_deref() == Some(name) {
            return Ok(());
        }
        if is_authenticated && variable.data.is_empty() {
            self.variables.remove(name);
        } else {
            self.variables.insert(name.to_owned(), variable);
        }
        Ok(())
    }

    fn delete(&mut self, name: &str) -> Result<(), VariableError> {
        self.change("removing", name)?;
        self.variables.remove(name);
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>, VariableError> {
        Ok(self.variables.keys().cloned().collect())
    }
}
