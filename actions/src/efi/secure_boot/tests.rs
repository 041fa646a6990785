//! Enrolment against the firmware's twin in memory.

use nibs_job::Class;

use super::certificate::tests::outline;
use super::*;
use crate::efi::{Attributes, MemoryVariables};

/// The PEM of `outline(2)`, `outline(3)` and `outline(4)`.
fn pem(tag: u8) -> String {
    let body = ["MAswAwIBAjAAAwIAAQ==", "MAswAwIBAzAAAwIAAQ==", "MAswAwIBBDAAAwIAAQ=="];
    let body = body[usize::from(tag) - 2];
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

/// A job that names no more than the image's certificate, which is `outline(1)`.
fn plain() -> SecureBoot {
    SecureBoot {
        db_sha256: HexDigest(Sha256::digest(outline(1).der()).into()),
        db: None,
        kek: None,
        pk: None,
    }
}

/// A job that names them all.
fn full() -> SecureBoot {
    SecureBoot { db: Some(pem(2)), kek: Some(pem(3)), pk: Some(pem(4)), ..plain() }
}

fn firmware(setup_mode: u8) -> MemoryVariables {
    let mut firmware = MemoryVariables::default();
    set(&mut firmware, SETUP_MODE, vec![setup_mode]);
    firmware
}

fn set(firmware: &mut MemoryVariables, name: &str, data: Vec<u8>) {
    let variable = Variable { attributes: Attributes::AUTHENTICATED, data };
    firmware.variables.insert(name.into(), variable);
}

fn held(firmware: &MemoryVariables, name: &str) -> Vec<Vec<u8>> {
    let Some(variable) = firmware.variables.get(name) else { return Vec::new() };
    assert_eq!(variable.attributes.0, 0x27);
    let certificates = signature_list::certificates(&variable.data).unwrap();
    certificates.into_iter().map(<[u8]>::to_vec).collect()
}

fn ders<const N: usize>(tags: [u8; N]) -> Vec<Vec<u8>> {
    tags.map(|tag| outline(tag).der().to_owned()).into()
}

fn enrol_image(params: &SecureBoot, firmware: &mut MemoryVariables) -> Result<Enrolled, Error> {
    enrol(params, outline(1).der(), firmware)
}

#[test]
fn every_key_of_the_job_comes_to_its_place_and_ends_setup_mode() {
    let mut firmware = firmware(1);
    check(&full(), &firmware).unwrap();
    let enrolled = enrol_image(&full(), &mut firmware).unwrap();
    assert_eq!(held(&firmware, "db"), ders([1, 2]));
    assert_eq!(held(&firmware, "KEK"), ders([3]));
    assert_eq!(held(&firmware, "PK"), ders([4]));
    assert_eq!(mode(&firmware).unwrap(), Mode::User);
    assert_eq!(enrolled.warnings, [""; 0]);
    assert_eq!(enrolled.changes.len(), 4);
    assert_eq!(enrolled.changes[3], "Secure Boot is on from the next start");
}

#[test]
fn without_an_owner_the_platform_key_is_new_and_signs_itself() {
    let mut firmware = firmware(1);
    firmware.wants_signed_platform_key = true;
    let enrolled = enrol_image(&plain(), &mut firmware).unwrap();
    assert_eq!(held(&firmware, "db"), ders([1]));
    assert_eq!(held(&firmware, "KEK"), ders([1]));
    let [key] = &held(&firmware, "PK")[..] else { panic!("one platform key") };
    assert!(Certificate::from_der(key).is_ok());
    assert!(key.len() > 600, "{}", key.len());
    assert!(enrolled.warnings[0].contains("option ROM"), "{enrolled:?}");
}

#[test]
fn what_is_there_in_setup_mode_is_kept() {
    let mut firmware = firmware(1);
    set(
        &mut firmware,
        "db",
        [signature_list::of(&outline(8)), signature_list::of(&outline(1))].concat(),
    );
    set(&mut firmware, "KEK", signature_list::of(&outline(9)));
    let enrolled = enrol_image(&full(), &mut firmware).unwrap();
    assert_eq!(held(&firmware, "db"), ders([8, 1, 2]));
    assert_eq!(held(&firmware, "KEK"), ders([9, 3]));
    assert_eq!(enrolled.changes[0], "certificates in db: 1 besides 2 kept");
}

#[test]
fn a_second_time_changes_nothing() {
    for params in [plain(), full()] {
        let mut firmware = firmware(1);
        enrol_image(&params, &mut firmware).unwrap();
        let (before, changes) = (firmware.variables.clone(), firmware.changes);
        check(&params, &firmware).unwrap();
        let enrolled = enrol_image(&params, &mut firmware).unwrap();
        assert_eq!(enrolled.changes, ["the firmware trusts the image's certificate already"]);
        assert_eq!((&firmware.variables, firmware.changes), (&before, changes));
    }
}

#[test]
fn user_mode_and_no_secure_boot_are_refused_with_the_reason() {
    let without = SecureBoot { kek: None, ..full() };
    let mut foreign = firmware(1);
    enrol_image(&without, &mut foreign).unwrap();
    for (mut firmware, mode, reason) in [
        (firmware(0), Mode::User, "clear the platform key"),
        (foreign, Mode::User, "clear the platform key"),
        (MemoryVariables::default(), Mode::Unsupported, "does not support Secure Boot"),
    ] {
        let changes = firmware.changes;
        for error in [
            check(&full(), &firmware).unwrap_err(),
            enrol_image(&full(), &mut firmware).unwrap_err(),
        ] {
            assert!(matches!(error, Error::NotInSetupMode(found) if found == mode), "{error}");
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(error.class(), Class::Environment);
        }
        assert_eq!(firmware.changes, changes);
    }
}

#[test]
fn another_certificate_than_the_jobs_is_refused_with_both_digests() {
    let mut firmware = firmware(1);
    let error = enrol(&plain(), outline(2).der(), &mut firmware).unwrap_err();
    let text = error.to_string();
    for tag in [1, 2] {
        let digest = hex::encode(Sha256::digest(outline(tag).der()));
        assert!(text.contains(&digest), "{text}");
    }
    assert_eq!((error.class(), firmware.changes), (Class::InvalidInput, 0));
}

#[test]
fn what_is_no_certificate_is_named() {
    let digest = |bytes: &[u8]| HexDigest(Sha256::digest(bytes).into());
    let with = |change: fn(&mut SecureBoot)| {
        let mut params = full();
        change(&mut params);
        params
    };
    let mut firmware = firmware(1);
    for (params, db_cer, place) in [
        (SecureBoot { db_sha256: digest(b"PEM"), ..plain() }, &b"PEM"[..], "db.cer"),
        (with(|params| params.db = Some("none".into())), outline(1).der(), "secure-boot.db"),
        (with(|params| params.kek = Some(String::new())), outline(1).der(), "secure-boot.kek"),
        (with(|params| params.pk = Some(pem(2) + &pem(3))), outline(1).der(), "secure-boot.pk"),
    ] {
        let error = enrol(&params, db_cer, &mut firmware).unwrap_err();
        assert!(matches!(error, Error::Certificate { .. }), "{error}");
        assert!(error.to_string().contains(place), "{error}");
        assert_eq!((error.class(), firmware.changes), (Class::InvalidInput, 0));
    }
}

#[test]
fn a_variable_that_cannot_be_added_to_is_left_alone() {
    let mut firmware = firmware(1);
    set(&mut firmware, "KEK", b"rubbish".to_vec());
    let error = enrol_image(&plain(), &mut firmware).unwrap_err();
    assert!(matches!(error, Error::Malformed { variable: "KEK", .. }), "{error}");
    assert_eq!(firmware.changes, 0);
}

#[test]
fn a_failure_at_any_step_leaves_the_keys_of_before() {
    let before = {
        let mut firmware = firmware(1);
        set(&mut firmware, "db", signature_list::of(&outline(8)));
        firmware.variables
    };
    for name in ["db", "KEK", "PK"] {
        for forgets in [false, true] {
            let mut firmware = firmware(1);
            firmware.variables = before.clone();
            let fault = if forgets { &mut firmware.forgets } else { &mut firmware.refuses };
            *fault = Some(name.into());
            let error = enrol_image(&full(), &mut firmware).unwrap_err();
            let text = error.to_string();
            let Error::NotTaken { variable, .. } = error else { panic!("{text}") };
            assert_eq!(variable, name);
            assert!(text.contains(&format!("EFI variable {name}")), "{text}");
            assert!(text.contains("is undone, and the firmware still in Setup Mode"), "{text}");
            assert_eq!(firmware.variables, before, "{text}");
        }
    }
}

#[test]
fn an_owner_whose_key_must_sign_is_told_what_to_do() {
    let mut firmware = firmware(1);
    firmware.wants_signed_platform_key = true;
    let error = enrol_image(&full(), &mut firmware).unwrap_err().to_string();
    assert!(error.contains("leave out secure-boot.pk"), "{error}");
    assert_eq!(firmware.variables.len(), 1, "only SetupMode is left");
}

#[test]
fn full_nvram_is_said_and_undone() {
    let mut firmware = firmware(1);
    // Room for db and KEK, and not for a platform key.
    firmware.capacity = Some(400);
    let error = enrol_image(&plain(), &mut firmware).unwrap_err();
    assert!(error.to_string().contains("NVRAM is full"), "{error}");
    assert_eq!(firmware.variables.len(), 1);
}

/// Firmware that fails for good as soon as KEK is to be written.
#[derive(Debug)]
struct Dying(MemoryVariables);

impl Variables for Dying {
    fn read(&self, name: &str) -> Result<Option<Variable>, VariableError> {
        self.0.read(name)
    }
    fn write(&mut self, name: &str, variable: &Variable) -> Result<(), VariableError> {
        if name == "KEK" {
            self.0.fails_with = Some(libc::EIO);
        }
        self.0.write(name, variable)
    }
    fn delete(&mut self, name: &str) -> Result<(), VariableError> {
        self.0.delete(name)
    }
    fn list(&self) -> Result<Vec<String>, VariableError> {
        self.0.list()
    }
}

#[test]
fn what_cannot_be_undone_is_named() {
    let mut firmware = Dying(firmware(1));
    let error = enrol(&plain(), outline(1).der(), &mut firmware).unwrap_err().to_string();
    assert!(error.contains("could not be put back: db (writing EFI variable db"), "{error}");
    assert_eq!(held(&firmware.0, "db"), ders([1]));
}

/// Firmware that changes its mode only at the next start.
#[derive(Debug)]
struct Late(MemoryVariables);

impl Variables for Late {
    fn read(&self, name: &str) -> Result<Option<Variable>, VariableError> {
        let mode = Variable { attributes: Attributes(6), data: vec![1] };
        if name == SETUP_MODE { Ok(Some(mode)) } else { self.0.read(name) }
    }
    fn write(&mut self, name: &str, variable: &Variable) -> Result<(), VariableError> {
        self.0.write(name, variable)
    }
    fn delete(&mut self, name: &str) -> Result<(), VariableError> {
        self.0.delete(name)
    }
    fn list(&self) -> Result<Vec<String>, VariableError> {
        self.0.list()
    }
}

#[test]
fn firmware_that_is_still_in_setup_mode_afterwards_is_a_warning() {
    let mut firmware = Late(firmware(1));
    let enrolled = enrol(&full(), outline(1).der(), &mut firmware).unwrap();
    assert!(enrolled.warnings[0].contains("is not in User Mode"), "{enrolled:?}");
    assert_eq!(held(&firmware.0, "PK"), ders([4]));
}
