//! What layers make of a root, and what they cannot do to the machine.

use std::fs;
use std::time::{Duration, Instant};

use nibs_actions::Error;
use nibs_job::Class;
use serde_json::json;
use tar::EntryType;

use super::images::{Layer, Packed};
use super::support::Bench;

#[test]
fn layers_cover_each_other_and_keep_owners_modes_links_devices_and_attributes() {
    let Some(mut bench) = Bench::new() else { return };
    let lower = Layer::new()
        .directory("keep")
        .file("keep/gone", 0o644, b"x")
        .file("keep/stays", 0o644, b"stays\n")
        .directory("opaque")
        .file("opaque/gone", 0o644, b"x")
        .file("tree/a/b", 0o644, b"x")
        .file("was-file", 0o644, b"x")
        .directory("was-directory")
        .file("was-directory/gone", 0o644, b"x")
        .link(EntryType::Symlink, "usr/old", "../keep");
    let upper = Layer::new()
        .file("keep/.wh.gone", 0o644, b"")
        .file("keep/.wh.never-there", 0o644, b"")
        .file("opaque/new", 0o644, b"x")
        .file("opaque/.wh..wh..opq", 0o644, b"")
        .file(".wh..wh.plnk", 0o644, b"")
        .file(".wh.tree", 0o644, b"")
        .directory("was-file")
        .file("was-file/inside", 0o644, b"x")
        .file("was-directory", 0o644, b"now a file\n")
        .file("usr/old/through-link", 0o644, b"x");
    let special = Layer::new()
        .owned("owned", 0o4750, 1000, 1001)
        .link(EntryType::Link, "hard", "owned")
        .link(EntryType::Symlink, "soft", "/owned")
        .device("null", 1, 3)
        .entry(EntryType::Fifo, "fifo", 0o600, b"");
    let capable = Layer::new().xattr("security.capability", CAPABILITY).file(
        "busybox.capable",
        0o755,
        &bench.busybox,
    );
    let layers = vec![(lower, Packed::Zstd), (upper, Packed::Plain), (special, Packed::Gzip)];
    bench.image("example.com/a", layers, &json!({ "Entrypoint": ["/bin/sh", "-c"] }));
    // A pattern that meets nothing stays as it is.
    let words = "cd /; echo keep: $(ls -A keep); echo opaque: $(ls -A opaque); \
                 for f in tree .wh* */.wh*; do test -e $f && echo left: $f; done; \
                 cat was-directory; echo was-file: $(ls was-file); \
                 for f in owned hard; do stat -c '%n %a %u:%g %h %Y' $f; done; \
                 stat -c '%n %F' soft fifo; stat -c '%n %F %t:%T %a' null; \
                 echo x > null && echo written; stat -c '%n %Y' bin;";
    bench.run(json!({ "image": "example.com/a", "command": [words] })).unwrap();
    for line in [
        "keep: stays through-link",
        "opaque: new",
        "now a file",
        "was-file: inside",
        "owned 4750 1000:1001 2 1000000000",
        "hard 4750 1000:1001 2 1000000000",
        "soft symbolic link",
        "fifo fifo",
        "null character special file 1:3 600",
        "written",
        "bin 1000000000",
    ] {
        assert!(bench.ears.heard(line), "{line}: {}", bench.ears.all());
    }
    assert!(!bench.ears.all().contains("left: "), "{}", bench.ears.all());

    // What the attribute is for: a user's program may do more than the user.
    let config = json!({ "Entrypoint": ["/busybox.capable", "cat"], "User": "me" });
    bench.image("example.com/capable", vec![(capable, Packed::Gzip)], &config);
    let with = json!({ "image": "example.com/capable", "command": ["/proc/self/status"] });
    bench.run(with).unwrap();
    assert!(bench.ears.heard("CapEff:\t0000000000002000"), "{}", bench.ears.all());
    assert!(bench.ears.warnings.lock().unwrap().is_empty(), "{:?}", bench.ears.warnings);
}

