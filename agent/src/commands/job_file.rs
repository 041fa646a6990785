//! Reading a job from a file or stdin.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use nibs_job::{FileFormat, Job, ParseError};

use super::Usage;

/// The text of a job file, and its notation.
#[derive(Debug)]
pub(super) struct JobFile {
    text: String,
    format: FileFormat,
}

impl JobFile {
    /// Reads the file; `-` is stdin.
    pub(super) fn read(path: &Path) -> Result<Self, Usage> {
        if path == Path::new("-") {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|e| Usage(format!("reading the job from stdin: {e}")))?;
            // Without a name: a JSON document starts with a brace, and no TOML document does.
            let is_json = text.trim_start().starts_with('{');
            let format = if is_json { FileFormat::Json } else { FileFormat::Toml };
            return Ok(Self { text, format });
        }
        let text = fs::read_to_string(path)
            .map_err(|e| Usage(format!("reading the job file {}: {e}", path.display())))?;
        Ok(Self { text, format: FileFormat::of(path) })
    }

    /// Decodes and checks the job.
    pub(super) fn parse(&self) -> Result<Job, ParseError> {
        Job::parse(&self.text, self.format)
    }

    /// The id that a job gives itself, even if the rest of it is no job.
    pub(super) fn id(&self) -> Option<String> {
        let value = self.format.parse(&self.text).ok()?;
        value.get("id")?.as_str().map(str::to_owned)
    }
}
