//! The command line: what can be asked of `nibs`, and in which words.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use nibs_job::{Span, Task};
use semver::Version;

use crate::commands::bootconfig::Bootconfig;
use crate::commands::image_action;
use crate::tinkerbell::door;
use crate::tinkerbell::settings::Source;

/// Where the machine's init lets the agent note which job runs, so that a crash can be reported.
pub const STATE_FILE: &str = "/run/nibs/job.json";

/// What this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// PID 1, started by the kernel as `init`.
    Init,
    /// The kernel's `bootconfig`, started under that name.
    KernelBootconfig,
    /// An agent of Tinkerbell, started under the name of one of theirs.
    TinkerbellAgent(door::Name),
    /// The one process of a container whose image bears the name of an action.
    ImageAction(&'static str),
    /// A command, whoever started it.
    Command,
}

/// What this process is, by its id and the name it was started under.
pub fn role() -> Role {
    let name = std::env::args_os().next().unwrap_or_default();
    role_of(std::process::id(), Path::new(&name))
}

fn role_of(pid: u32, name: &Path) -> Role {
    match name.file_name().and_then(|name| name.to_str()) {
        // Both: a container's entry point has PID 1 too, and has no business with mounts.
        Some("init") if pid == 1 => Role::Init,
        Some("bootconfig") => Role::KernelBootconfig,
        Some(word) => match image_action::known(word) {
            Some(known) => Role::ImageAction(known),
            None => door::Name::of(name).map_or(Role::Command, Role::TinkerbellAgent),
        },
        None => Role::Command,
    }
}

/// Installs operating systems on bare machines, from RAM.
#[derive(Debug, Parser)]
#[command(name = "nibs", version, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub struct Cli {
    /// Events as JSON lines, or what is asked for as JSON, on stdout, and nothing else there.
    #[arg(long, global = true)]
    pub json: bool,

    /// CA certificates (PEM) to trust instead of the system's. [default: nibs.ca= of the kernel]
    #[arg(long, global = true, value_name = "FILE", env = "NIBS_CA")]
    pub ca: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take jobs from a control plane, for ever.
    Agent(AgentArgs),
    /// Do the actions of a Tinkerbell server's workflows, for ever.
    Tinkerbell(Box<TinkerbellArgs>),
    /// Run the job in a file.
    Run(RunArgs),
    /// Run one action.
    Action(ActionArgs),
    /// Look at something without doing it.
    #[command(subcommand)]
    Check(Check),
    /// Pack, show or strip the kernel's boot configuration (bootconfig.data).
    #[command(subcommand)]
    Bootconfig(Bootconfig),
    /// Say what this machine is.
    Inventory,
    /// Report the job that a dead agent left behind.
    #[command(hide = true)]
    PostMortem(PostMortemArgs),
}

/// `nibs agent`
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// The control plane. [default: nibs.control= of the kernel]
    #[arg(long, value_name = "URL", env = "NIBS_CONTROL", hide_env_values = true)]
    pub control: Option<String>,

    /// This machine's id. [default: nibs.id= of the kernel, the MAC that booted, the DMI UUID]
    #[arg(long, value_name = "ID", env = "NIBS_ID")]
    pub id: Option<String>,

    /// End after one job, with its exit code.
    #[arg(long)]
    pub once: bool,

    /// Bring the network up first and keep it up, as a machine's init wants it.
    #[arg(long, hide = true)]
    pub network: bool,

    /// Note the running job here, for `nibs post-mortem`.
    #[arg(long, value_name = "FILE", hide = true)]
    pub state: Option<PathBuf>,
}

/// `nibs tinkerbell`
#[derive(Debug, Args)]
pub struct TinkerbellArgs {
    /// The Tinkerbell server. [default: grpc_authority= of the kernel]
    #[arg(long, value_name = "HOST:PORT", env = "NIBS_TINKERBELL")]
    pub server: Option<String>,

    /// This machine's id there. [default: worker_id= or nibs.id= of the kernel, the MAC that
    /// booted, the DMI UUID]
    #[arg(long, value_name = "ID", env = "NIBS_ID")]
    pub id: Option<String>,

