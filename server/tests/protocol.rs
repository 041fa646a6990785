//! The protocol between agent and control plane, over a real socket.

mod support;

use std::time::{Duration, Instant};

use nibs_job::wire::{Ack, Offer};
use nibs_job::{Class, EventKind, Outcome};
use reqwest::Method;
use serde_json::{Value, json};
use support::{MACHINE, Plane, event, finished, problem, started};

/// Less than any wait in these tests, more than a loaded machine needs to answer.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn acknowledged(response: reqwest::Response) -> u64 {
    response.json::<Ack>().await.unwrap().acknowledged
}

async fn offer(plane: &Plane, machine: &str) -> Option<Offer> {
    let answer = plane.ask(machine, 0).await;
    match answer.status().as_u16() {
        204 => None,
        200 => Some(answer.json().await.unwrap()),
        other => panic!("{other}: {}", answer.text().await.unwrap()),
    }
}

#[tokio::test]
async fn a_held_question_is_answered_at_once_when_a_job_is_stored() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    let begun = Instant::now();
    let (answer, ()) = tokio::join!(plane.ask(MACHINE, 30), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        plane.assign("demo", MACHINE).await;
    });
    assert_eq!(answer.status(), 200);
    let offer: Offer = answer.json().await.unwrap();
    assert_eq!((offer.job.id.as_str(), offer.first_sequence), ("demo", 1));
    assert!(begun.elapsed() < AT_ONCE);
}

#[tokio::test]
async fn a_held_question_is_answered_when_a_file_is_edited_and_when_its_time_is_up() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    let begun = Instant::now();
    assert_eq!(plane.ask(MACHINE, 1).await.status(), 204);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let (answer, ()) = tokio::join!(plane.ask("52-54-00-12-34-56", 30), async {
        plane.write("jobs/by-hand.yaml", "name: by hand\nactions: [{uses: reboot}]\n");
        plane.write("matches/all.toml", "job = \"by-hand\"\nselector = {}\n");
    });
    assert_eq!(answer.json::<Offer>().await.unwrap().job.id, "by-hand");
    assert!(begun.elapsed() < AT_ONCE);
}

#[tokio::test]
async fn a_stop_answers_held_questions_at_once() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    let begun = Instant::now();
    let http = plane.http.clone();
    let url = plane.url(&format!("/v1/machines/{MACHINE}/job?wait=30"));
    let body = json!({ "agent": "0.1.0", "facts": {} });
    let held = tokio::spawn(async move { http.post(url).json(&body).send().await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    plane.stop().await;
    assert_eq!(held.await.unwrap().unwrap().status(), 204);
    assert!(begun.elapsed() < AT_ONCE);
}

#[tokio::test]
async fn a_job_goes_on_where_its_events_ended_after_the_server_restarts() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    plane.assign("demo", MACHINE).await;
    assert_eq!(offer(&plane, MACHINE).await.unwrap().first_sequence, 1);
    let warning = EventKind::Warning { action: None, message: "w".into() };
    let events = vec![started("demo", 1), event("demo", 4, warning.clone())];
    assert_eq!(acknowledged(plane.report(MACHINE, "demo", events.clone()).await).await, 4);
    plane.stop().await;

    let plane = Plane::start(data.path()).await;
    assert_eq!(offer(&plane, MACHINE).await.unwrap().first_sequence, 5);
    let mut again = events.clone();
    again.push(event("demo", 5, warning));
    assert_eq!(acknowledged(plane.report(MACHINE, "demo", again.clone()).await).await, 5);
    let stored = plane.json("/v1/jobs/demo/events").await;
    assert_eq!(stored, serde_json::to_value(again).unwrap());
    let last = vec![finished("demo", 6, Outcome::Succeeded)];
    assert_eq!(acknowledged(plane.report(MACHINE, "demo", last).await).await, 6);
    assert!(offer(&plane, MACHINE).await.is_none());
    let after = plane.json("/v1/jobs/demo/events?after=5").await;
    assert_eq!(after.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_retry_wakes_a_waiting_agent_and_comes_only_when_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    let retry = format!("/v1/machines/{MACHINE}/retry");
    let nobody = plane.call(Method::POST, &retry, None).await;
    assert_eq!(nobody.status(), 404);
    assert!(problem(nobody).await.contains("never seen"));
    plane.assign("demo", MACHINE).await;
    offer(&plane, MACHINE).await.unwrap();
    let too_soon = plane.call(Method::POST, &retry, None).await;
    assert_eq!(too_soon.status(), 409);
    assert!(problem(too_soon).await.contains("still offered"));
    let failed = Outcome::Failed { class: Class::Transient, message: "image: 404".into() };
    plane.report(MACHINE, "demo", vec![started("demo", 1), finished("demo", 2, failed)]).await;
    plane.assign("demo", MACHINE).await;
    assert!(offer(&plane, MACHINE).await.is_none(), "storing the job again is no retry");
    let (answer, ()) = tokio::join!(plane.ask(MACHINE, 30), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let asked = plane.call(Method::POST, &retry, None).await;
        assert_eq!(asked.json::<Value>().await.unwrap()["job"], "demo");
    });
    assert_eq!(answer.json::<Offer>().await.unwrap().first_sequence, 3);
}

