//! How this process allocates.

/// Has all threads allocate from one arena. Each would get its own otherwise, and keep for itself
/// what it frees: 8 MiB of the 64 that an install may take, for nothing that could be measured
/// (see docs/sizes.md).
pub fn share_one_arena() {
    // SAFETY: mallopt only sets a number, and no other thread runs yet.
    #[allow(unsafe_code)]
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
