//! The three files, made and proven before a byte is written.
//!
//! ```text
//! net         -> make  -> net.toml -> check
//!                  '- the lease's DNS -.
//! user-data   -> read  -> decode -> + settings.dns + settings.boot -> check
//!                                         .-------------'  |
//! bootconfig  -> read or render ->  tree -'  -> check      | consistent?
//!                        ^---------------------------------'  made of settings.boot if not given
//! ```

use nibs_bottlerocket::bootconfig::settings::{Parameters, consistency};
use nibs_bottlerocket::bootconfig::{self, BootSettings, Tree};
use nibs_bottlerocket::diagnostic::{Diagnostic, Severity};
use nibs_bottlerocket::net_toml::{self, Dns, NetToml};
use nibs_bottlerocket::partitions::private_file::{BOOT_CONFIG, NET_CONFIG, USER_DATA};
use nibs_bottlerocket::user_data::{
    self, AddError, Options, Variant, add_boot, add_dns, boot_settings,
};
use nibs_job::params::{Bootconfig, Bottlerocket, Content, UserData};

use super::error::Error;
use super::fetch::Wanted;
use super::net;
use super::private::System;
use crate::Context;

/// The files to write; none for one that stays as it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// `user-data.toml`, plain or gzip.
    pub(super) user_data: Option<Vec<u8>>,
    /// `net.toml`.
    pub(super) net: Option<Vec<u8>>,
    /// `bootconfig.data`, with its trailer.
    pub(super) bootconfig: Option<Vec<u8>>,
    /// Whether a lease brings name servers, and there is no user data for them to go into.
    pub(super) leaves_name_servers: bool,
}

/// Without contents, which may be secret.
impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut list = f.debug_map();
        for (name, content) in self.iter() {
            list.entry(&name, &content.len());
        }
        list.finish()
    }
}

impl Files {
    /// Names and contents, in the order in which they are written: what an unfinished write leaves
    /// out is what is easiest to do without.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let all = [
            (BOOT_CONFIG, &self.bootconfig),
            (NET_CONFIG, &self.net),
            (USER_DATA, &self.user_data),
        ];
        all.into_iter().filter_map(|(name, content)| Some((name, content.as_deref()?)))
    }
}

/// Gathers and makes the files, and fails if the installed system would refuse one of them.
pub(super) fn prove(
    params: &Bottlerocket,
    system: System,
    context: &Context,
) -> Result<Files, crate::Error> {
    let net = params.net.as_ref().map(|net| net::make(net, context)).transpose()?;
    let boot = params.bootconfig.as_ref().map(|boot| given_boot(boot, context)).transpose()?;
    let user_data =
        params.user_data.as_ref().map(|data| given_user_data(data, context)).transpose()?;
    let dns = net.as_ref().map(|net| net.dns.clone()).unwrap_or_default();

    let mut findings = Findings::default();
    let net = net.map(|net| net.bytes);
    let model = net.as_ref().and_then(|net| findings.net(net, params));
    let boot = boot.and_then(|boot| findings.boot(boot));
    let has_no_place = user_data.is_none() && dns != Dns::default();
    let user_data = match system {
        // A new system has none yet; one that is installed has most likely read its own.
        System::New if has_no_place => Some(Vec::new()),
        _ => user_data,
    };
    let leaves_name_servers = has_no_place && user_data.is_none();
    let options = Options {
        variant: params.variant().and_then(Variant::of_image),
        os_version: params.os_version().cloned(),
        static_network: model.as_ref().is_some_and(is_static),
    };
    if options.static_network && user_data.is_none() && system == System::New {
        let message = "no lease brings name servers, and there is no user-data that names name \
                       servers in settings.dns: no name will resolve";
        findings.add(NET_CONFIG, [Diagnostic::warning(None, "", message)]);
    }
    let user_data =
        user_data.and_then(|data| findings.user_data(data, &dns, boot.as_ref(), &options, context));
    let settings = user_data.as_ref().and_then(|data| boot_settings(&data.text).ok()?);
    let boot = match (boot, settings) {
        (Some(boot), Some(settings)) => {
            findings.add(BOOT_CONFIG, consistency(&boot.tree, &settings));
            Some(boot)
        }
        (None, Some(settings)) if system == System::New && sets_parameters(&settings) => {
            context.info(format!("{BOOT_CONFIG}: made of settings.boot in user data"));
            findings.boot(Boot::Table(settings))
        }
        (boot, _) => boot,
    };
    let bootconfig = boot.and_then(|boot| findings.packed(&boot.text));
    findings.judge(params.strict, context)?;
    let user_data = user_data.map(|data| data.bytes);
    Ok(Files { user_data, net, bootconfig, leaves_name_servers })
}

/// A boot configuration as a job gives it.
enum Boot {
    /// A file's bytes, text or packed.
    File(Vec<u8>),
    /// Parameters, which go into user data too.
    Table(BootSettings),
}

/// A boot configuration that has been read.
struct ReadBoot {
    text: String,
    tree: Tree,
    /// The table that it was made from.
    table: Option<BootSettings>,
}

/// User data that has been read.
struct ReadUserData {
    text: String,
    /// The file, which may be compressed.
    bytes: Vec<u8>,
}

