//! Keys and values of all rows: one long line of token places for each layer, of which a row has a slot.
//!
//! Rows come and go without a copy, since a row's places are its own; rows in slots of one size side by side are read as
//! one tensor.

use std::ops::Range;

use tch::{Device, Kind, TchError, Tensor};

use super::layers::additive_mask;
use super::native;

/// New tokens of one row, behind those that it holds already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The row's places.
    pub(crate) slot: Range<usize>,
    /// How many of them are filled.
    pub(crate) held: usize,
    /// How many tokens are new.
    pub(crate) new: usize,
}

/// Keys and values by layer.
#[derive(Debug)]
pub(crate) struct KvCache {
    /// (places, 2 · key heads, head_dim): a token's keys, then its values.
    layers: Vec<Tensor>,
    key_heads: i64,
    /// Places from here on hold whatever memory held.
    untouched: usize,
}

impl KvCache {
    /// So many places in each layer; their memory is touched when they are first used.
    pub(crate) fn new(
        layers: usize,
        places: usize,
        (key_heads, head_dim): (i64, i64),
        options: (Kind, Device),
    ) -> Result<Self, TchError> {
        let layer = |_| Tensor::f_empty([places as i64, 2 * key_heads, head_dim], options);
        Ok(Self { layers: (0..layers).map(layer).collect::<Result<_, _>>()?, key_heads, untouched: 0 })
    }

    /// Makes a slot fit to be read. What a masked place holds is multiplied by 0, so it must be a number.
    pub(crate) fn ready(&mut self, slot: &Range<usize>) -> Result<(), TchError> {
        if slot.end > self.untouched {
            self.wipe(&(self.untouched..slot.end))?;
            self.untouched = slot.end;
        }
        Ok(())
    }

    /// Sets places to 0.
    pub(crate) fn wipe(&self, places: &Range<usize>) -> Result<(), TchError> {
        self.layers.iter().try_for_each(|layer| part(layer, places)?.f_zero_().map(|_| ()))
    }

    /// Copies the first `tokens` of one slot to another.
    pub(crate) fn copy(&self, from: &Range<usize>, to: &Range<usize>, tokens: usize) -> Result<(), TchError> {
        let first = |slot: &Range<usize>| slot.start..slot.start + tokens;
        let copy = |layer: &Tensor| part(layer, &first(to))?.f_copy_(&part(layer, &first(from))?);
        self.layers.iter().try_for_each(copy)
    }

    /// Keys and values of a layer, (rows, key heads, len, head_dim) each, of `rows` slots of one size, the first of which
    /// is `slot`.
    fn read(
        &self,
        layer: usize,
        slot: &Range<usize>,
        (rows, len): (usize, usize),
    ) -> Result<(Tensor, Tensor), TchError> {
        let (_, heads, dim) = self.layers[layer].size3()?;
        let wide = part(&self.layers[layer], &(slot.start..slot.start + rows * slot.len()))?;
        let wide = wide.f_view([rows as i64, slot.len() as i64, heads, dim])?.f_narrow(1, 0, len as i64)?;
        let wide = wide.f_transpose(1, 2)?;
        Ok((wide.f_narrow(1, 0, self.key_heads)?, wide.f_narrow(1, self.key_heads, self.key_heads)?))
    }
}

fn part(layer: &Tensor, places: &Range<usize>) -> Result<Tensor, TchError> {
    layer.f_narrow(0, places.start as i64, places.len() as i64)
}

/// What a step reads, worked out once for all its layers.
pub(crate) struct Reading {
    spans: Vec<Span>,
    /// How many of the spans, the first ones, have one token.
    singles: usize,
    /// (singles,): the places of their tokens.
    places: Tensor,
    /// (tokens,): its position in its row.
    pub(crate) positions: Tensor,
    groups: Vec<Group>,
}

/// Rows that attend together.
enum Group {
    /// Rows of one new token each, wherever they lie: their first places, and how many tokens each sees.
    Single { places: Vec<i64>, lengths: Vec<i64> },
    /// One row of any number of new tokens, or neighbours of one new token each.
    Padded { slot: Range<usize>, rows: usize, new: usize, longest: usize, mask: Option<Tensor> },
}

