//! A test that needs the lab.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::artefacts::Artefacts;
use crate::demo::System;
use crate::firmware::Firmware;
use crate::namespace;

/// Runs the body of this test inside namespaces, one test at a time: two machines at once would
/// each take twice as long, and times are part of what is tested. Where this host cannot run the
/// lab, says so and does nothing.
///
/// # Panics
///
/// If the test fails; its directory is left then.
pub fn in_the_lab(test: &str, system: System, body: impl FnOnce(&Path)) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(reason) = Artefacts::find().check(&Firmware::default(), system.image()) {
        eprintln!("skipped: {test}: {reason:#}");
        return;
    }
    let directory = Artefacts::find().directory().join("tests").join(test);
    match namespace::run_test(test).unwrap() {
        None => body(&directory),
        Some(status) => {
            assert!(status.success(), "{test}: {status}; logs in {}", directory.display());
            fs::remove_dir_all(directory).unwrap();
        }
    }
}
