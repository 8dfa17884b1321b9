//! How a process ends that has had a model in it.

/// Ends the process at once, without destructors: libtorch's would run into a thread that still computes, for a request
/// that was given back or after a panic elsewhere, and abort. What has to reach a disk or a terminal must have been written
/// before.
#[expect(unsafe_code, reason = "the standard library has no exit that leaves C++'s static destructors out")]
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any number, touches no memory of ours and does not return.
    unsafe { libc::_exit(code) }
}
