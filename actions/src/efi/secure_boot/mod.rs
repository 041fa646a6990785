//! Secure Boot: makes the firmware start the image's loader, and nothing that is not signed.
//!
//! ```text
//! the job's PEM, the image's db.cer against its digest, SetupMode
//!     -> db: what is there, and the image's   -> KEK: what is there, and its own   -> PK
//!        write, read back                        write, read back                     last: it ends
//!                                                                                     Setup Mode
//! ```
//!
//! In Setup Mode the firmware takes these variables without a signature; `PK` closes it. What fails
//! before that is undone. Removing goes by the same kind of write, with no data.
//!
//! - [`signature_list`]: what the variables hold; [`authenticated`]: how they are written.
//! - [`certificate`]: what is put in; [`platform_key`]: a `PK` that nobody owns; [`der`]: for both.

pub(super) mod authenticated;
mod certificate;
mod der;
mod error;
mod platform_key;
mod signature_list;
#[cfg(test)]
mod tests;

use nibs_job::HexDigest;
use nibs_job::params::SecureBoot;
use sha2::{Digest, Sha256};

pub use self::error::{Error, Mode};

use self::certificate::Certificate;
use self::platform_key::PlatformKey;
use super::{Variable, VariableError, VariableFault, Variables};

const SETUP_MODE: &str = "SetupMode";
const SIGNATURE_DATABASE: &str = "db";
const KEY_EXCHANGE_KEYS: &str = "KEK";
const PLATFORM_KEY: &str = "PK";

/// What came of an enrolment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Enrolled {
    /// What was done, a line each.
    pub changes: Vec<String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// Whether [`enrol`] can do what `params` ask for, as far as that shows without the image. To be
/// asked before anything is written to the machine.
pub fn check(params: &SecureBoot, variables: &dyn Variables) -> Result<(), Error> {
    let keys = Keys::decode(params)?;
    match mode(variables)? {
        Mode::Setup => Ok(()),
        Mode::User if keys.are_enrolled(variables)? => Ok(()),
        other => Err(Error::NotInSetupMode(other)),
    }
}

/// Enrols `db_cer`, the content of the image's `EFI/BOOT/db.cer`, and the keys of `params`. Secure
/// Boot is on from the next start. Firmware that trusts all of them already is left as it is.
pub fn enrol(
    params: &SecureBoot,
    db_cer: &[u8],
    variables: &mut dyn Variables,
) -> Result<Enrolled, Error> {
    let keys = Keys::decode(params)?;
    let found = HexDigest(Sha256::digest(db_cer).into());
    if found != params.db_sha256 {
        return Err(Error::Digest { expected: params.db_sha256, found });
    }
    let of_image = Certificate::from_der(db_cer).map_err(|cause| Error::Certificate {
        place: "the image's EFI/BOOT/db.cer",
        cause: cause.into(),
    })?;
    match mode(variables)? {
        Mode::Setup => {}
        Mode::User if keys.are_enrolled(variables)? => {
            let changes = vec!["the firmware trusts the image's certificate already".to_owned()];
            return Ok(Enrolled { changes, ..Enrolled::default() });
        }
        other => return Err(Error::NotInSetupMode(other)),
    }
    let mut enrolled = Enrolled::default();
    let steps = plan(keys, of_image, variables, &mut enrolled)?;
    for (done, step) in steps.iter().enumerate() {
        step.take(variables).map_err(|cause| undo(&steps[..=done], &cause, variables))?;
        enrolled.changes.push(step.what.clone());
    }
    match mode(variables) {
        Ok(Mode::User) => enrolled.changes.push("Secure Boot is on from the next start".into()),
        _ => enrolled.warnings.push(
            "the firmware has taken all Secure Boot keys, and yet is not in User Mode; see whether \
             Secure Boot is on after the next start"
                .into(),
        ),
    }
    Ok(enrolled)
}

/// The keys of a job.
#[derive(Debug)]
struct Keys {
    db_sha256: HexDigest<32>,
    db: Vec<Certificate>,
    kek: Vec<Certificate>,
    pk: Option<Certificate>,
}