    /// Speak TLS to the server. [default: tinkerbell_tls= of the kernel]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub tls: Option<bool>,

    /// With TLS, take any certificate for the server's. [default: tinkerbell_insecure_tls= of the
    /// kernel]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub insecure_tls: Option<bool>,

    /// Certificate (PEM) by which this machine proves itself to the server.
    #[arg(long, value_name = "FILE", env = "NIBS_CLIENT_CERTIFICATE", requires = "client_key")]
    pub client_certificate: Option<PathBuf>,

    /// Its key (PEM).
    #[arg(long, value_name = "FILE", env = "NIBS_CLIENT_KEY", requires = "client_certificate")]
    pub client_key: Option<PathBuf>,

    /// Where actions come from.
    #[arg(long, value_enum, default_value_t)]
    pub transport: Source,

    /// The file that they come from.
    #[arg(long, value_name = "FILE", required_if_eq("transport", "file"))]
    pub workflow_path: Option<PathBuf>,

    /// The NATS server that they come from.
    #[arg(long, value_name = "HOST:PORT", required_if_eq("transport", "nats"))]
    pub nats_server: Option<String>,

    /// First part of the NATS server's subjects. [default: tinkerbell]
    #[arg(long, value_name = "NAME")]
    pub nats_stream: Option<String>,

    /// Last part of the subject that actions come from. [default: workflow_actions]
    #[arg(long, value_name = "NAME")]
    pub nats_actions: Option<String>,

    /// Last part of the subject that reports go to. [default: workflow_status]
    #[arg(long, value_name = "NAME")]
    pub nats_events: Option<String>,

    /// A registry that wants a user. [default: docker_registry= of the kernel]
    #[arg(long, value_name = "HOST")]
    pub registry: Option<String>,

    /// The user; the password is in REGISTRY_PASSWORD. [default: registry_username= and
    /// registry_password= of the kernel]
    #[arg(long, value_name = "NAME")]
    pub registry_user: Option<String>,

    /// A registry without TLS, or with any certificate; may come again. [default:
    /// insecure_registries= of the kernel]
    #[arg(long, value_name = "HOST")]
    pub insecure_registry: Vec<String>,

    /// Where images of actions are unpacked: a directory or a device. [default: nibs.scratch= of
    /// the kernel, then memory]
    #[arg(long, value_name = "PATH", env = "NIBS_SCRATCH")]
    pub scratch: Option<PathBuf>,

    /// Do not tell the server what this machine is.
    #[arg(long)]
    pub no_attributes: bool,

    /// Longest wait between two questions.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub backoff_max: Span,

    /// Bring the network up first and keep it up, as a machine's init wants it; go on when the
    /// server refuses a report.
    #[arg(long, hide = true)]
    pub network: bool,
}

/// `nibs run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The job: TOML, YAML or JSON by the name's ending; `-` is stdin, as TOML or JSON.
    #[arg(value_name = "JOBFILE")]
    pub job: PathBuf,

    /// Write events as JSON lines to this file; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,

    /// Say what would be done to which disk and why it may, and do none of it. Exit code 0 if all
    /// of it would start, 1 if not.
    #[arg(long, conflicts_with = "events")]
    pub explain: bool,
}

/// `nibs action`
#[derive(Debug, Args)]
#[command(after_help = actions_help(), arg_required_else_help = true)]
pub struct ActionArgs {
    /// Which action.
    pub name: String,

    /// A parameter, with the dotted key that it has in a job file: `disk.path=/dev/vda`.
    #[arg(long = "with", value_name = "KEY=VALUE")]
    pub with: Vec<String>,

    /// How long one attempt may take, such as 20m. [default: no limit]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,

    /// How many more times a transient failure is tried.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub retries: u32,

    /// Write events as JSON lines to this file; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,

    /// Say what would be done to which disk and why it may, and do none of it. Exit code 0 if it
    /// would start, 1 if not.
    #[arg(long, conflicts_with_all = ["events", "retries"])]
    pub explain: bool,
}

