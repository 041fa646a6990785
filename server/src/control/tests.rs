use std::fs;
use std::time::SystemTime;

use nibs_job::{Class, Event, EventKind, Facts};

use super::*;
use crate::Timestamp;
use crate::store::Reported;

struct World {
    directory: tempfile::TempDir,
    store: Store,
    machine: MachineId,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("state.redb")).unwrap();
        let world = Self { directory, store, machine: "52:54:00:12:34:56".parse().unwrap() };
        world.write("jobs/demo.toml", "name = \"demo\"\nactions = [{ uses = \"reboot\" }]\n");
        world.write("matches/m.toml", "job = \"demo\"\nselector = { mac = \"525400123456\" }\n");
        world
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn report(&self, sequence: u64, kind: EventKind) {
        let event = Event { job: "demo".into(), sequence, time: SystemTime::now(), kind };
        let source = serde_json::to_value(&event).unwrap();
        let events = [Reported { event, source }];
        let now = Timestamp::now();
        self.store.append_events(&self.machine, "::1", "demo", &events, now).unwrap();
    }

    fn finish(&self, sequence: u64, outcome: Outcome) {
        self.report(sequence, EventKind::JobFinished { outcome, seconds: 1.0, peak_memory: None });
    }

    fn decide(&self) -> Decision {
        let catalog = Catalog::read(self.directory.path());
        let labels = Labels::of(&self.machine, &Facts::default());
        decide(&catalog, &self.store, &self.machine, &labels).unwrap()
    }

    fn first_sequence(&self) -> Option<u64> {
        match self.decide().plan {
            Plan::Run { first_sequence, .. } => Some(first_sequence),
            _ => None,
        }
    }
}

fn started() -> EventKind {
    EventKind::JobStarted { name: "demo".into(), actions: 1, agent: "0".into() }
}

#[test]
fn a_job_is_offered_until_its_end_is_stored_and_its_sequence_goes_on() {
    let world = World::new();
    assert_eq!(world.first_sequence(), Some(1));
    assert_eq!(world.first_sequence(), Some(1), "an offer that nobody took changes nothing");
    world.report(1, started());
    world.report(7, EventKind::Warning { action: None, message: "w".into() });
    assert_eq!(world.first_sequence(), Some(8));
    world.finish(8, Outcome::Succeeded);
    assert_eq!(world.first_sequence(), None);
}

#[test]
fn only_a_retry_runs_a_finished_job_again() {
    let failed = Outcome::Failed { class: Class::Transient, message: "no".into() };
    for outcome in [Outcome::Succeeded, failed, Outcome::Cancelled, Outcome::Unknown] {
        let world = World::new();
        world.report(1, started());
        world.finish(2, outcome.clone());
        world.write("jobs/demo.toml", "name = \"demo\"\nactions = [{ uses = \"power-off\" }]\n");
        let expected = Plan::Finished { job: "demo".into(), outcome };
        assert_eq!(world.decide().plan, expected, "an edited job must not run by itself");
        world.store.retry(&world.machine, "demo", Timestamp::now()).unwrap();
        assert_eq!(world.first_sequence(), Some(3));
    }
}

#[test]
fn a_late_report_of_the_run_before_does_not_end_its_retry() {
    let world = World::new();
    world.report(1, started());
    world.finish(2, Outcome::Cancelled);
    world.store.retry(&world.machine, "demo", Timestamp::now()).unwrap();
    world.finish(2, Outcome::Cancelled);
    assert_eq!(world.first_sequence(), Some(3));
}

#[test]
fn without_a_readable_match_an_installed_machine_stays_installed() {
    let world = World::new();
    world.report(1, started());
    world.write("matches/m.toml", "job =");
    let decision = world.decide();
    assert_eq!(decision.plan, Plan::Idle, "nothing is known to have been finished");
    assert!(decision.problem.is_some());
    world.finish(2, Outcome::Succeeded);
    let finished = Plan::Finished { job: "demo".into(), outcome: Outcome::Succeeded };
    assert_eq!(world.decide().plan, finished);
    fs::remove_file(world.directory.path().join("matches/m.toml")).unwrap();
    assert_eq!(world.decide(), Decision { plan: finished, problem: None });
}
