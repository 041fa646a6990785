//! The boot configuration against cases of our own, upstream's samples and the kernel's own tool.

mod cases;
mod conformance;
mod oracle;
mod properties;
mod texts;
