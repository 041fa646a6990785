//! The image engine from outside: whole and damaged images, servers and disks that fail, and real
//! loop devices.

mod damaged;
mod loop_device;
mod resume;
mod server;
mod support;
mod tls;
