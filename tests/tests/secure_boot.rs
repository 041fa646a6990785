//! Secure Boot on a machine in Setup Mode: the agent enrols the image's certificate, and from the
//! next start the firmware boots what that has signed, and nothing else.
//!
//! The image is the demo's, whose ESP gets a certificate made here and, as its loader, the lab's
//! kernel, which is an EFI program: GRUB would need a chain of its own for what it loads.
//!
//! Needs what the other tests of machines need, and openssl and sbsigntool besides.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::artefacts::{Artefacts, missing_programs};
use lab::demo::{self, Story, System, bottlerocket};
use lab::firmware::Firmware;
use lab::machine::Machine;
use lab::nvram::IMAGE_SECURITY;
use lab::rack::Rack;
use lab::trial::in_the_lab;
use nibs_bottlerocket::partitions::METAL_DEV;
use nibs_job::params::SecureBoot;
use nibs_job::{Class, Outcome, Task};
use sha2::{Digest, Sha256};

const PROGRAMS: [&str; 5] = ["openssl", "sbsign", "lz4", "mcopy", "mmd"];
/// From power-on until the installed system is up, or is refused.
const PATIENCE: Duration = Duration::from_secs(400);
const TEMPLATE: &str = include_str!("../data/secure-boot.toml");
/// The image's own word on its loader, and with it the kernel's command line.
const BOOT_CSV: &str = "loader.efi,Lab,root=PARTLABEL=BOTTLEROCKET-ROOT-A ro rootwait \
                        init=/sbin/init console=ttyS0 panic=10,\n";
/// What the kernel says of a firmware that checks signatures.
const SECURE: &str = "Secure boot enabled";
/// What OVMF says of a loader that nobody it trusts has signed.
const REFUSED: &str = "Access Denied";

fn run(directory: &Path, program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).env("MTOOLS_SKIP_CHECK", "1");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
}

/// Bytes before the demo image's EFI system partition.
fn esp_offset() -> u64 {
    let before = METAL_DEV.iter().take_while(|partition| partition.name != "EFI-SYSTEM");
    (1 + before.map(|partition| partition.mib).sum::<u64>()) << 20
}

/// Makes `image.lz4` with a certificate, `db.cer`, whose key has signed the loader or has not.
fn make_image(artefacts: &Artefacts, is_signed: bool, directory: &Path) -> PathBuf {
    let run = |program, arguments: &[&str]| run(directory, program, arguments);
    let path = |file: PathBuf| fs::canonicalize(file).unwrap().display().to_string();
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lab"];
    run("openssl", &[&new[..], &["-keyout", "db.key", "-out", "db.pem"]].concat());
    run("openssl", &["x509", "-in", "db.pem", "-outform", "DER", "-out", "db.cer"]);
    let kernel = path(artefacts.kernel());
    if is_signed {
        let keys = ["--key", "db.key", "--cert", "db.pem"];
        run("sbsign", &[&keys[..], &["--output", "loader.efi", &kernel]].concat());
    } else {
        fs::copy(&kernel, directory.join("loader.efi")).unwrap();
    }
    fs::write(directory.join("BOOTX64.CSV"), BOOT_CSV).unwrap();

    let demo = path(artefacts.image(System::Bottlerocket.image()).unwrap().path);
    run("lz4", &["-d", "-q", "-f", &demo, "image"]);
    let esp = format!("image@@{}", esp_offset());
    run("mmd", &["-i", &esp, "::/EFI/lab"]);
    run("mcopy", &["-i", &esp, "loader.efi", "BOOTX64.CSV", "::/EFI/lab/"]);
    run("mcopy", &["-i", &esp, "db.cer", "::/EFI/BOOT/"]);
    run("lz4", &["-q", "-f", "image", "image.lz4"]);
    directory.join("image.lz4")
}

fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).unwrap()))
}