impl Reading {
    /// For the new tokens of these rows, in their order; rows of a query head for each key head number `heads_a_key`.
    pub(crate) fn new(spans: &[Span], heads_a_key: i64, (kind, device): (Kind, Device)) -> Result<Self, TchError> {
        let on_device = |numbers: &[i64]| Tensor::f_from_slice(numbers)?.f_to_device(device);
        let positions: Vec<i64> =
            spans.iter().flat_map(|span| span.held..span.held + span.new).map(|n| n as i64).collect();
        let singles = spans.iter().take_while(|span| span.new == 1).count();
        let places: Vec<i64> = spans[..singles].iter().map(|span| (span.slot.start + span.held) as i64).collect();
        let (mut groups, mut rest) = (Vec::new(), spans);
        if singles > 0 && native::takes(device, kind) {
            let (single, others) = spans.split_at(singles);
            let each = |from: fn(&Span) -> usize| single.iter().map(|span| from(span) as i64).collect();
            groups.push(Group::Single { places: each(|span| span.slot.start), lengths: each(|span| span.held + 1) });
            rest = others;
        }
        while let Some(first) = rest.first() {
            let follows = |(before, span): &(&Span, &Span)| {
                (before.new, span.new) == (1, 1)
                    && before.slot.end == span.slot.start
                    && before.slot.len() == span.slot.len()
            };
            let rows = 1 + rest.iter().zip(&rest[1..]).take_while(follows).count();
            let (group, behind) = rest.split_at(rows);
            groups.push(Group::Padded {
                slot: first.slot.clone(),
                rows,
                new: first.new,
                longest: group.iter().map(|span| span.held + span.new).max().unwrap_or_default(),
                mask: mask(group, heads_a_key, (kind, device))?,
            });
            rest = behind;
        }
        let (places, positions) = (on_device(&places)?, on_device(&positions)?);
        Ok(Self { spans: spans.to_vec(), singles, places, positions, groups })
    }

    /// Writes the new tokens' keys and values (tokens, key heads, head_dim) of a layer to their places.
    pub(crate) fn write(
        &self,
        cache: &mut KvCache,
        layer: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<(), TchError> {
        let into = [(0, keys), (cache.key_heads, values)];
        let layer = &cache.layers[layer];
        for (head, new) in into {
            let mut heads = layer.f_narrow(1, head, cache.key_heads)?;
            let mut from = self.singles as i64;
            if from > 0 {
                drop(heads.f_index_copy_(0, &self.places, &new.f_narrow(0, 0, from)?)?);
            }
            // A span's places lie side by side: a plain copy is several times faster than one by index.
            for span in &self.spans[self.singles..] {
                let first = span.slot.start + span.held;
                part(&heads, &(first..first + span.new))?.f_copy_(&new.f_narrow(0, from, span.new as i64)?)?;
                from += span.new as i64;
            }
        }
        Ok(())
    }

    /// What queries (tokens, heads, head_dim) attend to in a layer: (tokens, heads · head_dim).
    pub(crate) fn attend(&self, cache: &KvCache, layer: usize, query: &Tensor) -> Result<Tensor, TchError> {
        let (tokens, heads, dim) = query.size3()?;
        let mut from = 0;
        let mut attend = |group: &Group| {
            let mut next = |tokens| {
                let next = query.f_narrow(0, from, tokens);
                from += tokens;
                next
            };
            match group {
                Group::Single { places, lengths } => {
                    native::attend(&next(places.len() as i64)?, &cache.layers[layer], places, lengths)
                }
                &Group::Padded { ref slot, rows, new, longest, ref mask } => {
                    let (keys, values) = cache.read(layer, slot, (rows, longest))?;
                    let (rows, new) = (rows as i64, new as i64);
                    let query = next(rows * new)?.f_view([rows, new, heads, dim])?.f_transpose(1, 2)?;
                    // The query heads of a key head are taken as further queries of it, so no key is copied.
                    let query = query.f_reshape([rows, cache.key_heads, heads / cache.key_heads * new, dim])?;
                    let (mask, none) = (mask.as_ref(), None::<f64>);
                    let out =
                        Tensor::f_scaled_dot_product_attention(&query, &keys, &values, mask, 0.0, false, none, false)?;
                    out.f_reshape([rows, heads, new, dim])?.f_transpose(1, 2)?.f_reshape([rows * new, heads * dim])
                }
            }
        };
        match self.groups.as_slice() {
            [only] => attend(only),
            groups => {
                Tensor::f_cat(&groups.iter().map(attend).collect::<Result<Vec<_>, _>>()?, 0)?.f_view([tokens, -1])
            }
        }
    }
}

/// What is added to the scores of a group: (rows, 1, queries, longest). A token sees nothing behind itself. `None` where
/// all is seen.
fn mask(group: &[Span], heads_a_key: i64, (kind, device): (Kind, Device)) -> Result<Option<Tensor>, TchError> {
    let lengths = || group.iter().map(|span| span.held + span.new);
    let longest = lengths().max().unwrap_or_default();
    if group.iter().all(|span| span.new == 1) && lengths().all(|length| length == longest) {
        return Ok(None);
    }
    let last: Vec<i64> = group.iter().flat_map(|span| span.held..span.held + span.new).map(|n| n as i64).collect();
    let last = Tensor::f_from_slice(&last)?.f_to_device(device)?.f_view([group.len() as i64, 1, -1, 1])?;
    let key = Tensor::f_arange(longest as i64, (Kind::Int64, device))?;
    let mask = additive_mask(&key.f_gt_tensor(&last)?, kind)?;
    // One token: the mask's single row is that of every head.
    Ok(Some(if heads_a_key > 1 && group[0].new > 1 { mask.f_repeat([1, 1, heads_a_key, 1])? } else { mask }))
}