#[tokio::test]
async fn one_job_on_two_machines_keeps_their_events_apart() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    let other = "52:54:00:12:34:57";
    plane.assign("demo", MACHINE).await;
    plane.assign("demo", other).await;
    plane.report(MACHINE, "demo", vec![started("demo", 1)]).await;
    plane.report(other, "demo", vec![started("demo", 1), started("demo", 2)]).await;
    let either = plane.get("/v1/jobs/demo/events").await;
    assert_eq!(either.status(), 409);
    let why = problem(either).await;
    assert!(why.contains(MACHINE) && why.contains(other), "{why}");
    let events = plane.json(&format!("/v1/jobs/demo/events?machine={other}")).await;
    assert_eq!(events.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_tie_gives_no_job_and_is_shown() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    plane.assign("one", MACHINE).await;
    plane.assign("two", MACHINE).await;
    assert!(offer(&plane, MACHINE).await.is_none());
    let machines = plane.json("/v1/machines").await;
    let why = machines[0]["problem"].as_str().unwrap();
    assert!(why.contains("(job one)") && why.contains("(job two)"), "{why}");
    assert_eq!(machines[0]["state"], "waiting");
}

#[tokio::test]
async fn machines_are_shown_with_their_state_and_facts() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    plane.assign("demo", MACHINE).await;
    let state = async || plane.json("/v1/machines").await[0]["state"].clone();
    offer(&plane, MACHINE).await;
    assert_eq!(state().await, "waiting");
    let action = EventKind::ActionStarted {
        action: 0,
        name: "write the image".into(),
        uses: "stream-image".into(),
        attempt: 1,
    };
    plane.report(MACHINE, "demo", vec![started("demo", 1), event("demo", 2, action)]).await;
    assert_eq!(state().await, "running");
    let reasons = vec!["NVRAM is full".to_owned()];
    let end = finished("demo", 3, Outcome::Degraded { reasons });
    plane.report(MACHINE, "demo", vec![end]).await;
    let machine = plane.json(&format!("/v1/machines/{MACHINE}")).await;
    assert_eq!(machine["state"], "degraded");
    assert_eq!(machine["action"], "write the image");
    assert_eq!(machine["message"], "degraded: NVRAM is full");
    assert_eq!(machine["agent"], "0.1.0");
    assert_eq!(machine["address"], "127.0.0.1");
    assert_eq!(machine["runs"][0]["last-sequence"], 3);
    assert_eq!(plane.get("/v1/machines/nobody").await.status(), 404);
}

