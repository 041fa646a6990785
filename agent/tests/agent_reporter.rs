//! The reporter against a control plane that refuses, hangs up, restarts and acknowledges in part.

mod agent_support;

use std::sync::Arc;
use std::time::Duration;

use agent_support::{ControlPlane, Mood, http_client};
use nibs_agent::backoff::Policy;
use nibs_agent::control::Client;
use nibs_agent::journal::{Journal, Outlet};
use nibs_agent::reporter::{Flushed, Pace, Reporter};
use nibs_job::{EventKind, LogLevel, Outcome, Progress};
use tokio::time::Instant;

const QUICK: Pace = Pace {
    retry: Policy { base: Duration::from_millis(5), cap: Duration::from_millis(40) },
    gather: Duration::from_millis(10),
    lost_job_patience: Duration::from_millis(200),
};

fn start(client: Client, first_sequence: u64) -> (Arc<Reporter>, Journal) {
    let reporter = Arc::new(Reporter::start(client, "j", QUICK));
    let journal = Journal::new("j", first_sequence, vec![Arc::clone(&reporter) as Arc<dyn Outlet>]);
    (reporter, journal)
}

fn step(journal: &Journal) {
    journal.record(EventKind::ActionFinished {
        action: 0,
        outcome: Outcome::Succeeded,
        seconds: 0.0,
    });
}

fn log(journal: &Journal, message: &str) {
    let (action, level) = (None, LogLevel::Info);
    journal.record(EventKind::Log { action, level, message: message.into() });
}

fn soon(millis: u64) -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(millis))
}

/// Everything that is sent arrives once and in order, whatever the deliveries meet first.
async fn arrives_despite(moods: &[Mood]) -> ControlPlane {
    let plane = ControlPlane::start().await;
    plane.store.lock().unwrap().moods.extend(moods);
    let (reporter, journal) = start(plane.client(), 1);
    for _ in 0..5 {
        step(&journal);
        log(&journal, "between");
    }
    assert_eq!(reporter.flush(soon(10_000)).await, Flushed::Acknowledged, "{moods:?}");
    assert_eq!(plane.stored(), (1..=10).collect::<Vec<_>>(), "{moods:?}");
    plane
}

#[tokio::test]
async fn events_arrive_in_order_from_the_first_sequence_on() {
    let plane = ControlPlane::start().await;
    let (reporter, journal) = start(plane.client(), 100);
    assert_eq!(reporter.flush(None).await, Flushed::Acknowledged, "nothing to deliver");
    for _ in 0..600 {
        step(&journal);
    }
    assert_eq!(reporter.flush(soon(10_000)).await, Flushed::Acknowledged);
    assert_eq!(plane.stored(), (100..700).collect::<Vec<_>>());
    assert!(plane.store.lock().unwrap().deliveries.iter().all(|batch| batch.len() <= 256));
}

#[tokio::test]
async fn a_delivery_that_fails_is_made_again() {
    arrives_despite(&[Mood::Refuse(503), Mood::Refuse(500), Mood::Babble, Mood::Refuse(429)]).await;
}

