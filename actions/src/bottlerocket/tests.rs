//! What needs no root: making and proving the files, other disks, explaining.

mod bench;
mod duplicates;
mod files;
mod sources;
