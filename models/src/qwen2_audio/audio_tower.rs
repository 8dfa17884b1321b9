//! The encoder of sound: Whisper's, with a pooling before the last norm (QWEN2_AUDIO.md section 2).
//!
//! It runs on the frames that hold sound, not on the 30 s that the reference pads to: padding is masked there, so it
//! changes nothing, and 3 s of sound need a twelfth of the work.

use tch::{Device, Kind, TchError, Tensor};

use super::Mel;
use super::config::{AudioConfig, Config};
use super::layers::{LayerNorm, Loader, additive_mask};
use super::linear::Linear;
use crate::ModelError;

/// The encoder's weights.
#[derive(Debug)]
pub(crate) struct AudioTower {
    conv1: (Tensor, Tensor),
    conv2: (Tensor, Tensor),
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    config: AudioConfig,
    device: Device,
    kind: Kind,
}

#[derive(Debug)]
struct Layer {
    attention_norm: LayerNorm,
    qkv: Linear,
    out: Linear,
    final_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

/// Clips on their way through the layers.
#[derive(Debug)]
pub(crate) struct Encoding {
    x: Tensor,
    mask: Option<Tensor>,
    layer: usize,
    frames: Vec<usize>,
}

/// Positions after the convolutions for that many mel frames.
fn positions(frames: usize) -> usize {
    frames.div_ceil(2)
}

impl AudioTower {
    pub(crate) fn load(loader: &Loader<'_>, config: &Config) -> Result<Self, ModelError> {
        let conv = |name: &str| -> Result<(Tensor, Tensor), ModelError> {
            let part = |part: &str| loader.tensor(&format!("audio_tower.{name}.{part}"));
            Ok((part("weight")?, part("bias")?))
        };
        let layer = |n: usize| -> Result<Layer, ModelError> {
            let name = |part: &str| format!("audio_tower.layers.{n}.{part}");
            Ok(Layer {
                attention_norm: loader.layer_norm(&name("self_attn_layer_norm"))?,
                qkv: loader.fused(&["q_proj", "k_proj", "v_proj"].map(|part| name(&format!("self_attn.{part}"))))?,
                out: loader.linear(&name("self_attn.out_proj"))?,
                final_norm: loader.layer_norm(&name("final_layer_norm"))?,
                fc1: loader.linear(&name("fc1"))?,
                fc2: loader.linear(&name("fc2"))?,
            })
        };
        Ok(Self {
            conv1: conv("conv1")?,
            conv2: conv("conv2")?,
            positions: loader.tensor("audio_tower.embed_positions.weight")?,
            layers: (0..config.audio_config.encoder_layers).map(layer).collect::<Result<_, _>>()?,
            norm: loader.layer_norm("audio_tower.layer_norm")?,
            config: config.audio_config.clone(),
            device: loader.device,
            kind: loader.kind,
        })
    }

    /// How many tokens of the prompt the clip becomes: one for 40 ms.
    ///
    /// # Errors
    /// [`ModelError::Request`] for a clip too short for one token, too long, or of other mel bands than the encoder's.
    pub(crate) fn audio_tokens(&self, clip: &Mel) -> Result<usize, ModelError> {
        let (bins, longest) = (self.config.num_mel_bins, 2 * self.config.max_source_positions);
        let needed = (2 * positions(clip.frames) + 1).min(longest);
        if clip.bins != bins || clip.data.len() != clip.bins * clip.columns {
            let (found, columns, numbers) = (clip.bins, clip.columns, clip.data.len());
            let reason = format!("{numbers} numbers as {found} mel bands of {columns} frames; it takes {bins} bands");
            return Err(ModelError::Request(reason));
        }
        if clip.frames > longest || clip.columns < needed {
            let (frames, columns) = (clip.frames, clip.columns);
            let reason = format!("a clip of {frames} mel frames in {columns} columns; at most {longest} fit");
            return Err(ModelError::Request(reason));
        }
        match (clip.frames + 1) / 4 {
            0 => {
                let reason = format!("a clip of {} mel frames (10 ms each) is too short: 3 are needed", clip.frames);
                Err(ModelError::Request(reason))
            }
            tokens => Ok(tokens),
        }
    }

    /// Encodes clips together: for each, (tokens, d_model). The clips must have passed [`Self::audio_tokens`].
    pub(crate) fn encode(&self, clips: &[&Mel]) -> Result<Vec<Tensor>, TchError> {
        let mut encoding = self.begin(clips)?;
        while !self.advance(&mut encoding)? {}
        self.finish(&encoding)
    }

