use std::mem;
use std::path::Path;
use std::time::SystemTime;

use nibs_job::{EventKind, InterfaceFacts, Outcome};

use super::*;

const JOB: &str = "demo";

fn id(text: &str) -> MachineId {
    text.parse().unwrap()
}

fn event(sequence: u64, kind: EventKind) -> Reported {
    let event = Event { job: JOB.into(), sequence, time: SystemTime::now(), kind };
    let source = serde_json::to_value(&event).unwrap();
    Reported { event, source }
}

fn warning(sequence: u64) -> Reported {
    event(sequence, EventKind::Warning { action: None, message: format!("w{sequence}") })
}

fn finished(sequence: u64) -> Reported {
    let outcome = Outcome::Succeeded;
    event(sequence, EventKind::JobFinished { outcome, seconds: 1.0, peak_memory: None })
}

fn append(store: &Store, machine: &MachineId, events: &[Reported]) -> u64 {
    store.append_events(machine, "::1", JOB, events, Timestamp::now()).unwrap()
}

fn sequences(store: &Store, machine: &MachineId, after: u64) -> Vec<u64> {
    let events = store.events(machine, JOB, after).unwrap();
    events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect()
}

#[test]
fn events_are_kept_once_in_order_with_their_gaps() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("s")).unwrap();
    let machine = id("m");
    assert_eq!(append(&store, &machine, &[]), 0);
    assert_eq!(store.run(&machine, JOB).unwrap(), None);
    assert_eq!(append(&store, &machine, &[warning(1), warning(2), warning(9)]), 9);
    assert_eq!(append(&store, &machine, &[warning(2), warning(5), warning(9), warning(10)]), 10);
    assert_eq!(append(&store, &machine, &[warning(3)]), 10);
    assert_eq!(sequences(&store, &machine, 0), [1, 2, 9, 10]);
    assert_eq!(sequences(&store, &machine, 2), [9, 10]);
    assert!(sequences(&store, &machine, u64::MAX).is_empty());
}

#[test]
fn one_job_on_two_machines_is_two_runs() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("s")).unwrap();
    let (one, other) = (id("52:54:00:00:00:01"), id("52:54:00:00:00:02"));
    append(&store, &one, &[warning(1), finished(2)]);
    append(&store, &other, &[warning(1)]);
    assert!(store.run(&one, JOB).unwrap().unwrap().outcome().is_some());
    assert!(store.run(&other, JOB).unwrap().unwrap().outcome().is_none());
    assert_eq!(sequences(&store, &other, 0), [1]);
    assert_eq!(store.machines_of(JOB).unwrap(), [one, other]);
    assert!(store.machines_of("other").unwrap().is_empty());
}

#[test]
fn an_id_that_begins_like_another_has_its_own_runs() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("s")).unwrap();
    append(&store, &id("rack1"), &[warning(1)]);
    append(&store, &id("rack10"), &[warning(1), warning(2)]);
    assert_eq!(store.runs(&id("rack1")).unwrap()[0].last_sequence, 1);
    assert_eq!(store.runs(&id("rack1")).unwrap().len(), 1);
    assert!(store.runs(&id("rack")).unwrap().is_empty());
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let machine = id("m");
    let crashed = directory.path().join("crashed");
    let store = Store::open(&directory.path().join("s")).unwrap();
    append(&store, &machine, &[warning(1), warning(2)]);
    store.record_boot(&machine, "10.0.0.7", Timestamp::now()).unwrap();
    // A copy of the file as the disk has it in the middle of everything, and no orderly close.
    std::fs::copy(directory.path().join("s"), &crashed).unwrap();
    mem::forget(store);
    let store = Store::open(&crashed).unwrap();
    assert_eq!(sequences(&store, &machine, 0), [1, 2]);
    assert_eq!(append(&store, &machine, &[warning(2), finished(3)]), 3);
    drop(store);
    let store = Store::open(&crashed).unwrap();
    assert_eq!(store.run(&machine, JOB).unwrap().unwrap().outcome(), Some(&Outcome::Succeeded));
    assert_eq!(store.machine(&machine).unwrap().unwrap().boots, 1);
}

#[test]
fn a_second_server_and_a_damaged_file_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let _store = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::InUse { .. })));
    let damaged = directory.path().join("damaged");
    std::fs::write(&damaged, "this was never a store, and it is long enough to look at").unwrap();
    let error = Store::open(&damaged).unwrap_err();
    assert!(error.to_string().contains("move it away"), "{error}");
    assert!(matches!(Store::open(Path::new("/nowhere/s")), Err(StoreError::Open { .. })));
}

#[test]
fn a_machine_is_found_by_any_of_its_cards() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("s")).unwrap();
    let machine = id("rack1-u7");
    let card: Mac = "52:54:00:00:00:02".parse().unwrap();
    let interface = InterfaceFacts { mac: card.to_string(), ..InterfaceFacts::default() };
    let facts = Facts { interfaces: vec![interface], ..Facts::default() };
    store.record_hello(&machine, "::1", "0.1.0", &facts, Timestamp::now()).unwrap();
    assert_eq!(store.owner_of(card).unwrap(), Some(machine.clone()));
    assert_eq!(store.owner_of("52:54:00:00:00:03".parse().unwrap()).unwrap(), None);
    // A boot in between forgets nothing that the agent told.
    store.record_boot(&machine, "::2", Timestamp::now()).unwrap();
    let known = store.machine(&machine).unwrap().unwrap();
    assert_eq!((known.facts, known.address.as_deref()), (Some(facts), Some("::2")));
}

#[test]
fn only_what_has_finished_can_be_retried() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("s")).unwrap();
    let machine = id("m");
    let retry = || store.retry(&machine, JOB, Timestamp::now());
    assert!(matches!(retry(), Err(StoreError::NotFinished { .. })));
    append(&store, &machine, &[warning(1)]);
    assert!(matches!(retry(), Err(StoreError::NotFinished { .. })));
    append(&store, &machine, &[finished(2), warning(3)]);
    let run = retry().unwrap();
    assert_eq!((run.phase, run.last_sequence, run.retries), (Phase::Asked, 3, 1));
    assert!(matches!(retry(), Err(StoreError::NotFinished { .. })));
}

#[test]
fn an_event_of_a_newer_agent_is_kept_as_it_came() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("s")).unwrap();
    let source = serde_json::json!({
        "job": JOB, "sequence": 1, "time": "2026-01-01T00:00:00Z", "event": "levitated", "by": 3
    });
    let event: Event = serde_json::from_value(source.clone()).unwrap();
    assert_eq!(event.kind, EventKind::Unknown);
    append(&store, &id("m"), &[Reported { event, source: source.clone() }]);
    assert_eq!(store.events(&id("m"), JOB, 0).unwrap(), [source]);
}
