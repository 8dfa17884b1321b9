//! The language model: Qwen2 with a cache of keys and values (QWEN2_AUDIO.md section 5).

use tch::{Device, Kind, TchError, Tensor};

use super::config::Config;
use super::kv_cache::{KvCache, Reading, Span};
use super::layers::{Loader, RmsNorm};
use super::linear::Linear;
use crate::ModelError;

/// The language model's weights.
#[derive(Debug)]
pub(crate) struct LanguageModel {
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
    /// (head_dim / 2,), float32: the angle that a head's pair turns by from one position to the next.
    frequencies: Tensor,
    shape: Shape,
    device: Device,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    heads: i64,
    key_heads: i64,
    head_dim: i64,
}

#[derive(Debug)]
struct Layer {
    input_norm: RmsNorm,
    qkv: Linear,
    out: Linear,
    post_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// Cosine and sine of the angles of each position, (tokens, 1, head_dim); the first half of the sines is negative, as it turns
/// the other way.
struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

impl LanguageModel {
    pub(crate) fn load(loader: &Loader<'_>, config: &Config) -> Result<Self, ModelError> {
        let text = &config.text_config;
        let layer = |n: usize| -> Result<Layer, ModelError> {
            let name = |part: &str| format!("language_model.model.layers.{n}.{part}");
            Ok(Layer {
                input_norm: loader.rms_norm(&name("input_layernorm"), text.rms_norm_eps)?,
                qkv: loader.fused(&["q_proj", "k_proj", "v_proj"].map(|part| name(&format!("self_attn.{part}"))))?,
                out: loader.linear(&name("self_attn.o_proj"))?,
                post_norm: loader.rms_norm(&name("post_attention_layernorm"), text.rms_norm_eps)?,
                gate: loader.linear(&name("mlp.gate_proj"))?,
                up: loader.linear(&name("mlp.up_proj"))?,
                down: loader.linear(&name("mlp.down_proj"))?,
            })
        };
        let embedding = loader.tensor("language_model.model.embed_tokens.weight")?;
        // Some tools write a tied head all the same; it has the last word.
        let head = match loader.weights.has("language_model.lm_head.weight") {
            true => loader.linear("language_model.lm_head")?,
            false => loader.made(embedding.shallow_clone(), None),
        };
        Ok(Self {
            layers: (0..text.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
            norm: loader.rms_norm("language_model.model.norm", text.rms_norm_eps)?,
            head,
            embedding,
            frequencies: frequencies(text.head_dim() as i64, text.rope_theta(), loader.device)?,
            shape: Shape {
                heads: text.num_attention_heads as i64,
                key_heads: text.num_key_value_heads() as i64,
                head_dim: text.head_dim() as i64,
            },
            device: loader.device,
            kind: loader.kind,
        })
    }

    /// Where it runs.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// Embeddings (tokens, hidden) of ids.
    pub(crate) fn embed(&self, ids: &[u32]) -> Result<Tensor, TchError> {
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let ids = Tensor::f_from_slice(&ids)?.f_to_device(self.device)?;
        Tensor::f_embedding(&self.embedding, &ids, -1, false, false)
    }

    /// An empty cache of so many places.
    pub(crate) fn new_cache(&self, places: usize) -> Result<KvCache, TchError> {
        let Shape { key_heads, head_dim, .. } = self.shape;
        KvCache::new(self.layers.len(), places, (key_heads, head_dim), (self.kind, self.device))
    }

    /// Reads embeddings (tokens, hidden): the new tokens of rows, one row behind the other, each behind what the cache
    /// holds of it. Returns the logits (asked, vocab), in float32, behind the tokens asked for, which are numbered through
    /// all rows. The cache may be asked again for the same tokens: they are written to the same places.
    pub(crate) fn forward(
        &self,
        embeddings: Tensor,
        spans: &[Span],
        cache: &mut KvCache,
        asked: &[i64],
    ) -> Result<Tensor, TchError> {
        let Shape { heads, key_heads, .. } = self.shape;
        let reading = Reading::new(spans, heads / key_heads, (self.kind, self.device))?;
        let rotary = self.rotary(&reading.positions)?;
        // Before the layers: a copy to a GPU waits for all that was asked of it.
        let asked = Tensor::f_from_slice(asked)?.f_to_device(self.device)?;
        let mut x = embeddings;
        for (n, layer) in self.layers.iter().enumerate() {
            x = layer.out.forward_onto(&self.shape.attend(n, layer, &x, (&rotary, &reading), cache)?, &x)?;
            let normed = layer.post_norm.forward(&x)?;
            let inner = layer.up.forward_times(&normed, &layer.gate.forward_silu(&normed)?)?;
            x = layer.down.forward_onto(&inner, &x)?;
        }
        let last = self.norm.forward(&x.f_index_select(0, &asked)?)?;
        self.head.forward(&last)?.f_to_kind(Kind::Float)
    }

    /// Rounds the rotary frequencies to `kind`, which the reference does where a whole model is cast to it.
    pub(crate) fn round_frequencies(&mut self, kind: Kind) -> Result<(), TchError> {
        self.frequencies = self.frequencies.f_to_kind(kind)?.f_to_kind(Kind::Float)?;
        Ok(())
    }

    /// The angles of positions (tokens,), in float32 and then rounded to the kind of the rest.
    fn rotary(&self, positions: &Tensor) -> Result<Rotary, TchError> {
        let half = positions.f_to_kind(Kind::Float)?.f_unsqueeze(-1)?.f_mul(&self.frequencies)?;
        let both =
            |first: &Tensor, second: &Tensor| Tensor::f_cat(&[first, second], -1)?.f_unsqueeze(1)?.f_to_kind(self.kind);
        let (cos, sin) = (half.f_cos()?, half.f_sin()?);
        Ok(Rotary { cos: both(&cos, &cos)?, sin: both(&sin.f_neg()?, &sin)? })
    }
}

/// `theta` to the powers 0, -2/dim, -4/dim, …
fn frequencies(dim: i64, theta: f64, device: Device) -> Result<Tensor, TchError> {
    let exponent = Tensor::f_arange_start_step(0, dim, 2, (Kind::Float, device))?.f_div_scalar(dim as f64)?;
    Tensor::f_pow_scalar(theta, &exponent)?.f_reciprocal()
}

impl Shape {
    /// What the heads of layer `n` attend to, of `x` (tokens, hidden) and what the cache holds: (tokens, heads · head_dim).
    fn attend(
        &self,
        n: usize,
        layer: &Layer,
        x: &Tensor,
        (rotary, reading): (&Rotary, &Reading),
        cache: &mut KvCache,
    ) -> Result<Tensor, TchError> {
        let &Self { heads, key_heads, head_dim, .. } = self;
        let qkv = layer.qkv.forward(&layer.input_norm.forward(x)?)?;
        let qkv = qkv.f_view([-1, heads + 2 * key_heads, head_dim])?;
        let turned = rotary.turn(&qkv.f_narrow(1, 0, heads + key_heads)?)?;
        let (keys, values) = (turned.f_narrow(1, heads, key_heads)?, qkv.f_narrow(1, heads + key_heads, key_heads)?);
        reading.write(cache, n, &keys, &values)?;
        reading.attend(cache, n, &turned.f_narrow(1, 0, heads)?)
    }
}

impl Rotary {
    /// Turns (tokens, heads, head_dim), the first half of a head against its second.
    fn turn(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let half = x.size().last().map_or(0, |dim| dim / 2);
        let turned = x.f_mul(&self.cos)?;
        // Onto parts of the result: a pass over so many numbers costs as much as a product.
        for (into, from) in [(0, half), (half, 0)] {
            let part = |of: &Tensor, at: i64| of.f_narrow(-1, at, half);
            drop(part(&turned, into)?.f_addcmul_(&part(x, from)?, &part(&self.sin, into)?)?);
        }
        Ok(turned)
    }
}