#[tokio::test]
async fn what_a_machine_is_made_of_is_shown_as_its_agent_tells_it() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    let path = format!("/v1/machines/{MACHINE}");
    let tell = async |facts: Value| {
        let hello = json!({ "agent": "0.1.0", "facts": facts });
        let answer = plane.call(Method::POST, &format!("{path}/job?wait=0"), Some(hello)).await;
        assert_eq!(answer.status(), 204);
        plane.json(&path).await["facts"].clone()
    };
    let shown = tell(json!({ "serial": "S1", "inventory": {
        "cpu": { "totalThreads": 7 },
        "blockDevices": [{ "name": "sda", "driveType": "SSD", "size": "239GB", "newer": 1 }],
    } }))
    .await;
    assert_eq!(shown["serial"], "S1");
    assert_eq!(shown["inventory"]["cpu"]["totalThreads"], 7);
    let disk = &shown["inventory"]["blockDevices"][0];
    assert_eq!((&disk["driveType"], &disk["size"]), (&json!("SSD"), &json!("239GB")));
    let older = tell(json!({ "serial": "S1" })).await;
    assert_eq!((&older["serial"], older.get("inventory")), (&json!("S1"), None));
}

#[tokio::test]
async fn bad_reports_are_refused_whole_and_say_why() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    plane.assign("demo", MACHINE).await;
    let unknown = plane.report(MACHINE, "nothing", vec![started("nothing", 1)]).await;
    assert_eq!(unknown.status(), 404);
    let long = "x".repeat(nibs_server::http::MAX_REPORT);
    let log = |sequence: u64| json!({ "job": "demo", "sequence": sequence, "time": "2026-01-01T00:00:00Z", "event": "warning", "message": "m" });
    for (body, status, word) in [
        (json!({ "machine": MACHINE, "events": [log(2), log(1)] }), 400, "in order"),
        (json!({ "machine": MACHINE, "events": [log(1), log(1)] }), 400, "in order"),
        (json!({ "machine": MACHINE, "events": [log(0)] }), 400, "from 1"),
        (json!({ "machine": MACHINE, "events": [log(1), { "job": "demo" }] }), 400, "events[1]"),
        (json!({ "machine": MACHINE, "events": [started("other", 1)] }), 400, "is of job"),
        (json!({ "machine": "a/b", "events": [] }), 400, "no machine id"),
        (json!({ "machine": MACHINE }), 400, "events"),
        (json!([1]), 400, "JSON"),
        (json!({ "machine": MACHINE, "events": [long] }), 413, "larger"),
    ] {
        let answer = plane.call(Method::POST, "/v1/jobs/demo/events", Some(body)).await;
        assert_eq!(answer.status(), status, "{word}");
        let why = problem(answer).await;
        assert!(why.contains(word), "{why}");
    }
    let garbage = plane.http.post(plane.url("/v1/jobs/demo/events")).body("{\"mach");
    let why = problem(garbage.send().await.unwrap()).await;
    assert!(why.contains("line 1 column"), "{why}");
    assert_eq!(plane.json("/v1/jobs/demo/events").await, json!([]));
    assert_eq!(acknowledged(plane.report(MACHINE, "demo", vec![]).await).await, 0);
}

#[tokio::test]
async fn bad_questions_are_refused_and_say_why() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    for (method, path, status, word) in [
        (Method::POST, "/v1/machines/a%2Fb/job", 400, "no machine id"),
        (Method::POST, "/v1/machines/a/job?wait=long", 400, "wait"),
        (Method::GET, "/v1/machines/a/job", 405, "does not take GET"),
        (Method::GET, "/v1/nothing", 404, "/v1/machines"),
        (Method::GET, "/v1/jobs/nothing/events", 404, "not defined"),
        (Method::GET, "/v1/jobs/nothing/events?machine=m", 404, "not defined"),
        (Method::GET, "/v1/jobs/nothing/events?after=-1", 400, "after"),
        (Method::GET, "/v1/machines/%FF", 400, "UTF-8"),
    ] {
        let body = (method == Method::POST).then(|| json!({ "agent": "0", "facts": {} }));
        let answer = plane.call(method, path, body).await;
        assert_eq!(answer.status(), status, "{path}");
        let why = problem(answer).await;
        assert!(why.contains(word), "{path}: {why}");
    }
}

