//! Helper losses: linear heads on the encoder that say what is heard, frame by frame and in the whole clip.
//!
//! They are trained beside the network and left out of what is exported. An encoder under them hears beats and pitches
//! long before the answers alone would have taught it to, and the language model only has to read them.

use std::collections::BTreeMap;

use fastrand::Rng;
use records::Metadata;
use serde_json::Value;
use tch::{Device, Kind, Reduction, TchError, Tensor};

use super::init::normal;
use super::targets;
use super::variables::Variables;
use crate::ModelError;
use crate::schema::MetadataSchema;

/// The heads that a schema asks for: one a field that is a closed value, a set of such or a number, and those of frames.
#[derive(Debug)]
pub(crate) struct Heads {
    fields: Vec<(String, Field)>,
}

#[derive(Debug)]
enum Field {
    /// One of these.
    Class(Vec<Value>),
    /// Some of these.
    Set(Vec<Value>),
    /// A number of this range, in steps of an even ratio.
    Number { least: f64, steps: usize },
}

/// Between a number's steps: half of what a tempo may be off by.
const RATIO: f64 = 1.02;
/// What the names of the heads' variables begin with.
pub(crate) const HELPERS: &str = "helper.";
const FRAMES: &str = "helper.frames";

/// What a clip's heads should say.
pub(crate) struct Target<'a> {
    /// Its answer.
    pub(crate) metadata: &'a Metadata,
    /// By frame, [`targets::WIDTH`] numbers each, where its score is known.
    pub(crate) frames: Option<&'a [f32]>,
}

impl Heads {
    /// The heads for answers of `schema`.
    pub(crate) fn new(schema: &MetadataSchema) -> Self {
        let values = |schema: &Value| schema["enum"].as_array().cloned();
        let field = |of_field: &Value| -> Option<Field> {
            if let Some(values) = values(of_field) {
                return Some(Field::Class(values));
            }
            match of_field["type"].as_str()? {
                "array" => values(&of_field["items"]).map(Field::Set),
                "integer" => {
                    let (least, most) = (of_field["minimum"].as_f64()?.max(1.0), of_field["maximum"].as_f64()?);
                    Some(Field::Number { least, steps: 1 + (most / least).log(RATIO).ceil() as usize })
                }
                _ => None,
            }
        };
        let fields = schema.properties().filter_map(|(name, of_field)| Some((name.clone(), field(of_field)?)));
        Self { fields: fields.collect() }
    }

    /// Adds the heads' weights, drawn from `rng`, for an encoder of width `d` to the variables.
    ///
    /// # Errors
    /// [`ModelError::Torch`].
    pub(crate) fn add_to(&self, variables: &mut Variables, d: usize, rng: &mut Rng) -> Result<(), ModelError> {
        let mut add = |name: &str, width: usize| -> Result<(), ModelError> {
            let weight = normal(&[width as i64, d as i64], 0.5 / (d as f64).sqrt(), rng)?;
            variables.add(format!("{name}.weight"), weight)?;
            variables.add(format!("{name}.bias"), Tensor::f_zeros([width as i64], (Kind::Float, Device::Cpu))?)
        };
        add(FRAMES, targets::WIDTH)?;
        self.fields.iter().try_for_each(|(name, field)| add(&format!("helper.{name}"), field.width()))
    }

    /// What the heads of whole clips answer about clips that were encoded to (tokens, d) each.
    ///
    /// # Errors
    /// [`ModelError::Torch`].
    pub(crate) fn guess(&self, variables: &Variables, encoded: &[Tensor]) -> Result<Vec<Metadata>, ModelError> {
        let (pooled, mut answers) = (pooled(encoded)?, vec![Metadata::new(); encoded.len()]);
        for (name, field) in &self.fields {
            let logits = linear(variables.trained(), &format!("{HELPERS}{name}"), &pooled)?;
            let logits = Vec::<f32>::try_from(logits.f_to_device(Device::Cpu)?.f_contiguous()?.f_view(-1)?)?;
            for (answer, logits) in answers.iter_mut().zip(logits.chunks_exact(field.width())) {
                answer.insert(name.clone(), field.guess(logits));
            }
        }
        Ok(answers)
    }

