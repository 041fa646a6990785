//! temporary
use nibs_actions::image::{self, *};
use nibs_actions::*;
use std::sync::Arc;
#[derive(Debug)]
struct S;
impl Sink for S {
    fn progress(&self, _: nibs_job::Progress) {}
    fn warning(&self, m: String) { eprintln!("warn {m}"); }
    fn log(&self, _: nibs_job::LogLevel, m: String) { eprintln!("log {m}"); }
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let stop = Stop::default();
    let source: Box<dyn Source> = if a[1].starts_with("http") {
        Box::new(Fetch { url: a[1].parse().unwrap(), client: http::client(&http::Options::default()).unwrap(), runtime: rt.handle().clone(), stop: stop.clone(), sink: Arc::new(S), stall_timeout: std::time::Duration::from_secs(60), proven_by_digest: true }.open().unwrap())
    } else { Box::new(FileSource::open(a[1].as_ref()).unwrap()) };
    let size = std::fs::metadata(&a[2]).unwrap().len();
    let target = Device::open(a[2].as_ref(), size, 512).unwrap();
    let served = Expected { sha256: a.get(3).filter(|d| *d != "-").map(|d| d.parse().unwrap()), sha512: None };
    let t = std::time::Instant::now();
    let s = image::stream(source, &target, served, Expected::default(), &stop, &S).unwrap();
    let secs = t.elapsed().as_secs_f64();
    let hwm = std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("VmHWM")).unwrap().to_owned();
    println!("{:?} {:.2}s {:.0} MB/s of image {} {}", s, secs, s.image as f64 / secs / 1e6, hwm, target.manner());
}