    /// Begins to encode clips, at least one, together.
    pub(crate) fn begin(&self, clips: &[&Mel]) -> Result<Encoding, TchError> {
        let longest = clips.iter().map(|clip| positions(clip.frames)).max().unwrap_or_default();
        let x = self.convolve(clips, longest)?.f_add(&self.positions.f_narrow(0, 0, longest as i64)?)?;
        let frames = clips.iter().map(|clip| clip.frames).collect();
        Ok(Encoding { x, mask: self.key_mask(clips, longest)?, layer: 0, frames })
    }

    /// Goes one layer on; whether it was the last.
    pub(crate) fn advance(&self, encoding: &mut Encoding) -> Result<bool, TchError> {
        if let Some(layer) = self.layers.get(encoding.layer) {
            let heads = self.config.encoder_attention_heads as i64;
            encoding.x = layer.forward(&encoding.x, encoding.mask.as_ref(), heads)?;
            encoding.layer += 1;
        }
        Ok(encoding.layer >= self.layers.len())
    }

    /// What came of it: for each clip, (tokens, d_model).
    pub(crate) fn finish(&self, encoding: &Encoding) -> Result<Vec<Tensor>, TchError> {
        let pooled = encoding.x.f_transpose(1, 2)?.f_avg_pool1d([2], [2], [0], false, true)?.f_transpose(1, 2)?;
        let encoded = self.norm.forward(&pooled)?;
        let cut = |(row, &frames): (i64, &usize)| encoded.f_select(0, row)?.f_narrow(0, 0, (frames as i64 + 1) / 4);
        (0..).zip(&encoding.frames).map(cut).collect()
    }

    /// (clips, longest, d_model). One column past the last position's reach, so that what lies there counts as in the
    /// reference.
    fn convolve(&self, clips: &[&Mel], longest: usize) -> Result<Tensor, TchError> {
        let bins = self.config.num_mel_bins;
        let columns = (2 * longest + 1).min(2 * self.config.max_source_positions);
        let mut data = vec![0.0f32; clips.len() * bins * columns];
        for (clip, into) in clips.iter().zip(data.chunks_exact_mut(bins * columns)) {
            let taken = clip.columns.min(columns);
            for (from, to) in clip.data.chunks_exact(clip.columns).zip(into.chunks_exact_mut(columns)) {
                to[..taken].copy_from_slice(&from[..taken]);
            }
        }
        let shape = [clips.len() as i64, bins as i64, columns as i64];
        let mel = Tensor::f_from_slice(&data)?.f_view(shape)?.f_to_device(self.device)?.f_to_kind(self.kind)?;
        let conv = |x: &Tensor, (weight, bias): &(Tensor, Tensor), stride: i64| {
            x.f_conv1d(weight, Some(bias), [stride], [1], [1], 1)?.f_gelu("none")
        };
        let x = conv(&conv(&mel, &self.conv1, 1)?, &self.conv2, 2)?;
        x.f_narrow(2, 0, longest as i64)?.f_transpose(1, 2)
    }

    /// (clips, 1, 1, longest), to be added to the scores; `None` where no clip is shorter than another.
    fn key_mask(&self, clips: &[&Mel], longest: usize) -> Result<Option<Tensor>, TchError> {
        let lengths: Vec<i64> = clips.iter().map(|clip| positions(clip.frames) as i64).collect();
        if lengths.iter().all(|&length| length == longest as i64) {
            return Ok(None);
        }
        let lengths = Tensor::f_from_slice(&lengths)?.f_to_device(self.device)?.f_view([-1, 1, 1, 1])?;
        let key = Tensor::f_arange(longest as i64, (Kind::Int64, self.device))?;
        additive_mask(&key.f_ge_tensor(&lengths)?, self.kind).map(Some)
    }
}

impl Layer {
    /// (clips, positions, d) to the same shape.
    fn forward(&self, x: &Tensor, mask: Option<&Tensor>, heads: i64) -> Result<Tensor, TchError> {
        let (clips, length, d) = x.size3()?;
        let qkv = self.qkv.forward(&self.attention_norm.forward(x)?)?;
        let qkv = qkv.f_view([clips, length, 3, heads, d / heads])?.f_permute([2, 0, 3, 1, 4])?;
        let (q, k, v) = (qkv.f_select(0, 0)?, qkv.f_select(0, 1)?, qkv.f_select(0, 2)?);
        let attended = Tensor::f_scaled_dot_product_attention(&q, &k, &v, mask, 0.0, false, None, false)?;
        let attended = attended.f_transpose(1, 2)?.f_reshape([clips, length, d])?;
        let x = self.out.forward_onto(&attended, x)?;
        let inner = self.fc1.forward_gelu(&self.final_norm.forward(&x)?)?;
        self.fc2.forward_onto(&inner, &x)
    }
}
