//! The actions of EKS Anywhere's template for Bottlerocket, one after the other, as its environment
//! asks for them: onto a loop device, from servers of the test's own. Needs root, loop devices, sgdisk
//! and mkfs.ext4; skips without.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use nibs_actions::mount::{self, Access, Root};
use nibs_actions::{Context, Error, Machine, Sink, Stop, disk, http};
use nibs_agent::tinkerbell::builtin::{self, Inputs};
use nibs_bottlerocket::bootconfig;
use nibs_bottlerocket::net_toml::Lease;
use nibs_job::params::Filesystem;
use nibs_job::{LogLevel, Progress, Secret};

const USER_DATA: &str = "[settings.host-containers.admin]\nenabled = true\n";
const PRIVATE_START: u64 = 20 << 20;

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Sink for Lines {
    fn progress(&self, _: Progress) {}
    fn reset(&self, _: String) {}
    fn warning(&self, message: String) {
        self.0.lock().unwrap().push(message);
    }
    fn log(&self, _: LogLevel, message: String) {
        self.0.lock().unwrap().push(message);
    }
}

fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).ok(),
        other => {
            eprintln!("skipped: {program} {arguments:?}: {other:?}");
            None
        }
    }
}

/// A disk image with the partitions that count, compressed.
fn image(directory: &Path) -> Option<Vec<u8>> {
    let (path, files) = (directory.join("image"), directory.join("files"));
    fs::create_dir(&files).unwrap();
    fs::write(files.join("bootconfig.data"), bootconfig::pack(bootconfig::EMPTY).unwrap()).unwrap();
    fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
    let image = path.to_str()?;
    let partitions = [
        "--new=3:10M:+4M",
        "--typecode=3:6b636168-7420-6568-2070-6c616e657421",
        "--new=12:20M:+40M",
        "--typecode=12:440408bb-eb0b-4328-a6e5-a29038fad706",
        "--change-name=12:BOTTLEROCKET-PRIVATE",
    ];
    run("sgdisk", &[&partitions[..], &[image]].concat())?;
    let offset = format!("offset={PRIVATE_START}");
    let files = files.to_str()?;
    run("mkfs.ext4", &["-q", "-F", "-E", &offset, "-d", files, image, "40M"])?;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&fs::read(&path).unwrap()).unwrap();
    Some(encoder.finish().unwrap())
}

/// Serves the image, and user data where a metadata service has it.
fn serve(image: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = connection.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let (status, body) = if request.starts_with("GET /os.img.gz?token=s3cret ") {
                ("200 OK", &image[..])
            } else if request.starts_with("GET /2009-04-04/user-data ") {
                ("200 OK", USER_DATA.as_bytes())
            } else {
                ("404 Not Found", &b""[..])
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nETag: \"1\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(body));
        }
    });
    base
}

struct LoopDevice(PathBuf);

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("partx").arg("--delete").arg(&self.0).output();
        for number in [3, 12] {
            let _ = fs::remove_file(disk::partition_path(&self.0, number));
        }
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn a_template_of_eks_anywhere_makes_a_node_of_a_blank_disk() {
    if !nix::unistd::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        eprintln!("skipped: needs root and loop devices");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(image) = image(directory.path()) else { return };
    let file = directory.path().join("disk");
    fs::File::create(&file).unwrap().set_len(96 << 20).unwrap();
    let Some(node) = run("losetup", &["--find", "--show", file.to_str().unwrap()]) else { return };
    let device = LoopDevice(node.trim().into());
    let _ = Command::new("partx").arg("--delete").arg(&device.0).output();
    let base = serve(image);
    let lease = Lease {
        interface: "52:54:00:12:34:56".parse().unwrap(),
        addresses: vec!["10.0.0.9/24".parse().unwrap()],
        gateway: Some("10.0.0.1".parse().unwrap()),
        routes: Vec::new(),
        name_servers: vec!["10.0.0.53".parse().unwrap()],
        search: Vec::new(),
        domain: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lines = Arc::new(Lines::default());
    let context = Context {
        machine: Machine { lease: Some(lease), ..Machine::default() },
        stop: Stop::default(),
        sink: lines.clone(),
        runtime: runtime.handle().clone(),
        http: http::Options::default(),
        // Each action by itself, as a container each would be.
        installed_disk: None,
    };
    let whole = device.0.to_str().unwrap();
    let partition = disk::partition_path(&device.0, 12);
    let url = format!("{base}/os.img.gz?token=s3cret");
    let urls = format!("{base}/nothing-here,{base}");
    let private = [
        ("DEST_DISK", partition.to_str().unwrap()),
        ("FS_TYPE", "ext4"),
        ("UID", "0"),
        ("GID", "0"),
        ("MODE", "0644"),
        ("DIRMODE", "0700"),
    ];
    let streamed = [("DEST_DISK", whole), ("IMG_URL", &*url), ("COMPRESSED", "true")];
    let bootconfig =
        [("DEST_PATH", "/bootconfig.data"), ("BOOTCONFIG_CONTENTS", "kernel {\n quiet\n}\n")];
    let user_data = [("DEST_PATH", "/user-data.toml"), ("HEGEL_URLS", &*urls)];
    let net = [("DEST_PATH", "/net.toml"), ("STATIC_BOTTLEROCKET", "true"), ("IFNAME", "eno1")];
    for (image, environment) in [
        ("127.0.0.1/embedded/image2disk", streamed.to_vec()),
        ("127.0.0.1/embedded/writefile", [&private[..], &bootconfig].concat()),
        ("127.0.0.1/embedded/writefile", [&private[..], &user_data].concat()),
        ("127.0.0.1/embedded/writefile:v1", [&private[..], &net].concat()),
    ] {
        let pair = |(name, value): (&str, &str)| (name.to_owned(), Secret::new(value));
        let environment: BTreeMap<_, _> = environment.into_iter().map(pair).collect();
        let translate = builtin::find(builtin::name_of(image)).unwrap();
        let task = translate(Inputs { environment: &environment, command: &[] }).unwrap();
        let done = nibs_actions::run(&task, &context);
        let done = done.unwrap_or_else(|error| panic!("{image} {task:?}: {error}"));
        assert_eq!(done.degraded, [""; 0], "{image}");
    }
    let read = |name: &str| {
        let path = Path::new("/").join(name);
        let read = |root: &Root| Ok::<_, Error>(root.read(&path, 1 << 20)?);
        mount::with_mounted(&partition, Filesystem::Ext4, Access::ReadOnly, read).unwrap()
    };
    let boot = read("bootconfig.data");
    assert!(bootconfig::unpack(&boot).unwrap().contains("quiet"), "{boot:?}");
    let dns = "[settings.dns]\nname-servers = [\"10.0.0.53\"]\n";
    assert_eq!(String::from_utf8(read("user-data.toml")).unwrap(), format!("{USER_DATA}\n{dns}"));
    let net = String::from_utf8(read("net.toml")).unwrap();
    assert!(
        net.contains("[\"52:54:00:12:34:56\".static4]\naddresses = [\"10.0.0.9/24\"]"),
        "{net}"
    );
    let said = lines.0.lock().unwrap().join("\n");
    assert!(!said.contains("s3cret") && !said.contains("quiet"), "{said}");
}
