//! How a process ends while a model is still at work.

/// Ends the process at once, without destructors: libtorch's would run into the thread that still computes, and abort.
/// What has to reach a disk or a terminal must have been written before.
#[expect(unsafe_code, reason = "the standard library has no exit that leaves C++'s static destructors out")]
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any number, touches no memory of ours and does not return.
    unsafe { libc::_exit(code) }
}