    /// The losses, by the name of the head and weighted, of clips that were encoded to (tokens, d) each.
    ///
    /// # Errors
    /// [`ModelError::Torch`].
    pub(crate) fn losses(
        &self,
        variables: &Variables,
        encoded: &[Tensor],
        clips: &[Target<'_>],
    ) -> Result<Vec<(String, Tensor)>, ModelError> {
        let mut losses = Vec::new();
        let known: Vec<usize> = (0..clips.len()).filter(|&clip| clips[clip].frames.is_some()).collect();
        if !known.is_empty() {
            let heard: Vec<&Tensor> = known.iter().map(|&clip| &encoded[clip]).collect();
            let frames: Vec<f32> =
                known.iter().flat_map(|&clip| clips[clip].frames.unwrap_or_default()).copied().collect();
            losses.extend(frame_losses(variables.trained(), &Tensor::f_cat(&heard, 0)?, &frames)?);
        }
        let pooled = pooled(encoded)?;
        for (name, field) in &self.fields {
            let logits = linear(variables.trained(), &format!("helper.{name}"), &pooled)?;
            let target: Vec<f32> = clips.iter().flat_map(|clip| field.target(&clip.metadata[name])).collect();
            let target = Tensor::f_from_slice(&target)?.f_view_as(&logits)?.f_to_device(logits.device())?;
            let loss = match field {
                Field::Set(values) => {
                    let each = logits.f_binary_cross_entropy_with_logits(&target, NONE, NONE, Reduction::Mean)?;
                    each.f_mul_scalar(values.len() as f64 / 4.0)?
                }
                Field::Class(_) | Field::Number { .. } => {
                    logits.f_cross_entropy_loss(&target, NONE, Reduction::Mean, -100, 0.0)?
                }
            };
            losses.push((name.clone(), loss));
        }
        Ok(losses)
    }
}

const NONE: Option<&Tensor> = None;

/// The mean over time of clips that were encoded to (tokens, d) each: (clips, d).
fn pooled(encoded: &[Tensor]) -> Result<Tensor, TchError> {
    let mean = |clip: &Tensor| clip.f_mean_dim([0i64].as_slice(), false, Kind::Float);
    Tensor::f_stack(&encoded.iter().map(mean).collect::<Result<Vec<_>, _>>()?, 0)
}

impl Field {
    fn width(&self) -> usize {
        match self {
            Self::Class(values) | Self::Set(values) => values.len(),
            Self::Number { steps, .. } => *steps,
        }
    }

    /// What the head says by its logits: the likeliest value, or all that are likelier than not.
    fn guess(&self, logits: &[f32]) -> Value {
        let likeliest = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or_default();
        match self {
            Self::Class(values) => values[likeliest].clone(),
            Self::Set(values) => {
                values.iter().zip(logits).filter(|(_, logit)| **logit > 0.0).map(|(value, _)| value.clone()).collect()
            }
            Self::Number { least, .. } => ((least * RATIO.powi(likeliest as i32)).round() as u64).into(),
        }
    }

    /// The probabilities that the head should give.
    fn target(&self, value: &Value) -> Vec<f32> {
        match self {
            Self::Class(values) => values.iter().map(|known| f32::from(known == value)).collect(),
            Self::Set(values) => {
                let some = value.as_array().map(Vec::as_slice).unwrap_or_default();
                values.iter().map(|known| f32::from(some.contains(known))).collect()
            }
            Self::Number { least, steps } => {
                // The steps beside the right one are nearly right.
                let place = (value.as_f64().unwrap_or(*least) / least).max(1.0).log(RATIO);
                let near = |step: usize| (-0.5 * (step as f64 - place).powi(2)).exp();
                let total: f64 = (0..*steps).map(near).sum();
                (0..*steps).map(|step| (near(step) / total) as f32).collect()
            }
        }
    }
}

fn linear(trained: &BTreeMap<String, Tensor>, name: &str, x: &Tensor) -> Result<Tensor, TchError> {
    let part = |part: &str| trained.get(&format!("{name}.{part}"));
    let weight = part("weight").ok_or_else(|| TchError::Shape(format!("no head {name}")))?;
    x.f_to_kind(Kind::Float)?.f_linear(weight, part("bias"))
}

/// Of outputs (frames, d) and their targets (frames, [`targets::WIDTH`]).
fn frame_losses(
    trained: &BTreeMap<String, Tensor>,
    heard: &Tensor,
    frames: &[f32],
) -> Result<Vec<(String, Tensor)>, TchError> {
    let logits = linear(trained, FRAMES, heard)?;
    let target = Tensor::f_from_slice(frames)?.f_view_as(&logits)?.f_to_device(logits.device())?;
    let each = logits.f_binary_cross_entropy_with_logits(&target, NONE, NONE, Reduction::None)?;
    let mut from = 0;
    let part = |&(name, width, weight): &(&str, usize, f64)| {
        let loss = each.f_narrow(1, from, width as i64)?.f_mean(Kind::Float)?.f_mul_scalar(weight)?;
        from += width as i64;
        Ok((name.to_owned(), loss))
    };
    targets::PARTS.iter().map(part).collect()
}
