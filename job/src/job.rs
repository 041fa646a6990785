//! A job: ordered actions for one machine.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use crate::decode::{DecodeError, decode};
use crate::params::{
    BootOrder, Bottlerocket, ExtractArchive, Kexec, MakeFilesystem, PartitionDisk, PowerOff,
    Reboot, RunCommand, Storage, StreamImage, UploadImage, WipeDisk, WriteFiles,
};
use crate::{Span, decode};

/// How long an unreachable control plane is tried before a reboot goes ahead without its word.
pub const DEFAULT_REPORT_TIMEOUT: Span = Span(Duration::from_secs(10 * 60));

/// Longest job id, in bytes: it has to fit a file name and a URL.
const MAX_ID: usize = 128;

/// What a machine is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(deny_unknown_fields))]
#[serde(rename_all = "kebab-case")]
pub struct Job {
    /// Names the job among all: letters, digits, `.`, `_`, `-`. Default: made from the name.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub id: String,
    /// What people call it.
    pub name: String,
    /// How long the last report is tried before a reboot goes ahead without its acknowledgement.
    #[cfg_attr(feature = "schema", schemars(default = "default_report_timeout"))]
    pub report_timeout: Span,
    /// What to do, in this order; the first failure ends the job.
    pub actions: Vec<Action>,
}

/// One step of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(deny_unknown_fields))]
#[serde(rename_all = "kebab-case")]
pub struct Action {
    /// What people call it. Default: the name of what it uses.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub name: String,
    /// Which action, and what it is to do.
    #[serde(flatten)]
    pub task: Task,
    /// How long one attempt may take. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How many more times a transient failure is tried.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub retries: u32,
}

/// Which action (`uses`) and its parameters (`with`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = crate::schema::with_is_optional))]
#[serde(tag = "uses", content = "with", rename_all = "kebab-case")]
pub enum Task {
    /// Streams an operating system image onto a disk.
    StreamImage(Box<StreamImage>),
    /// Installs Bottlerocket, or changes the files of one that is installed.
    Bottlerocket(Box<Bottlerocket>),
    /// Writes files into a filesystem on a disk.
    WriteFiles(WriteFiles),
    /// Extracts a tar archive into a filesystem on a disk.
    ExtractArchive(Box<ExtractArchive>),
    /// Sends what is on a disk to a server.
    UploadImage(Box<UploadImage>),
    /// Sets the firmware's boot order.
    BootOrder(BootOrder),
    /// Runs commands with an installed system as their root.
    RunCommand(Box<RunCommand>),
    /// Clears every mark of what a disk was.
    WipeDisk(WipeDisk),
    /// Puts a new partition table on a disk.
    PartitionDisk(Box<PartitionDisk>),
    /// Makes an empty filesystem.
    MakeFilesystem(Box<MakeFilesystem>),
    /// Lays disks out as a Tinkerbell storage document says.
    Storage(Storage),
    /// Starts the kernel of an installed system, without the firmware.
    Kexec(Box<Kexec>),
    /// Restarts the machine.
    Reboot(Reboot),
    /// Switches the machine off.
    PowerOff(PowerOff),
}

impl Task {
    /// What `uses` may say.
    pub const NAMES: &[&str] = &[
        "stream-image",
        "bottlerocket",
        "write-files",
        "extract-archive",
        "upload-image",
        "boot-order",
        "run-command",
        "wipe-disk",
        "partition-disk",
        "make-filesystem",
        "storage",
        "kexec",
        "reboot",
        "power-off",
    ];

    /// Decodes the parameters of the action `uses`.
    pub fn decode(uses: &str, with: Value) -> Result<Self, DecodeError> {
        match uses {
            "stream-image" => decode(with).map(Box::new).map(Self::StreamImage),
            "bottlerocket" => decode(with).map(Box::new).map(Self::Bottlerocket),
            "write-files" => decode(with).map(Self::WriteFiles),
            "extract-archive" => decode(with).map(Box::new).map(Self::ExtractArchive),
            "upload-image" => decode(with).map(Box::new).map(Self::UploadImage),
            "boot-order" => decode(with).map(Self::BootOrder),
            "run-command" => decode(with).map(Box::new).map(Self::RunCommand),
            "wipe-disk" => decode(with).map(Self::WipeDisk),
            "partition-disk" => decode(with).map(Box::new).map(Self::PartitionDisk),
            "make-filesystem" => decode(with).map(Box::new).map(Self::MakeFilesystem),
            "storage" => decode(with).map(Self::Storage),
            "kexec" => decode(with).map(Box::new).map(Self::Kexec),
            "reboot" => decode(with).map(Self::Reboot),
            "power-off" => decode(with).map(Self::PowerOff),
            _ => return Err(DecodeError::unknown_name(uses, Self::NAMES).within("uses")),
        }
        .map_err(|e| e.within("with"))
    }

