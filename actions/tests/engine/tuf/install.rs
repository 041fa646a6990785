//! `stream-image` with `image.tuf`, onto a loop device as root.

use std::sync::Arc;

use nibs_actions::{Context, Error, Machine, Stop, http, run};
use nibs_job::{Class, HexDigest, Task};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::loop_device::Loop;
use super::super::support::*;
use super::super::web::Web;
use super::repository::*;
use super::{LONG_AGO, shared};

const OLD: &str = "bottlerocket-metal-dev-x86_64-v1.9.0.img.lz4";
const NEW: &str = "bottlerocket-metal-dev-x86_64-v1.20.0.img.lz4";

/// Two versions with their images, one without.
fn repository() -> Publisher {
    let update = |version: &str| {
        json!({
            "variant": "metal-dev", "arch": "x86_64",
            "version": version, "max_version": "1.21.0",
            "waves": {}, "images": { "boot": "b", "root": "r", "hash": "h" },
        })
    };
    let updates = ["1.9.0", "1.20.0", "1.21.0"].map(update);
    let manifest = json!({ "updates": updates, "migrations": {} }).to_string();
    let image = |last: u8| {
        let mut image = image(8 << 20);
        image[3 << 20] = last;
        encode("lz4", &image)
    };
    Publisher::new([("manifest.json", manifest.into_bytes()), (OLD, image(9)), (NEW, image(20))])
}

/// A machine with one disk, and the repository's server.
struct Site {
    device: Loop,
    web: Web,
    root: Vec<u8>,
    run: tempfile::TempDir,
    ears: Arc<Ears>,
}

impl Site {
    fn new(publisher: &Publisher) -> Option<Self> {
        let device = Loop::attach(24 << 20, &[])?;
        let files = publisher.publish();
        let root = files["metadata/1.root.json"].clone();
        let web = serve(&shared(files));
        Some(Self { device, web, root, run: tempfile::tempdir().unwrap(), ears: Arc::default() })
    }

    /// Does a job that trusts what `trust` says, with more keys of `tuf` and of `image`.
    fn install(&self, trust: &Value, tuf: &Value, image: &Value) -> Result<(), Error> {
        let mut all = json!({
            "metadata-url": self.web.url("/metadata").as_str(),
            "targets-url": self.web.url("/targets").as_str(),
        });
        let image = [image.clone(), json!({ "tuf": merged(&mut all, &[trust, tuf]) })];
        let image = merged(&mut json!({ "stall-timeout": "2s" }), &image.each_ref());
        let with = json!({ "image": image, "disk": { "path": self.device.node } });
        let task = Task::decode("stream-image", with).unwrap();
        let runtime = runtime();
        let context = Context {
            machine: Machine { run: self.run.path().to_owned(), ..Machine::default() },
            stop: Stop::default(),
            sink: self.ears.clone(),
            runtime: runtime.handle().clone(),
            http: http::Options::default(),
            installed_disk: None,
        };
        run(&task, &context).map(|_| ())
    }

    /// The three ways to say whom to trust.
    fn trusts(&self) -> [Value; 3] {
        let digest = sha512(&self.root).to_string();
        let place = self.web.url("/metadata/1.root.json");
        [
            json!({ "root-sha512": digest }),
            json!({ "root-sha512": digest, "root": place.as_str() }),
            json!({ "root": String::from_utf8(self.root.clone()).unwrap() }),
        ]
    }

    fn installed(&self) -> u8 {
        self.device.bytes()[3 << 20]
    }
}

fn merged(base: &mut Value, more: &[&Value]) -> Value {
    for more in more {
        base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    base.clone()
}

fn metal_dev() -> Value {
    json!({ "variant": "metal-dev", "arch": "x86_64" })
}

#[test]
fn the_newest_version_with_an_image_is_installed_whatever_way_the_root_is_trusted() {
    let Some(site) = Site::new(&repository()) else { return };
    for trust in site.trusts() {
        site.install(&trust, &metal_dev(), &json!({})).unwrap();
        assert_eq!(site.installed(), 20);
    }
    let said = |lines: &[String], part: &str| lines.iter().any(|line| line.contains(part));
    assert!(said(&site.ears.warnings.lock().unwrap(), "version 1.21.0 is passed over"));
    assert!(said(&site.ears.log.lock().unwrap(), NEW));
    assert_eq!(std::fs::read_dir(site.run.path().join("nibs/tuf")).unwrap().count(), 1);
}

#[test]
fn a_version_or_a_target_that_is_named_is_installed() {
    let Some(site) = Site::new(&repository()) else { return };
    let [trust, ..] = site.trusts();
    let old = merged(&mut metal_dev(), &[&json!({ "version": "1.9.0" })]);
    site.install(&trust, &old, &json!({})).unwrap();
    assert_eq!(site.installed(), 9);
    site.install(&trust, &json!({ "target": NEW }), &json!({})).unwrap();
    assert_eq!(site.installed(), 20);
}

#[test]
fn what_the_job_wants_and_the_repository_has_not_is_told_before_a_byte_is_written() {
    let Some(site) = Site::new(&repository()) else { return };
    let [trust, ..] = site.trusts();
    let before = site.device.bytes();
    let none: HexDigest<32> = HexDigest(Sha256::digest(b"another").into());
    let with = |more: Value| merged(&mut metal_dev(), &[&more]);
    for (tuf, image, expected) in [
        (with(json!({ "variant": "metal-prod" })), json!({}), "there is: metal-dev for x86_64"),
        (with(json!({ "arch": "aarch64" })), json!({}), "no variant metal-dev for aarch64"),
        (with(json!({ "version": "1.2.3" })), json!({}), "newest: 1.9.0, 1.20.0, 1.21.0"),
        (with(json!({ "version": "1.21.0" })), json!({}), "-v1.21.0.img.lz4; images that it has"),
        (json!({ "target": "manifest.jsom" }), json!({}), "did you mean manifest.json?"),
        (metal_dev(), json!({ "sha256": none }), "as the job says"),
    ] {
        let error = site.install(&trust, &tuf, &image).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.class(), Class::InvalidInput);
    }
    let wrong = json!({ "root-sha512": sha512(b"another") });
    let error = site.install(&wrong, &metal_dev(), &json!({})).unwrap_err().to_string();
    assert!(error.contains("1.root.json: expected sha512"), "{error}");
    assert!(site.device.bytes() == before);
}

#[test]
fn an_expired_repository_is_installed_from_only_if_the_job_says_so() {
    use tough::schema::RoleType::Timestamp;
    let publisher = Publisher { expires: [(Timestamp, LONG_AGO)].into(), ..repository() };
    let Some(site) = Site::new(&publisher) else { return };
    let [trust, ..] = site.trusts();
    let error = site.install(&trust, &metal_dev(), &json!({})).unwrap_err().to_string();
    assert!(error.contains(&format!("timestamp metadata expired on {LONG_AGO}")), "{error}");
    let ignoring = merged(&mut metal_dev(), &[&json!({ "expiration": "ignore" })]);
    site.install(&trust, &ignoring, &json!({})).unwrap();
    assert_eq!(site.installed(), 20);
}
