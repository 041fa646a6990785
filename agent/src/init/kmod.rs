//! Loads one kernel module from its file.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;

use flate2::read::GzDecoder;
use liblzma::read::XzDecoder;
use nix::errno::Errno;
use nix::kmod::init_module;

/// The kernel is to decompress the file by itself (linux/module.h, since 5.17).
const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;

/// Largest module that is decompressed here, bytes; the largest there are (GPU drivers) have
/// some tens of MiB.
const MAX_MODULE: u64 = 128 << 20;

/// Loads a module: through the kernel, or decompressed here where the kernel cannot do that.
/// True if it was loaded; false if it was there already.
pub(super) fn load(file: &Path) -> io::Result<bool> {
    let handle = File::open(file)?;
    let extension = file.extension().and_then(|extension| extension.to_str());
    let compressed = extension != Some("ko");
    let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    // SAFETY: the descriptor is open, and the parameters are an empty C string that lives.
    #[allow(unsafe_code)]
    let result =
        unsafe { libc::syscall(libc::SYS_finit_module, handle.as_raw_fd(), c"".as_ptr(), flags) };
    match Errno::result(result) {
        Ok(_) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        // EINVAL: a kernel that does not know the flag. The rest: one that was built without.
        Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOEXEC) if compressed => {
            let image = decompressed(handle, extension.unwrap_or_default())?;
            match init_module(&image, c"") {
                Ok(()) => Ok(true),
                Err(Errno::EEXIST) => Ok(false),
                Err(e) => Err(e.into()),
            }
        }
        Err(e) => Err(e.into()),
    }
}

fn decompressed(file: File, extension: &str) -> io::Result<Vec<u8>> {
    let reader: Box<dyn Read> = match extension {
        "xz" => Box::new(XzDecoder::new(file)),
        "zst" => Box::new(zstd::Decoder::new(file)?),
        "gz" => Box::new(GzDecoder::new(file)),
        _ => return Err(io::Error::other("expected a file that ends in .ko, .xz, .zst or .gz")),
    };
    let mut image = Vec::new();
    reader.take(MAX_MODULE).read_to_end(&mut image)?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn each_kind_of_compression_is_undone() {
        let folder = tempfile::tempdir().unwrap();
        let module = b"\x7fELF and so on".repeat(100);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&module).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&module).unwrap();
        let files = [
            ("gz", gz.finish().unwrap()),
            ("xz", xz.finish().unwrap()),
            ("zst", zstd::encode_all(&module[..], 1).unwrap()),
        ];
        for (extension, bytes) in files {
            let path = folder.path().join("module");
            std::fs::write(&path, bytes).unwrap();
            let image = decompressed(File::open(&path).unwrap(), extension).unwrap();
            assert!(image == module, "{extension}");
            let error = decompressed(File::open(&path).unwrap(), "lz4").unwrap_err();
            assert!(error.to_string().contains(".zst"), "{error}");
        }
    }
}
