//! What an action's environment says, in the words of a job.
//!
//! A task is decoded from the keys that a job file has, so that the same checks hold here; what they
//! find wrong is told of the variable that said it. A variable that is empty counts as not there.

use nibs_job::Task;
use serde_json::{Map, Value};

use super::{BadInput, Inputs};

/// The parameters of a task, as far as they have been said.
pub(super) struct Variables<'a> {
    inputs: Inputs<'a>,
    with: Map<String, Value>,
    /// Which key of the parameters a variable became.
    places: Vec<(&'static str, &'static str)>,
}

impl<'a> Variables<'a> {
    pub(super) fn of(inputs: Inputs<'a>) -> Self {
        Self { inputs, with: Map::new(), places: Vec::new() }
    }

    /// What a variable says.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        let value = self.inputs.environment.get(name)?.expose();
        (!value.is_empty()).then_some(value)
    }

    /// What a variable says that has to say something.
    pub(super) fn required(&self, name: &str, meaning: &str) -> Result<&'a str, BadInput> {
        self.text(name).ok_or_else(|| BadInput(format!("{name} is missing: {meaning}")))
    }

    /// Whether a variable says yes, in the words of Go's `strconv.ParseBool`. Default: no.
    pub(super) fn flag(&self, name: &str) -> Result<bool, BadInput> {
        match self.text(name) {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(other) => {
                Err(BadInput(format!("{name}: expected true or false, found {other:?}")))
            }
        }
    }

    /// Says that a key with this value comes from a variable.
    pub(super) fn put(&mut self, name: &'static str, key: &'static str, value: impl Into<Value>) {
        self.places.push((name, key));
        let (tables, leaf) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table = &mut self.with;
        for part in tables.split('.').filter(|part| !part.is_empty()) {
            let inner = table.entry(part).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(inner) = inner else { return };
            table = inner;
        }
        table.insert(leaf.to_owned(), value.into());
    }

    /// Has each variable that says something become a key, as the text that it is.
    pub(super) fn copy(&mut self, names: &[(&'static str, &'static str)]) {
        for (name, key) in names {
            if let Some(text) = self.text(name) {
                self.put(name, key, text);
            }
        }
    }

    /// Says that what is wrong at a key comes from a variable.
    pub(super) fn place(&mut self, name: &'static str, key: &'static str) {
        self.places.push((name, key));
    }

    /// The task that all that was said makes.
    pub(super) fn task(self, uses: &str) -> Result<Task, BadInput> {
        Task::decode(uses, Value::Object(self.with)).map_err(|error| {
            let (path, said) = (error.path(), error.to_string());
            let message = said.strip_prefix(&format!("{path}: ")).unwrap_or(&said);
            let key = path.strip_prefix("with").unwrap_or(&path).trim_start_matches('.');
            let name = self.places.iter().find(|(_, place)| *place == key).map(|(name, _)| *name);
            match name.unwrap_or(key) {
                "" => BadInput(message.to_owned()),
                name => BadInput(format!("{name}: {message}")),
            }
        })
    }
}
