//! The image engine from outside: whole and damaged images, servers and disks that fail, and real
//! loop devices.

mod access;
mod bmap;
mod damaged;
mod faulty_disk;
mod loop_device;
mod mirrors;
mod misread;
mod power_cut;
mod qcow2;
mod registry;
mod restart;
mod resume;
mod segments;
mod server;
mod support;
mod tls;
mod tuf;
mod web;
