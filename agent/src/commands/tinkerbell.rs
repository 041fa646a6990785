//! `nibs tinkerbell`, and the agent under the names of Tinkerbell's: two doors to one [`Worker`].

use std::fs;
use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use nibs_actions::http::ClientCertificate;
use nibs_actions::{Machine, power};
use nibs_job::Secret;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::here::Here;
use super::signals::cancelled_by_signals_and_hangup;
use super::{Exit, Usage, block_on};
use crate::cli::TinkerbellArgs;
use crate::executor::{Executor, Limits};
use crate::facts;
use crate::journal::Outlet;
use crate::net::resolver::Resolver;
use crate::net::{self, Keeper};
use crate::syslog::Syslog;
use crate::tinkerbell::container::{self, Registries};
use crate::tinkerbell::door::{self, Name, Refusal};
use crate::tinkerbell::settings::{Settings, Source};
use crate::tinkerbell::transport::proto::AgentAttributes;
use crate::tinkerbell::transport::{self, Nats, Server, Subjects, Transport};
use crate::tinkerbell::worker::{self, Stopped, Worker};
use crate::view::{self, JsonLines, SyslogLines};

/// How long a machine's init keeps to itself after a report that is refused for good. tink-agent
/// ends then, and CaptainOS starts it anew after as long.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// How long what ends the agent may take to get out to a syslog receiver.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// `nibs tinkerbell`
pub(super) async fn tinkerbell(
    args: TinkerbellArgs,
    ca: Option<PathBuf>,
    json: bool,
) -> anyhow::Result<Exit> {
    let here = Here::look(ca);
    let syslog = here.syslog();
    here.warn();
    let network = args.network;
    let cancel = cancelled_by_signals_and_hangup()?;
    // Kept to the end: it renews the lease.
    let keeper = match network {
        true => tokio::select! {
            keeper = net::up(here.network()) => Some(keeper),
            () = cancel.cancelled() => return Ok(Exit::Done),
        },
        false => None,
    };
    let leased = keeper.as_ref().and_then(Keeper::network).map(|network| network.mac);
    let settings = settings(args, &here, leased);
    let id = settings.as_ref().ok().and_then(|settings| settings.id.clone());
    let id = id.or_else(|| here.machine_id(here.tinkerbell().worker.clone(), leased).ok());
    let id = id.unwrap_or_default();
    here.open_syslog(syslog.as_ref(), &id);
    let ended = match settings {
        Ok(settings) => {
            let syslog = syslog.clone();
            let agent = Agent { here, settings, cancel, keeper, syslog, json };
            agent.work_on(network).await
        }
        Err(usage) => Err(usage.into()),
    };
    if let (Err(error), Some(syslog)) = (&ended, syslog) {
        // The console gets it from whoever is told.
        syslog.say_last(&format!("{error:#}"), LAST_WORDS).await;
    }
    ended
}

/// What the arguments say, and the kernel command line where they say nothing.
fn settings(
    args: TinkerbellArgs,
    here: &Here,
    leased: Option<nibs_job::Mac>,
) -> Result<Settings, Usage> {
    let kernel = here.tinkerbell();
    let server = args.server.or_else(|| kernel.authority.clone());
    if server.is_none() && args.transport == Source::Grpc {
        return Err(Usage(
            "no Tinkerbell server is named; expected --server HOST:PORT, NIBS_TINKERBELL, or \
             grpc_authority=HOST:PORT on the kernel command line"
                .into(),
        ));
    }
    let password = std::env::var("REGISTRY_PASSWORD").ok().filter(|text| !text.is_empty());
    let default = Subjects::default();
    Ok(Settings {
        id: Some(here.machine_id(args.id.or_else(|| kernel.worker.clone()), leased)?),
        source: args.transport,
        server,
        tls: args.tls.unwrap_or(kernel.tls),
        insecure_tls: args.insecure_tls.unwrap_or(kernel.insecure_tls),
        client_certificate: args.client_certificate.zip(args.client_key),
        nats_server: args.nats_server,
        subjects: Subjects {
            stream: args.nats_stream.unwrap_or(default.stream),
            actions: args.nats_actions.unwrap_or(default.actions),
            events: args.nats_events.unwrap_or(default.events),
        },
        workflow: args.workflow_path,
        registries: Registries {
            name: args.registry.or_else(|| kernel.registries.name.clone()),
            username: args.registry_user.or_else(|| kernel.registries.username.clone()),
            password: password.map(Secret::new).or_else(|| kernel.registries.password.clone()),
            insecure: match args.insecure_registry {
                none if none.is_empty() => kernel.registries.insecure.clone(),
                given => given,
            },
            scratch: args.scratch.or_else(|| here.scratch()),
        },
        attributes: !args.no_attributes,
        backoff_max: args.backoff_max.0,
        ..Settings::default()
    })
}

