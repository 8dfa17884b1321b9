//! The language model: Qwen2 with a cache of keys and values (QWEN2_AUDIO.md section 5).

use tch::{Device, Kind, TchError, Tensor};

use super::config::Config;
use super::kv_cache::KvCache;
use super::layers::{Linear, Loader};
use crate::ModelError;

/// The language model's weights.
#[derive(Debug)]
pub(crate) struct LanguageModel {
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
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
    eps: f64,
}

#[derive(Debug)]
struct Layer {
    input_norm: Tensor,
    qkv: Linear,
    out: Linear,
    post_norm: Tensor,
    gate_up: Linear,
    down: Linear,
}

/// Cosine and sine of the angles of each position, (rows, 1, tokens, head_dim).
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
                input_norm: loader.tensor(&name("input_layernorm.weight"))?,
                qkv: loader.fused(&["q_proj", "k_proj", "v_proj"].map(|part| name(&format!("self_attn.{part}"))))?,
                out: loader.linear(&name("self_attn.o_proj"))?,
                post_norm: loader.tensor(&name("post_attention_layernorm.weight"))?,
                gate_up: loader.fused(&["gate_proj", "up_proj"].map(|part| name(&format!("mlp.{part}"))))?,
                down: loader.linear(&name("mlp.down_proj"))?,
            })
        };
        let embedding = loader.tensor("language_model.model.embed_tokens.weight")?;
        // Some tools write a tied head all the same; it has the last word.
        let head = match loader.weights.has("language_model.lm_head.weight") {
            true => loader.linear("language_model.lm_head")?,
            false => Linear { weight: embedding.shallow_clone(), bias: None },
        };
        Ok(Self {
            layers: (0..text.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
            norm: loader.tensor("language_model.model.norm.weight")?,
            head,
            embedding,
            frequencies: frequencies(text.head_dim() as i64, text.rope_theta(), loader.device)?,
            shape: Shape {
                heads: text.num_attention_heads as i64,
                key_heads: text.num_key_value_heads() as i64,
                head_dim: text.head_dim() as i64,
                eps: text.rms_norm_eps,
            },
            device: loader.device,
            kind: loader.kind,
        })
    }

    /// Embeddings (rows, tokens, hidden) of ids (rows, tokens).
    pub(crate) fn embed(&self, ids: &Tensor) -> Result<Tensor, TchError> {
        Tensor::f_embedding(&self.embedding, &ids.f_to_device(self.device)?, -1, false, false)
    }

    /// An empty cache for rows with so much padding in front.
    pub(crate) fn new_cache(&self, padding: &[i64]) -> Result<KvCache, TchError> {
        KvCache::new(self.layers.len(), padding, self.device)
    }

    /// Reads embeddings (rows, tokens, hidden) after what the cache holds, and returns the logits (rows, vocab), in
    /// float32, of the token that follows. Only the last position is put through `lm_head`.
    pub(crate) fn forward(&self, embeddings: Tensor, cache: &mut KvCache) -> Result<Tensor, TchError> {
        let tokens = embeddings.size3()?.1;
        let rotary = self.rotary(&cache.next_positions(tokens)?)?;
        let mask = self.shape.for_groups(cache.next_mask(tokens, self.kind)?, tokens)?;
        let mut x = embeddings;
        for (n, layer) in self.layers.iter().enumerate() {
            let attended = self.shape.attend(n, layer, &x, &rotary, mask.as_ref(), cache)?;
            x = x.f_add(&attended)?;
            let gate_up = layer.gate_up.forward(&self.shape.norm(&x, &layer.post_norm)?)?.f_chunk(2, -1)?;
            x = x.f_add(&layer.down.forward(&gate_up[0].f_silu()?.f_mul(&gate_up[1])?)?)?;
        }
        cache.advance(tokens);
        let last = self.shape.norm(&x.f_narrow(1, tokens - 1, 1)?, &self.norm)?;
        self.head.forward(&last.f_squeeze_dim(1)?)?.f_to_kind(Kind::Float)
    }

    /// Rounds the rotary frequencies to `kind`, which the reference does where a whole model is cast to it.
    pub(crate) fn round_frequencies(&mut self, kind: Kind) -> Result<(), TchError> {
        self.frequencies = self.frequencies.f_to_kind(kind)?.f_to_kind(Kind::Float)?;
        Ok(())
    }

    /// The angles of positions (rows, tokens), in float32 and then rounded to the kind of the rest.
    fn rotary(&self, positions: &Tensor) -> Result<Rotary, TchError> {
        let half = positions.f_to_kind(Kind::Float)?.f_unsqueeze(-1)?.f_mul(&self.frequencies)?;
        let angle = Tensor::f_cat(&[&half, &half], -1)?.f_unsqueeze(1)?;
        Ok(Rotary { cos: angle.f_cos()?.f_to_kind(self.kind)?, sin: angle.f_sin()?.f_to_kind(self.kind)? })
    }
}

