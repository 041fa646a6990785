//! `nibs-server check`

use std::path::Path;
use std::process::ExitCode;

use nibs_server::catalog::{Catalog, JOBS, MATCHES};

pub(crate) fn check(directory: &Path) -> ExitCode {
    let name = directory.display();
    if ![JOBS, MATCHES].iter().any(|folder| directory.join(folder).is_dir()) {
        eprintln!("nibs-server: {name} is no data directory: it has neither jobs/ nor matches/");
        return ExitCode::FAILURE;
    }
    let catalog = Catalog::read(directory);
    let faults = catalog.check();
    for fault in &faults {
        eprintln!("{}: {}", directory.join(&fault.file).display(), fault.error);
    }
    let warnings = catalog.warnings();
    for warning in warnings {
        eprintln!("{}: {}", directory.join(&warning.file).display(), warning.warning);
    }
    let (jobs, matches) = (catalog.jobs().count(), catalog.matches().len());
    println!(
        "{name}: {jobs} jobs, {matches} matches, {} faults, {} warnings",
        faults.len(),
        warnings.len()
    );
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
