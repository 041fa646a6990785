//! The door by which Tinkerbell's own agents are started: their flags, their environment, and the
//! order of the two.
//!
//! ```text
//! environment of old (WORKER_ID, …)  >  flag  >  AGENT_<FLAG>  >  default
//! ```
//!
//! HookOS runs an agent's image with the first, CaptainOS runs the binary from it with flags; both
//! find here what they find in `tink-agent`. What concerns Docker, containerd and Kubernetes is
//! taken and has no effect. (Flags and their order: tinkerbell/tinkerbell `cmd/agent`; those of
//! tink-worker: tinkerbell/tink `cmd/tink-worker`.)

mod environment;
mod flags;

use std::path::Path;

pub use self::flags::help;
use super::Settings;
use super::transport::Protocol;

/// The name that the agent is started under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Tinkerbell from v0.17 on.
    TinkAgent,
    /// tink up to v0.12. Its server speaks TLS unless it is told otherwise.
    TinkWorker,
}

impl Name {
    /// Which of these a program is called.
    pub fn of(program: &Path) -> Option<Self> {
        match program.file_name()?.to_str()? {
            "tink-agent" => Some(Self::TinkAgent),
            "tink-worker" => Some(Self::TinkWorker),
            _ => None,
        }
    }
}

/// What the agent is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// How it works.
    pub settings: Settings,
    /// How much it says: 0, or more for more.
    pub verbosity: i64,
    /// Only say which version this is.
    pub version: bool,
    /// What was given and has no effect, by its name.
    pub unused: Vec<String>,
}

/// Why what is asked for cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is a question.
    #[error("help is asked for")]
    Help,
    /// There is no such flag.
    #[error("there is no flag -{0}")]
    Unknown(String),
    /// It is the last word.
    #[error("flag -{0}: expected a value after it, found nothing")]
    NoValue(&'static str),
    /// Its value is not of its kind.
    #[error("{whence}: expected {expected}, found {found:?}")]
    BadValue {
        /// The flag or the variable.
        whence: String,
        /// What its values look like.
        expected: &'static str,
        /// The value, which is no secret: a text is never wrong.
        found: String,
    },
}

