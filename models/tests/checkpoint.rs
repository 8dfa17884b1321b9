//! A checkpoint that is not whole is refused with the name of what is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::ModelError;
use models::qwen2_audio::{Description, Qwen2Audio};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind};

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/qwen2_audio").join(name)
}

/// A copy of a fixture without its golden values.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for entry in std::fs::read_dir(fixture(name)).expect("the fixture") {
        let path = entry.expect("an entry").path();
        let file = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_file() && !file.starts_with("expected") {
            std::fs::copy(&path, dir.path().join(file)).expect("copied");
        }
    }
    dir
}

/// A copy of `tiny-a` with other tensors in it.
fn edited(edit: impl FnOnce(&mut Tensors)) -> tempfile::TempDir {
    let dir = copy("tiny-a");
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).expect("read");
    let mut tensors: Tensors = SafeTensors::deserialize(&bytes)
        .expect("safetensors")
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    edit(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).expect("a tensor"))
    });
    std::fs::write(&path, safetensors::serialize(views, None).expect("serialised")).expect("written");
    dir
}

/// The error of loading; describing must give the same.
fn refused(dir: &Path) -> ModelError {
    let error = Qwen2Audio::load(dir, Device::Cpu, Kind::Float).expect_err("must be refused");
    let described = Description::read(dir).expect_err("must be refused");
    assert_eq!(error.to_string(), described.to_string());
    error
}

fn assert_names(error: &ModelError, names: &[&str]) {
    let text = error.to_string();
    assert!(names.iter().all(|name| text.contains(name)), "{text} should name {names:?}");
}

const NORM: &str = "language_model.model.norm.weight";

#[test]
fn a_missing_tensor_is_named_with_its_file_and_shape() {
    let error = refused(edited(|tensors| drop(tensors.remove(NORM))).path());
    assert!(matches!(error, ModelError::MissingTensor { .. }), "{error}");
    assert_names(&error, &[NORM, "model.safetensors", "[64]"]);
}

#[test]
fn an_extra_tensor_is_named_with_its_file_and_shape() {
    let extra = "audio_tower.layers.2.fc1.bias";
    let add = |tensors: &mut Tensors| drop(tensors.insert(extra.into(), (Dtype::F32, vec![128], vec![0; 512])));
    let error = refused(edited(add).path());
    assert!(matches!(error, ModelError::ExtraTensor { .. }), "{error}");
    assert_names(&error, &[extra, "model.safetensors", "[128]"]);
}

#[test]
fn a_misshapen_tensor_is_named_with_its_file_and_both_shapes() {
    let error = refused(edited(|tensors| tensors.get_mut(NORM).expect("there").1 = vec![2, 32]).path());
    assert!(matches!(error, ModelError::TensorShape { .. }), "{error}");
    assert_names(&error, &[NORM, "model.safetensors", "[2, 32]", "[64]"]);
}

#[test]
fn a_tensor_of_integers_is_refused() {
    let error = refused(edited(|tensors| tensors.get_mut(NORM).expect("there").0 = Dtype::I32).path());
    assert_names(&error, &[NORM, "model.safetensors", "I32"]);
}

#[test]
fn a_tensor_under_both_of_its_names_is_refused() {
    let twice = |tensors: &mut Tensors| {
        let norm = tensors[NORM].clone();
        tensors.insert("model.language_model.norm.weight".into(), norm);
    };
    assert_names(&refused(edited(twice).path()), &["norm.weight", "twice"]);
}

#[test]
fn the_newer_names_are_the_same_model() {
    let newer = |name: &str| match name.strip_prefix("language_model.") {
        Some("lm_head.weight") => "lm_head.weight".to_owned(),
        Some(rest) => format!("model.language_model.{}", rest.trim_start_matches("model.")),
        None => format!("model.{name}"),
    };
    let doubled = |name: &str| name.replace("language_model.model.", "language_model.model.model.");
    for rename in [&newer as &dyn Fn(&str) -> String, &doubled] {
        let renamed = edited(|tensors| {
            *tensors = std::mem::take(tensors).into_iter().map(|(name, it)| (rename(&name), it)).collect();
        });
        let parameters = |dir: &Path| Description::read(dir).expect("described").language_model_parameters;
        assert_eq!(parameters(renamed.path()), parameters(&fixture("tiny-a")));
        Qwen2Audio::load(renamed.path(), Device::Cpu, Kind::Float).expect("loads");
    }
}