/// Version 2, effective, `cap_net_raw` permitted (linux/capability.h, `vfs_cap_data`).
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn no_path_and_no_link_of_a_layer_leads_out_of_the_root() {
    let Some(mut bench) = Bench::new() else { return };
    let outside = bench.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "precious").unwrap();
    let target = outside.to_str().unwrap().to_owned();
    // The link's target is there in the image too: that is where it leads.
    let links = Layer::new()
        .directory(&target[1..])
        .link(EntryType::Symlink, "absolute", &target)
        .link(EntryType::Symlink, "climbing", "../../../../../../../../..")
        .file("absolute/written", 0o644, b"x")
        .file("absolute/.wh.precious", 0o644, b"")
        .file(&format!("climbing{target}/written2"), 0o644, b"x")
        .link(EntryType::Symlink, "volume", &target);
    let config = json!({ "Entrypoint": ["/bin/sh", "-c"] });
    bench.image("example.com/links", vec![(links, Packed::Gzip)], &config);
    let volume = format!("{}:/volume/mounted", bench.path("source").display());
    let words = format!("ls {target}; touch {target}/x; ls /absolute/");
    let with = json!({ "image": "example.com/links", "command": [words], "volumes": [volume] });
    bench.run(with).unwrap();
    assert!(bench.ears.heard("written") && bench.ears.heard("written2"), "{}", bench.ears.all());
    let there: Vec<_> = fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(there, ["precious"]);

    for (name, layer) in [
        ("file", Layer::new().file("../../evil", 0o644, b"x")),
        ("whiteout", Layer::new().file("a/../../.wh.etc", 0o644, b"")),
        ("link", Layer::new().link(EntryType::Link, "evil", "../../etc/passwd")),
    ] {
        let name = format!("example.com/{name}");
        bench.image(&name, vec![(layer, Packed::Plain)], &config);
        let error = bench.run(json!({ "image": name, "command": ["true"] })).unwrap_err();
        assert!(error.to_string().contains("out of the image"), "{error}");
        assert_eq!(error.class(), Class::InvalidInput);
    }
}

#[test]
fn layers_that_are_none_are_refused_with_their_digest() {
    let Some(mut bench) = Bench::new() else { return };
    let whole = Layer::new().file("a", 0o644, &vec![7; 100_000]).bytes(Packed::Gzip);
    let cut = whole[..whole.len() / 2].to_vec();
    let mut flipped = whole.clone();
    let end = flipped.len() - 6;
    flipped[end] ^= 1;
    let text = b"<html>not found</html>".to_vec();
    for (name, layer) in [("cut", cut), ("flipped", flipped), ("text", text)] {
        let name = format!("example.com/{name}:1");
        let digest = only_layer(&mut bench, &name, &layer);
        let error = bench.run(json!({ "image": name })).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&digest) && text.starts_with("unpacking example.com/"), "{error}");
    }
}

/// Adds an image of one layer, about which its manifest is right: such an image was made so. Returns
/// the layer's digest.
fn only_layer(bench: &mut Bench, name: &str, layer: &[u8]) -> String {
    bench.layout.blob(layer);
    let config = br#"{"config":{"Entrypoint":["/a"]}}"#;
    bench.layout.blob(config);
    let manifest = json!({
        "config": super::images::descriptor("config.v1+json", config),
        "layers": [super::images::descriptor("layer.v1.tar+gzip", layer)],
    });
    bench.layout.add(name, manifest.to_string().as_bytes());
    super::images::digest(layer)
}

#[test]
fn a_few_bytes_that_become_many_do_not_outlast_the_timeout() {
    let Some(mut bench) = Bench::new() else { return };
    // A million times the same file, in one chunk of what comes in.
    let file = Layer::new().file("a", 0o644, b"").bytes(Packed::Plain);
    let many = zstd::encode_all(&file[..512].repeat(1 << 15)[..], 1).unwrap();
    let layer = many.repeat(1 << 5);
    assert!(layer.len() < 256 << 10, "{}", layer.len());
    only_layer(&mut bench, "example.com/many:1", &layer);
    let begun = Instant::now();
    bench.stop.deadline = Some(begun + Duration::from_secs(2));
    let error = bench.run(json!({ "image": "example.com/many:1" })).unwrap_err();
    assert!(matches!(error, Error::TimedOut), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[test]
fn an_image_that_does_not_fit_into_memory_is_refused_before_it_is_read() {
    let Some(mut bench) = Bench::new() else { return };
    let config = br#"{"config":{"Entrypoint":["/a"]}}"#;
    bench.layout.blob(config);
    let config = super::images::descriptor("config.v1+json", config);
    let of = |size: u64| {
        json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "size": size,
            "digest": format!("sha256:{}", "0".repeat(64)),
        })
    };
    for (layers, needed) in [
        (vec![of(1 << 45)], "needs 32.0 TiB (35184372088832 bytes) in memory, "),
        (vec![of(u64::MAX), of(u64::MAX)], "(18446744073709551615 bytes) in memory, "),
    ] {
        let manifest = json!({ "config": config, "layers": layers });
        bench.layout.add("example.com/large:1", manifest.to_string().as_bytes());
        let error = bench.run(json!({ "image": "example.com/large:1" })).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(needed), "{text}");
        assert!(text.contains("scratch"), "{text}");
        assert_eq!(error.class(), Class::Environment);
    }
}
