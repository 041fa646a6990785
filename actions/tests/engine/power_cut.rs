//! The power goes at any moment: whatever the disk had in its cache may be on it or not, in any
//! order. What is found then does not boot, or is the whole image.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use nibs_actions::Stop;
use nibs_actions::image::{self, Target};
use proptest::prelude::*;

use super::support::*;

const SECTOR: usize = 512;
const IMAGE: usize = 6 << 20;

/// What a disk was told to do.
enum Told {
    Put(u64, Vec<u8>),
    Flush,
}

/// A disk that remembers all it was told, and carries it out at once.
struct Recorder {
    disk: MemoryDisk,
    told: Mutex<Vec<Told>>,
}

impl Recorder {
    fn put(&self, offset: u64, bytes: Vec<u8>) {
        self.told.lock().unwrap().push(Told::Put(offset, bytes));
    }
}

impl Target for Recorder {
    fn path(&self) -> &Path {
        self.disk.path()
    }
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn sector_size(&self) -> u32 {
        self.disk.sector_size()
    }
    fn manner(&self) -> &'static str {
        self.disk.manner()
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.put(offset, bytes.to_vec());
        self.disk.write(offset, bytes)
    }
    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        self.put(offset, vec![0; length as usize]);
        self.disk.zero(offset, length)
    }
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, into)
    }
    fn reads_behind(&self) -> bool {
        true
    }
    fn flush(&self) -> io::Result<()> {
        self.told.lock().unwrap().push(Told::Flush);
        Ok(())
    }
}

/// Where the EFI system partition of the image starts.
fn esp(image: &[u8]) -> usize {
    let at = |at: &usize| image[*at..].starts_with(BOOT_SECTOR);
    (0..image.len()).step_by(SECTOR).find(at).unwrap()
}

/// Applies what may have reached the disk of what it was told since its last flush: any sectors,
/// in any order.
fn apply_some(disk: &mut [u8], told: &[Told], random: &mut impl FnMut() -> u64) {
    let mut sectors: Vec<(usize, &[u8])> = Vec::new();
    for told in told {
        let Told::Put(offset, bytes) = told else { continue };
        // All, none, or some sectors of each.
        let share = random() % 5;
        for (index, sector) in bytes.chunks(SECTOR).enumerate() {
            if random() % 4 < share {
                sectors.push((*offset as usize + index * SECTOR, sector));
            }
        }
    }
    for at in (1..sectors.len()).rev() {
        sectors.swap(at, (random() % (at as u64 + 1)) as usize);
    }
    for (offset, sector) in sectors {
        disk[offset..offset + sector.len()].copy_from_slice(sector);
    }
}

fn same_outside(one: &[u8], other: &[u8], except: &[Range<usize>]) -> bool {
    let (mut one, mut other) = (one.to_vec(), other.to_vec());
    for range in except {
        one[range.clone()].fill(0);
        other[range.clone()].fill(0);
    }
    one == other
}

/// The disk held an older image of the same layout, so that all it had is at dangerous places.
fn check(size: usize, seed: u64) {
    let image = image(IMAGE);
    let mut older = image.clone();
    older[2 << 20..3 << 20].fill(0x11);
    let recorder =
        Recorder { disk: MemoryDisk::with_old_system(size), told: Mutex::new(Vec::new()) };
    install(older, &recorder.disk, no_digest(), no_digest()).unwrap();
    let before = recorder.disk.bytes();
    assert!(has_sound_table(&before));
    let source = Box::new(MemorySource::new(encode("lz4", &image)));
    let proof = proof(no_digest(), sha256(&image));
    image::stream(source, &recorder, &proof, &Stop::default(), &Ears::default()).unwrap();
    let finished = recorder.disk.bytes();
    let esp = esp(&image);
    let seals = [0..2 * SECTOR, size - SECTOR..size];

    let told = recorder.told.into_inner().unwrap();
    let flushes: Vec<usize> =
        (0..told.len()).filter(|at| matches!(told[*at], Told::Flush)).collect();
    // Cleared; data; what is held back; the seals.
    assert_eq!(flushes.len(), 4);
    let mut state = seed | 1;
    let mut random = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut durable = before;
    let mut since = 0;
    for cut in 0..=told.len() {
        for _ in 0..6 {
            let mut disk = durable.clone();
            apply_some(&mut disk, &told[since..cut], &mut random);
            let boots = has_sound_table(&disk);
            if cut > flushes[0] && boots {
                assert!(same_outside(&disk, &finished, &seals), "half of it boots, cut at {cut}");
            }
            if (flushes[0] + 1..=flushes[1]).contains(&cut) {
                assert!(!boots && !disk[esp..].starts_with(BOOT_SECTOR), "cut at {cut}");
            }
            if (flushes[1] + 1..=flushes[2]).contains(&cut) {
                assert!(!boots, "a table before all else, cut at {cut}");
            }
        }
        if let Some(Told::Flush) = told.get(cut) {
            for told in &told[since..cut] {
                let Told::Put(offset, bytes) = told else { continue };
                durable[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
            }
            since = cut;
        }
    }
    assert!(durable == finished);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn a_cut_leaves_a_disk_that_does_not_boot_or_the_whole_image(
        size in prop::sample::select(&[IMAGE, IMAGE + 40 * SECTOR, 8 << 20][..]),
        seed in any::<u64>(),
    ) {
        check(size, seed);
    }
}
