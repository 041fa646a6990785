//! A DHCPv4 client (RFC 2131), in layers that can each be tried alone.
//!
//! - [`message`]: the bytes of a message and of its options.
//! - [`client`]: the state machine, a pure function of what came and what time it is.
//! - [`packet`] and [`socket`]: how messages travel before and after there is an address.
//!
//! It is our own because what exists costs more than it brings: `mozim` pins second versions of
//! netlink, nix and rand crates, and `dhcproto` stops reading a message at the first option that
//! is malformed and does not join long options (RFC 3396). What is needed here is the happy path
//! of one client, read leniently, and a state machine that tests can drive by a clock of theirs.
//!
//! Not done: probing the address by ARP before use (DECLINE), and INIT-REBOOT with an address
//! from an earlier boot, which an agent that lives in RAM does not have.

pub(super) mod client;
mod lease;
mod message;
mod packet;
pub(super) mod socket;

pub use lease::Lease;
