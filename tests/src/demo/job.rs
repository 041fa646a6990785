//! Jobs from templates: `@name@` stands for a value.

use anyhow::{Result, ensure};
use nibs_job::{FileFormat, Job};

/// A name in a template and the value it stands for.
pub type Fill<'a> = (&'a str, &'a str);

/// The job of a template (TOML) with its values filled in.
pub fn fill(template: &str, values: &[Fill<'_>]) -> Result<Job> {
    let mut text = template.to_owned();
    for (name, value) in values {
        let place = format!("@{name}@");
        ensure!(text.contains(&place), "the job's template has no {place}");
        text = text.replace(&place, value);
    }
    Ok(Job::parse(&text, FileFormat::Toml)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_filled_in_and_an_unused_one_is_an_error() {
        let template = "name = \"@who@\"\n[[actions]]\nuses = \"reboot\"\n";
        assert_eq!(fill(template, &[("who", "me")]).unwrap().name, "me");
        assert!(fill(template, &[("who", "me"), ("what", "it")]).is_err());
    }
}
