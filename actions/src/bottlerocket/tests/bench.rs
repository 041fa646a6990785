//! A machine of files with a Bottlerocket on `vda`, and ears for what is said.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::{fs, io, thread};

use gpt::partition_types::{OperatingSystem, Type};
use nibs_bottlerocket::partitions::kind;
use nibs_job::params::Bottlerocket;
use nibs_job::{LogLevel, Progress};
use serde_json::Value;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::super::private::System;
use super::super::prove::{Files, prove};
use crate::disk::FakeMachine;
use crate::{Context, Sink, Stop, http};

const SIZE: u64 = 8 << 20;

/// What was said, warnings apart from the rest.
#[derive(Default)]
pub(super) struct Said {
    warnings: Mutex<Vec<String>>,
    log: Mutex<Vec<String>>,
}

impl Sink for Said {
    fn progress(&self, _: Progress) {}
    fn reset(&self, _: String) {}
    fn warning(&self, message: String) {
        self.warnings.lock().unwrap().push(message);
    }
    fn log(&self, _: LogLevel, message: String) {
        self.log.lock().unwrap().push(message);
    }
}

pub(super) struct Bench {
    pub(super) fake: FakeMachine,
    said: Arc<Said>,
    runtime: Runtime,
}

impl Bench {
    pub(super) fn new() -> Self {
        let fake = FakeMachine::new();
        fake.write(&fake.machine.proc.join("self/mountinfo"), "");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let bench = Self { fake, said: Arc::default(), runtime };
        bench.disk("vda", "252:0", &[("BOTTLEROCKET-PRIVATE", kind::PRIVATE)], &[]);
        bench
    }

    /// A disk with partitions.
    pub(super) fn disk(
        &self,
        name: &str,
        dev: &str,
        partitions: &[(&str, Uuid)],
        attributes: &[(&str, &str)],
    ) {
        self.fake.disk(name, SIZE, &[&[("dev", dev)], attributes].concat());
        let node = self.fake.machine.dev.join(name);
        let mut disk = vec![0; SIZE as usize];
        let mut cursor = io::Cursor::new(&mut disk[..]);
        gpt::mbr::ProtectiveMBR::new().overwrite_lba0(&mut cursor).unwrap();
        let config = gpt::GptConfig::new().writable(true);
        let mut table = config.create_from_device(cursor, None).unwrap();
        for (name, guid) in partitions {
            let kind = Type { guid: *guid, os: OperatingSystem::None };
            table.add_partition(name, 1 << 20, kind, 0, None).unwrap();
        }
        table.write_inplace().unwrap();
        drop(table);
        fs::write(node, disk).unwrap();
    }

    pub(super) fn context(&self) -> Context {
        Context {
            machine: self.fake.machine.clone(),
            stop: Stop::default(),
            sink: self.said.clone(),
            runtime: self.runtime.handle().clone(),
            http: http::Options::default(),
            installed_disk: None,
        }
    }

    /// The files of a new system, or why there are none.
    pub(super) fn prove(&self, params: Value) -> Result<Files, String> {
        self.prove_with(params, System::New, &self.context())
    }

    pub(super) fn prove_with(
        &self,
        params: Value,
        system: System,
        context: &Context,
    ) -> Result<Files, String> {
        prove(&decode(params), system, context).map_err(|error| error.to_string())
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.said.warnings.lock().unwrap())
    }

    pub(super) fn log(&self) -> String {
        self.said.log.lock().unwrap().join("\n")
    }
}

pub(super) fn decode(params: Value) -> Bottlerocket {
    serde_json::from_value(params).unwrap()
}

/// The text of a file that was made.
pub(super) fn text(content: &Option<Vec<u8>>) -> &str {
    std::str::from_utf8(content.as_deref().expect("expected the file to be written")).unwrap()
}

/// What a server does with a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Manner {
    /// Answers with a status and a body, and what was asked for in the body's place if it is `*`.
    Says(u16, &'static str),
    /// Takes the request and says nothing.
    Hangs,
}

/// A server on loopback, which ends with the test's process; its URL.
pub(super) fn serve(manner: Manner) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut waiting = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            match manner {
                Manner::Hangs => waiting.push(stream),
                Manner::Says(status, body) => {
                    let line = String::from_utf8_lossy(&request[..length]).into_owned();
                    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                    let body = body.replace('*', &path);
                    let length = body.len();
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                    );
                }
            }
        }
    });
    url
}

/// Makes a network card, `eth0`, on a PCI device.
pub(super) fn card(sysfs: &Path, name: &str, mac: &str, device: &str, subsystem: &str) {
    let device = sysfs.join("devices").join(device);
    let interface = sysfs.join("class/net").join(name);
    for directory in [&device, &interface] {
        fs::create_dir_all(directory).unwrap();
    }
    symlink(format!("/sys/bus/{subsystem}"), device.join("subsystem")).unwrap();
    symlink(&device, interface.join("device")).unwrap();
    fs::write(interface.join("type"), "1\n").unwrap();
    fs::write(interface.join("address"), format!("{mac}\n")).unwrap();
}
