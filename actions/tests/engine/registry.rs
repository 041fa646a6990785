//! Images in OCI registries: tokens that run out, indexes, layers, digests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nibs_actions::image::{Credentials, Error, Layer, Registry};
use nibs_job::{HexDigest, Secret};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::support::*;
use super::web::{Answer, Request, Web};

const LAYER: &[u8] = b"an image in a layer, long enough to be cut";

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", HexDigest::<32>(Sha256::digest(bytes).into()))
}

fn descriptor(bytes: &[u8], more: &Value) -> Value {
    let mut descriptor = json!({ "digest": digest(bytes), "size": bytes.len() });
    descriptor.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    descriptor
}

fn manifest(layers: &[Value]) -> Vec<u8> {
    json!({ "schemaVersion": 2, "layers": layers }).to_string().into_bytes()
}

/// An index with a manifest for each of the architectures that Nibs is built for.
fn index(manifest: &[u8]) -> Vec<u8> {
    let of = |arch: &str| {
        descriptor(manifest, &json!({ "platform": { "os": "linux", "architecture": arch } }))
    };
    json!({ "schemaVersion": 2, "manifests": [of("amd64"), of("arm64"), of("s390x")] })
        .to_string()
        .into_bytes()
}

fn pull(web: &Web, version: &str, user: bool) -> Result<(Layer, Vec<u8>), Error> {
    let reference = format!("oci+http://{}/os/demo{version}", web.address).parse().unwrap();
    let password = Secret::new("hunter2");
    let credentials = user.then(|| Credentials { username: "me".into(), password });
    let (runtime, ears) = (runtime(), Arc::default());
    let layer =
        Registry::new(reference, credentials).resolve(&plain(Vec::new(), &runtime, &ears))?;
    let bytes = drain(layer.fetch.clone())?;
    Ok((layer, bytes))
}

/// A registry without locks: the manifest under the tag `1`, or by digest, and the layer.
fn serve(tagged: Vec<u8>, others: Vec<Vec<u8>>) -> Web {
    Web::start(move |request| answer(request, &tagged, &others))
}

fn answer(request: &Request, tagged: &[u8], others: &[Vec<u8>]) -> Answer {
    let path = request.target.strip_prefix("/v2/os/demo/").unwrap();
    match path.split_once('/').unwrap() {
        ("manifests", "1") => {
            assert!(request.header("accept").unwrap().contains("oci.image.index.v1+json"));
            Answer::ok(tagged)
        }
        (_, name) => match others.iter().find(|bytes| digest(bytes) == name) {
            Some(bytes) => Answer::part(request, bytes),
            None => Answer::status(404),
        },
    }
}

#[test]
fn a_layer_is_found_by_index_and_manifest() {
    let manifest = manifest(&[descriptor(LAYER, &json!({}))]);
    let index = index(&manifest);
    let by_digest = format!("@{}", digest(&index));
    let web = serve(index.clone(), vec![index, manifest, LAYER.to_vec()]);
    for version in [":1", &by_digest] {
        let (layer, bytes) = pull(&web, version, false).unwrap();
        assert_eq!(bytes, LAYER);
        assert_eq!(layer.size, LAYER.len() as u64);
        assert_eq!(format!("sha256:{}", layer.sha256), digest(LAYER));
    }
}

#[test]
fn tokens_are_got_where_the_registry_says_and_again_when_they_run_out() {
    let manifest = manifest(&[descriptor(LAYER, &json!({}))]);
    let given = AtomicUsize::new(0);
    let asked = AtomicUsize::new(0);
    let others = vec![LAYER.to_vec()];
    let web = Web::start(move |request| {
        if request.target.starts_with("/token") {
            assert_eq!(request.target, "/token?service=r&scope=repository%3Aos%2Fdemo%3Apull");
            assert_eq!(request.header("authorization"), Some("Basic bWU6aHVudGVyMg=="));
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            return Answer::ok(json!({ "token": format!("t{number}") }).to_string());
        }
        // Every token is good for one answer; the first one of the layer is cut.
        let valid = format!("Bearer t{}", given.load(Ordering::SeqCst));
        let used = asked.load(Ordering::SeqCst) >= given.load(Ordering::SeqCst);
        if request.header("authorization") != Some(&valid) || used {
            let realm = format!("http://{}/token", request.header("host").unwrap());
            let challenge =
                format!("Bearer realm=\"{realm}\",service=\"r\",scope=\"repository:os/demo:pull\"");
            return Answer::status(401).with("WWW-Authenticate", challenge);
        }
        let number = asked.fetch_add(1, Ordering::SeqCst);
        Answer { cut: (number == 1).then_some(9), ..answer(request, &manifest, &others) }
    });
    assert_eq!(pull(&web, ":1", true).unwrap().1, LAYER);
    let tokens = web.requests().iter().filter(|r| r.target.starts_with("/token")).count();
    assert_eq!(tokens, 3, "{:?}", web.requests());
}

#[test]
fn a_titled_layer_goes_before_others_and_two_of_a_kind_are_refused() {
    let title = json!({ "annotations": { "org.opencontainers.image.title": "os.img" } });
    let titled = descriptor(LAYER, &title);
    let other = descriptor(b"other", &json!({}));
    let web = serve(manifest(&[other.clone(), titled.clone()]), vec![LAYER.to_vec()]);
    assert_eq!(pull(&web, ":1", false).unwrap().1, LAYER);
    for layers in [vec![], vec![other.clone(), other], vec![titled.clone(), titled]] {
        let error = pull(&serve(manifest(&layers), vec![]), ":1", false).unwrap_err();
        assert!(matches!(error, Error::Registry { .. }), "{error}");
        assert!(error.to_string().contains("one layer"), "{error}");
    }
}

#[test]
fn a_manifest_of_another_digest_or_platform_is_refused() {
    let manifest = manifest(&[descriptor(LAYER, &json!({}))]);
    let wanted = format!("@{}", digest(b"another"));
    let web = Web::start(move |_| Answer::ok(manifest.clone()));
    let error = pull(&web, &wanted, false).unwrap_err().to_string();
    assert!(error.contains("expected a manifest with sha256"), "{error}");

    let foreign = json!({ "platform": { "os": "linux", "architecture": "riscv64" } });
    let index = json!({ "manifests": [descriptor(b"m", &foreign)] }).to_string().into_bytes();
    let error = pull(&serve(index, vec![]), ":1", false).unwrap_err().to_string();
    assert!(error.contains("there is: linux/riscv64"), "{error}");
}

#[test]
fn a_registry_that_wants_a_user_says_what_to_add() {
    let web = Web::start(|_| Answer::status(401).with("WWW-Authenticate", "Basic realm=\"r\""));
    let error = pull(&web, ":1", false).unwrap_err().to_string();
    assert!(error.contains("add username and password"), "{error}");
    let error = pull(&web, ":1", true).unwrap_err().to_string();
    assert!(error.contains("401"), "{error}");
}
