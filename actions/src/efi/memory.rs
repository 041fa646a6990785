//! EFI variables in memory, for tests: with a limit of bytes, a fault on demand and a count of
//! writes.

use std::collections::BTreeMap;
use std::io;

use super::variables::{Variable, VariableError, Variables};

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
}

impl MemoryVariables {
    fn change(&mut self, operation: &'static str, name: &str) -> Result<(), VariableError> {
        self.changes += 1;
        match self.fails_with {
            Some(errno) => {
                Err(VariableError::new(operation, name, io::Error::from_raw_os_error(errno)))
            }
            None => Ok(()),
        }
    }
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
            let full = io::Error::from_raw_os_error(libc::ENOSPC);
            return Err(VariableError::new("writing", name, full));
        }
        if self.forgets.as_deref() != Some(name) {
            self.variables.insert(name.to_owned(), variable.clone());
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
