//! The checkpoint that comes with Tidemark, inside the program: `nano`, a small network of the Qwen2-Audio architecture.
//! `models/nano/README.md` says what it learned from and how often it is right.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::ModelError;

macro_rules! files {
    ($($name:literal),* $(,)?) => { [$(($name, include_bytes!(concat!("../nano/", $name)).as_slice())),*] };
}

const FILES: [(&str, &[u8]); 8] = files![
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "chat_template.jinja",
    "calibration.json",
    "model.safetensors",
];

/// Lays its files into a folder of `cache`, where they do not lie yet; the folder, whose name is `nano`.
///
/// # Errors
/// [`ModelError::Write`] with the file that cannot be written.
pub fn unpack(cache: &Path) -> Result<PathBuf, ModelError> {
    let mut content = Sha256::new();
    FILES.iter().for_each(|(_, bytes)| content.update(bytes));
    // A folder for each content: programs of two versions do not take each other's.
    let version: String = content.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let folder = cache.join(version).join("nano");
    std::fs::create_dir_all(&folder).map_err(|error| write_error(&folder, &error))?;
    for (name, bytes) in FILES {
        let path = folder.join(name);
        if std::fs::read(&path).is_ok_and(|found| found == bytes) {
            continue;
        }
        // Whole or not at all, and by any number of processes at once.
        let unfinished = folder.join(format!("{name}.{}.part", std::process::id()));
        std::fs::write(&unfinished, bytes)
            .and_then(|()| std::fs::rename(&unfinished, &path))
            .map_err(|error| write_error(&path, &error))?;
    }
    Ok(folder)
}

fn write_error(path: &Path, error: &std::io::Error) -> ModelError {
    ModelError::Write { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Calibration;
    use crate::qwen2_audio::Description;
    use crate::schema::MetadataSchema;

    #[test]
    fn it_is_small_whole_and_calibrated_and_what_was_damaged_is_mended() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let folder = unpack(cache.path()).expect("unpacked");
        let found = Description::read(&folder).expect("a checkpoint");
        assert!(found.files.iter().map(|(_, bytes)| bytes).sum::<u64>() < 12_000_000);
        let schema = MetadataSchema::load("music-basic").expect("built in");
        assert!(Calibration::load(&folder, &schema).expect("of these weights").is_some());
        std::fs::write(folder.join("config.json"), "{").expect("written");
        assert_eq!(unpack(cache.path()).expect("unpacked"), folder);
        Description::read(&folder).expect("a checkpoint again");
    }
}
