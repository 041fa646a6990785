//! Files from elsewhere: a server that has none, one that hangs, metadata services.

use std::time::{Duration, Instant};

use nibs_job::Class;
use serde_json::{Value, json};

use super::super::private::System;
use super::super::prove::prove;
use super::bench::{Bench, Manner, decode, serve, text};
use crate::Stop;

const SETTINGS: &str = "[settings]\nmotd = \"*\"\n";

fn error(params: Value) -> (Class, String) {
    let error = prove(&decode(params), System::New, &Bench::new().context()).unwrap_err();
    (error.class(), error.to_string())
}

#[test]
fn a_file_is_fetched_from_its_url() {
    let bench = Bench::new();
    let url = format!("{}/dir/user-data?token=hunter2", serve(Manner::Says(200, SETTINGS)));
    let files = bench.prove(json!({ "user-data": { "url": url } })).unwrap();
    assert_eq!(text(&files.user_data), "[settings]\nmotd = \"/dir/user-data?token=hunter2\"\n");
    assert!(bench.log().contains("/dir/user-data") && !bench.log().contains("hunter2"));
}

#[test]
fn a_file_is_read_from_its_path() {
    let bench = Bench::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "kernel.quiet\n").unwrap();
    let files = bench.prove(json!({ "bootconfig": { "url": file.path() } })).unwrap();
    assert!(files.bootconfig.unwrap().starts_with(b"kernel.quiet\n\0"));
    std::fs::write(file.path(), vec![b'#'; 1 << 20]).unwrap();
    let (class, error) = error(json!({ "bootconfig": { "url": file.path() } }));
    assert!(class == Class::InvalidInput && error.contains("more than"), "{error}");
}

#[test]
fn a_server_without_the_file_is_named_and_not_asked_again() {
    let url = format!("{}/net.toml?token=hunter2", serve(Manner::Says(404, "")));
    let (class, error) = error(json!({ "net": { "url": url } }));
    assert_eq!(class, Class::InvalidInput);
    assert!(error.contains("/net.toml: the server answers 404"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    let (class, _) = self::error(json!({ "net": { "url": serve(Manner::Says(503, "")) } }));
    assert_eq!(class, Class::Transient);
}

#[test]
fn a_server_that_hangs_is_left_after_its_time() {
    let params = json!({ "net": { "url": serve(Manner::Hangs), "timeout": "300ms" } });
    let began = Instant::now();
    let (class, error) = error(params);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(class == Class::Transient && error.contains("no whole answer within 0.3 s"), "{error}");
}

#[test]
fn a_job_that_is_stopped_waits_for_no_server() {
    let bench = Bench::new();
    let deadline = Some(Instant::now() + Duration::from_millis(200));
    let mut context = bench.context();
    context.stop = Stop { deadline, ..Stop::default() };
    let params = decode(json!({ "net": { "url": serve(Manner::Hangs) } }));
    let error = prove(&params, System::New, &context).unwrap_err();
    assert!(matches!(error, crate::Error::TimedOut), "{error}");
}

#[test]
fn the_first_metadata_service_that_answers_counts() {
    let bench = Bench::new();
    let services = [
        serve(Manner::Says(404, "")),
        serve(Manner::Hangs),
        format!("{}/ec2/", serve(Manner::Says(200, SETTINGS))),
        serve(Manner::Says(200, "not TOML")),
    ];
    let params = json!({ "user-data": { "metadata": services, "timeout": "300ms" } });
    let files = bench.prove(params).unwrap();
    assert_eq!(text(&files.user_data), "[settings]\nmotd = \"/ec2/2009-04-04/user-data\"\n");
}

#[test]
fn metadata_services_that_all_refuse_are_each_named() {
    let services = [serve(Manner::Says(404, "")), serve(Manner::Hangs)];
    let params = json!({ "user-data": { "metadata": services, "timeout": "200ms" } });
    let (class, error) = error(params);
    assert_eq!(class, Class::Transient, "one of them may yet answer");
    for service in services {
        assert!(error.contains(&service), "{error}");
    }
}
