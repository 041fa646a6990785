//! Images that qemu-img makes, held against what it makes of them itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::Stop;
use crate::image::Expected;

fn qemu_img(arguments: &[&str]) -> Option<()> {
    match Command::new("qemu-img").args(arguments).output() {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "qemu-img {arguments:?}: {errors}");
            Some(())
        }
        Err(error) => {
            eprintln!("skipped: needs qemu-img: {error}");
            None
        }
    }
}

/// A disk with bytes that compress and others that do not, zeros, and an odd end.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; 5 * 1_000_000 / 512 * 512];
    let mut state = 7_u32;
    for (at, byte) in disk[100_000..900_000].iter_mut().enumerate() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = if at % 3 == 0 { (state >> 24) as u8 } else { 7 };
    }
    for byte in &mut disk[2_000_000..2_300_000] {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    let end = disk.len();
    disk[end - 700..].fill(9);
    disk
}

fn made(directory: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    let (raw, image) = (directory.join("raw"), directory.join("qcow2"));
    fs::write(&raw, disk()).unwrap();
    let paths = [raw.to_str()?, image.to_str()?];
    let common = ["convert", "-f", "raw", "-O", "qcow2"];
    qemu_img(&[&common[..], arguments, &paths].concat())?;
    Some(fs::read(image).unwrap())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let place = Place::Local(path.to_owned());
    let file = Qcow2File::open(place, Expected::default(), &Stop::default())?;
    let mut source = Qcow2::open(file)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = source.next()? {
        assert!(!chunk.is_empty());
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(source.total(), Some(bytes.len() as u64));
    Ok(bytes)
}

#[test]
fn whatever_qemu_img_makes_of_a_disk_is_that_disk() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &[][..],
        &["-c"],
        &["-c", "-o", "compression_type=zstd"],
        &["-o", "compat=0.10"],
        &["-c", "-o", "compat=0.10,cluster_size=512"],
        &["-o", "cluster_size=2M"],
        &["-o", "preallocation=full"],
        &["-o", "preallocation=metadata"],
        &["-W", "-m", "16", "-o", "cluster_size=4k"],
        &["-o", "lazy_refcounts=on,refcount_bits=64"],
    ] {
        let Some(_) = made(directory.path(), arguments) else { return };
        assert!(read(&directory.path().join("qcow2")).unwrap() == disk(), "{arguments:?}");
    }
}

#[test]
fn what_was_written_later_and_out_of_order_is_where_it_belongs() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_) = made(directory.path(), &["-c"]) else { return };
    let image = directory.path().join("qcow2");
    let mut expected = disk();
    for (offset, length, pattern) in [(4_000_000, 100_000, 5), (64_000, 200_000, 6), (700, 512, 8)]
    {
        let command = format!("write -P {pattern} {} {length}", offset / 512 * 512);
        let command = command.replace("100000", "99840").replace("200000", "199680");
        let length = length / 512 * 512;
        let written = Command::new("qemu-io").args(["-c", &command]).arg(&image).output();
        if !written.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: needs qemu-io");
            return;
        }
        expected[offset / 512 * 512..][..length].fill(pattern);
    }
    // Zeros without a place of their own, though others are behind them.
    let zero = ["-c", "write -z 131072 262144"];
    assert!(Command::new("qemu-io").args(zero).arg(&image).status().unwrap().success());
    expected[131_072..][..262_144].fill(0);
    assert!(read(&image).unwrap() == expected);
}

#[test]
fn an_image_cut_anywhere_is_refused_or_whole() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["-c"]] {
        let Some(bytes) = made(directory.path(), arguments) else { return };
        let image = directory.path().join("qcow2");
        for eighth in 0..8 {
            fs::write(&image, &bytes[..bytes.len() * eighth / 8]).unwrap();
            let error = read(&image).unwrap_err().to_string();
            let is_told = error.contains("cut short") || error.contains("less than a header");
            assert!(is_told || error.contains("compressed cluster"), "{eighth}: {error}");
        }
    }
}

#[test]
fn images_that_need_another_file_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_) = made(directory.path(), &[]) else { return };
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let backing =
        ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &at("qcow2"), &at("overlay")];
    qemu_img(&backing).unwrap();
    let error = read(&directory.path().join("overlay")).unwrap_err().to_string();
    assert!(error.contains("backing file") && error.contains("qemu-img convert"), "{error}");
    let data = format!("data_file={}", at("data"));
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", &data, &at("external"), "1M"]).unwrap();
    let error = read(&directory.path().join("external")).unwrap_err().to_string();
    assert!(error.contains("external data file"), "{error}");
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", "extended_l2=on", &at("sub"), "1M"]).unwrap();
    let error = read(&directory.path().join("sub")).unwrap_err().to_string();
    assert!(error.contains("extended L2"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_damage_makes_it_panic_or_spin(at in 0..400_000_usize, with in any::<[u8; 8]>()) {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("small");
        if Command::new("qemu-img").arg("--version").output().is_err() {
            return Ok(());
        }
        let raw = directory.path().join("raw");
        fs::write(&raw, &disk()[..1 << 20]).unwrap();
        qemu_img(&["convert", "-c", "-O", "qcow2", raw.to_str().unwrap(), image.to_str().unwrap()]);
        let mut bytes = fs::read(&image).unwrap();
        let at = at % (bytes.len() - 8);
        // A disk of any size is read to its end, however long that takes.
        prop_assume!(!(17..32).contains(&at));
        bytes[at..at + 8].copy_from_slice(&with);
        fs::write(&image, bytes).unwrap();
        let _ = read(&image);
    }
}
