//! What can be known to be wrong with a job before it is stored or run, beyond its shape.
//!
//! A job that decodes asks for something that can be done. Whether the files in it are right is
//! another question, and one that a Bottlerocket machine answers when nobody can look any more: by
//! not coming up. So whoever takes a job in, control plane or agent, asks it here first.

#[cfg(test)]
mod tests;

use nibs_bottlerocket::bootconfig::BootSettings;
use nibs_bottlerocket::check::{self, Files, Target};
use nibs_bottlerocket::partitions;
use nibs_bottlerocket::user_data::Variant;
use nibs_job::params::{
    Bootconfig, Bottlerocket, Content, Image, Net, Tuf, TufVersion, UserData, WriteFiles,
};
use nibs_job::{Job, Task};

pub use nibs_bottlerocket::check::Finding;

/// Everything that is wrong with the files that a job puts on a Bottlerocket machine's private
/// partition, as the job leaves them: what it writes twice counts as it is written last.
///
/// What comes from elsewhere, a URL or the machine's lease, is not known yet, and nothing is said
/// about it. Where the job asks for it, warnings are errors.
pub fn check(job: &Job) -> Vec<Finding> {
    let mut files = Files::default();
    let mut target = Target::default();
    let mut strict = false;
    for action in &job.actions {
        match &action.task {
            Task::StreamImage(with) => target = target_of(&with.image).unwrap_or(target),
            Task::Bottlerocket(with) => {
                target = with.image.as_ref().and_then(target_of).unwrap_or(target);
                target.variant = with.variant().and_then(Variant::of_image).or(target.variant);
                target.version = with.version.clone().or(target.version);
                strict |= with.strict;
                add_bottlerocket(with, &mut files);
            }
            Task::WriteFiles(with) => add_write_files(with, &mut files),
            // What is in an archive is not known yet.
            Task::ExtractArchive(_)
            | Task::UploadImage(_)
            | Task::BootOrder(_)
            | Task::Reboot(_)
            | Task::PowerOff(_) => {}
        }
    }
    let mut findings = check::check(&files, &target);
    if strict {
        findings.iter_mut().for_each(|finding| finding.diagnostic.make_strict());
    }
    findings
}

/// What an image out of a repository is, as far as it is asked for by its names.
fn target_of(image: &Image) -> Option<Target> {
    let Tuf { variant, version, .. } = image.tuf.as_ref()?;
    let version = match version {
        TufVersion::Exactly(version) => Some(version.clone()),
        TufVersion::Latest => None,
    };
    Some(Target { variant: variant.as_deref().and_then(Variant::of_image), version })
}

fn add_write_files(with: &WriteFiles, files: &mut Files<'_>) {
    let partition = &with.partition;
    if partitions::is_private(partition.name.as_deref(), partition.type_guid) {
        for file in &with.files {
            // Decoding the job has decoded it once already.
            files.write(&file.path, file.content.bytes().unwrap_or_default());
        }
    }
}

/// A file that is fetched takes the place of one that was known.
fn add_bottlerocket<'j>(with: &'j Bottlerocket, files: &mut Files<'j>) {
    if let Some(UserData { content, content_base64, .. }) = &with.user_data {
        let text = content.clone().map(Content::Text);
        let given = text.or_else(|| content_base64.clone().map(Content::Base64));
        files.user_data = given.and_then(|content| content.bytes().ok()).map(Into::into);
    }
    if let Some(Net { content, interfaces, format, .. }) = &with.net {
        files.net_toml = match (content, interfaces) {
            (Some(text), _) => Some(check::Net::Text(text.as_bytes().into())),
            (_, Some(interfaces)) => {
                let interfaces = interfaces.into();
                Some(check::Net::Interfaces { interfaces, version: *format })
            }
            _ => None,
        };
    }
    if let Some(Bootconfig { content, url, kernel, init, .. }) = &with.bootconfig {
        files.bootconfig = match (content, url) {
            (Some(text), _) => Some(check::Bootconfig::Text(text.as_bytes().into())),
            (_, Some(_)) => None,
            _ => Some(check::Bootconfig::Settings(BootSettings {
                reboot_to_reconcile: None,
                kernel_parameters: kernel.clone().into_iter().flatten().collect(),
                init_parameters: init.clone().into_iter().flatten().collect(),
            })),
        };
    }
}