    /// The name by which a job asks for it.
    pub fn uses(&self) -> &'static str {
        match self {
            Self::StreamImage(_) => "stream-image",
            Self::Bottlerocket(_) => "bottlerocket",
            Self::WriteFiles(_) => "write-files",
            Self::ExtractArchive(_) => "extract-archive",
            Self::UploadImage(_) => "upload-image",
            Self::BootOrder(_) => "boot-order",
            Self::RunCommand(_) => "run-command",
            Self::WipeDisk(_) => "wipe-disk",
            Self::PartitionDisk(_) => "partition-disk",
            Self::MakeFilesystem(_) => "make-filesystem",
            Self::Storage(_) => "storage",
            Self::Kexec(_) => "kexec",
            Self::Reboot(_) => "reboot",
            Self::PowerOff(_) => "power-off",
        }
    }

    /// Whether the machine is gone after it, so that nothing can follow.
    pub fn ends_the_system(&self) -> bool {
        matches!(self, Self::Kexec(_) | Self::Reboot(_) | Self::PowerOff(_))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a job (a table)")]
struct JobDoc {
    id: Option<String>,
    name: String,
    report_timeout: Option<Span>,
    actions: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "an action (a table)")]
struct ActionDoc {
    name: Option<String>,
    uses: String,
    with: Option<Value>,
    timeout: Option<Span>,
    #[serde(default)]
    retries: u32,
}

impl Job {
    /// Decodes and checks a job.
    pub fn from_value(value: Value) -> Result<Self, DecodeError> {
        let doc: JobDoc = decode::decode(value)?;
        if doc.actions.is_empty() {
            return Err(DecodeError::new("has no action; expected at least one").within("actions"));
        }
        let id = match doc.id {
            Some(id) => checked_id(id).map_err(|e| DecodeError::new(e).within("id"))?,
            None => id_from_name(&doc.name).map_err(|e| DecodeError::new(e).within("name"))?,
        };
        let actions = doc
            .actions
            .into_iter()
            .enumerate()
            .map(|(index, value)| {
                Action::from_value(value)
                    .map_err(|e| e.within(format!("[{index}]")).within("actions"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let before_last = &actions[..actions.len() - 1];
        if let Some(index) = before_last.iter().position(|action| action.task.ends_the_system()) {
            let uses = actions[index].task.uses();
            let why = format!("`{uses}` must be the last action, since nothing runs after it");
            return Err(DecodeError::new(why).within(format!("[{index}]")).within("actions"));
        }
        let report_timeout = doc.report_timeout.unwrap_or(DEFAULT_REPORT_TIMEOUT);
        Ok(Self { id, name: doc.name, report_timeout, actions })
    }
}

impl Action {
    /// Decodes and checks an action.
    pub fn from_value(value: Value) -> Result<Self, DecodeError> {
        let doc: ActionDoc = decode::decode(value)?;
        let with = doc.with.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        let task = Task::decode(&doc.uses, with)?;
        let name = doc.name.unwrap_or(doc.uses);
        Ok(Self { name, task, timeout: doc.timeout, retries: doc.retries })
    }
}

impl<'de> Deserialize<'de> for Job {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(feature = "schema")]
fn default_report_timeout() -> Span {
    DEFAULT_REPORT_TIMEOUT
}

/// Checks that an id fits a file name and a URL path segment.
fn checked_id(id: String) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if id.is_empty() || id.len() > MAX_ID || id.starts_with('.') || !id.bytes().all(allowed) {
        return Err(format!(
            "{id:?} is no job id; expected 1 to {MAX_ID} letters, digits, `.`, `_` or `-`, \
             not starting with `.`"
        ));
    }
    Ok(id)
}

fn id_from_name(name: &str) -> Result<String, String> {
    let dashed: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let words: Vec<&str> = dashed.split('-').filter(|word| !word.is_empty()).collect();
    checked_id(words.join("-"))
}
