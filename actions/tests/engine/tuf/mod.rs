//! Images out of TUF repositories: right ones, and those that somebody or time has spoilt.

mod install;
mod repository;

use std::sync::{Arc, Mutex};

use nibs_actions::Stop;
use nibs_actions::image::tuf::{Expiry, Repo, Repository, TufError, fetch_root};
use nibs_actions::image::{self, Error, Fetch};
use nibs_job::{Class, HexDigest};
use tough::schema::RoleType;

use self::repository::*;
use super::support::*;
use super::web::{Answer, Web};

const ROLES: [RoleType; 4] =
    [RoleType::Root, RoleType::Timestamp, RoleType::Snapshot, RoleType::Targets];
const LONG_AGO: &str = "2020-02-03T04:05:06Z";
const NAME: &str = "a.img.lz4";

/// A machine that visits a repository, and remembers it.
struct Visitor {
    root: Vec<u8>,
    expiry: Expiry,
    state: tempfile::TempDir,
    ears: Arc<Ears>,
    runtime: tokio::runtime::Runtime,
}

impl Visitor {
    /// Trusts the first root of a repository.
    fn of(publisher: &Publisher) -> Self {
        Self {
            root: publisher.publish()["metadata/1.root.json"].clone(),
            expiry: Expiry::Refuse,
            state: tempfile::tempdir().unwrap(),
            ears: Arc::default(),
            runtime: runtime(),
        }
    }

    fn fetch(&self) -> Fetch {
        plain(Vec::new(), &self.runtime, &self.ears)
    }

    fn load_from(&self, base: &url::Url) -> Result<Repository, Error> {
        let repo = Repo {
            metadata: base.join("metadata").unwrap(),
            targets: base.join("targets").unwrap(),
            root: self.root.clone(),
            expiry: self.expiry,
            state: self.state.path().to_owned(),
        };
        Repository::load(&repo, &self.fetch())
    }

    fn load(&self, files: &Files) -> Result<Repository, Error> {
        let web = serve(&Arc::new(Mutex::new(files.clone())));
        self.load_from(&web.url("/"))
    }

    /// Installs the target [`NAME`] onto a disk.
    fn install(&self, web: &Web, disk: &MemoryDisk) -> Result<image::Summary, Error> {
        let target = self.load_from(&web.url("/"))?.target(NAME)?;
        let served = image::Expected { sha256: Some(target.sha256), sha512: None };
        let source = target.open(&self.fetch())?;
        image::stream(source, disk, &proof(served, no_digest()), &Stop::default(), &*self.ears)
    }
}

fn publisher() -> Publisher {
    Publisher::new([(NAME, encode("lz4", &image(8 << 20))), ("manifest.json", b"{}".to_vec())])
}

fn shared(files: Files) -> Arc<Mutex<Files>> {
    Arc::new(Mutex::new(files))
}