/// Installs such an image on a machine in Setup Mode, by a job that `change` may alter, and follows
/// it until the job has failed, or until its console says `text` after the end of the job. Gives
/// how the job ended, and what the console said from there on.
fn install(
    is_signed: bool,
    change: impl FnOnce(&mut SecureBoot),
    text: &str,
    directory: &Path,
) -> (Machine, Outcome, Vec<String>) {
    let artefacts = Artefacts::find();
    let mut rack = Rack::set_up_with(Firmware::in_setup_mode(), &artefacts, directory).unwrap();
    let image = make_image(&artefacts, is_signed, directory);
    let values = [
        ("image-url", rack.control.serve(&image).unwrap()),
        ("image-sha256", sha256(&image)),
        ("db-sha256", sha256(&directory.join("db.cer"))),
    ];
    let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut job = demo::fill(TEMPLATE, &values).unwrap();
    let Task::Bottlerocket(params) = &mut job.actions[0].task else { panic!("{job:?}") };
    change(params.secure_boot.as_mut().unwrap());
    let hardware = demo::hardware(&rack, System::Bottlerocket.memory());
    rack.control.assign(&job, &hardware.id()).unwrap();

    let mut machine = rack.power_on(&hardware).unwrap();
    let mut story = Story::new(&job);
    let said = |story: &Story, machine: &Machine| -> Vec<String> {
        let lines = machine.console.lines(story.installed_from());
        lines.into_iter().map(|line| line.text).collect()
    };
    let done = |story: &Story, machine: &Machine| match story.outcome() {
        None => false,
        Some(Outcome::Failed { .. }) => true,
        Some(_) => said(story, machine).iter().any(|line| line.contains(text)),
    };
    story.follow_until(&mut rack, &mut machine, PATIENCE, done).unwrap();
    let outcome = story.outcome().unwrap().clone();
    let said = said(&story, &machine);
    (machine, outcome, said)
}

fn contains(variable: Option<&[u8]>, bytes: &[u8]) -> bool {
    variable.is_some_and(|data| data.windows(bytes.len()).any(|window| window == bytes))
}

fn in_a_lab_that_signs(test: &str, body: impl FnOnce(&Path)) {
    let mut missing: Vec<String> =
        missing_programs(&PROGRAMS).into_iter().map(str::to_owned).collect();
    let code = Firmware::in_setup_mode().code;
    if !code.exists() {
        missing.push(code.display().to_string());
    }
    if !missing.is_empty() {
        eprintln!("skipped: {test}: missing: {} (run `./build.sh deps`)", missing.join(", "));
        return;
    }
    in_the_lab(test, System::Bottlerocket, body);
}

#[test]
fn what_the_images_key_signed_boots_with_secure_boot_on() {
    in_a_lab_that_signs("what_the_images_key_signed_boots_with_secure_boot_on", |directory| {
        let (machine, outcome, said) = install(true, |_| {}, bottlerocket::UP, directory);
        assert_eq!(outcome, Outcome::Succeeded);
        assert!(said.iter().any(|line| line.contains(SECURE)), "{said:#?}");
        let certificate = fs::read(directory.join("db.cer")).unwrap();
        let nvram = machine.nvram().unwrap();
        assert!(contains(nvram.get_of(&IMAGE_SECURITY, "db"), &certificate));
        assert!(contains(nvram.get("KEK"), &certificate));
        assert!(contains(nvram.get("PK"), b"Nibs platform key"));
    });
}

#[test]
fn what_nobody_signed_is_refused_by_the_firmware() {
    in_a_lab_that_signs("what_nobody_signed_is_refused_by_the_firmware", |directory| {
        let (_machine, outcome, said) = install(false, |_| {}, REFUSED, directory);
        assert_eq!(outcome, Outcome::Succeeded);
        let names_it = |line: &String| line.contains(REFUSED) && line.contains("loader.efi");
        assert!(said.iter().any(names_it), "{said:#?}");
        let has_started = |line: &String| line.contains("Linux version");
        assert!(!said.iter().any(has_started), "{said:#?}");
    });
}

/// OVMF is EDK II, which wants an owner's key to sign itself; the agent has no owner's key.
#[test]
fn a_platform_key_that_the_firmware_refuses_leaves_no_keys() {
    in_a_lab_that_signs("a_platform_key_that_the_firmware_refuses_leaves_no_keys", |directory| {
        let with_owner = |params: &mut SecureBoot| {
            params.pk = Some(fs::read_to_string(directory.join("db.pem")).unwrap());
        };
        let (machine, outcome, _) = install(true, with_owner, bottlerocket::UP, directory);
        let Outcome::Failed { class: Class::Environment, message } = outcome else {
            panic!("{outcome}")
        };
        assert!(message.contains("writing EFI variable PK: the firmware refuses it"), "{message}");
        assert!(message.contains("is undone, and the firmware still in Setup Mode"), "{message}");
        let nvram = machine.nvram().unwrap();
        assert_eq!((nvram.get("KEK"), nvram.get("PK")), (None, None));
        assert_eq!(nvram.get_of(&IMAGE_SECURITY, "db"), None);
    });
}
