//! What a kernel takes at most. All of Linux 6.12 `include/linux/bootconfig.h` where nothing else
//! is said.

/// Largest size of text and NULs together, in bytes. `XBC_DATA_MAX` is 32767, older
/// kernels refuse that too, and in a file that is nothing but its boot configuration the size is a
/// multiple of 4. Older versions of the kernel's tool write more, which the kernel then ignores.
pub const MAX_SIZE: usize = 32764;

/// Most key words and values together (`XBC_NODE_MAX`). A value replaced by `:=` counts.
pub const MAX_NODES: usize = 8192;

/// The same before Linux 5.19, as in Bottlerocket's variants with kernels 5.10 and 5.15.
pub const MAX_NODES_BEFORE_5_19: usize = 1024;

/// Longest key with the dots between its words, in bytes: `XBC_KEYLEN_MAX` counts one byte after
/// each word, the last one's is a NUL.
pub const MAX_KEY_LENGTH: usize = 255;

/// Most words of a key (`XBC_DEPTH_MAX`).
pub const MAX_DEPTH: usize = 16;

/// Most words of a key that a kernel can still write out: with one more, `/proc/bootconfig` ends
/// before that key (`xbc_node_compose_key_after`), and with it all that Bottlerocket imports.
pub const MAX_PRINTED_DEPTH: usize = MAX_DEPTH - 1;

/// Most braces open at once (`XBC_DEPTH_MAX`; one less in older kernels).
pub const MAX_BRACES: usize = 16;

/// Most arguments to init before the kernel panics (`MAX_INIT_ARGS` in `init/main.c`, of which
/// one is init's own name).
pub const MAX_INIT_ARGUMENTS: usize = 31;

/// Arguments to init that Bottlerocket's `grub.cfg` has already (twoliter `rpm2img`:
/// `systemd.log_target`, `systemd.log_color`, `systemd.show_status`).
pub const SHIPPED_INIT_ARGUMENTS: usize = 3;
