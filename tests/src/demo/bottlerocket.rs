//! The Bottlerocket-shaped image: its job, and what its init says on the console.
//!
//! Each line starts with `nibs-demo: `; then `sha256 HEX PATH` and `mode OCTAL PATH` for each file
//! of the private partition, `cmdline TEXT`, `bootconfig TEXT`, `data blank`, `gpt ok`, and at the
//! end `ready` or `error TEXT`.

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use nibs_job::{Job, Task, params::NewFile};
use sha2::{Digest, Sha256};

use super::{Story, fill};
use crate::artefacts::DiskImage;
use crate::machine::Machine;
use crate::report::Report;

/// What the console says when everything was printed.
pub const UP: &str = "nibs-demo: ready";

const PREFIX: &str = "nibs-demo: ";
const TEMPLATE: &str = include_str!("../../data/bottlerocket.toml");
const BOOTCONFIG: &str = include_str!("../../data/bottlerocket.bootconfig");
/// What [`BOOTCONFIG`] makes of the kernel's command line, if the kernel took it.
const PARAMETER: &str = "nibs.demo=";
/// The same in `/proc/bootconfig`.
const KEY: &str = "kernel.nibs.demo = \"installed\"";

/// The job that installs it.
pub fn job(image: &DiskImage, url: &str) -> Result<Job> {
    let bootconfig = nibs_bottlerocket::bootconfig::pack(BOOTCONFIG)
        .context("packing the boot configuration")?;
    fill(
        TEMPLATE,
        &[
            ("image-url", url),
            ("image-sha256", &image.manifest.sha256),
            ("bootconfig", &BASE64_STANDARD.encode(bootconfig)),
        ],
    )
}

/// Holds what the installed system printed against what the job says.
pub fn verify(report: &mut Report, job: &Job, story: &Story, machine: &Machine) {
    let lines = machine.console.lines(story.installed_from());
    let said: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.text.split_once(PREFIX).map(|(_, text)| text.trim_end()))
        .collect();
    verify_said(report, job, &said);
}

fn verify_said(report: &mut Report, job: &Job, said: &[&str]) {
    for file in files(job) {
        let path = file.path.display();
        let bytes = file.content.bytes().expect("a decoded job's content is valid");
        let digest = hex::encode(Sha256::digest(bytes));
        let digest_found = value(said, "sha256", &path.to_string());
        report.check(
            format!("{path} digest"),
            digest_found.unwrap_or("no such file"),
            digest_found == Some(&digest),
        );
        let mode_found = value(said, "mode", &path.to_string());
        report.check(
            format!("{path} mode"),
            mode_found.unwrap_or("no such file"),
            mode_found == Some(&String::from(file.mode)),
        );
    }
    let cmdline = said.iter().find_map(|text| text.strip_prefix("cmdline ")).unwrap_or_default();
    report.check("kernel command line", cmdline, cmdline.contains(PARAMETER));
    for (name, expected) in [
        ("boot configuration", format!("bootconfig {KEY}")),
        ("data partition", "data blank".to_owned()),
        ("both partition tables", "gpt ok".to_owned()),
    ] {
        let kind = expected.split(' ').next().unwrap_or_default();
        let of_kind = || said.iter().copied().filter(|text| text.split(' ').next() == Some(kind));
        let passed = of_kind().any(|text| text == expected);
        let found = if passed { expected } else { of_kind().collect::<Vec<_>>().join("; ") };
        report.check(name, found, passed);
    }
}

/// The files that a job writes.
fn files(job: &Job) -> impl Iterator<Item = &NewFile> {
    job.actions.iter().flat_map(|action| match &action.task {
        Task::WriteFiles(with) => with.files.as_slice(),
        _ => &[],
    })
}

/// The value in a line `KIND VALUE PATH`.
fn value<'a>(said: &[&'a str], kind: &str, path: &str) -> Option<&'a str> {
    said.iter().find_map(|text| {
        let (found, rest) = text.split_once(' ')?;
        let (value, of) = rest.split_once(' ')?;
        (found == kind && of == path).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artefacts::Manifest;

    fn demo_job() -> Job {
        let manifest = Manifest { size: 1, sha256: "ab".repeat(32), uncompressed_size: 1 };
        let image = DiskImage { path: "image".into(), manifest };
        job(&image, "http://10.77.0.1/image").unwrap()
    }

    fn good(job: &Job) -> Vec<String> {
        let mut said = Vec::new();
        for file in files(job) {
            let digest = hex::encode(Sha256::digest(file.content.bytes().unwrap()));
            said.push(format!("mode {} {}", String::from(file.mode), file.path.display()));
            said.push(format!("sha256 {digest} {}", file.path.display()));
        }
        said.push("cmdline nibs.demo=\"installed\" bootconfig ro".to_owned());
        said.extend([format!("bootconfig {KEY}"), "data blank".to_owned(), "gpt ok".to_owned()]);
        said
    }

    fn passes(said: &[String]) -> bool {
        let mut report = Report::default();
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        verify_said(&mut report, &demo_job(), &said);
        report.checks.iter().all(|check| check.passed)
    }

    #[test]
    fn what_was_installed_as_asked_passes() {
        assert!(passes(&good(&demo_job())));
    }

    #[test]
    fn each_line_that_is_absent_or_wrong_fails() {
        let good = good(&demo_job());
        for index in 0..good.len() {
            let mut without = good.clone();
            let line = without.remove(index);
            assert!(!passes(&without), "without {line:?}");
        }
        let mut moved = good.clone();
        *moved.last_mut().unwrap() = "gpt the backup header is not at the disk's end".to_owned();
        assert!(!passes(&moved));
    }
}