impl Keys {
    fn decode(params: &SecureBoot) -> Result<Self, Error> {
        let decode = |place, text: &Option<String>| match text {
            Some(text) => {
                Certificate::from_pem(text).map_err(|cause| Error::Certificate { place, cause })
            }
            None => Ok(Vec::new()),
        };
        const PK: &str = "secure-boot.pk";
        let mut pk = decode(PK, &params.pk)?;
        if pk.len() > 1 {
            let cause = format!("it has {} certificates, expected one", pk.len());
            return Err(Error::Certificate { place: PK, cause });
        }
        Ok(Self {
            db_sha256: params.db_sha256,
            db: decode("secure-boot.db", &params.db)?,
            kek: decode("secure-boot.kek", &params.kek)?,
            pk: pk.pop(),
        })
    }

    /// Whether the firmware has all that the job names.
    fn are_enrolled(&self, variables: &dyn Variables) -> Result<bool, Error> {
        let has = |variable, wanted: &[Certificate]| {
            let data = data(variables, variable)?;
            let certificates = certificates(variable, &data)?;
            Ok::<_, Error>(wanted.iter().all(|wanted| certificates.contains(&wanted.der())))
        };
        let db = data(variables, SIGNATURE_DATABASE)?;
        let is_images = |der: &&[u8]| self.db_sha256.0[..] == *Sha256::digest(der);
        Ok(certificates(SIGNATURE_DATABASE, &db)?.iter().any(is_images)
            && has(SIGNATURE_DATABASE, &self.db)?
            && has(KEY_EXCHANGE_KEYS, &self.kek)?
            && has(PLATFORM_KEY, self.pk.as_slice())?)
    }
}

/// One variable to be written.
#[derive(Debug)]
struct Step {
    variable: &'static str,
    /// Its data before.
    before: Vec<u8>,
    /// Its data to be.
    after: Vec<u8>,
    write: Variable,
    /// What has been done when it is done.
    what: String,
    /// What can be done if the firmware refuses it.
    hint: &'static str,
}

impl Step {
    /// Adds `wanted` to what `variable` holds; none if it holds them all.
    fn add(
        variable: &'static str,
        wanted: &[Certificate],
        variables: &dyn Variables,
    ) -> Result<Option<Self>, Error> {
        let before = data(variables, variable)?;
        let present = certificates(variable, &before)?;
        let is_new = |wanted: &&Certificate| !present.contains(&wanted.der());
        let new: Vec<_> = wanted.iter().filter(is_new).map(signature_list::of).collect();
        if new.is_empty() {
            return Ok(None);
        }
        let what = match present.len() {
            0 => format!("certificates in {variable}: {}", new.len()),
            kept => format!("certificates in {variable}: {} besides {kept} kept", new.len()),
        };
        let after = [&before[..], &new.concat()].concat();
        let write = authenticated::write(&after, &[]);
        Ok(Some(Self { variable, before, after, write, what, hint: "" }))
    }

    /// The platform key: `owner`'s, or the machine's own.
    fn platform_key(owner: Option<Certificate>) -> Result<Self, Error> {
        let (after, signature, what, hint) = match owner {
            Some(owner) => (
                signature_list::of(&owner),
                Vec::new(),
                "platform key: the job's",
                "; this firmware may want the platform key's own signature, which only its owner \
                 can make: leave out secure-boot.pk, and the machine makes a key of its own",
            ),
            None => {
                let key = PlatformKey::generate().map_err(|_| Error::NoKey)?;
                let after = signature_list::of(key.certificate());
                let signed = authenticated::signed_content(PLATFORM_KEY, &after);
                let signature = key.sign(&signed).map_err(|_| Error::NoKey)?;
                (after, signature, "platform key: made here, its private half forgotten", "")
            }
        };
        let write = authenticated::write(&after, &signature);
        let (before, what) = (Vec::new(), what.to_owned());
        Ok(Self { variable: PLATFORM_KEY, before, after, write, what, hint })
    }

    fn take(&self, variables: &mut dyn Variables) -> Result<(), Cause> {
        write_and_compare(self.variable, &self.write, &self.after, variables)
    }

