//! Keys and values of the tokens that a batch has read.

use tch::{Device, Kind, TchError, Tensor};

use super::layers::additive_mask;

/// Positions by which a cache grows: seldom enough that copying it costs little.
const BLOCK: i64 = 128;

/// Keys and values of every layer for a left-padded batch.
#[derive(Debug)]
pub(crate) struct KvCache {
    /// By layer: keys and values, (rows, heads, capacity, head_dim).
    layers: Vec<Option<(Tensor, Tensor)>>,
    /// Positions that are filled.
    len: i64,
    /// (rows,): how many of the first positions of a row are padding.
    padding: Tensor,
    padded: bool,
}

impl KvCache {
    /// An empty cache for rows with so much padding in front.
    pub(crate) fn new(layers: usize, padding: &[i64], device: Device) -> Result<Self, TchError> {
        Ok(Self {
            layers: (0..layers).map(|_| None).collect(),
            len: 0,
            padding: Tensor::f_from_slice(padding)?.f_to_device(device)?,
            padded: padding.iter().any(|&padding| padding > 0),
        })
    }

    /// Adds keys and values (rows, heads, new, head_dim) of a layer, and returns all it has: (rows, heads, len + new,
    /// head_dim) each. [`Self::advance`] follows once every layer has added its own.
    pub(crate) fn append(&mut self, layer: usize, key: &Tensor, value: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        let (rows, heads, new, dim) = key.size4()?;
        let needed = self.len + new;
        let slot = &mut self.layers[layer];
        if slot.as_ref().is_none_or(|(keys, _)| keys.size()[2] < needed) {
            let shape = [rows, heads, (needed + BLOCK - 1) / BLOCK * BLOCK, dim];
            let grown = |old: Option<&Tensor>| {
                let grown = Tensor::f_zeros(shape, (key.kind(), key.device()))?;
                if let Some(old) = old.filter(|_| self.len > 0) {
                    grown.f_narrow(2, 0, self.len)?.f_copy_(&old.f_narrow(2, 0, self.len)?)?;
                }
                Ok::<_, TchError>(grown)
            };
            let old = slot.as_ref();
            *slot = Some((grown(old.map(|pair| &pair.0))?, grown(old.map(|pair| &pair.1))?));
        }
        let (keys, values) = slot.as_ref().ok_or_else(|| TchError::Shape("an empty layer of the cache".into()))?;
        keys.f_narrow(2, self.len, new)?.f_copy_(key)?;
        values.f_narrow(2, self.len, new)?.f_copy_(value)?;
        Ok((keys.f_narrow(2, 0, needed)?, values.f_narrow(2, 0, needed)?))
    }

    /// Counts `new` positions as filled.
    pub(crate) fn advance(&mut self, new: i64) {
        self.len += new;
    }

    /// Positions (rows, new) of the next `new` tokens, from 0 at each row's first real token.
    pub(crate) fn next_positions(&self, new: i64) -> Result<Tensor, TchError> {
        let column = Tensor::f_arange_start(self.len, self.len + new, (Kind::Int64, self.padding.device()))?;
        column.f_unsqueeze(0)?.f_sub(&self.padding.f_unsqueeze(1)?)?.f_clamp_min(0)
    }

    /// What is added to the scores of the next `new` tokens: (rows, 1, new, len + new). A token sees no padding and
    /// nothing after itself. `None` where all is seen.
    pub(crate) fn next_mask(&self, new: i64, kind: Kind) -> Result<Option<Tensor>, TchError> {
        if new == 1 && !self.padded {
            return Ok(None);
        }
        let integers = (Kind::Int64, self.padding.device());
        let key = Tensor::f_arange(self.len + new, integers)?;
        let query = Tensor::f_arange_start(self.len, self.len + new, integers)?.f_view([1, 1, new, 1])?;
        let before = key.f_lt_tensor(&self.padding.f_view([-1, 1, 1, 1])?)?;
        additive_mask(&key.f_gt_tensor(&query)?.f_logical_or(&before)?, kind).map(Some)
    }

    /// Keeps only these rows, in this order.
    pub(crate) fn keep(&mut self, rows: &[i64]) -> Result<(), TchError> {
        let rows = Tensor::f_from_slice(rows)?.f_to_device(self.padding.device())?;
        self.padding = self.padding.f_index_select(0, &rows)?;
        for slot in &mut self.layers {
            // One layer after the other, so that no more than one is held twice.
            if let Some((keys, values)) = slot.take() {
                *slot = Some((keys.f_index_select(0, &rows)?, values.f_index_select(0, &rows)?));
            }
        }
        Ok(())
    }
}
