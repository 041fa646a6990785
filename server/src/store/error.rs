//! Why the store failed.

use nibs_job::Class;

/// The store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another server has it open.
    #[error(
        "opening {path}: another nibs-server has it open; stop that one, or use another --data"
    )]
    InUse {
        /// The file.
        path: String,
    },
    /// It could not be opened.
    #[error(
        "opening {path}: {source}; if it is damaged, move it away: jobs and matches are not in it, but which machines have finished theirs is"
    )]
    Open {
        /// The file.
        path: String,
        /// What the database said.
        source: Box<redb::Error>,
    },
    /// The database failed.
    #[error("{doing}: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What the database said: most often the disk is full or gone.
        source: Box<redb::Error>,
    },
    /// A record is not as this version writes them.
    #[error("reading a record of the store: {0}; was it written by a newer nibs-server?")]
    Record(#[from] serde_json::Error),
    /// There is nothing to retry.
    #[error(
        "retrying job {job} on machine {machine}: it has not finished there, so it is still offered"
    )]
    NotFinished {
        /// The machine.
        machine: String,
        /// The job.
        job: String,
    },
}

impl StoreError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::InUse { .. } | Self::Open { .. } | Self::Database { .. } => Class::Environment,
            Self::Record(_) => Class::Internal,
            Self::NotFinished { .. } => Class::InvalidInput,
        }
    }
}

/// Says what was being done when the database failed.
pub(super) trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, StoreError>;
}

impl<T, E: Into<redb::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: &'static str) -> Result<T, StoreError> {
        self.map_err(|e| StoreError::Database { doing: what, source: Box::new(e.into()) })
    }
}