/// Reads arguments, without the program's name, and the environment; `variable` looks one up.
pub fn read(
    name: Name,
    arguments: impl IntoIterator<Item = String>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Asked, Refusal> {
    // An empty variable is as good as none: HookOS sets all of them, used or not.
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let settings = match name {
        Name::TinkAgent => Settings::default(),
        Name::TinkWorker => {
            Settings { tls: true, protocol: Protocol::TinkWorker, ..Settings::default() }
        }
    };
    let mut asked = Asked { settings, ..Asked::default() };
    let given = flags::parse(arguments)?;
    environment::prefixed(&mut asked, &given, &variable)?;
    given.apply(&mut asked)?;
    environment::old(&mut asked.settings, &variable);
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::super::settings::Source;
    use super::*;
    use std::path::PathBuf;
    use std::time::Duration;

    fn read_as(
        name: Name,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Asked, Refusal> {
        let arguments = arguments.iter().map(ToString::to_string);
        read(name, arguments, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        })
    }

    fn agent(arguments: &[&str], variables: &[(&str, &str)]) -> Settings {
        read_as(Name::TinkAgent, arguments, variables).unwrap().settings
    }

    fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
        read_as(Name::TinkAgent, arguments, variables).unwrap_err().to_string()
    }

    #[test]
    fn the_binary_is_known_by_its_name_wherever_it_lies() {
        let of = |program: &str| Name::of(Path::new(program));
        assert_eq!(of("/tink-agent"), Some(Name::TinkAgent));
        assert_eq!(of("/usr/bin/tink-agent"), Some(Name::TinkAgent));
        assert_eq!(of("tink-worker"), Some(Name::TinkWorker));
        assert_eq!(of("/usr/bin/nibs"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn a_flag_is_taken_in_each_of_its_spellings() {
        for arguments in [&["-id", "m"][..], &["--id", "m"], &["-id=m"], &["--id=m"]] {
            assert_eq!(agent(arguments, &[]).id.as_deref(), Some("m"), "{arguments:?}");
        }
        for (arguments, tls) in [
            (&["-grpc-tls"][..], true),
            (&["--grpc-tls", "-id", "m"], true),
            (&["-grpc-tls=true"], true),
            (&["--grpc-tls=F"], false),
            (&["-grpc-tls", "false"], false),
            (&["-grpc-tls", "1", "-id", "m"], true),
            (&["-grpc-tls="], true),
        ] {
            assert_eq!(agent(arguments, &[]).tls, tls, "{arguments:?}");
        }
    }

    #[test]
    fn an_empty_value_is_one_and_does_not_swallow_the_next_flag() {
        let settings = agent(&["-id=", "-grpc-server", "h:1"], &[]);
        assert_eq!((settings.id, settings.server.as_deref()), (None, Some("h:1")));
    }

    #[test]
    fn every_setting_has_its_flag() {
        let asked = read_as(
            Name::TinkAgent,
            &[
                "-id=m",
                "-log-level=4",
                "-transport=nats",
                "-attribute-detection=false",
                "-backoff-max-interval=1m30s",
                "-registry-name=r",
                "-registry-user=u",
                "-registry-pass=p",
                "-grpc-server=h:1",
                "-grpc-tls",
                "-grpc-insecure-tls",
                "-workflow-path=/w.yaml",
                "-nats-server=10.0.0.1:4222",
                "-nats-stream=s",
                "-nats-events=e",
                "-nats-actions=a",
            ],
            &[],
        );
        let asked = asked.unwrap();
        assert_eq!((asked.verbosity, asked.version), (4, false));
        assert_eq!(asked.unused, Vec::<String>::new());
        let settings = asked.settings;
        assert_eq!(settings.source, Source::Nats);
        assert!(!settings.attributes && settings.tls && settings.insecure_tls);
        assert_eq!(settings.backoff_max, Duration::from_secs(90));
        let registry = &settings.registries;
        assert_eq!(
            (registry.name.as_deref(), registry.username.as_deref()),
            (Some("r"), Some("u"))
        );
        assert_eq!(registry.password.as_ref().unwrap().expose(), "p");
        assert_eq!(settings.workflow, Some(PathBuf::from("/w.yaml")));
        assert_eq!(settings.nats_server.as_deref(), Some("10.0.0.1:4222"));
        let subjects = &settings.subjects;
        assert_eq!([&subjects.stream, &subjects.events, &subjects.actions], ["s", "e", "a"]);
    }

    #[test]
    fn nothing_said_is_tink_agents_default() {
        let settings = agent(&[], &[]);
        assert_eq!(settings, Settings::default());
        assert!(!settings.tls && settings.attributes && settings.protocol == Protocol::Agent);
        assert_eq!(settings.source, Source::Grpc);
        assert_eq!(settings.backoff_max, Duration::from_secs(5));
    }

    #[test]
    fn tink_worker_speaks_tls_and_the_old_protocol_unless_told_otherwise() {
        let worker = |arguments: &[&str], variables: &[(&str, &str)]| {
            read_as(Name::TinkWorker, arguments, variables).unwrap().settings
        };
        let settings = worker(&["-i", "m", "-r=reg", "-u", "me", "-p", "hunter2"], &[]);
        assert!(settings.tls && settings.protocol == Protocol::TinkWorker);
        assert_eq!(settings.id.as_deref(), Some("m"));
        assert_eq!(settings.registries.name.as_deref(), Some("reg"));
        assert_eq!(settings.registries.username.as_deref(), Some("me"));
        assert_eq!(settings.registries.password.unwrap().expose(), "hunter2");
        assert!(!worker(&["--tinkerbell-tls=false"], &[]).tls);
        assert!(!worker(&[], &[("TINKERBELL_TLS", "false")]).tls);
        let old = [
            "--retry-interval",
            "3s",
            "--timeout=60m",
            "--max-retry=3",
            "--max-file-size",
            "10485760",
            "--capture-action-logs=true",
        ];
        assert_eq!(read_as(Name::TinkWorker, &old, &[]).unwrap().unused.len(), 5);
    }

    #[test]
    fn each_of_the_legacy_flags_is_that_of_today() {
        let settings = agent(
            &[
                "--tinkerbell-grpc-authority",
                "h:1",
                "--tinkerbell-tls",
                "--tinkerbell-insecure-tls",
                "--docker-registry=r",
                "--registry-username=u",
                "--registry-password=p",
            ],
            &[],
        );
        assert_eq!(settings.server.as_deref(), Some("h:1"));
        assert!(settings.tls && settings.insecure_tls);
        assert_eq!(settings.registries.name.as_deref(), Some("r"));
        assert_eq!(settings.registries.username.as_deref(), Some("u"));
        assert_eq!(settings.registries.password.unwrap().expose(), "p");
    }

    #[test]
    fn old_variables_win_over_flags_and_flags_over_prefixed_variables() {
        let prefixed = ("AGENT_GRPC_SERVER", "prefixed:1");
        let old = ("TINKERBELL_GRPC_AUTHORITY", "old:1");
        let flag = ["-grpc-server", "flag:1"];
        let server = |arguments: &[&str], variables: &[(&str, &str)]| {
            agent(arguments, variables).server.unwrap()
        };
        assert_eq!(server(&[], &[prefixed]), "prefixed:1");
        assert_eq!(server(&flag, &[prefixed]), "flag:1");
        assert_eq!(server(&flag, &[prefixed, old]), "old:1");
        let ids = [("WORKER_ID", "worker"), ("ID", "id")];
        assert_eq!(agent(&["-id", "flag"], &ids).id.as_deref(), Some("worker"));
        assert_eq!(agent(&["-id", "flag"], &ids[1..]).id.as_deref(), Some("id"));
    }

    #[test]
    fn a_bad_boolean_of_old_is_passed_over_and_a_prefixed_one_is_refused() {
        assert!(agent(&["-grpc-tls"], &[("TINKERBELL_TLS", "maybe")]).tls);
        assert!(agent(&["-grpc-tls"], &[("TINKERBELL_TLS", "")]).tls);
        let error = refusal(&[], &[("AGENT_GRPC_TLS", "maybe")]);
        assert_eq!(error, "AGENT_GRPC_TLS: expected true or false, found \"maybe\"");
        let overruled = agent(&["-grpc-tls=false"], &[("AGENT_GRPC_TLS", "maybe")]);
        assert!(!overruled.tls, "nobody asks for the variable where the flag is given");
    }

    #[test]
    fn the_environment_of_hookos_is_understood_though_half_of_it_is_empty() {
        let settings = agent(
            &[],
            &[
                ("DOCKER_REGISTRY", ""),
                ("REGISTRY_USERNAME", ""),
                ("REGISTRY_PASSWORD", ""),
                ("TINKERBELL_GRPC_AUTHORITY", "10.0.0.2:42113"),
                ("TINKERBELL_TLS", "false"),
                ("TINKERBELL_INSECURE_TLS", ""),
                ("WORKER_ID", "52:54:00:00:00:01"),
                ("ID", "52:54:00:00:00:01"),
            ],
        );
        let expected = Settings {
            id: Some("52:54:00:00:00:01".into()),
            server: Some("10.0.0.2:42113".into()),
            ..Settings::default()
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn what_concerns_other_runtimes_is_taken_and_named_as_unused() {
        let captainos = [
            "-runtime",
            "containerd",
            "-containerd-socket",
            "/run/containerd/containerd.sock",
            "-transport",
            "grpc",
            "-grpc-server",
            "h:1",
            "-grpc-tls=false",
            "-grpc-insecure-tls=false",
            "-id",
            "m",
        ];
        let asked = read_as(Name::TinkAgent, &captainos, &[]).unwrap();
        assert_eq!(asked.unused, ["-runtime", "-containerd-socket"]);
        assert_eq!(asked.settings.server.as_deref(), Some("h:1"));
        let asked = read_as(Name::TinkAgent, &[], &[("AGENT_DOCKER_SOCKET", "/s")]).unwrap();
        assert_eq!(asked.unused, ["AGENT_DOCKER_SOCKET"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_expected() {
        for (arguments, message) in [
            (&["-grpc-sever=h:1"][..], "there is no flag -grpc-sever"),
            (&["-id"], "flag -id: expected a value after it, found nothing"),
            (&["-grpc-tls=maybe"], "flag -grpc-tls: expected true or false, found \"maybe\""),
            (&["-log-level", "info"], "flag -log-level: expected a whole number, found \"info\""),
            (
                &["-transport=carrier-pigeon"],
                "flag -transport: expected grpc, file or nats, found \"carrier-pigeon\"",
            ),
            (
                &["-runtime=podman"],
                "flag -runtime: expected docker, containerd or kubernetes, found \"podman\"",
            ),
            (
                &["-backoff-max-interval=5"],
                "flag -backoff-max-interval: expected a time such as 5s or 1m30s, found \"5\"",
            ),
            (
                &["-grpc-retry-interval=x"],
                "flag -grpc-retry-interval: expected a time such as 5s or 1m30s, found \"x\"",
            ),
        ] {
            assert_eq!(refusal(arguments, &[]), message);
        }
    }

    #[test]
    fn an_unknown_flag_is_named_without_its_value() {
        let error = refusal(&["--registry-passwd=hunter2"], &[]);
        assert_eq!(error, "there is no flag -registry-passwd");
    }

    #[test]
    fn help_and_version_are_answered() {
        for question in ["-h", "--help", "-help"] {
            assert_eq!(read_as(Name::TinkAgent, &[question], &[]), Err(Refusal::Help));
        }
        assert!(read_as(Name::TinkAgent, &["--version"], &[]).unwrap().version);
        let help = help();
        for part in ["-grpc-server", "-backoff-max-interval", "-tinkerbell-tls", "WORKER_ID"] {
            assert!(help.contains(part), "{part}: {help}");
        }
    }

    #[test]
    fn the_first_word_that_is_no_flag_ends_them_and_is_counted_only() {
        let asked = read_as(Name::TinkAgent, &["-id", "m", "hunter2", "-grpc-tls"], &[]).unwrap();
        assert!(!asked.settings.tls);
        assert_eq!(asked.unused, ["2 arguments after the flags"]);
        let asked = read_as(Name::TinkAgent, &["--", "-grpc-tls"], &[]).unwrap();
        assert!(!asked.settings.tls);
    }

    #[test]
    fn no_secret_shows_in_what_was_read() {
        let asked = read_as(Name::TinkAgent, &["-registry-pass", "hunter2"], &[]).unwrap();
        assert!(!format!("{asked:?}").contains("hunter2"));
    }
}
