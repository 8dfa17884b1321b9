//! Linear layers of oneDNN, whose bfloat16 weights are laid out once, as the processor's matrix unit wants them.
//!
//! libtorch's own `linear` lays them out at every call, which costs more than the product where few tokens are read. The
//! operators are those that its compiler (torch.compile) uses on a processor; tch has no binding for them.

#![allow(unsafe_code, reason = "calls C++ that tch does not bind")]

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};

use tch::{TchError, Tensor};

unsafe extern "C" {
    fn tidemark_pack(weight: *const c_void, rows: i64, error: *mut *mut c_char) -> *mut c_void;
    fn tidemark_linear(
        x: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        then: *const c_char,
        error: *mut *mut c_char,
    ) -> *mut c_void;
    fn tidemark_linear_with(
        x: *const c_void,
        other: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        then: *const c_char,
        error: *mut *mut c_char,
    ) -> *mut c_void;
}

/// Rows of a product that the layout is chosen for; it serves any number of them, and measured alike from 1 to 512.
const ROWS: i64 = 256;

/// A weight (out, in) as oneDNN laid it out.
#[derive(Debug)]
pub(super) struct Packed(Tensor);

impl Packed {
    /// Lays out a bfloat16 weight (out, in) on the processor.
    ///
    /// # Errors
    /// [`TchError::Torch`] where libtorch has no oneDNN or the processor no bfloat16.
    pub(super) fn new(weight: &Tensor) -> Result<Self, TchError> {
        // SAFETY: the weight outlives the call, and what comes back is the caller's.
        owned(|error| unsafe { tidemark_pack(pointer(Some(weight)), ROWS, error) }).map(Self)
    }

    /// `then(x · weightᵀ + bias)` for one of oneDNN's functions: "none", "gelu", "swish".
    pub(super) fn forward(&self, x: &Tensor, bias: Option<&Tensor>, then: &CStr) -> Result<Tensor, TchError> {
        // SAFETY: all tensors and the text outlive the call, and what comes back is the caller's.
        owned(|error| unsafe {
            tidemark_linear(pointer(Some(x)), pointer(Some(&self.0)), pointer(bias), then.as_ptr(), error)
        })
    }

    /// `(x · weightᵀ + bias) then other` for one of oneDNN's operators: "add", "mul".
    pub(super) fn forward_with(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        then: &CStr,
        other: &Tensor,
    ) -> Result<Tensor, TchError> {
        let (x, other, weight) = (pointer(Some(x)), pointer(Some(other)), pointer(Some(&self.0)));
        // SAFETY: all tensors and the text outlive the call, and what comes back is the caller's.
        owned(|error| unsafe { tidemark_linear_with(x, other, weight, pointer(bias), then.as_ptr(), error) })
    }
}

fn pointer(tensor: Option<&Tensor>) -> *const c_void {
    tensor.map_or(null(), |tensor| tensor.as_ptr().cast())
}

/// The tensor that a call gives, or the error that it wrote.
fn owned(call: impl FnOnce(*mut *mut c_char) -> *mut c_void) -> Result<Tensor, TchError> {
    let mut error = null_mut();
    let tensor = call(&raw mut error);
    if error.is_null() {
        // SAFETY: without an error the call gives a tensor that nobody else owns.
        return Ok(unsafe { Tensor::from_ptr(tensor.cast()) });
    }
    // SAFETY: an error is a text that ends in 0, and is the caller's to free.
    let message = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: as above; it was made by `strdup`.
    unsafe { libc::free(error.cast()) };
    Err(TchError::Torch(message))
}
