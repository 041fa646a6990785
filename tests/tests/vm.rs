//! Real machines, in software: they boot from the network, are installed by the real agent from
//! the real server, and reboot.
//!
//! Each test needs what `./build.sh test` makes, QEMU and namespaces, and says so where it is
//! skipped.

use std::path::Path;
use std::time::Duration;

use lab::artefacts::Artefacts;
use lab::demo::{self, Story, System};
use lab::machine::Machine;
use lab::rack::Rack;
use lab::trial::in_the_lab;
use nibs_job::{EventKind, Job, Outcome, Task};

/// What one machine may take from power-on to the end of a test.
const PATIENCE: Duration = Duration::from_secs(300);
/// What iPXE says each time that it has come to the control plane.
const HAS_BOOT_SCRIPT: &str = "boot.ipxe... ok";

/// A machine that is switched on to run the demo's job, as `change` makes it.
fn start(directory: &Path, change: impl FnOnce(&mut Job)) -> (Rack, Machine, Story) {
    let artefacts = Artefacts::find();
    let mut rack = Rack::set_up(&artefacts, directory).unwrap();
    let image = artefacts.image(System::Bottlerocket.image()).unwrap();
    let url = rack.control.serve(&image.path).unwrap();
    let mut job = System::Bottlerocket.job(&image, &url).unwrap();
    change(&mut job);
    let hardware = demo::hardware(&rack, System::Bottlerocket.memory());
    rack.control.assign(&job, &hardware.id()).unwrap();
    let machine = rack.power_on(&hardware).unwrap();
    (rack, machine, Story::new(&job))
}

fn visits(machine: &Machine) -> usize {
    machine.console.lines(0).iter().filter(|line| line.text.contains(HAS_BOOT_SCRIPT)).count()
}

#[test]
fn a_bare_machine_is_installed_and_boots_from_its_disk() {
    in_the_lab(
        "a_bare_machine_is_installed_and_boots_from_its_disk",
        System::Bottlerocket,
        |directory| {
            let report = demo::run(System::Bottlerocket, directory, None, |_, _| Ok(())).unwrap();
            assert!(report.passed, "\n{report}");
        },
    );
}

#[test]
fn debian_is_installed_and_boots_to_multi_user() {
    in_the_lab("debian_is_installed_and_boots_to_multi_user", System::Debian, |directory| {
        let report = demo::run(System::Debian, directory, None, |_, _| Ok(())).unwrap();
        assert!(report.passed, "\n{report}");
    });
}

#[test]
fn without_the_boot_order_action_it_goes_back_to_the_network() {
    let name = "without_the_boot_order_action_it_goes_back_to_the_network";
    in_the_lab(name, System::Bottlerocket, |directory| {
        let (mut rack, mut machine, mut story) = start(directory, |job| {
            job.actions.retain(|action| !matches!(action.task, Task::BootOrder(_)));
        });
        let done = |story: &Story, machine: &Machine| {
            story.outcome().is_some_and(|outcome| !outcome.is_success()) || visits(machine) == 2
        };
        story.follow_until(&mut rack, &mut machine, PATIENCE, done).unwrap();
        assert_eq!(story.outcome(), Some(&Outcome::Succeeded));
        assert_eq!(visits(&machine), 2, "the firmware went to the network again");
        assert_eq!(machine.resets().unwrap(), 1);
    });
}

#[test]
fn a_server_that_dies_in_the_middle_loses_nothing() {
    let name = "a_server_that_dies_in_the_middle_loses_nothing";
    in_the_lab(name, System::Bottlerocket, |directory| {
        let (mut rack, mut machine, mut story) = start(directory, |_| {});
        let streaming = |story: &Story, _: &Machine| {
            story.events().iter().any(|event| matches!(event.kind, EventKind::ActionStarted { .. }))
        };
        story.follow_until(&mut rack, &mut machine, PATIENCE, streaming).unwrap();
        rack.control.crash().unwrap();
        let ended = |story: &Story, _: &Machine| story.outcome().is_some();
        story.follow_until(&mut rack, &mut machine, PATIENCE, ended).unwrap();
        assert_eq!(story.outcome(), Some(&Outcome::Succeeded));

        let stored = rack.control.events("demo", 0).unwrap();
        assert_eq!(stored, story.events(), "what was stored before the crash is there after it");
        let mut sequences = stored.iter().map(|event| event.sequence);
        assert_eq!(sequences.next(), Some(1));
        assert!(stored.is_sorted_by(|a, b| a.sequence < b.sequence));
        for action in 0..3 {
            let finished = stored.iter().filter(|event| {
                matches!(event.kind, EventKind::ActionFinished { action: of, .. } if of == action)
            });
            assert_eq!(finished.count(), 1, "action {action} ended once");
        }
    });
}