#[tokio::test]
async fn a_lost_answer_makes_a_duplicate_and_no_gap() {
    let plane = arrives_despite(&[Mood::StoreAndHangUp, Mood::StoreAndHangUp]).await;
    let deliveries = plane.store.lock().unwrap().deliveries.clone();
    assert!(deliveries[1].starts_with(&deliveries[0]), "sent again: {deliveries:?}");
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again() {
    let moods = [Mood::StoreOnly(0), Mood::StoreOnly(1), Mood::StoreOnly(0), Mood::StoreOnly(2)];
    arrives_despite(&moods).await;
}

#[tokio::test]
async fn a_control_plane_that_restarts_loses_nothing() {
    let mut plane = ControlPlane::start().await;
    let (reporter, journal) = start(plane.client(), 1);
    step(&journal);
    assert_eq!(reporter.flush(soon(10_000)).await, Flushed::Acknowledged);
    plane.stop().await;
    for _ in 0..20 {
        step(&journal);
    }
    assert_eq!(reporter.flush(soon(150)).await, Flushed::TimedOut);
    plane.restart().await;
    step(&journal);
    assert_eq!(reporter.flush(soon(10_000)).await, Flushed::Acknowledged);
    assert_eq!(plane.stored(), (1..=22).collect::<Vec<_>>());
}

#[tokio::test]
async fn while_it_is_away_progress_is_summed_up_and_steps_are_kept() {
    let mut plane = ControlPlane::start().await;
    plane.stop().await;
    let (reporter, journal) = start(plane.client(), 1);
    step(&journal);
    for bytes_out in 0..5_000 {
        let progress = Progress { bytes_out, ..Progress::default() };
        journal.record(EventKind::Progress { action: 0, progress });
    }
    step(&journal);
    tokio::time::sleep(Duration::from_millis(100)).await;
    plane.restart().await;
    assert_eq!(reporter.flush(soon(10_000)).await, Flushed::Acknowledged);
    let events = plane.store.lock().unwrap().events.clone();
    assert_eq!((events[0].sequence, events.last().unwrap().sequence), (1, 5002));
    assert!(events.len() <= 4, "{}", events.len());
    let EventKind::Progress { progress, .. } = events[events.len() - 2].kind else { panic!() };
    assert_eq!(progress.bytes_out, 4_999, "the latest figures are the ones kept");
}

#[tokio::test]
async fn a_job_that_the_control_plane_lost_does_not_hold_the_machine() {
    for status in [404, 409] {
        let plane = ControlPlane::start().await;
        plane.store.lock().unwrap().moods.extend([Mood::Refuse(status); 1000]);
        let (reporter, journal) = start(plane.client(), 1);
        step(&journal);
        let flushed = tokio::time::timeout(Duration::from_secs(10), reporter.flush(None)).await;
        assert_eq!(flushed, Ok(Flushed::JobLost));
        // It may find the job again, and then gets everything.
        plane.store.lock().unwrap().moods.clear();
        assert_eq!(reporter.flush(soon(10_000)).await, Flushed::Acknowledged);
        assert_eq!(plane.stored(), [1]);
    }
}

#[tokio::test]
async fn a_job_that_seems_lost_is_reported_up_to_the_deadline() {
    let plane = ControlPlane::start().await;
    plane.store.lock().unwrap().moods.extend([Mood::Refuse(404); 1000]);
    let (reporter, journal) = start(plane.client(), 1);
    step(&journal);
    let began = Instant::now();
    let longer = 3 * QUICK.lost_job_patience;
    assert_eq!(reporter.flush(Some(began + longer)).await, Flushed::JobLost);
    assert!(began.elapsed() >= longer, "a restart must not come before its time");
}

#[tokio::test]
async fn one_line_that_cannot_be_read_does_not_hold_back_the_others() {
    let plane = ControlPlane::start().await;
    plane.store.lock().unwrap().indigestible = Some("poison");
    let (reporter, journal) = start(plane.client(), 1);
    for message in ["a", "b", "poison", "c"] {
        log(&journal, message);
    }
    step(&journal);
    assert_eq!(reporter.flush(soon(10_000)).await, Flushed::Acknowledged);
    assert_eq!(plane.stored(), [1, 2, 4, 5]);
}

#[tokio::test]
async fn a_control_plane_that_stays_away_is_given_up_at_the_deadline_only() {
    // Nothing listens on the discard port of this machine.
    let client = Client::new(http_client(), "http://127.0.0.1:9".parse().unwrap(), "m".into());
    let (reporter, journal) = start(client, 1);
    step(&journal);
    let began = Instant::now();
    assert_eq!(reporter.flush(soon(300)).await, Flushed::TimedOut);
    assert!(began.elapsed() >= Duration::from_millis(300));
}
