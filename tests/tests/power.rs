//! Faults under the real agent, kernel and virtio disk: the power goes, sectors cannot be written
//! or read.
//!
//! Each test needs what `./build.sh test` makes, QEMU and namespaces, and says so where it is
//! skipped. `./build.sh test faults [N]` cuts the power N times; `NIBS_SEED` brings moments back.

use std::env;

use lab::artefacts::missing_programs;
use lab::demo::System;
use lab::drive::{Fault, Manner, Request, When};
use lab::faults::reference::Found;
use lab::faults::site::Site;
use lab::faults::{PROGRAMS, Random, cuts, replay};
use lab::trial::in_the_lab;
use nibs_job::{Class, EventKind, Outcome, Task};

/// Says how often the power is cut.
const CUTS: &str = "NIBS_CUTS";
/// How often it is if that says nothing: one moment of either kind.
const CUTS_DEFAULT: u64 = 2;
/// Brings the moments of an earlier run back.
const SEED: &str = "NIBS_SEED";

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn seed() -> u64 {
    number(SEED).unwrap_or_else(Random::seed)
}

/// Runs the body of this test where faults can be tried; says so where they cannot be.
fn at_a_site(test: &str, body: impl FnOnce(&mut Site)) {
    let missing = missing_programs(&PROGRAMS);
    if !missing.is_empty() {
        eprintln!("skipped: {test}: missing: {} (run `./build.sh deps`)", missing.join(", "));
        return;
    }
    in_the_lab(test, System::Bottlerocket, |directory| {
        body(&mut Site::set_up(directory).unwrap());
    });
}

/// All that the tests of one disk need: only the image is written, and the machine goes off.
fn only_the_image(task: &Task) -> bool {
    matches!(task, Task::StreamImage(_) | Task::Reboot(_))
}

#[test]
fn a_power_cut_leaves_no_disk_that_half_boots() {
    at_a_site("a_power_cut_leaves_no_disk_that_half_boots", |site| {
        let count = number(CUTS).unwrap_or(CUTS_DEFAULT) as usize;
        let tally = cuts::run(site, count, seed()).unwrap();
        assert_eq!(tally.old + tally.nothing + tally.whole, count);
    });
}

#[test]
fn a_lost_cache_leaves_no_disk_that_half_boots() {
    at_a_site("a_lost_cache_leaves_no_disk_that_half_boots", |site| {
        site.reference.put_old(&site.disk()).unwrap();
        let assigned = site.assign(only_the_image).unwrap();
        let outcome = site.run(&assigned, Manner::Logged).unwrap();
        assert_eq!(outcome, Outcome::Succeeded);
        site.reference.check_installed(&site.disk(), &assigned.job).unwrap();
        let seed = seed();
        println!("states after a cut, NIBS_SEED={seed}");
        let replayed =
            replay::replay(&site.write_log(), &site.disk(), &site.reference, seed).unwrap();
        println!("{replayed:?}");
        // Cleared; data; what is held back; the seals.
        assert!(replayed.flushes >= 4, "{replayed:?}");
        assert!(replayed.starting > 0 && replayed.states > replayed.starting, "{replayed:?}");
    });
}

/// Runs the job on a disk with a fault; gives how it ended, what was found on the disk, and all
/// that the server has of it.
fn try_with(site: &mut Site, fault: Fault) -> (Outcome, Found, Vec<EventKind>) {
    site.reference.put_old(&site.disk()).unwrap();
    let assigned = site.assign(only_the_image).unwrap();
    let outcome = site.run(&assigned, Manner::Faulty(vec![fault])).unwrap();
    let found = site.reference.look(&site.disk()).unwrap();
    println!("{fault:?}: {outcome}; on the disk: {found:?}");
    (outcome, found, site.events(&assigned).into_iter().map(|event| event.kind).collect())
}

/// Whether a message names a range with this byte, by offset and length or by first and last byte.
fn names(message: &str, byte: u64) -> bool {
    let digits = message.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u64> = digits.filter_map(|digits| digits.parse().ok()).collect();
    numbers.windows(2).any(|pair| {
        let (start, second) = (pair[0], pair[1]);
        let is_last = message.contains(&format!("{start} to {second}"));
        let end = if is_last { second + 1 } else { start.saturating_add(second) };
        (start..end).contains(&byte)
    })
}

#[test]
fn a_disk_that_fails_is_named_with_the_place() {
    at_a_site("a_disk_that_fails_is_named_with_the_place", |site| {
        let (data, last) = (site.reference.data_sector().unwrap(), site.reference.last_sector());
        let always = Fault::always;
        let cases = [
            (always(Request::Write), "writing to /dev/vda", None),
            (always(Request::Write).at(data), "writing to /dev/vda", Some(data)),
            (always(Request::Read).at(data), "reading back /dev/vda", Some(data)),
            (always(Request::Flush), "flushing /dev/vda", None),
        ];
        for (fault, doing, sector) in cases {
            let (outcome, found, _) = try_with(site, fault);
            assert_eq!(found, Found::Nothing, "{fault:?}");
            check_failure(fault, &outcome, doing, sector);
        }
        // The image is proven and there. That its last sector or the last flush fails does not
        // make it half an image, which is what `try_with` has looked at.
        let cases = [
            (always(Request::Write).at(last), "writing to /dev/vda", Some(last)),
            (always(Request::Flush).when(When::FromFlush(4)), "flushing /dev/vda", None),
        ];
        for (fault, doing, sector) in cases {
            let (outcome, ..) = try_with(site, fault);
            check_failure(fault, &outcome, doing, sector);
        }
    });
}

fn check_failure(fault: Fault, outcome: &Outcome, doing: &str, sector: Option<u64>) {
    let Outcome::Failed { class, message } = outcome else { panic!("{fault:?}: {outcome}") };
    assert_eq!(*class, Class::Environment, "{fault:?}: {message}");
    assert!(message.contains(doing), "{fault:?}: {message}");
    if let Some(sector) = sector {
        assert!(names(message, sector * 512), "{fault:?}, sector {sector}: {message}");
    }
}

#[test]
fn what_a_disk_gets_over_does_not_fail_an_install() {
    at_a_site("what_a_disk_gets_over_does_not_fail_an_install", |site| {
        let data = site.reference.data_sector().unwrap();
        let unreadable = Fault::always(Request::Read).at(data).when(When::Once);
        let (outcome, found, events) = try_with(site, unreadable);
        assert_eq!((outcome, found), (Outcome::Succeeded, Found::Whole));
        let again = |kind: &EventKind| {
            matches!(kind, EventKind::Reset { reason, .. }
                if reason.contains("/dev/vda") && names(reason, data * 512))
        };
        assert_eq!(events.iter().filter(|kind| again(kind)).count(), 1, "{events:#?}");

        let (outcome, found, _) = try_with(site, Fault::always(Request::Zero));
        assert_eq!((outcome, found), (Outcome::Succeeded, Found::Whole));
    });
}
