//! What happened: machines, runs and events, in one file that survives a power cut.
//!
//! redb: each write is one transaction, and a method returns only after its commit has reached
//! the disk (fsync). What was acknowledged is there after `kill -9`; what was not is not, whole.
//! Every method blocks; the HTTP side calls them from blocking threads.

mod error;
mod records;

use std::path::Path;

use nibs_job::{Event, Facts, Mac};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use error::StoreError;
pub use records::{Machine, Phase, Run};

use crate::{MachineId, Timestamp};
use error::Doing;

/// Machine id to [`Machine`].
const MACHINES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("machines-1");
/// MAC of any card to machine id: the card that boots need not be the one that names the machine.
const CARDS: TableDefinition<'_, &str, &str> = TableDefinition::new("cards-1");
/// Machine id and job id to [`Run`].
const RUNS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("runs-1");
/// Machine id, job id and sequence number to the event as it came.
const EVENTS: TableDefinition<'_, (&str, &str, u64), &[u8]> = TableDefinition::new("events-1");

/// Largest number of events given at once.
pub const MAX_EVENTS: usize = 10_000;

/// The store of one data directory.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

/// An event with the JSON in which it came, which may hold more than this version knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Reported {
    /// As far as this version understands it.
    pub event: Event,
    /// As it came.
    pub source: Value,
}

impl Store {
    /// Opens or makes the store. After a crash this also repairs the file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let name = || path.display().to_string();
        let database = Database::create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: name() },
            error => StoreError::Open { path: name(), source: Box::new(error.into()) },
        })?;
        let store = Self { database };
        // So that a reader never finds a table missing.
        store.write(|transaction| {
            const DOING: &str = "making the store's tables";
            transaction.open_table(MACHINES).doing(DOING)?;
            transaction.open_table(CARDS).doing(DOING)?;
            transaction.open_table(RUNS).doing(DOING)?;
            transaction.open_table(EVENTS).doing(DOING).map(drop)
        })?;
        Ok(store)
    }

    /// Whether the store can be read.
    pub fn check(&self) -> Result<(), StoreError> {
        const DOING: &str = "reading the store";
        let transaction = self.database.begin_read().doing(DOING)?;
        transaction.open_table(MACHINES).doing(DOING).map(drop)
    }

    /// A machine asked for a boot script.
    pub fn record_boot(
        &self,
        id: &MachineId,
        address: &str,
        now: Timestamp,
    ) -> Result<Machine, StoreError> {
        self.change_machine(id, address, now, |machine| {
            machine.boots += 1;
            machine.last_boot = Some(now);
        })
    }

    /// A machine's agent asked for work.
    pub fn record_hello(
        &self,
        id: &MachineId,
        address: &str,
        agent: &str,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<Machine, StoreError> {
        self.change_machine(id, address, now, |machine| {
            machine.agent = Some(agent.to_owned());
            machine.facts = Some(facts.clone());
        })
    }

    /// Stores a machine's events of a job, in order, and gives the highest number stored for it
    /// so far. Those that are stored already are dropped.
    pub fn append_events(
        &self,
        id: &MachineId,
        address: &str,
        job: &str,
        events: &[Reported],
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        const DOING: &str = "storing events";
        self.write(|transaction| {
            touch(transaction, id, address, now, |_| {})?;
            let mut runs = transaction.open_table(RUNS).doing(DOING)?;
            let mut table = transaction.open_table(EVENTS).doing(DOING)?;
            let run = runs.get((id.as_str(), job)).doing(DOING)?;
            let run = run.map(|run| decode::<Run>(run.value())).transpose()?;
            let mut run = run.unwrap_or_else(|| Run::new(job, now));
            for Reported { event, source } in events {
                if event.sequence > run.last_sequence {
                    let key = (id.as_str(), job, event.sequence);
                    table.insert(key, encode(source)?.as_slice()).doing(DOING)?;
                    run.apply(event, now);
                }
            }
            // No event, no run: an empty report changes nothing.
            if run.last_sequence > 0 {
                runs.insert((id.as_str(), job), encode(&run)?.as_slice()).doing(DOING)?;
            }
            Ok(run.last_sequence)
        })
    }

    /// Opens a finished run again, so that its job is offered once more.
    pub fn retry(&self, id: &MachineId, job: &str, now: Timestamp) -> Result<Run, StoreError> {
        const DOING: &str = "storing a retry";
        self.write(|transaction| {
            let mut runs = transaction.open_table(RUNS).doing(DOING)?;
            let run = runs.get((id.as_str(), job)).doing(DOING)?;
            let run = run.map(|run| decode::<Run>(run.value())).transpose()?;
            let Some(mut run) = run.filter(|run| run.outcome().is_some()) else {
                return Err(StoreError::NotFinished {
                    machine: id.to_string(),
                    job: job.to_owned(),
                });
            };
            run.ask_again(now);
            runs.insert((id.as_str(), job), encode(&run)?.as_slice()).doing(DOING)?;
            Ok(run)
        })
    }

    /// A machine by its id.
    pub fn machine(&self, id: &MachineId) -> Result<Option<Machine>, StoreError> {
        const DOING: &str = "reading a machine";
        let transaction = self.database.begin_read().doing(DOING)?;
        let machines = transaction.open_table(MACHINES).doing(DOING)?;
        let found = machines.get(id.as_str()).doing(DOING)?;
        found.map(|machine| decode(machine.value())).transpose()
    }

    /// The machine that has this network card, as far as its agent told.
    pub fn owner_of(&self, card: Mac) -> Result<Option<MachineId>, StoreError> {
        const DOING: &str = "looking a network card up";
        let transaction = self.database.begin_read().doing(DOING)?;
        let cards = transaction.open_table(CARDS).doing(DOING)?;
        let found = cards.get(card.to_string().as_str()).doing(DOING)?;
        Ok(found.and_then(|id| id.value().parse().ok()))
    }

    /// All machines by id, each with its runs.
    pub fn machines(&self) -> Result<Vec<(Machine, Vec<Run>)>, StoreError> {
        const DOING: &str = "reading the machines";
        let transaction = self.database.begin_read().doing(DOING)?;
        let machines = transaction.open_table(MACHINES).doing(DOING)?;
        let runs = transaction.open_table(RUNS).doing(DOING)?;
        let mut all = Vec::new();
        for entry in machines.iter().doing(DOING)? {
            let machine: Machine = decode(entry.doing(DOING)?.1.value())?;
            let runs = runs_in(&runs, &machine.id)?;
            all.push((machine, runs));
        }
        Ok(all)
    }

    /// The runs of a machine, by job id.
    pub fn runs(&self, id: &MachineId) -> Result<Vec<Run>, StoreError> {
        const DOING: &str = "reading the runs of a machine";
        let transaction = self.database.begin_read().doing(DOING)?;
        runs_in(&transaction.open_table(RUNS).doing(DOING)?, id)
    }

    /// The run of a job on a machine.
    pub fn run(&self, id: &MachineId, job: &str) -> Result<Option<Run>, StoreError> {
        const DOING: &str = "reading a run";
        let transaction = self.database.begin_read().doing(DOING)?;
        let runs = transaction.open_table(RUNS).doing(DOING)?;
        let found = runs.get((id.as_str(), job)).doing(DOING)?;
        found.map(|run| decode(run.value())).transpose()
    }

    /// The machines on which a job has run, by id.
    pub fn machines_of(&self, job: &str) -> Result<Vec<MachineId>, StoreError> {
        let all = self.machines()?.into_iter();
        Ok(all
            .filter(|(_, runs)| runs.iter().any(|run| run.job == job))
            .map(|(machine, _)| machine.id)
            .collect())
    }

    /// The first [`MAX_EVENTS`] events of a run after sequence number `after`, in order, each as
    /// it came.
    pub fn events(&self, id: &MachineId, job: &str, after: u64) -> Result<Vec<Value>, StoreError> {
        const DOING: &str = "reading events";
        let transaction = self.database.begin_read().doing(DOING)?;
        let table = transaction.open_table(EVENTS).doing(DOING)?;
        let Some(first) = after.checked_add(1) else { return Ok(Vec::new()) };
        let range = (id.as_str(), job, first)..=(id.as_str(), job, u64::MAX);
        table
            .range(range)
            .doing(DOING)?
            .take(MAX_EVENTS)
            .map(|entry| decode(entry.doing(DOING)?.1.value()))
            .collect()
    }

    fn change_machine(
        &self,
        id: &MachineId,
        address: &str,
        now: Timestamp,
        change: impl FnOnce(&mut Machine),
    ) -> Result<Machine, StoreError> {
        self.write(|transaction| touch(transaction, id, address, now, change))
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        const DOING: &str = "writing to the store";
        let transaction = self.database.begin_write().doing(DOING)?;
        let done = work(&transaction)?;
        transaction.commit().doing(DOING)?;
        Ok(done)
    }
}

