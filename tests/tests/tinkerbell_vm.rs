//! Workflows in the shape of those that people run, on a real machine in software: it boots from
//! the network with smee's parameters, works through the workflow, and comes up from its own disk.
//!
//! Each test needs what `./build.sh test` makes, QEMU and namespaces, and says so where it is
//! skipped.

use std::path::Path;
use std::time::{Duration, Instant};

use lab::artefacts::Artefacts;
use lab::control::ControlPlane;
use lab::demo::{self, System};
use lab::firmware::Firmware;
use lab::machine::Machine;
use lab::network::GATEWAY;
use lab::rack::Rack;
use lab::tinkerbell::{Fake, HOLD, Heard, Options, State, Workflow};
use lab::trial::in_the_lab;
use sha2::{Digest, Sha256};

/// What one machine may take from power-on to the end of a workflow, or of a boot, before it counts
/// as hung.
const PATIENCE: Duration = Duration::from_secs(300);
/// From its kernel's first line to its first question, a machine takes less than 3 s where nothing
/// else runs (docs/sizes.md). Somewhat more is no fault of the agent's, this is.
const FIRST_QUESTION_AT_MOST: Duration = Duration::from_secs(10);
/// Where iPXE gets its script, below the assets.
const BOOT_SCRIPT: &str = "tinkerbell/auto.ipxe";
const KERNEL_STARTED: &str = "Linux version";

/// A site with a Tinkerbell server, and a machine of it that is switched on.
struct Site {
    rack: Rack,
    tinkerbell: Fake,
    machine: Machine,
    powered_on: Instant,
}

impl Site {
    /// Switches a machine on that is to be given a workflow of this template.
    fn start(directory: &Path, system: System, template: &str) -> Self {
        let artefacts = Artefacts::find();
        let script = ControlPlane::asset(BOOT_SCRIPT);
        let mut rack =
            Rack::set_up_booting(&script, Firmware::default(), &artefacts, directory).unwrap();
        let hardware = demo::hardware(&rack, system.memory());
        let image = rack.control.serve(&artefacts.image(system.image()).unwrap().path).unwrap();
        let fill = |text: &str| {
            text.replace("@url@", &ControlPlane::base())
                .replace("@gateway@", &GATEWAY.to_string())
                .replace("@mac@", &hardware.id())
                .replace("@image@", &image)
        };
        let script = fill(include_str!("../data/tinkerbell/auto.ipxe"));
        rack.control.publish(BOOT_SCRIPT, script.as_bytes()).unwrap();
        let options =
            Options { address: (GATEWAY, 42113).into(), hold: HOLD, ..Options::default() };
        let tinkerbell = Fake::start(options).unwrap();
        tinkerbell.add(Workflow::from_template("workflow", &fill(template)).unwrap());
        let machine = rack.power_on(&hardware).unwrap();
        Self { rack, tinkerbell, machine, powered_on: Instant::now() }
    }

    /// Waits until all is done, and then gives the machine nothing to boot from the network, as smee
    /// does. Gives the number of the console's first line after that.
    fn wait_for_success(&mut self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let workflow = self.tinkerbell.workflow("workflow").unwrap();
            let console = self.machine.console.last_lines();
            match workflow.state {
                State::Success => break,
                State::Pending | State::Running => {}
                _ => panic!("{workflow:#?}\n{console}"),
            }
            assert!(Instant::now() < deadline, "{workflow:#?}\n{console}");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.rack.control.withdraw(BOOT_SCRIPT).unwrap();
        let workflow = self.tinkerbell.workflow("workflow").unwrap();
        assert!(workflow.states().iter().all(|state| *state == State::Success), "{workflow:#?}");
        self.machine.console.len()
    }

    /// How long the machine took from its kernel's first line to its first question.
    fn first_question(&self) -> Duration {
        let lines = self.machine.console.lines(0);
        let kernel = lines.iter().find(|line| line.text.contains(KERNEL_STARTED)).unwrap();
        let heard = self.tinkerbell.heard();
        let (asked, _) = heard.iter().find(|(_, heard)| *heard == Heard::Asked).unwrap();
        asked.duration_since(self.powered_on).saturating_sub(kernel.at)
    }

    fn wait_for(&self, text: &str, from: usize) {
        if let Err(error) = self.machine.console.wait_for(text, from, PATIENCE) {
            panic!("{error:#}\n{}", self.machine.console.last_lines());
        }
    }
}

#[test]
fn eks_anywheres_workflow_makes_a_bottlerocket_node() {
    let name = "eks_anywheres_workflow_makes_a_bottlerocket_node";
    in_the_lab(name, System::Bottlerocket, |directory| {
        const USER_DATA: &str = "[settings.host-containers.admin]\nenabled = true\n";
        let template = include_str!("../data/tinkerbell/eks-anywhere.yaml");
        let mut site = Site::start(directory, System::Bottlerocket, template);
        site.rack.control.publish("metadata/2009-04-04/user-data", USER_DATA.as_bytes()).unwrap();
        let from = site.wait_for_success();
        site.wait_for(demo::bottlerocket::UP, from);
        assert_eq!(site.machine.resets().unwrap(), 1);

        let lines = site.machine.console.lines(from);
        let said = |text: &str| lines.iter().any(|line| line.text.trim_end().ends_with(text));
        for path in ["/user-data.toml", "/net.toml", "/bootconfig.data"] {
            assert!(said(&format!("mode 0600 {path}")), "{path}");
        }
        // The lease names no resolvers, so nothing is added to the user data.
        let digest = hex::encode(Sha256::digest(USER_DATA));
        assert!(said(&format!("sha256 {digest} /user-data.toml")));
        assert!(said("bootconfig kernel.nibs.demo = \"installed\""));
        assert!(said("data blank") && said("gpt ok"));

        let first = site.first_question();
        println!("from the kernel's first line to the first question: {first:.1?}");
        assert!(first < FIRST_QUESTION_AT_MOST, "{first:?}");
    });
}

#[test]
fn the_playgrounds_workflow_starts_debian_by_kexec() {
    let name = "the_playgrounds_workflow_starts_debian_by_kexec";
    in_the_lab(name, System::Debian, |directory| {
        let template = include_str!("../data/tinkerbell/playground.yaml");
        let mut site = Site::start(directory, System::Debian, template);
        let from = site.wait_for_success();
        site.wait_for(demo::debian::UP, from);
        assert_eq!(site.machine.resets().unwrap(), 0, "it came up without its firmware");
    });
}
