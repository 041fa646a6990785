//! An installed system, as the variables of several actions name it.

use super::BadInput;
use super::target;
use super::variables::Variables;
use super::writefile::driver;

/// The root filesystem that a variable names by its block device, and `FS_TYPE` by its type.
pub(super) fn root(variables: &mut Variables<'_>, name: &'static str) -> Result<(), BadInput> {
    variables.required(name, "the block device with the system's root, such as /dev/sda3")?;
    if let Some(path) = target::device(variables, name)? {
        variables.put(name, "root.partition.path", path);
    }
    if let Some(filesystem) = variables.text("FS_TYPE") {
        variables.put("FS_TYPE", "root.filesystem", driver(filesystem));
    }
    Ok(())
}