fn touch(
    transaction: &WriteTransaction,
    id: &MachineId,
    address: &str,
    now: Timestamp,
    change: impl FnOnce(&mut Machine),
) -> Result<Machine, StoreError> {
    const DOING: &str = "storing a machine";
    let mut machines = transaction.open_table(MACHINES).doing(DOING)?;
    let known = machines.get(id.as_str()).doing(DOING)?;
    let known = known.map(|machine| decode::<Machine>(machine.value())).transpose()?;
    let mut machine = known.unwrap_or_else(|| Machine::new(id, now));
    machine.last_seen = now;
    machine.address = Some(address.to_owned());
    change(&mut machine);
    machines.insert(id.as_str(), encode(&machine)?.as_slice()).doing(DOING)?;
    if machine.facts.is_some() {
        let mut cards = transaction.open_table(CARDS).doing(DOING)?;
        for card in machine.labels().macs {
            cards.insert(card.to_string().as_str(), id.as_str()).doing(DOING)?;
        }
    }
    Ok(machine)
}

fn runs_in(
    table: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    id: &MachineId,
) -> Result<Vec<Run>, StoreError> {
    const DOING: &str = "reading the runs of a machine";
    let mut runs = Vec::new();
    for entry in table.range((id.as_str(), "")..).doing(DOING)? {
        let (key, run) = entry.doing(DOING)?;
        if key.value().0 != id.as_str() {
            break;
        }
        runs.push(decode(run.value())?);
    }
    Ok(runs)
}

fn encode(record: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    Ok(serde_json::to_vec(record)?)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    Ok(serde_json::from_slice(bytes)?)
}

#[cfg(test)]
mod tests;
