//! `nibs check`: is it right, without doing any of it?

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nibs_bottlerocket::bootconfig;
use nibs_bottlerocket::check::PrivateFile;
use nibs_bottlerocket::diagnostic::Diagnostic;
use nibs_bottlerocket::net_toml;
use nibs_bottlerocket::user_data::{self, Variant};
use semver::Version;
use serde::Serialize;

use super::job_file::JobFile;
use super::{Exit, Usage};
use crate::cli::{Check, Subject};

/// More than any of the checks takes, so that each can say how much it takes.
const READ_AT_MOST: u64 = user_data::MAX_BYTES as u64 + 1;

/// What is said in place of a name for what comes in on stdin.
const STDIN: &str = "<stdin>";

/// `nibs check`
pub(super) fn check(what: Check, json: bool) -> anyhow::Result<Exit> {
    match what {
        Check::Job { subject } => job(&subject, json),
        Check::NetToml { subject, release } => {
            file(&subject, json, |bytes| net_toml::check(bytes, release.as_ref()).diagnostics)
        }
        Check::UserData { subject, release, variant } => {
            let variant = variant.as_deref().and_then(known_variant);
            file(&subject, json, |bytes| user_data(bytes, variant, release))
        }
        Check::Bootconfig { subject } => {
            file(&subject, json, |bytes| bootconfig::check(bytes).findings)
        }
    }
}

/// The family of a variant. People build variants of their own, so another name is no mistake.
fn known_variant(name: &str) -> Option<Variant> {
    let variant = Variant::of_image(name);
    if variant.is_none() {
        eprintln!("nibs: {name} is no variant of Bottlerocket's own; taking settings of any");
    }
    variant
}

fn user_data(
    bytes: &[u8],
    variant: Option<Variant>,
    os_version: Option<Version>,
) -> Vec<Diagnostic> {
    match user_data::decode(bytes) {
        Ok(decoded) => {
            let options = user_data::Options { variant, os_version, static_network: false };
            user_data::check(&decoded.text, &options)
        }
        Err(error) => vec![Diagnostic::error(None, "", error.to_string())],
    }
}

fn file(
    subject: &Subject,
    json: bool,
    check: impl FnOnce(&[u8]) -> Vec<Diagnostic>,
) -> anyhow::Result<Exit> {
    let found = check(&read(&subject.file)?).into_iter();
    let findings = found.map(|diagnostic| Finding { file: None, diagnostic }).collect();
    report(subject, findings, "valid", json)
}

fn job(subject: &Subject, json: bool) -> anyhow::Result<Exit> {
    let (findings, valid) = match JobFile::read(&subject.file)?.parse() {
        Ok(job) => {
            let found = nibs_precheck::check(&job)
                .into_iter()
                .map(|found| Finding { file: Some(found.file), diagnostic: found.diagnostic });
            (found.collect(), format!("job {} is valid", job.id))
        }
        Err(error) => {
            let diagnostic = Diagnostic::error(None, "", error.to_string());
            (vec![Finding { file: None, diagnostic }], String::new())
        }
    };
    report(subject, findings, &valid, json)
}

/// Something wrong in what is checked, or in a file that is inside of it.
#[derive(Debug, Serialize)]
struct Finding {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PrivateFile>,
    #[serde(flatten)]
    diagnostic: Diagnostic,
}

/// Says what was found: as JSON on stdout, or as lines on stderr.
fn report(
    subject: &Subject,
    mut findings: Vec<Finding>,
    valid: &str,
    json: bool,
) -> anyhow::Result<Exit> {
    if subject.strict {
        findings.iter_mut().for_each(|found| found.diagnostic.make_strict());
    }
    let is_valid = !findings.iter().any(|found| found.diagnostic.is_error());
    let name = name(&subject.file);
    if json {
        println!("{}", serde_json::to_string(&findings)?);
    } else {
        for Finding { file, diagnostic } in &findings {
            match file {
                Some(inside) => eprintln!("{name}: {}", diagnostic.in_file(inside)),
                None => eprintln!("{}", diagnostic.in_file(&name)),
            }
        }
        if is_valid {
            println!("{name}: {valid}");
        }
    }
    Ok(if is_valid { Exit::Done } else { Exit::Failed })
}

fn name(path: &Path) -> String {
    if path == Path::new("-") { STDIN.to_owned() } else { path.display().to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>, Usage> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().take(READ_AT_MOST).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(READ_AT_MOST).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Usage(format!("reading {}: {error}", name(path)))),
    }
}
