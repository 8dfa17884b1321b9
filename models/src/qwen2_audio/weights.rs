//! The tensors of a checkpoint, in one safetensors file or in shards.
//!
//! Each tensor is read from its place in the file when it is asked for, so that no more than one is in host memory
//! twice; a map of the file would save that copy, and end the process when the file is cut while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::layers::TensorSource;
use super::tensors::Expected;
use crate::ModelError;

/// The format's own limit, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// How much of a tensor is fingerprinted, in bytes.
const FINGERPRINTED: usize = 1 << 16;

/// Where a checkpoint's tensors lie, under the names of `tensors.rs`.
#[derive(Debug)]
pub(crate) struct Weights {
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, Stored>,
    /// Where an index says that a tensor lies.
    listed: BTreeMap<String, PathBuf>,
    /// `model.safetensors`, or the index of the shards.
    root: PathBuf,
}

#[derive(Debug)]
struct Stored {
    file: usize,
    name: String,
    kind: Kind,
    shape: Vec<usize>,
    offset: u64,
    bytes: usize,
}

impl Weights {
    /// Reads the headers of `model.safetensors`, or of the shards of `model.safetensors.index.json`.
    ///
    /// # Errors
    /// [`ModelError::Read`] for a missing file or shard, [`ModelError::Invalid`] for one that is cut, corrupt or holds
    /// numbers that are neither f32, f16 nor bf16.
    pub(crate) fn open(dir: &Path) -> Result<Self, ModelError> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        let mut listed = BTreeMap::new();
        let (root, paths) = if single.exists() || !index.exists() {
            (single.clone(), BTreeSet::from([single]))
        } else {
            listed = read_index(dir, &index)?;
            (index, listed.values().cloned().collect())
        };
        let mut weights = Self { files: Vec::new(), tensors: BTreeMap::new(), listed, root };
        for path in paths {
            weights.add(path)?;
        }
        Ok(weights)
    }

    /// Refuses a checkpoint whose tensors are not exactly `expected`, before any of them is read.
    ///
    /// # Errors
    /// [`ModelError::MissingTensor`], [`ModelError::TensorShape`] or [`ModelError::ExtraTensor`].
    pub(crate) fn check(&self, expected: &[Expected]) -> Result<(), ModelError> {
        for Expected { name, shape, optional } in expected {
            let Some(stored) = self.tensors.get(name) else {
                if *optional {
                    continue;
                }
                let file = self.listed.get(name).unwrap_or(&self.root).clone();
                return Err(ModelError::MissingTensor { name: name.clone(), file, expected: shape.clone() });
            };
            if stored.shape != *shape {
                let (name, file) = (stored.name.clone(), self.path(stored).to_owned());
                let (found, expected) = (stored.shape.clone(), shape.clone());
                return Err(ModelError::TensorShape { name, file, found, expected });
            }
        }
        let known: BTreeSet<&str> = expected.iter().map(|tensor| tensor.name.as_str()).collect();
        match self.tensors.iter().find(|(name, _)| !known.contains(name.as_str())) {
            Some((_, stored)) => Err(ModelError::ExtraTensor {
                name: stored.name.clone(),
                file: self.path(stored).to_owned(),
                found: stored.shape.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Each file with its size in bytes.
    pub(crate) fn files(&self) -> Result<Vec<(PathBuf, u64)>, ModelError> {
        let size = |file: &File, path: &Path| file.metadata().map_err(|error| ModelError::read(path, &error));
        self.files.iter().map(|(path, file)| Ok((path.clone(), size(file, path)?.len()))).collect()
    }

    /// The kinds of number in the files.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for stored in self.tensors.values() {
            if !kinds.contains(&stored.kind) {
                kinds.push(stored.kind);
            }
        }
        kinds
    }

    /// Tells these weights from others, as SHA-256 in hexadecimal: of each tensor's name, kind, shape and first bytes. Any
    /// step of training moves them, and a checkpoint of many gigabytes is told in a moment.
    ///
    /// # Errors
    /// [`ModelError::Read`].
    pub(crate) fn fingerprint(&self) -> Result<String, ModelError> {
        let mut hash = Sha256::new();
        for (name, stored) in &self.tensors {
            let (path, file) = &self.files[stored.file];
            let mut bytes = vec![0; stored.bytes.min(FINGERPRINTED)];
            file.read_exact_at(&mut bytes, stored.offset).map_err(|error| ModelError::read(path, &error))?;
            hash.update(format!("{name} {:?} {:?}\n", stored.kind, stored.shape));
            hash.update(bytes);
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn path(&self, stored: &Stored) -> &Path {
        &self.files[stored.file].0
    }

    fn add(&mut self, path: PathBuf) -> Result<(), ModelError> {
        let file = File::open(&path).map_err(|error| ModelError::read(&path, &error))?;
        let (metadata, start) = read_header(&path, &file)?;
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            let kind = match info.dtype {
                Dtype::F32 => Kind::Float,
                Dtype::F16 => Kind::Half,
                Dtype::BF16 => Kind::BFloat16,
                other => {
                    let reason = format!("tensor {name} holds {other:?}; only F32, F16 and BF16 are supported");
                    return Err(ModelError::invalid(&path, reason));
                }
            };
            let (from, to) = info.data_offsets;
            let stored = Stored {
                file: self.files.len(),
                kind,
                shape: info.shape.clone(),
                offset: start + from as u64,
                bytes: to - from,
                name: name.clone(),
            };
            if self.tensors.insert(canonical(&name), stored).is_some() {
                return Err(ModelError::invalid(&path, format!("tensor {name} is there twice")));
            }
        }
        self.files.push((path, file));
        Ok(())
    }
}

impl TensorSource for Weights {
    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn is_fixed(&self) -> bool {
        true
    }

    /// # Errors
    /// [`ModelError::MissingTensor`], [`ModelError::Read`], [`ModelError::Torch`].
    fn read(&self, name: &str, device: Device, kind: Kind) -> Result<Tensor, ModelError> {
        let stored = self.tensors.get(name).ok_or_else(|| ModelError::MissingTensor {
            name: name.to_owned(),
            file: self.root.clone(),
            expected: Vec::new(),
        })?;
        let (path, file) = &self.files[stored.file];
        let mut bytes = vec![0; stored.bytes];
        file.read_exact_at(&mut bytes, stored.offset).map_err(|error| ModelError::read(path, &error))?;
        let shape: Vec<i64> = stored.shape.iter().map(|&size| size as i64).collect();
        let tensor = Tensor::f_from_data_size(&bytes, &shape, stored.kind)?;
        Ok(tensor.f_to_device(device)?.f_to_kind(kind)?)
    }
}

/// The name of Hugging Face's published files for any naming scheme: newer tools write `model.` in front, the language
/// model without a second `model.`, and `lm_head` at the top; transformers 5.17 writes that second `model.` twice.
fn canonical(name: &str) -> String {
    let name = name.strip_prefix("model.").unwrap_or(name);
    match name.strip_prefix("language_model.").map(|rest| rest.strip_prefix("model.model.").unwrap_or(rest)) {
        Some(rest) if !rest.starts_with("model.") && !rest.starts_with("lm_head.") => {
            format!("language_model.model.{rest}")
        }
        None if name.starts_with("lm_head.") => format!("language_model.{name}"),
        _ => name.to_owned(),
    }
}

fn read_index(dir: &Path, path: &Path) -> Result<BTreeMap<String, PathBuf>, ModelError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bytes = std::fs::read(path).map_err(|error| ModelError::read(path, &error))?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| ModelError::invalid(path, error))?;
    let place = |(name, file): (String, String)| {
        // A shard lies beside its index; anything else could name any file of the machine.
        if Path::new(&file).file_name().is_none_or(|plain| plain != file.as_str()) {
            return Err(ModelError::invalid(path, format!("{file:?} is no plain file name")));
        }
        Ok((canonical(&name), dir.join(file)))
    };
    index.weight_map.into_iter().map(place).collect()
}

/// The header, and where the data begin.
fn read_header(path: &Path, file: &File) -> Result<(Metadata, u64), ModelError> {
    let unreadable = |error| ModelError::read(path, &error);
    let size = file.metadata().map_err(unreadable)?.len();
    let mut length = [0; 8];
    if size < 8 {
        return Err(ModelError::invalid(path, format!("it is cut or no safetensors file: {size} bytes")));
    }
    file.read_exact_at(&mut length, 0).map_err(unreadable)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || 8 + length > size {
        let reason = format!("it is cut or no safetensors file: a header of {length} bytes in a file of {size}");
        return Err(ModelError::invalid(path, reason));
    }
    let mut header = vec![0; length as usize];
    file.read_exact_at(&mut header, 8).map_err(unreadable)?;
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|error| ModelError::invalid(path, format!("its header is corrupt: {error}")))?;
    let (promised, found) = (metadata.data_len() as u64, size - 8 - length);
    if promised != found {
        let reason = format!("its header promises {promised} bytes of data, it has {found}: it is cut or corrupt");
        return Err(ModelError::invalid(path, reason));
    }
    Ok((metadata, 8 + length))
}