fn given_boot(params: &Bootconfig, context: &Context) -> Result<Boot, crate::Error> {
    // Text with comments may be longer than what is left of it, but not without end.
    const LIMIT: usize = 4 * bootconfig::MAX_SIZE;
    match params {
        Bootconfig { content: Some(content), .. } => Ok(Boot::File(content.clone().into_bytes())),
        Bootconfig { url: Some(url), timeout, .. } => {
            let wanted = Wanted { file: BOOT_CONFIG, limit: LIMIT, timeout: timeout.0 };
            Ok(Boot::File(wanted.read(url, context)?))
        }
        Bootconfig { kernel, init, .. } => {
            let parameters = |given: &Option<_>| -> Parameters {
                given
                    .iter()
                    .flatten()
                    .map(|(key, values)| (String::clone(key), Vec::clone(values)))
                    .collect()
            };
            Ok(Boot::Table(BootSettings {
                reboot_to_reconcile: None,
                kernel_parameters: parameters(kernel),
                init_parameters: parameters(init),
            }))
        }
    }
}

fn given_user_data(params: &UserData, context: &Context) -> Result<Vec<u8>, crate::Error> {
    let wanted = Wanted { file: USER_DATA, limit: user_data::MAX_BYTES, timeout: params.timeout.0 };
    match params {
        UserData { content: Some(text), .. } => Ok(text.expose().as_bytes().to_vec()),
        UserData { content_base64: Some(text), .. } => Ok(Content::Base64(text.clone())
            .bytes()
            .map_err(|cause| Error::Content { file: USER_DATA, cause })?),
        UserData { url: Some(url), .. } => wanted.read(url, context),
        UserData { metadata, .. } => wanted.ask(metadata, context),
    }
}

/// Whether no lease brings anything.
fn is_static(model: &NetToml) -> bool {
    let asks = |device: &net_toml::Device| {
        device.dhcp4.is_some_and(net_toml::Dhcp4::enabled)
            || device.dhcp6.is_some_and(net_toml::Dhcp6::enabled)
    };
    !model.devices.is_empty() && !model.devices.iter().any(asks)
}

fn sets_parameters(settings: &BootSettings) -> bool {
    !settings.kernel_parameters.is_empty() || !settings.init_parameters.is_empty()
}

/// What is wrong with the files.
#[derive(Default)]
struct Findings(Vec<(&'static str, Diagnostic)>);

impl Findings {
    fn add(&mut self, file: &'static str, found: impl IntoIterator<Item = Diagnostic>) {
        self.0.extend(found.into_iter().map(|found| (file, found)));
    }

    fn error(&mut self, file: &'static str, cause: impl std::fmt::Display) {
        self.add(file, [Diagnostic::error(None, "", cause.to_string())]);
    }

    fn net(&mut self, bytes: &[u8], params: &Bottlerocket) -> Option<NetToml> {
        let checked = net_toml::check(bytes, params.os_version());
        self.add(NET_CONFIG, checked.diagnostics);
        checked.model
    }

    fn boot(&mut self, given: Boot) -> Option<ReadBoot> {
        let (bytes, table) = match given {
            Boot::File(bytes) => (bytes, None),
            Boot::Table(settings) => {
                let rendered = Tree::try_from(&settings)
                    .map_err(|error| error.to_string())
                    .and_then(|tree| bootconfig::render(&tree).map_err(|error| error.to_string()));
                match rendered {
                    Ok(text) => (text.into_bytes(), Some(settings)),
                    Err(cause) => {
                        self.error(BOOT_CONFIG, cause);
                        return None;
                    }
                }
            }
        };
        let checked = bootconfig::check(&bytes);
        self.add(BOOT_CONFIG, checked.findings);
        let tree = checked.tree?;
        let text = match bootconfig::unpack(&bytes) {
            Ok(text) => text.to_owned(),
            // The check has found it to be text.
            Err(_) => String::from_utf8(bytes).ok()?,
        };
        Some(ReadBoot { text, tree, table })
    }

    fn packed(&mut self, text: &str) -> Option<Vec<u8>> {
        bootconfig::pack(text).map_err(|error| self.error(BOOT_CONFIG, error)).ok()
    }

    fn user_data(
        &mut self,
        bytes: Vec<u8>,
        dns: &Dns,
        boot: Option<&ReadBoot>,
        options: &Options,
        context: &Context,
    ) -> Option<ReadUserData> {
        let decoded = user_data::decode(&bytes).map_err(|error| self.error(USER_DATA, error));
        let given = decoded.ok()?.text;
        let mut text = self.with(given.clone(), |text| add_dns(text, dns), context);
        if let Some(table) = boot.and_then(|boot| boot.table.as_ref()) {
            text = self.with(text, |text| add_boot(text, table), context);
        }
        self.add(USER_DATA, user_data::check(&text, options));
        let bytes = if text == given { bytes } else { text.clone().into_bytes() };
        Some(ReadUserData { text, bytes })
    }

    /// User data with a table more, unless it has that already.
    fn with(
        &mut self,
        text: String,
        add: impl FnOnce(&str) -> Result<String, AddError>,
        context: &Context,
    ) -> String {
        match add(&text) {
            Ok(more) => return more,
            Err(AddError::Exists { table }) => {
                context.info(format!("{USER_DATA} has its own {table}, which stays as it is"));
            }
            // The check tells it too, with the rest.
            Err(AddError::Syntax { .. }) => {}
            Err(error) => self.error(USER_DATA, error),
        }
        text
    }

    /// Fails if there is an error, or anything where all must be well; else warns.
    fn judge(self, strict: bool, context: &Context) -> Result<(), Error> {
        let is_bad = |(_, found): &(_, Diagnostic)| strict || found.severity == Severity::Error;
        let refused = self.0.iter().any(is_bad);
        let findings: Vec<String> =
            self.0.iter().map(|(file, found)| found.in_file(file)).collect();
        if refused {
            return Err(Error::Refused { findings });
        }
        findings.into_iter().for_each(|finding| context.sink.warning(finding));
        Ok(())
    }
}
