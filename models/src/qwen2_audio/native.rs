//! What `models/native` holds: work in bfloat16 on the processor that libtorch does slowly, and what tch has no binding for.
//!
//! Linear layers are oneDNN's, by the operators that torch.compile uses: their weights are laid out once, as the processor's
//! matrix unit wants them, and not at every call, which costs more than the product where few tokens are read.

#![allow(unsafe_code, reason = "calls C++")]

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};

use tch::{Device, Kind, TchError, Tensor};

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
    fn tidemark_attend(
        query: *const c_void,
        cache: *const c_void,
        places: *const i64,
        lengths: *const i64,
        error: *mut *mut c_char,
    ) -> *mut c_void;
    fn tidemark_rms_norm(x: *const c_void, weight: *const c_void, eps: f64, error: *mut *mut c_char) -> *mut c_void;
    fn tidemark_cuda_memory(free: *mut i64, total: *mut i64, error: *mut *mut c_char);
}

/// Whether such tensors are worked on here.
pub(super) fn takes(device: Device, kind: Kind) -> bool {
    (device, kind) == (Device::Cpu, Kind::BFloat16)
}

/// Whether this tensor is: nothing here knows gradients.
pub(super) fn is_taken(tensor: &Tensor) -> bool {
    takes(tensor.device(), tensor.kind()) && !tensor.requires_grad()
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

/// Attention of one token a row: `query` (rows, heads, dim) over the cache's tokens (places, 2 · key heads, dim) from each
/// row's first place on, as many as each has: (rows, heads · dim).
///
/// # Panics
/// Where a row's places are not in the cache, or the tensors are not what is said here.
pub(super) fn attend(query: &Tensor, cache: &Tensor, places: &[i64], lengths: &[i64]) -> Result<Tensor, TchError> {
    let ((rows, heads, dim), (most, twice, width)) = (query.size3()?, cache.size3()?);
    assert!(is_taken(query) && is_taken(cache) && cache.is_contiguous(), "bfloat16 on the processor");
    assert!(dim == width && twice >= 2 && heads % (twice / 2) == 0, "the heads fit together");
    assert!(places.len() as i64 == rows && lengths.len() as i64 == rows, "each row has its place");
    let is_there = |(&place, &length): (&i64, &i64)| place >= 0 && length > 0 && place + length <= most;
    assert!(places.iter().zip(lengths).all(is_there), "what is read is in the cache");
    let (query, cache) = (pointer(Some(query)), pointer(Some(cache)));
    // SAFETY: by the assertions, nothing is read but what the tensors and slices hold; they outlive the call.
    owned(|error| unsafe { tidemark_attend(query, cache, places.as_ptr(), lengths.as_ptr(), error) })
}

/// RMSNorm of `x` (…, width) by `weight` (width).
///
/// # Panics
/// Where the tensors are not what is said here.
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor, TchError> {
    assert!(is_taken(x) && is_taken(weight) && weight.is_contiguous(), "bfloat16 on the processor");
    assert!(weight.dim() == 1 && x.size().last() == Some(&weight.size()[0]), "the weight is as wide as the tensor");
    // SAFETY: by the assertions, nothing is read but what the tensors hold; they outlive the call.
    owned(|error| unsafe { tidemark_rms_norm(pointer(Some(x)), pointer(Some(weight)), eps, error) })
}

/// Bytes of the first CUDA device's memory that nobody has taken, and all of them. What libtorch keeps for reuse counts as taken.
///
/// # Errors
/// [`TchError::Torch`] where there is none.
pub fn cuda_memory() -> Result<(usize, usize), TchError> {
    let (mut free, mut total, mut error) = (0, 0, null_mut());
    // SAFETY: what is written to outlives the call.
    unsafe { tidemark_cuda_memory(&raw mut free, &raw mut total, &raw mut error) };
    if error.is_null() { Ok((free.try_into().unwrap_or(0), total.try_into().unwrap_or(0))) } else { Err(said(error)) }
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
    Err(said(error))
}

/// The error that a call wrote.
fn said(error: *mut c_char) -> TchError {
    // SAFETY: an error is a text that ends in 0, and is the caller's to free.
    let message = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: as above; it was made by `strdup`.
    unsafe { libc::free(error.cast()) };
    TchError::Torch(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_attends_to_its_own_tokens_as_in_float32(
            (key_heads, queries, dim) in (1i64..4, 1i64..4, prop::sample::select(vec![8i64, 20, 64, 128])),
            rows in prop::collection::vec((0i64..20, 1i64..150), 1..5), seed: u32,
        ) {
            tch::manual_seed(i64::from(seed));
            let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(Kind::BFloat16);
            let (cache, query) = (random(&[200, 2 * key_heads, dim]), random(&[rows.len() as i64, key_heads * queries, dim]));
            let (places, lengths): (Vec<i64>, Vec<i64>) = rows.into_iter().unzip();
            let found = attend(&query, &cache, &places, &lengths).expect("runs");
            for (n, (&place, &length)) in (0..).zip(places.iter().zip(&lengths)) {
                let seen = cache.narrow(0, place, length).to_kind(Kind::Float).transpose(0, 1);
                let each = |of: Tensor| of.repeat_interleave_self_int(queries, 0, None);
                let (keys, values) = (each(seen.narrow(0, 0, key_heads)), each(seen.narrow(0, key_heads, key_heads)));
                let scores = query.get(n).to_kind(Kind::Float).unsqueeze(1).matmul(&keys.transpose(1, 2)) / (dim as f64).sqrt();
                let expected = scores.softmax(-1, Kind::Float).matmul(&values).view([-1]);
                let error = (found.get(n).to_kind(Kind::Float) - expected).abs().max().double_value(&[]);
                prop_assert!(error < 0.02, "row {}: {}", n, error);
            }
        }
    }

    #[test]
    fn a_device_says_what_memory_is_free_and_where_there_is_none_that_is_an_error() {
        match cuda_memory() {
            Ok((free, total)) => assert!(tch::Cuda::is_available() && 0 < free && free <= total, "{free} of {total}"),
            Err(error) => assert!(!tch::Cuda::is_available(), "{error}"),
        }
    }

    #[test]
    #[should_panic(expected = "what is read is in the cache")]
    fn a_row_that_reaches_past_the_cache_is_not_read() {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::BFloat16, Device::Cpu));
        drop(attend(&zeros(&[1, 2, 8]), &zeros(&[10, 4, 8]), &[5], &[6]));
    }
}
