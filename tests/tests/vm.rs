//! Real machines, in software: they boot from the network, are installed by the real agent from
//! the real server, and reboot.
//!
//! Each test needs what `./build.sh test` makes, QEMU and namespaces, and says so where it is
//! skipped.

use std::path::Path;
use std::time::Duration;

use lab::artefacts::Artefacts;
use lab::demo::{self, Ending, Story, System};
use lab::machine::Machine;
use lab::rack::Rack;
use lab::trial::in_the_lab;
use nibs_job::{Action, EventKind, Job, Outcome, Task};
use serde_json::json;
use sha2::{Digest, Sha256};

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

/// The demo's system, written and configured in one action: its parameters are given once, as a
/// table, and come out in the kernel's command line and in the user data.
#[test]
fn the_bottlerocket_action_makes_a_node_of_a_bare_machine() {
    let name = "the_bottlerocket_action_makes_a_node_of_a_bare_machine";
    in_the_lab(name, System::Bottlerocket, |directory| {
        const USER_DATA: &str =
            "[settings.host-containers.admin]\nenabled = true\nsuperpowered = true\n";
        // The oldest format that can say it.
        const NET: &str = "version = 1\n\n[eth0]\nprimary = true\ndhcp4 = true\n";
        let (mut rack, mut machine, mut story) = start(directory, |job| {
            let Task::StreamImage(with) = &job.actions[0].task else { panic!("{job:?}") };
            let with = json!({
                "image": with.image,
                "disk": with.disk,
                "strict": true,
                "user-data": { "content": USER_DATA },
                "net": { "interfaces": [{ "id": "eth0", "dhcp4": true, "primary": true }] },
                "bootconfig": { "kernel": { "nibs.demo": ["installed"] } },
            });
            let action = json!({ "uses": "bottlerocket", "with": with });
            job.actions.splice(..2, [Action::from_value(action).unwrap()]);
        });
        let ending = story.follow(&mut rack, &mut machine, demo::bottlerocket::UP, PATIENCE);
        assert_eq!(ending.unwrap(), Ending::Up, "{}", machine.console.last_lines());
        assert_eq!(story.outcome(), Some(&Outcome::Succeeded));

        let lines = machine.console.lines(story.installed_from());
        let said = |text: &str| lines.iter().any(|line| line.text.trim_end().ends_with(text));
        let boot = "\n[settings.boot]\n\n[settings.boot.kernel-parameters]\n\
                    \"nibs.demo\" = [\"installed\"]\n";
        for (path, content) in [
            ("/user-data.toml", format!("{USER_DATA}{boot}").into_bytes()),
            ("/net.toml", NET.into()),
        ] {
            let digest = hex::encode(Sha256::digest(content));
            assert!(said(&format!("sha256 {digest} {path}")), "{path}");
            assert!(said(&format!("mode 0600 {path}")), "{path}");
        }
        assert!(said("bootconfig kernel.nibs.demo = \"installed\""));
        let is_parameter = |text: &str| text.contains("cmdline ") && text.contains("nibs.demo=");
        assert!(lines.iter().any(|line| is_parameter(&line.text)), "on the command line");
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