/// `theta` to the powers 0, -2/dim, -4/dim, …
fn frequencies(dim: i64, theta: f64, device: Device) -> Result<Tensor, TchError> {
    let exponent = Tensor::f_arange_start_step(0, dim, 2, (Kind::Float, device))?.f_div_scalar(dim as f64)?;
    Tensor::f_pow_scalar(theta, &exponent)?.f_reciprocal()
}

impl Shape {
    /// RMSNorm; libtorch's computes in float32 whatever the kind.
    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor, TchError> {
        x.f_rms_norm(weight.size(), Some(weight), self.eps)
    }

    /// The mask for queries laid out as in [`Self::attend`]: the query heads that share a key head behind each other.
    fn for_groups(&self, mask: Option<Tensor>, tokens: i64) -> Result<Option<Tensor>, TchError> {
        let groups = self.heads / self.key_heads;
        match mask {
            // One token: the mask's single row is that of every head.
            Some(mask) if groups > 1 && tokens > 1 => mask.f_repeat([1, 1, groups, 1]).map(Some),
            mask => Ok(mask),
        }
    }

    /// Self-attention of layer `n` over `x` (rows, tokens, hidden) and what the cache holds.
    fn attend(
        &self,
        n: usize,
        layer: &Layer,
        x: &Tensor,
        rotary: &Rotary,
        mask: Option<&Tensor>,
        cache: &mut KvCache,
    ) -> Result<Tensor, TchError> {
        let &Self { heads, key_heads, head_dim, .. } = self;
        let (rows, tokens, _) = x.size3()?;
        let qkv = layer.qkv.forward(&self.norm(x, &layer.input_norm)?)?;
        let qkv = qkv.f_view([rows, tokens, heads + 2 * key_heads, head_dim])?.f_transpose(1, 2)?;
        let turned = rotary.turn(&qkv.f_narrow(1, 0, heads + key_heads)?)?;
        let query = turned.f_narrow(1, 0, heads)?;
        let value = qkv.f_narrow(1, heads + key_heads, key_heads)?;
        let (keys, values) = cache.append(n, &turned.f_narrow(1, heads, key_heads)?, &value)?;
        // The query heads of a group are taken as further queries of their key head, so no key is copied.
        let query = query.f_reshape([rows, key_heads, heads / key_heads * tokens, head_dim])?;
        let attended = Tensor::f_scaled_dot_product_attention(&query, &keys, &values, mask, 0.0, false, None, false)?;
        let attended = attended.f_reshape([rows, heads, tokens, head_dim])?.f_transpose(1, 2)?;
        layer.out.forward(&attended.f_reshape([rows, tokens, heads * head_dim])?)
    }
}

impl Rotary {
    /// Turns (rows, heads, tokens, head_dim), the first half of a head against its second.
    fn turn(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let halves = x.f_chunk(2, -1)?;
        let turned = Tensor::f_cat(&[&halves[1].f_neg()?, &halves[0]], -1)?;
        x.f_mul(&self.cos)?.f_add(&turned.f_mul(&self.sin)?)
    }
}