#[tokio::test]
async fn bad_definitions_are_refused_and_broken_files_are_listed_by_name() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    for (path, body, status, word) in [
        (
            "/v1/jobs/x",
            json!({ "name": "x", "actions": [{ "uses": "stream-imgae" }] }),
            400,
            "did you mean `stream-image`?",
        ),
        (
            "/v1/jobs/x",
            json!({ "id": "y", "name": "x", "actions": [{ "uses": "reboot" }] }),
            400,
            "as in the URL",
        ),
        (
            "/v1/jobs/..%2Fx",
            json!({ "name": "x", "actions": [{ "uses": "reboot" }] }),
            400,
            "job id",
        ),
        ("/v1/matches/..%2Fx", json!({ "job": "x", "selector": {} }), 400, "match name"),
        ("/v1/matches/x", json!({ "job": "x" }), 400, "selector"),
        ("/v1/jobs/x", json!({ "name": "x".repeat(7 << 20), "actions": [] }), 413, "larger"),
    ] {
        let answer = plane.call(Method::PUT, path, Some(body)).await;
        assert_eq!(answer.status(), status, "{path} {word}");
        let why = problem(answer).await;
        assert!(why.contains(word), "{path}: {why}");
    }
    assert!(!data.path().join("x.json").exists());
    plane.write("jobs/torn.json", "{\"name\": \"torn\", \"content\": \"hunter2");
    plane.assign("demo", MACHINE).await;
    let jobs = plane.json("/v1/jobs").await;
    assert_eq!(jobs["faults"][0]["file"], "jobs/torn.json");
    assert_eq!(jobs["jobs"][0]["id"], "demo");
    assert!(offer(&plane, MACHINE).await.is_some(), "one bad file stops no other job");
}

#[tokio::test]
async fn files_that_the_machine_would_not_take_are_refused_with_each_place() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    let put = async |net: &str| {
        let with = json!({ "net": { "content": net } });
        let body = json!({ "name": "b", "actions": [{ "uses": "bottlerocket", "with": with }] });
        let answer = plane.call(Method::PUT, "/v1/jobs/b", Some(body)).await;
        (answer.status().as_u16(), answer.json::<serde_json::Value>().await.unwrap())
    };
    let (status, refused) = put("version = 1\n[eno1]\ndhcp4 = 3\n").await;
    assert_eq!(status, 400);
    let error = refused["error"].as_str().unwrap();
    assert!(error.starts_with("storing jobs/b.json: net.toml:3:9: error: eno1.dhcp4: "), "{error}");
    let finding = &refused["findings"][0];
    assert_eq!((&finding["file"], &finding["line"]), (&json!("net.toml"), &json!(3)));
    assert_eq!(plane.json("/v1/jobs").await["jobs"], json!([]));

    let (status, stored) = put("version = 1\n").await;
    assert_eq!((status, &stored["id"]), (200, &json!("b")));
    assert_eq!(stored["findings"][0]["severity"], "warning");
    let (_, stored) = put("version = 1\n[eno1]\ndhcp4 = true\n").await;
    assert_eq!(stored.get("findings"), None);
}

#[tokio::test]
async fn what_a_job_writes_is_in_no_list() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    let files = json!([{ "path": "/a", "content": "hunter2" }]);
    let with = json!({ "partition": { "label": "root" }, "files": files });
    let body =
        json!({ "name": "s", "actions": [{ "name": "w", "uses": "write-files", "with": with }] });
    let stored = plane.call(Method::PUT, "/v1/jobs/s", Some(body)).await;
    assert_eq!(stored.status(), 200);
    let shown = stored.text().await.unwrap() + &plane.text("/v1/jobs").await;
    assert!(shown.contains("write-files") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn health_is_answered() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    assert_eq!(plane.text("/healthz").await, "ok\n");
}
