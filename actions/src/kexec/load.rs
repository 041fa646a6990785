//! kexec_file_load(2): a kernel, its initramfs and its command line, put into memory.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// There is no initramfs (`KEXEC_FILE_NO_INITRAMFS` of linux/kexec.h).
const NO_INITRAMFS: libc::c_ulong = 4;

/// Archives of an initramfs start at multiples of this (the kernel's early userspace buffer format).
const ALIGNMENT: u64 = 4;

/// Loads it, in place of any that was loaded before.
pub(super) fn load(kernel: &File, initrds: Vec<File>, command_line: &str) -> io::Result<()> {
    let command_line = CString::new(command_line)?;
    let initrd = joined(initrds)?;
    let (descriptor, flags) = match &initrd {
        Some(file) => (file.as_raw_fd(), 0),
        None => (-1, NO_INITRAMFS),
    };
    // SAFETY: both files are open for the length of the call, and the text is as long as said, with
    // its NUL; the kernel only reads them.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            descriptor,
            command_line.as_bytes_with_nul().len() as libc::c_ulong,
            command_line.as_ptr(),
            flags,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One file that holds all archives, in their order.
fn joined(mut initrds: Vec<File>) -> io::Result<Option<File>> {
    if initrds.len() < 2 {
        return Ok(initrds.pop());
    }
    let mut all = File::from(memfd_create(c"initramfs", MFdFlags::MFD_CLOEXEC)?);
    for mut file in initrds {
        let length = io::copy(&mut file, &mut all)?;
        let padding = (ALIGNMENT - length % ALIGNMENT) % ALIGNMENT;
        all.write_all(&[0; ALIGNMENT as usize][..padding as usize])?;
    }
    all.rewind()?;
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn archives_are_joined_in_order_and_aligned() {
        let mut all = Vec::new();
        let initrds = vec![file(b"12345"), file(b"abcd"), file(b"x")];
        joined(initrds).unwrap().unwrap().read_to_end(&mut all).unwrap();
        assert_eq!(all, b"12345\0\0\0abcdx\0\0\0");
        assert!(joined(Vec::new()).unwrap().is_none());
    }

    #[test]
    fn what_is_no_kernel_is_not_loaded() {
        // Refused for what it is, or by a system that lets nobody load anything.
        let error = load(&file(b"not a kernel"), Vec::new(), "quiet").unwrap_err();
        let expected = [libc::ENOEXEC, libc::EPERM, libc::ENOSYS, libc::EINVAL];
        assert!(error.raw_os_error().is_some_and(|errno| expected.contains(&errno)), "{error}");
        assert!(load(&file(b""), Vec::new(), "a\0b").is_err());
    }
}