/// The agent under the name of one of Tinkerbell's.
pub fn by_their_name(name: Name) -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned());
    let asked = match door::read(name, arguments, |name| std::env::var(name).ok()) {
        Ok(asked) => asked,
        Err(refusal) => {
            // As tink-agent has it, a question for help is not what an agent is started for.
            let _ = stderr().write_all(door::help().as_bytes());
            if refusal != Refusal::Help {
                let _ = writeln!(stderr(), "\ntink-agent: {refusal}");
            }
            return ExitCode::from(Exit::Failed as u8);
        }
    };
    if asked.version {
        let _ = writeln!(stdout(), "nibs {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::from(Exit::Done as u8);
    }
    view::start_json_logging(asked.verbosity, asked.settings.id.as_deref().unwrap_or_default());
    for unused in &asked.unused {
        debug!("{unused}: taken, without effect");
    }
    let exit = block_on(from_their_door(asked.settings)).unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        let _ = writeln!(stderr(), "tink-agent: {error:#}");
        Exit::Failed
    });
    ExitCode::from(exit as u8)
}

async fn from_their_door(mut settings: Settings) -> anyhow::Result<Exit> {
    let path = |name| std::env::var_os(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    settings.client_certificate = path("NIBS_CLIENT_CERTIFICATE").zip(path("NIBS_CLIENT_KEY"));
    // The kernel's parameters have come here as flags and variables, save for those that HookOS and
    // CaptainOS tell Docker and containerd alone, and for our own, of which they know nothing.
    let kernel = Here::look(path("NIBS_CA"));
    settings.registries.insecure.clone_from(&kernel.tinkerbell().registries.insecure);
    settings.registries.scratch = path("NIBS_SCRATCH").or_else(|| kernel.scratch());
    let here = kernel.by_its_ca_alone();
    let cancel = cancelled_by_signals_and_hangup()?;
    let agent = Agent { here, settings, cancel, keeper: None, syslog: None, json: true };
    agent.work().await
}

/// An agent at work.
struct Agent {
    here: Here,
    settings: Settings,
    cancel: CancellationToken,
    keeper: Option<Keeper>,
    syslog: Option<Arc<Syslog>>,
    /// Whether events go to stdout as JSON lines.
    json: bool,
}

impl Agent {
    /// Does what is assigned; for an init, also after a report that is refused.
    async fn work_on(&self, for_init: bool) -> anyhow::Result<Exit> {
        loop {
            let exit = self.work().await?;
            if !for_init || self.cancel.is_cancelled() {
                return Ok(exit);
            }
            // An init has nobody who would start the agent anew.
            warn!("asking on in {} s", REFUSED_PAUSE.as_secs());
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    }

    /// Does what is assigned until that ends.
    async fn work(&self) -> anyhow::Result<Exit> {
        let id = self.settings.id.clone().unwrap_or_default();
        let mut transport = self.transport(&id)?;
        info!("starting the agent: {}", self.asks());
        let mut runner = self.here.runner()?;
        if let Some(keeper) = &self.keeper {
            runner = runner.leased(keeper.watch());
        }
        let registries = self.settings.registries.clone();
        let worker = Worker {
            executor: Executor::new(Arc::new(runner), Limits::default(), self.cancel.clone()),
            cancel: self.cancel.clone(),
            backoff_max: self.settings.backoff_max,
            outlets: outlets(self.json, self.syslog.clone()),
            fallback: Box::new(move |assignment| container::task(assignment, &registries)),
        };
        end(worker.run(transport.as_mut()).await, &id)
    }

    /// Whom it asks, for people.
    fn asks(&self) -> String {
        let named = |name: &Option<String>| name.clone().unwrap_or_default();
        match self.settings.source {
            Source::Grpc => {
                format!("asking the Tinkerbell server {}", named(&self.settings.server))
            }
            Source::Nats => {
                format!("listening to the NATS server {}", named(&self.settings.nats_server))
            }
            Source::File => "doing the actions of a file".into(),
        }
    }

    fn transport(&self, id: &str) -> anyhow::Result<Box<dyn Transport>> {
        let Settings { server, nats_server, subjects, workflow, .. } = &self.settings;
        let missing = |what| anyhow!("starting the agent: {what}");
        Ok(match self.settings.source {
            Source::Grpc => {
                let server = server.clone().ok_or_else(|| {
                    missing("no Tinkerbell server is named; expected -grpc-server HOST:PORT")
                })?;
                Box::new(Server::new(self.options(server, id)?)?)
            }
            Source::File => {
                let path = workflow.as_deref().ok_or_else(|| {
                    missing("no file with actions is named; expected -workflow-path FILE")
                })?;
                Box::new(transport::File::read(path, id)?)
            }
            Source::Nats => {
                let server = nats_server.as_deref().ok_or_else(|| {
                    missing("no NATS server is named; expected -nats-server HOST:PORT")
                })?;
                Box::new(Nats::new(server, id, subjects.clone(), Resolver::default()))
            }
        })
    }

    /// How a Tinkerbell server is spoken with.
    fn options(&self, server: String, id: &str) -> anyhow::Result<transport::Options> {
        let http = self.here.http_options()?;
        let Settings { protocol, registries, tls, insecure_tls, .. } = &self.settings;
        let client_certificate = match &self.settings.client_certificate {
            Some((certificate, key)) => Some(ClientCertificate {
                certificate: read("client certificate", certificate)?,
                key: Secret::new(read("key of the client certificate", key)?),
            }),
            None => None,
        };
        Ok(transport::Options {
            server,
            agent: id.to_owned(),
            attributes: self.settings.attributes.then(attributes),
            protocol: *protocol,
            registry: registries.name.clone(),
            tls: *tls,
            insecure_tls: *insecure_tls,
            ca_bundles: http.ca_bundles,
            client_certificate,
            proxies: http.proxies,
            resolver: Resolver::default(),
        })
    }
}

/// What comes of the worker's end.
fn end(stopped: Stopped, id: &str) -> anyhow::Result<Exit> {
    match stopped {
        Stopped::Told => info!("stopped the agent: it was told to"),
        Stopped::Refused(why) => {
            warn!("stopped the agent: the server refuses its report: {why}");
        }
        Stopped::Power(change) => {
            info!(agentID = id, "the server knows that the action is done; it asks for: {change}");
            let Err(error) = power::perform(change);
            return Err(error.into());
        }
        // An init restarts the machine then, and CaptainOS the agent.
        Stopped::Abandoned(why) => {
            bail!(
                "ending the agent, since nothing may be done beside an action that goes on: {why}"
            )
        }
    }
    Ok(Exit::Done)
}

fn read(what: &str, path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading the {what} {}", path.display()))
}

/// What a server is told of this machine with every question.
fn attributes() -> AgentAttributes {
    facts::inventory(&Machine::default()).fitted().into()
}

/// Makes views of an action: as JSON for programs or in words for people, and to syslog.
fn outlets(json: bool, syslog: Option<Arc<Syslog>>) -> worker::Outlets {
    Box::new(move || {
        let mut outlets: Vec<Arc<dyn Outlet>> = vec![match json {
            true => Arc::new(JsonLines::new(stdout())),
            false => view::for_people(),
        }];
        let syslog = syslog.clone().map(SyslogLines::new);
        outlets.extend(syslog.map(|lines| Arc::new(lines) as Arc<dyn Outlet>));
        outlets
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_that_goes_on_is_a_failure_of_the_agent_and_no_other_end_is() {
        for stopped in [Stopped::Told, Stopped::Refused("no".into())] {
            assert_eq!(end(stopped, "m").unwrap(), Exit::Done);
        }
        let error = end(Stopped::Abandoned("stream: it hangs".into()), "m").unwrap_err();
        assert!(error.to_string().ends_with("stream: it hangs"), "{error}");
        assert!(!error.is::<Usage>(), "which would be another exit code");
    }
}