    fn undo(&self, variables: &mut dyn Variables) -> Result<(), Cause> {
        let write = authenticated::write(&self.before, &[]);
        match variables.read(self.variable)? {
            None if self.before.is_empty() => Ok(()),
            Some(found) if found.data == self.before => Ok(()),
            _ => write_and_compare(self.variable, &write, &self.before, variables),
        }
    }
}

/// Why a variable is not as wanted.
#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Variable(#[from] VariableError),
    #[error(
        "reading back EFI variable {variable}: found {found} bytes, not the {expected} written"
    )]
    NotKept { variable: &'static str, expected: usize, found: usize },
}

fn write_and_compare(
    variable: &'static str,
    write: &Variable,
    data: &[u8],
    variables: &mut dyn Variables,
) -> Result<(), Cause> {
    variables.write(variable, write)?;
    let found = variables.read(variable)?.map(|found| found.data).unwrap_or_default();
    if found == data {
        return Ok(());
    }
    Err(Cause::NotKept { variable, expected: data.len(), found: found.len() })
}

/// What is to be written, in its order. Nothing is, if an error is found.
fn plan(
    keys: Keys,
    of_image: Certificate,
    variables: &dyn Variables,
    enrolled: &mut Enrolled,
) -> Result<Vec<Step>, Error> {
    let kek = if keys.kek.is_empty() { vec![of_image.clone()] } else { keys.kek };
    let mut db = keys.db;
    let is_alone = db.is_empty() && data(variables, SIGNATURE_DATABASE)?.is_empty();
    if is_alone {
        enrolled.warnings.push(
            "db holds the image's certificate alone: the firmware will not run the option ROMs of \
             cards; if one is needed to start, add its maker's certificate (secure-boot.db)"
                .into(),
        );
    }
    db.insert(0, of_image);
    let mut steps = Vec::new();
    steps.extend(Step::add(SIGNATURE_DATABASE, &db, variables)?);
    steps.extend(Step::add(KEY_EXCHANGE_KEYS, &kek, variables)?);
    steps.push(Step::platform_key(keys.pk)?);
    Ok(steps)
}

/// Takes `steps` back, of which the last failed for `cause`, as far as the firmware lets it.
fn undo(steps: &[Step], cause: &Cause, variables: &mut dyn Variables) -> Error {
    let failed = &steps[steps.len() - 1];
    let state = if matches!(mode(variables), Ok(Mode::Setup)) {
        let mut left = Vec::new();
        for step in steps.iter().rev() {
            if let Err(error) = step.undo(variables) {
                left.push(format!("{} ({error})", step.variable));
            }
        }
        match &left[..] {
            [] => "what was written before is undone, and the firmware still in Setup Mode".into(),
            _ => format!(
                "the firmware is still in Setup Mode, but these variables could not be put back: \
                 {}; clear the keys in the firmware's setup",
                left.join(", ")
            ),
        }
    } else {
        "the firmware is no longer in Setup Mode, so db and KEK stay as written; clear the keys in \
         the firmware's setup"
            .to_owned()
    };
    let is_refused =
        matches!(cause, Cause::Variable(error) if error.fault == VariableFault::Refused);
    let hint = if is_refused { failed.hint } else { "" };
    Error::NotTaken {
        variable: failed.variable,
        cause: cause.to_string(),
        state: format!("{state}{hint}"),
    }
}

fn mode(variables: &dyn Variables) -> Result<Mode, Error> {
    Ok(match variables.read(SETUP_MODE).map_err(Error::Unreadable)? {
        Some(variable) if variable.data == [1] => Mode::Setup,
        Some(_) => Mode::User,
        None => Mode::Unsupported,
    })
}

fn data(variables: &dyn Variables, variable: &str) -> Result<Vec<u8>, Error> {
    let found = variables.read(variable).map_err(Error::Unreadable)?;
    Ok(found.map(|found| found.data).unwrap_or_default())
}

fn certificates<'a>(variable: &'static str, data: &'a [u8]) -> Result<Vec<&'a [u8]>, Error> {
    signature_list::certificates(data).map_err(|cause| Error::Malformed { variable, cause })
}
