//! Images out of registries, and those that came along.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use nibs_job::Class;
use serde_json::{Value, json};

use super::images::{Layer, Packed};
use super::support::{Bench, Door, Registry};
use super::web::{Answer, Web};

/// An image `NAME` in a registry, and not in the bench's layout any more.
fn pushed(bench: &mut Bench, registry: &Registry, name: &str) -> String {
    let layer = Layer::new().file("said", 0o644, b"from the registry\n");
    let config = json!({ "Entrypoint": ["/bin/cat"], "Cmd": ["/said"] });
    let upper = vec![(layer, Packed::Gzip)];
    bench.image(name, upper, &config);
    let index: Value =
        serde_json::from_slice(&fs::read(bench.layout.path.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"].as_array().unwrap().last().unwrap()["digest"].clone();
    registry.push(&bench.layout.path, name, name);
    fs::remove_file(bench.layout.path.join("index.json")).unwrap();
    digest.as_str().unwrap().to_owned()
}

#[test]
fn an_image_is_pulled_by_tag_and_by_digest() {
    let (Some(mut bench), Some(registry)) = (Bench::new(), Registry::start(Door::Open)) else {
        return;
    };
    let digest = pushed(&mut bench, &registry, "os/demo:1");
    let address = &registry.address;
    for name in [format!("{address}/os/demo:1"), format!("{address}/os/demo:9@{digest}")] {
        bench.ears.lines.lock().unwrap().clear();
        bench.run(json!({ "image": name })).unwrap();
        assert!(bench.ears.heard("from the registry"), "{}", bench.ears.all());
    }
    let zeros = "0".repeat(64);
    for (name, status) in [
        (format!("{address}/os/demo:2"), "404"),
        (format!("{address}/os/other:1"), "404"),
        (format!("{address}/os/demo@sha256:{zeros}"), "404"),
    ] {
        let error = bench.run(json!({ "image": name })).unwrap_err();
        assert!(error.to_string().starts_with(&format!("pulling {name}: ")), "{error}");
        assert!(error.to_string().contains(status), "{error}");
        assert_eq!(error.class(), Class::InvalidInput);
    }
}

#[test]
fn a_registry_with_users_lets_the_right_one_in() {
    let (Some(mut bench), Some(registry)) = (Bench::new(), Registry::start(Door::Users)) else {
        return;
    };
    pushed(&mut bench, &registry, "os/demo:1");
    let image = format!("{}/os/demo:1", registry.address);
    bench.run(json!({ "image": image, "username": "me", "password": "hunter2" })).unwrap();
    assert!(bench.ears.heard("from the registry"), "{}", bench.ears.all());
    let warnings = bench.ears.warnings.lock().unwrap().join("\n");
    assert!(warnings.contains("plain text") && !warnings.contains("hunter2"), "{warnings}");
    let error = bench.run(json!({ "image": image })).unwrap_err().to_string();
    assert!(error.contains("add username and password"), "{error}");
    let wrong = json!({ "image": image, "username": "me", "password": "wrong-one" });
    let error = bench.run(wrong).unwrap_err().to_string();
    assert!(error.contains("401") && !error.contains("wrong-one"), "{error}");
}

#[test]
fn a_registry_whose_certificate_nobody_trusts_will_do_where_it_is_called_insecure() {
    let (Some(mut bench), Some(registry)) = (Bench::new(), Registry::start(Door::Tls)) else {
        return;
    };
    pushed(&mut bench, &registry, "os/demo:1");
    // As Docker has it, all of this machine's are.
    let image = format!("{}/os/demo:1", registry.address);
    bench.run(json!({ "image": image, "username": "me", "password": "hunter2" })).unwrap();
    assert!(bench.ears.heard("from the registry"), "{}", bench.ears.all());
    assert!(bench.ears.warnings.lock().unwrap().is_empty(), "{:?}", bench.ears.warnings);
}

#[test]
fn a_layer_that_comes_damaged_is_pulled_again_into_a_root_of_its_own() {
    let Some(mut bench) = Bench::new() else { return };
    let layer = Layer::new().file("said", 0o644, b"whole\n");
    let config = json!({ "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["cat /said; ls /"] });
    bench.image("example.com/a:1", vec![(layer, Packed::Plain)], &config);
    let layout = bench.layout.path.clone();
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let blobs = layout.join("blobs/sha256");
    let tagged = index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    let manifest: Value = serde_json::from_slice(&fs::read(blobs.join(&tagged)).unwrap()).unwrap();
    let last = manifest["layers"][1]["digest"].as_str().unwrap().replace("sha256:", "");
    let asked = AtomicUsize::new(0);
    let web = Web::start(move |request| {
        let Some(name) = request.target.strip_prefix("/v2/os/demo/") else {
            return Answer::status(200);
        };
        let name = name.rsplit('/').next().unwrap().replace("sha256:", "");
        let name = if name == "1" { tagged.clone() } else { name };
        let mut bytes = fs::read(blobs.join(&name)).unwrap();
        if name == last && asked.fetch_add(1, Ordering::SeqCst) == 0 {
            // A file of another name, which the second try must not find.
            bytes[..4].copy_from_slice(b"evil");
        }
        Answer::part(request, &bytes)
    });
    fs::remove_file(layout.join("index.json")).unwrap();
    let image = format!("{}/os/demo:1", web.address);
    bench.run(json!({ "image": image })).unwrap();
    assert!(bench.ears.heard("whole") && !bench.ears.heard("evil"), "{}", bench.ears.all());
    let resets = bench.ears.resets.lock().unwrap();
    let [reset] = &resets[..] else { panic!("{resets:?}") };
    assert!(reset.contains("expected sha256") && reset.contains("of the layer"), "{reset}");
}

#[test]
fn a_registry_that_is_away_is_tried_five_times() {
    let Some(bench) = Bench::new() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/os/demo:1", listener.local_addr().unwrap());
    drop(listener);
    let error = bench.run(json!({ "image": image, "stall-timeout": "1ms" })).unwrap_err();
    let expected = format!("pulling {image}: after 5 tries: ");
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert_eq!(error.class(), Class::Transient);
    assert_eq!(bench.ears.resets.lock().unwrap().len(), 4);
}

#[test]
fn of_several_architectures_it_is_the_machines() {
    let Some(mut bench) = Bench::new() else { return };
    // Those that Nibs is built for, each with an image of its own.
    for (name, says) in [("amd64", "x86_64"), ("arm64", "aarch64"), ("newer", "newer")] {
        let config = json!({ "Entrypoint": ["/bin/sh", "-c", format!("echo for {says}")] });
        bench.image(&format!("example.com/{name}:1"), vec![], &config);
    }
    let index = fs::read_to_string(bench.layout.path.join("index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let of = |digest: &Value, architecture: &str, variant: Option<&str>| {
        let platform = json!({ "os": "linux", "architecture": architecture, "variant": variant });
        json!({ "digest": digest, "size": 1, "platform": platform })
    };
    let [amd64, arm64, newer] = [0, 1, 2].map(|place| &index["manifests"][place]["digest"]);
    let other = json!("sha256:00");
    let all = [
        of(newer, "amd64", Some("v2")),
        of(newer, "arm64", Some("v9")),
        of(arm64, "arm64", Some("v8")),
        of(amd64, "amd64", None),
        of(&other, "riscv64", None),
        // What some builders put beside them.
        of(&other, "unknown", None),
    ];
    bench.layout.add("example.com/all:1", json!({ "manifests": all }).to_string().as_bytes());
    bench.run(json!({ "image": "example.com/all:1" })).unwrap();
    let mine = format!("for {}", std::env::consts::ARCH);
    assert!(bench.ears.heard(&mine), "{}", bench.ears.all());

    let foreign = json!({ "manifests": [of(&other, "riscv64", None)] }).to_string();
    bench.layout.add("example.com/foreign:1", foreign.as_bytes());
    let error = bench.run(json!({ "image": "example.com/foreign:1" })).unwrap_err().to_string();
    assert!(error.contains("there is: linux/riscv64"), "{error}");
}

#[test]
fn what_came_along_is_looked_at_first_and_needs_no_registry() {
    let Some(mut bench) = Bench::new() else { return };
    let config = json!({ "Entrypoint": ["/bin/sh", "-c", "echo along"] });
    bench.image("127.0.0.1/embedded/mine", vec![], &config);
    bench.run(json!({ "image": "127.0.0.1/embedded/mine" })).unwrap();
    assert!(bench.ears.heard("along"), "{}", bench.ears.all());

    let index = fs::read_to_string(bench.layout.path.join("index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    bench.ears.lines.lock().unwrap().clear();
    bench.run(json!({ "image": format!("registry.invalid/mine@{digest}") })).unwrap();
    assert!(bench.ears.heard("along"), "{}", bench.ears.all());

    let manifest = bench.layout.path.join("blobs").join(digest.replace(':', "/"));
    fs::write(manifest, "{}").unwrap();
    let error = bench.run(json!({ "image": "127.0.0.1/embedded/mine" })).unwrap_err().to_string();
    assert!(error.contains("expected a blob with sha256"), "{error}");
    assert!(error.contains(bench.layout.path.to_str().unwrap()), "{error}");
}
