//! TUF repositories with real keys and signatures, right and wrong in whatever way is asked for.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, RsaKeyPair};
use nibs_job::HexDigest;
use sha2::{Digest, Sha256, Sha512};
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::{
    Hashes, Metafile, Role, RoleKeys, RoleType, Root, Signature, Signed, Snapshot, Target, Targets,
    Timestamp,
};
use tough::sign::Sign;

use super::super::support::runtime;
use super::super::web::{Answer, Request, Web};

const SPEC: &str = "1.0.0";
pub(crate) const LATER: &str = "2999-01-01T00:00:00Z";

/// Files by their paths below the server's root.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A key pair.
pub(crate) type Key = Arc<dyn Sign>;

/// A new key.
pub(crate) fn key() -> Key {
    Arc::new(Ed25519KeyPair::generate().unwrap())
}

/// A new key of the kind that Bottlerocket's own repositories have.
pub(crate) fn rsa_key() -> Key {
    Arc::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
}

/// What a repository is published from.
#[derive(Clone)]
pub(crate) struct Publisher {
    /// Keys of the root role, one set per version of the root.
    pub(crate) roots: Vec<Vec<Key>>,
    /// Keys of the other roles, as the root lists them, and how many of them have to sign.
    pub(crate) keys: HashMap<RoleType, Vec<Key>>,
    pub(crate) threshold: u64,
    /// Who signs instead.
    pub(crate) signers: HashMap<RoleType, Vec<Key>>,
    /// Version of all but the root, and of those that differ.
    pub(crate) version: u64,
    pub(crate) versions: HashMap<RoleType, u64>,
    /// Until when, if not [`LATER`].
    pub(crate) expires: HashMap<RoleType, &'static str>,
    pub(crate) consistent: bool,
    pub(crate) targets: Files,
}

impl Publisher {
    /// One key per role.
    pub(crate) fn new(targets: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Self {
        let roles = [RoleType::Timestamp, RoleType::Snapshot, RoleType::Targets];
        Self {
            roots: vec![vec![key()]],
            keys: roles.into_iter().map(|role| (role, vec![key()])).collect(),
            threshold: 1,
            signers: HashMap::new(),
            version: 1,
            versions: HashMap::new(),
            expires: HashMap::new(),
            consistent: true,
            targets: targets.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect(),
        }
    }

    /// All files of the repository.
    pub(crate) fn publish(&self) -> Files {
        let mut files = Files::new();
        for (index, keys) in self.roots.iter().enumerate() {
            let root = self.root(index as u64 + 1, keys);
            // A new root is signed by the old keys too.
            let before = index.checked_sub(1).map(|before| &self.roots[before][..]);
            let signers = [before.unwrap_or_default(), keys].concat();
            files.insert(format!("metadata/{}.root.json", index + 1), signed(root, &signers));
        }
        let version = |role| number(self.versions.get(&role).copied().unwrap_or(self.version));
        let expires = |role| self.expires(role).parse().unwrap();
        let mut targets =
            Targets::new(SPEC.into(), version(RoleType::Targets), expires(RoleType::Targets));
        for (name, bytes) in &self.targets {
            let target = Target {
                length: bytes.len() as u64,
                hashes: hashes(bytes),
                custom: HashMap::new(),
                _extra: HashMap::new(),
            };
            targets.targets.insert(name.as_str().try_into().unwrap(), target);
            let digest = HexDigest::<32>(Sha256::digest(bytes).into());
            let file = if self.consistent { format!("{digest}.{name}") } else { name.clone() };
            files.insert(format!("targets/{file}"), bytes.clone());
        }
        let targets = self.add(&mut files, targets);
        let mut snapshot =
            Snapshot::new(SPEC.into(), version(RoleType::Snapshot), expires(RoleType::Snapshot));
        snapshot.meta.insert("targets.json".into(), targets);
        let snapshot = self.add(&mut files, snapshot);
        let mut timestamp =
            Timestamp::new(SPEC.into(), version(RoleType::Timestamp), expires(RoleType::Timestamp));
        timestamp.meta.insert("snapshot.json".into(), snapshot);
        self.add(&mut files, timestamp);
        files
    }

    fn expires(&self, role: RoleType) -> &'static str {
        self.expires.get(&role).copied().unwrap_or(LATER)
    }

    fn root(&self, version: u64, keys: &[Key]) -> Root {
        let mut all = self.keys.clone();
        all.insert(RoleType::Root, keys.to_vec());
        let role = |(role, keys): (&RoleType, &Vec<Key>)| {
            let threshold = if *role == RoleType::Root { 1 } else { self.threshold };
            let (keyids, threshold) = (keys.iter().map(id).collect(), number(threshold));
            (*role, RoleKeys { keyids, threshold, _extra: HashMap::new() })
        };
        Root {
            spec_version: SPEC.into(),
            consistent_snapshot: self.consistent,
            version: number(version),
            expires: self.expires(RoleType::Root).parse().unwrap(),
            keys: all.values().flatten().map(|key| (id(key), key.tuf_key())).collect(),
            roles: all.iter().map(role).collect(),
            _extra: HashMap::new(),
        }
    }

    /// Signs a role into its file, and describes that.
    fn add<T: Role>(&self, files: &mut Files, role: T) -> Metafile {
        let keys = self.signers.get(&T::TYPE).unwrap_or_else(|| &self.keys[&T::TYPE]);
        let (file, version) = (role.filename(self.consistent), role.version());
        let bytes = signed(role, keys);
        let (length, hashes) = (Some(bytes.len() as u64), Some(hashes(&bytes)));
        files.insert(format!("metadata/{file}"), bytes);
        Metafile { length, hashes, version, _extra: HashMap::new() }
    }
}

fn signed<T: Role>(role: T, keys: &[Key]) -> Vec<u8> {
    let message = role.canonical_form().unwrap();
    let signature = |key: &Key| {
        let sig = runtime().block_on(key.sign(&message, &SystemRandom::new())).unwrap();
        Signature { keyid: id(key), sig: sig.into() }
    };
    let signatures = keys.iter().map(signature).collect();
    serde_json::to_vec_pretty(&Signed { signed: role, signatures }).unwrap()
}

fn id(key: &Key) -> Decoded<Hex> {
    key.tuf_key().key_id().unwrap()
}

fn hashes(bytes: &[u8]) -> Hashes {
    Hashes { sha256: Sha256::digest(bytes).to_vec().into(), _extra: HashMap::new() }
}

fn number(value: u64) -> NonZeroU64 {
    value.try_into().unwrap()
}

/// The digest by which a job trusts a root.
pub(crate) fn sha512(bytes: &[u8]) -> HexDigest<64> {
    HexDigest(Sha512::digest(bytes).into())
}

/// The path of the file that holds a target.
pub(crate) fn file_of(files: &Files, target: &str) -> String {
    let fits = |path: &&String| path.starts_with("targets/") && path.ends_with(target);
    files.keys().find(fits).unwrap().clone()
}

/// Serves what is in `files` at the time.
pub(crate) fn serve(files: &Arc<Mutex<Files>>) -> Web {
    let files = Arc::clone(files);
    Web::start(move |request| answer(request, &files.lock().unwrap()))
}

pub(crate) fn answer(request: &Request, files: &Files) -> Answer {
    match files.get(request.target.trim_start_matches('/')) {
        Some(bytes) => Answer::part(request, bytes),
        None => Answer::status(404),
    }
}