/// `nibs check`
#[derive(Debug, Subcommand)]
#[command(after_help = "Exit codes: 0 valid, 1 not valid, 2 cannot be read.")]
pub enum Check {
    /// Is this a valid job, with valid files for Bottlerocket in it?
    ///
    /// TOML, YAML or JSON by the name's ending; stdin is TOML or JSON.
    Job {
        /// The job.
        #[command(flatten)]
        subject: Subject,
    },
    /// Is this a net.toml that Bottlerocket takes?
    NetToml {
        /// The file.
        #[command(flatten)]
        subject: Subject,

        /// The version of Bottlerocket that will read it, such as 1.28.0. [default: any]
        #[arg(long, value_name = "VERSION")]
        release: Option<Version>,
    },
    /// Is this a user-data.toml, plain or gzip, that Bottlerocket takes?
    UserData {
        /// The file.
        #[command(flatten)]
        subject: Subject,

        /// The version of Bottlerocket that will read it, such as 1.28.0. [default: any]
        #[arg(long, value_name = "VERSION")]
        release: Option<Version>,

        /// The variant that will read it, such as metal-k8s-1.28. [default: any]
        #[arg(long, value_name = "NAME")]
        variant: Option<String>,
    },
    /// Is this a boot configuration, its text or packed, that Bottlerocket takes?
    Bootconfig {
        /// The file.
        #[command(flatten)]
        subject: Subject,
    },
}

/// What is checked, and how strictly.
#[derive(Debug, Args)]
pub struct Subject {
    /// The file; `-` is stdin.
    pub file: PathBuf,

    /// Refuse what is taken but cannot work, too.
    #[arg(long)]
    pub strict: bool,
}

/// `nibs post-mortem`
#[derive(Debug, Args)]
pub struct PostMortemArgs {
    /// Where the dead agent noted its job.
    #[arg(long, value_name = "FILE", default_value = STATE_FILE)]
    pub state: PathBuf,

    /// How it died.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,

    /// How long the control plane is tried.
    #[arg(long, value_name = "TIME", default_value = "1m")]
    pub timeout: Span,
}

fn actions_help() -> String {
    let lines = Task::NAMES.iter().map(|name| format!("  {name}\n"));
    format!(
        "Actions:\n{}\nExample:\n  nibs action stream-image --with image.url=http://10.0.0.1/os.img.zst \
         --with disk.path=/dev/vda",
        lines.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn only_pid_1_called_init_is_init() {
        assert_eq!(role_of(1, Path::new("/init")), Role::Init);
        assert_eq!(role_of(1, Path::new("/usr/bin/nibs")), Role::Command);
        assert_eq!(role_of(42, Path::new("init")), Role::Command);
    }

    #[test]
    fn by_the_kernel_tools_name_it_is_that_tool() {
        assert_eq!(role_of(42, Path::new("/usr/sbin/bootconfig")), Role::KernelBootconfig);
        assert_eq!(role_of(42, Path::new("/usr/bin/nibs-bootconfig")), Role::Command);
    }

    #[test]
    fn by_the_names_of_tinkerbells_agents_it_is_one() {
        let agent = Role::TinkerbellAgent(door::Name::TinkAgent);
        assert_eq!(role_of(42, Path::new("/tink-agent")), agent);
        assert_eq!(role_of(1, Path::new("/usr/bin/tink-agent")), agent, "in a container");
        let worker = Role::TinkerbellAgent(door::Name::TinkWorker);
        assert_eq!(role_of(42, Path::new("tink-worker")), worker);
    }

    #[test]
    fn by_the_name_of_an_action_it_is_that_action_save_by_its_own() {
        assert_eq!(role_of(1, Path::new("/image2disk")), Role::ImageAction("image2disk"));
        assert_eq!(role_of(42, Path::new("cexec")), Role::ImageAction("cexec"));
        assert_eq!(role_of(1, Path::new("/usr/bin/nibs")), Role::Command);
    }

    #[test]
    fn help_lists_every_action() {
        let help = actions_help();
        assert!(Task::NAMES.iter().all(|name| help.contains(name)), "{help}");
    }
}
