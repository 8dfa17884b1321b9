//! Heads that begin by looking at fixed distances in time.
//!
//! An encoder that begins with random attention finds rhythm late: nothing tells it to compare a moment with the one a beat
//! before. Sinusoidal positions turn by a fixed angle from one place to another, so a head whose queries are turned
//! positions and whose keys are positions looks that far; such heads make of the first layers a dilated convolution,
//! which training then bends as it likes.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor};

use crate::qwen2_audio::Config;

/// The distances of the first heads of each layer, in positions of 20 ms: first the neighbourhood of an onset, then what may
/// be a beat, to either side, then two beats and a bar.
const DISTANCES: [[i64; 10]; 5] = [
    [-1, 1, -2, 2, -4, 4, -6, 6, -9, 9],
    [-12, 12, -15, 15, -18, 18, -21, 21, -3, 3],
    [-24, 24, -28, 28, -32, 32, -37, 37, -10, 10],
    [-42, 42, -48, 48, -55, 55, -63, 63, -20, 20],
    [-72, 72, -84, 84, -96, 96, -110, 110, -40, 40],
];
/// How strongly they look there: enough for it to last while what is heard grows beside the positions.
const STRENGTH: f64 = 3.0;

/// Sets queries and keys of the first heads of each encoder layer. At least two heads a layer stay as they were drawn.
pub(super) fn point_heads(tensors: &mut BTreeMap<String, Tensor>, config: &Config) -> Result<(), TchError> {
    let audio = &config.audio_config;
    let (d, heads) = (audio.d_model as i64, audio.encoder_attention_heads as i64);
    let (dim, half) = (d / heads, d / 2);
    let step = 10_000f64.ln() / (half - 1).max(1) as f64;
    for (layer, distances) in (0..audio.encoder_layers).zip(DISTANCES.iter().cycle()) {
        for (head, &distance) in (0..heads - 2).zip(distances) {
            let mut query = vec![0f32; (dim * d) as usize];
            let mut key = query.clone();
            for pair in 0..dim / 2 {
                // From the fastest wave down to one that turns once in about two seconds.
                let wave = (pair * half * 45 / 100) / (dim / 2);
                let turn = (-step * wave as f64).exp() * distance as f64;
                let (sin, cos) = (turn.sin() * STRENGTH, turn.cos() * STRENGTH);
                let mut set = |row: i64, column: i64, of_query: f64, of_key: f64| {
                    query[(row * d + column) as usize] = of_query as f32;
                    key[(row * d + column) as usize] = of_key as f32;
                };
                // The query at t holds the wave at t + distance: sin(a + b), cos(a + b).
                set(2 * pair, wave, cos, STRENGTH);
                set(2 * pair, half + wave, sin, 0.0);
                set(2 * pair + 1, half + wave, cos, STRENGTH);
                set(2 * pair + 1, wave, -sin, 0.0);
            }
            for (part, values) in [("q_proj", query), ("k_proj", key)] {
                let name = format!("audio_tower.layers.{layer}.self_attn.{part}.weight");
                let Some(weight) = tensors.get(&name) else { continue };
                let rows = Tensor::f_from_slice(&values)?.f_view([dim, d])?.f_to_kind(Kind::Float)?;
                weight.f_narrow(0, head * dim, dim)?.f_copy_(&rows)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::init::normal;
    use super::super::init::{fresh, tests::nano};
    use super::super::variables::POSITIONS;
    use super::*;

    /// As after some training: what is heard has grown to three times what Whisper's positions are.
    #[test]
    fn a_pointed_head_still_looks_there_when_what_is_heard_has_grown() {
        let config = nano();
        let mut rng = fastrand::Rng::with_seed(1);
        let tensors = fresh(&config, &mut rng).expect("weights");
        let (d, places) = (config.audio_config.d_model as i64, 200);
        let dim = d / config.audio_config.encoder_attention_heads as i64;
        let x = tensors[POSITIONS].narrow(0, 0, places) + normal(&[places, d], 2.0, &mut rng).expect("drawn");
        let x = x.layer_norm([d], None::<&Tensor>, None::<&Tensor>, 1e-5, false);
        let head = |part: &str, head: i64| {
            x.matmul(&tensors[&format!("audio_tower.layers.0.self_attn.{part}.weight")].narrow(0, head * dim, dim).tr())
        };
        for (n, &distance) in (0..).zip(&DISTANCES[0]) {
            let looks =
                (head("q_proj", n).matmul(&head("k_proj", n).tr()) / (dim as f64).sqrt()).softmax(-1, Kind::Float);
            let there = |place: i64| looks.select(0, place).narrow(0, place + distance - 1, 3).sum(Kind::Float);
            let share = (20..180).map(|place| there(place).double_value(&[])).sum::<f64>() / 160.0;
            assert!(share > 0.5, "head {n} looks {distance} away with {share} of itself");
        }
    }

    #[test]
    fn a_pointed_head_looks_as_far_as_it_was_told_to() {
        let config = nano();
        let tensors = fresh(&config, &mut fastrand::Rng::with_seed(1)).expect("weights");
        let positions = tensors[POSITIONS].narrow(0, 0, 500);
        let dim = (config.audio_config.d_model / config.audio_config.encoder_attention_heads) as i64;
        for (layer, distances) in DISTANCES.iter().enumerate() {
            let head = |part: &str, head: i64| {
                let weight = &tensors[&format!("audio_tower.layers.{layer}.self_attn.{part}.weight")];
                positions.matmul(&weight.narrow(0, head * dim, dim).tr())
            };
            for (n, distance) in (0..).zip(distances) {
                let scores = head("q_proj", n).matmul(&head("k_proj", n).tr());
                let place = scores.select(0, 250).argmax(0, false).int64_value(&[]);
                assert_eq!(place - 250, *distance, "head {n} of layer {layer}");
            }
        }
    }
}