/// The reason, which has to be one of the repository's.
fn reason(result: Result<impl Sized, Error>) -> TufError {
    match result {
        Ok(_) => panic!("it was taken"),
        Err(Error::Tuf(error)) => error,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_target_is_streamed_onto_a_disk() {
    for consistent in [true, false] {
        let publisher = Publisher { consistent, ..publisher() };
        let visitor = Visitor::of(&publisher);
        let disk = MemoryDisk::with_old_system(16 << 20);
        let web = serve(&shared(publisher.publish()));
        visitor.install(&web, &disk).unwrap();
        assert!(disk.has_table());
        assert!(disk.bytes()[34 * 512..7 << 20] == image(8 << 20)[34 * 512..7 << 20]);
        assert!(visitor.ears.warnings.lock().unwrap().is_empty());
    }
}

#[test]
fn a_repository_may_be_a_directory_of_this_machine() {
    let publisher = publisher();
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in publisher.publish() {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let base = url::Url::from_directory_path(folder.path()).unwrap();
    let visitor = Visitor::of(&publisher);
    let repository = visitor.load_from(&base).unwrap();
    let manifest = repository.target("manifest.json").unwrap();
    assert_eq!(manifest.read(&visitor.fetch(), 100).unwrap(), b"{}");
    let error = reason(manifest.read(&visitor.fetch(), 1));
    assert!(error.to_string().contains("has 2 bytes; expected at most 1"), "{error}");
}

#[test]
fn an_old_root_leads_to_a_newer_one_even_over_a_server_that_fails_for_now() {
    let publisher =
        Publisher { roots: vec![vec![rsa_key()], vec![rsa_key(), key()]], ..publisher() };
    let visitor = Visitor::of(&publisher);
    // The old root's timestamp key is gone: whoever misses the new root is lost.
    let renewed = Publisher {
        keys: publisher.keys.keys().map(|role| (*role, vec![key()])).collect(),
        ..publisher.clone()
    };
    let mut files = renewed.publish();
    files.insert("metadata/1.root.json".into(), visitor.root.clone());
    let failed = Mutex::new(false);
    let web = Web::start(move |request| {
        let fails = request.target == "/metadata/2.root.json"
            && !std::mem::replace(&mut *failed.lock().unwrap(), true);
        if fails { Answer::status(503) } else { answer(request, &files) }
    });
    visitor.load_from(&web.url("/")).unwrap();
    assert!(visitor.ears.warnings.lock().unwrap()[0].contains("503"));
}

#[test]
fn a_new_root_that_the_old_keys_did_not_sign_is_refused() {
    let publisher = publisher();
    let visitor = Visitor::of(&publisher);
    let mut files = publisher.publish();
    let stranger = Publisher { roots: vec![vec![key()], vec![key()]], ..publisher };
    files.insert("metadata/2.root.json".into(), stranger.publish()["metadata/2.root.json"].clone());
    let error = reason(visitor.load(&files));
    assert!(matches!(&error, TufError::Signature { role, .. } if role == "root"), "{error}");
}

#[test]
fn metadata_that_strangers_signed_or_too_few_is_refused() {
    let roles = [RoleType::Timestamp, RoleType::Snapshot, RoleType::Targets];
    let mut publisher = publisher();
    publisher.threshold = 2;
    for role in roles {
        publisher.keys.insert(role, vec![key(), key(), key()]);
    }
    let visitor = Visitor::of(&publisher);
    visitor.load(&publisher.publish()).unwrap();
    for role in roles {
        let [first, second, _] = &publisher.keys[&role][..] else { panic!() };
        for (signers, enough) in [
            (vec![key(), key()], false),
            (vec![Arc::clone(first)], false),
            (vec![Arc::clone(first), key()], false),
            (vec![Arc::clone(first), Arc::clone(second)], true),
        ] {
            let signed = Publisher { signers: [(role, signers)].into(), ..publisher.clone() };
            let result = Visitor::of(&publisher).load(&signed.publish());
            if enough {
                result.unwrap();
                continue;
            }
            let error = reason(result);
            assert!(
                matches!(&error, TufError::Signature { role: found, .. } if *found == role.to_string()),
                "{role}: {error}"
            );
            assert!(error.to_string().contains("threshold of 2"), "{error}");
            assert_eq!(error.class(), Class::InvalidInput);
        }
    }
}

#[test]
fn metadata_that_was_changed_after_it_was_signed_is_refused() {
    let publisher = publisher();
    let mut files = publisher.publish();
    let timestamp = files.get_mut("metadata/timestamp.json").unwrap();
    *timestamp = String::from_utf8(timestamp.clone()).unwrap().replace("2999", "3999").into();
    let error = reason(Visitor::of(&publisher).load(&files));
    assert!(matches!(&error, TufError::Signature { role, .. } if role == "timestamp"), "{error}");
}

#[test]
fn what_has_expired_is_named_with_its_date_and_taken_only_if_that_is_asked_for() {
    for role in ROLES {
        let publisher = Publisher { expires: [(role, LONG_AGO)].into(), ..publisher() };
        let mut visitor = Visitor::of(&publisher);
        let files = publisher.publish();
        let error = reason(visitor.load(&files));
        let expected =
            format!("the {role} metadata expired on {LONG_AGO}; by this machine's clock");
        assert!(error.to_string().contains(&expected), "{error}");
        assert_eq!(error.class(), Class::InvalidInput);
        visitor.expiry = Expiry::Warn;
        visitor.load(&files).unwrap();
        let warnings = visitor.ears.warnings.lock().unwrap();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains(&format!("the {role} metadata expired on {LONG_AGO}")));
    }
}

#[test]
fn a_repository_that_goes_back_is_refused() {
    let newer = Publisher { version: 5, ..publisher() };
    let visitor = Visitor::of(&newer);
    let files = shared(newer.publish());
    let web = serve(&files);
    visitor.load_from(&web.url("/")).unwrap();
    visitor.load_from(&web.url("/")).unwrap();
    let back = |versions: &[(RoleType, u64)]| {
        let older = Publisher { versions: versions.iter().copied().collect(), ..newer.clone() };
        *files.lock().unwrap() = older.publish();
        let error = reason(visitor.load_from(&web.url("/")));
        assert!(matches!(error, TufError::Rollback { .. }), "{versions:?}: {error}");
        assert_eq!(error.class(), Class::Transient);
    };
    back(&[(RoleType::Timestamp, 4)]);
    back(&[(RoleType::Timestamp, 6), (RoleType::Snapshot, 4)]);
    back(&[(RoleType::Timestamp, 6), (RoleType::Snapshot, 6), (RoleType::Targets, 4)]);
}

#[test]
fn files_of_several_states_are_refused() {
    let first = publisher();
    let second = Publisher { version: 2, ..first.clone() };
    for (theirs, ours) in
        [("1.snapshot.json", "2.snapshot.json"), ("1.targets.json", "2.targets.json")]
    {
        let mut mixed = second.publish();
        let old = first.publish()[&format!("metadata/{theirs}")].clone();
        mixed.insert(format!("metadata/{ours}"), old);
        let error = reason(Visitor::of(&first).load(&mixed));
        assert!(matches!(error, TufError::MixAndMatch { .. }), "{theirs}: {error}");
    }
}

#[test]
fn a_trusted_root_is_held_to_its_digest() {
    let publisher = publisher();
    let files = publisher.publish();
    let root = files["metadata/1.root.json"].clone();
    let web = serve(&shared(files));
    let visitor = Visitor::of(&publisher);
    let get = |path: &str, digest| fetch_root(&visitor.fetch(), &web.url(path), &digest);
    assert_eq!(get("/metadata/1.root.json", sha512(&root)).unwrap(), root);
    let other: HexDigest<64> = sha512(b"another");
    let error = reason(get("/metadata/1.root.json", other)).to_string();
    assert!(
        error.contains(&format!("expected sha512 {other}, found {}", sha512(&root))),
        "{error}"
    );
    let error = get("/metadata/0.root.json", other).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
}

#[test]
fn a_trusted_root_that_is_none_is_refused() {
    let publisher = publisher();
    let files = publisher.publish();
    let unsigned = files["metadata/1.root.json"].clone();
    let unsigned = String::from_utf8(unsigned).unwrap().replace("2999", "3999");
    for root in ["{}".to_owned(), "<html>".to_owned(), unsigned] {
        let visitor = Visitor { root: root.into(), ..Visitor::of(&publisher) };
        let error = reason(visitor.load(&files));
        assert!(matches!(error, TufError::Root { .. }), "{error}");
    }
}

#[test]
fn a_target_of_another_length_is_refused_before_a_byte_is_written() {
    let publisher = publisher();
    for change in [1, -1] {
        let mut files = publisher.publish();
        let bytes = files.get_mut(&file_of(&publisher.publish(), NAME)).unwrap();
        let length = bytes.len();
        bytes.resize(length.checked_add_signed(change).unwrap(), 0);
        let disk = MemoryDisk::with_old_system(16 << 20);
        let result = Visitor::of(&publisher).install(&serve(&shared(files)), &disk);
        let error = reason(result).to_string();
        let expected = format!("expected {length} bytes");
        assert!(error.contains(&expected) && error.contains(NAME), "{error}");
        assert!(disk.is_untouched());
    }
}

#[test]
fn a_target_of_other_bytes_boots_on_no_disk() {
    let publisher = publisher();
    let other = encode("raw", &image(8 << 20));
    let raw = Publisher::new([(NAME, other.clone())]);
    let mut files = Publisher { targets: raw.targets.clone(), ..publisher.clone() }.publish();
    let bytes = files.get_mut(&file_of(&files.clone(), NAME)).unwrap();
    bytes[5 << 20] ^= 1;
    let disk = MemoryDisk::with_old_system(16 << 20);
    let error = Visitor::of(&publisher).install(&serve(&shared(files)), &disk).unwrap_err();
    assert!(matches!(error, Error::Digest { algorithm: "sha256", .. }), "{error}");
    // The digest may be done before anything is cleared.
    assert!(disk.is_untouched() || !disk.has_table());
}

#[test]
fn a_target_that_is_not_there_is_told_with_the_nearest() {
    let publisher = publisher();
    let visitor = Visitor::of(&publisher);
    let repository = visitor.load(&publisher.publish()).unwrap();
    let error = reason(repository.target("a.img.lz")).to_string();
    assert!(error.contains("no target a.img.lz for http://127.0.0.1"), "{error}");
    assert!(error.ends_with("did you mean a.img.lz4?"), "{error}");
    reason(repository.target(".."));
}

#[test]
fn redirects_are_followed_and_broken_transfers_resumed() {
    let publisher = publisher();
    let files = publisher.publish();
    let target = format!("/{}", file_of(&files, NAME));
    let there = Web::start({
        let target = target.clone();
        move |request| {
            let cut = (request.target == target && request.start() == 0).then_some(9_000);
            Answer { cut, ..answer(request, &files) }
        }
    });
    let base = there.url("/");
    let here = Web::start(move |request| {
        Answer::status(302).with("Location", base.join(&request.target).unwrap().as_str())
    });
    let disk = MemoryDisk::with_old_system(16 << 20);
    let visitor = Visitor::of(&publisher);
    visitor.install(&here, &disk).unwrap();
    assert!(disk.has_table());
    let requests = there.requests();
    let resumed: Vec<_> = requests.iter().filter(|r| r.target == target).collect();
    assert_eq!(resumed.len(), 2);
    assert_eq!(resumed[1].header("range"), Some("bytes=9000-"));
}

#[test]
fn a_server_that_is_away_is_no_repository_that_has_nothing() {
    let publisher = publisher();
    let visitor = Visitor::of(&publisher);
    let web = Web::start(|_| Answer::status(503));
    let error = visitor.load_from(&web.url("/")).unwrap_err();
    assert!(matches!(error, Error::Stalled { .. }), "{error}");
    assert_eq!(error.class(), Class::Transient);
    let mut files = publisher.publish();
    files.remove("metadata/timestamp.json");
    let error = visitor.load(&files).unwrap_err();
    assert!(
        matches!(&error, Error::Refused { url, .. } if url.ends_with("timestamp.json")),
        "{error}"
    );
}

#[test]
fn metadata_without_end_is_not_read_to_its_end() {
    let publisher = publisher();
    let mut files = publisher.publish();
    files.get_mut("metadata/timestamp.json").unwrap().resize(1 << 20, b' ');
    let error = reason(Visitor::of(&publisher).load(&files));
    assert!(matches!(error, TufError::TooLarge { limit: 65_536, .. }), "{error}");
}

#[test]
fn what_a_url_has_of_secrets_is_in_no_error() {
    let publisher = publisher();
    let mut files = publisher.publish();
    files.insert("metadata/1.snapshot.json".into(), b"{}".to_vec());
    let mut base = serve(&shared(files)).url("/");
    base.set_username("me").unwrap();
    base.set_password(Some("hunter2")).unwrap();
    let error = Visitor::of(&publisher).load_from(&base).unwrap_err().to_string();
    assert!(error.contains("/metadata") && !error.contains("hunter2"), "{error}");
}