#[test]
fn lm_head_may_be_missing_only_where_the_embedding_is_tied_to_it() {
    let dir = edited(|tensors| drop(tensors.remove("language_model.lm_head.weight")));
    assert_names(&refused(dir.path()), &["lm_head.weight"]);
    let path = dir.path().join("config.json");
    let config = std::fs::read_to_string(&path).expect("read");
    let tied = config.replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
    std::fs::write(&path, tied).expect("written");
    Qwen2Audio::load(dir.path(), Device::Cpu, Kind::Float).expect("loads");
}

#[test]
fn a_cut_or_corrupt_file_is_named() {
    let whole = std::fs::read(fixture("tiny-a").join("model.safetensors")).expect("read");
    let mut garbled = whole.clone();
    garbled[20..24].copy_from_slice(b"\xff{{\xff");
    for bytes in [&whole[..whole.len() - 1], &whole[..1000], &whole[..5], &[], &garbled, b"version https://git-lfs"] {
        let dir = copy("tiny-a");
        std::fs::write(dir.path().join("model.safetensors"), bytes).expect("written");
        let error = refused(dir.path());
        assert!(matches!(error, ModelError::Invalid { .. }), "{error}");
        assert_names(&error, &["model.safetensors", "c"]);
    }
}

#[test]
fn a_missing_shard_and_a_tensor_missing_in_its_shard_are_named() {
    let dir = copy("tiny-sharded");
    std::fs::remove_file(dir.path().join("model-00007-of-00015.safetensors")).expect("removed");
    assert_names(&refused(dir.path()), &["model-00007-of-00015.safetensors"]);

    // The first shard holds lm_head alone; with another's content in its place, lm_head is missing in it.
    let dir = copy("tiny-sharded");
    let empty = safetensors::serialize(Vec::<(&str, TensorView<'_>)>::new(), None).expect("serialised");
    std::fs::write(dir.path().join("model-00001-of-00015.safetensors"), empty).expect("written");
    let error = refused(dir.path());
    assert_names(&error, &["lm_head.weight", "model-00001-of-00015.safetensors", "[448, 96]"]);
}

#[test]
fn an_index_cannot_name_a_file_elsewhere() {
    let dir = copy("tiny-sharded");
    let path = dir.path().join("model.safetensors.index.json");
    let index = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, index.replace("model-00001-of", "../model-00001-of")).expect("written");
    assert_names(&refused(dir.path()), &["index.json", "../model-00001-of"]);
}

#[test]
fn a_folder_without_weights_or_configuration_is_refused_by_file() {
    for missing in ["model.safetensors", "config.json", "tokenizer.json"] {
        let dir = copy("tiny-a");
        std::fs::remove_file(dir.path().join(missing)).expect("removed");
        let error = Qwen2Audio::load(dir.path(), Device::Cpu, Kind::Float).expect_err("must be refused");
        assert!(matches!(error, ModelError::Read { .. }), "{error}");
        assert_names(&error, &[missing]);
    }
}

#[test]
fn half_precision_files_load() {
    for (dtype, kind) in [(Dtype::F16, Kind::Half), (Dtype::BF16, Kind::BFloat16)] {
        let dir = edited(|tensors| {
            for (old, _, data) in tensors.values_mut() {
                let numbers = tch::Tensor::from_data_size(data, &[data.len() as i64 / 4], Kind::Float).to_kind(kind);
                *data = vec![0; data.len() / 2];
                numbers.copy_data_u8(data, numbers.numel());
                *old = dtype;
            }
        });
        Qwen2Audio::load(dir.path(), Device::Cpu, Kind::Float).expect("loads");
        let name = if dtype == Dtype::F16 { "f16" } else { "bf16" };
        assert_eq!(Description::read(dir.path()).expect("described").dtypes, [name]);
    }
}
