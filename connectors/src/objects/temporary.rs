//! Temporary files: deleted when they are dropped, and, where a killed process left them behind, after a day.

use std::fs::{self, File};
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use records::{ErrorType, Fault, UtcMicros};
use tempfile::{Builder, TempPath};

const PREFIX: &str = "tidemark-object-";
const SUFFIX: &str = ".part";

/// How old a file is that nobody can still be at work on.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

/// A file that is deleted when this is dropped. Only its owner may read it.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: TempPath,
    /// Held under a lock, which ends with the process: whoever cleans sees that somebody is at work.
    _lock: File,
}

impl Temporary {
    /// A new, empty file in `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// A retryable [`Fault`]: the disk is to blame, not the upload.
    pub(crate) fn create(folder: &Path) -> Result<(Self, File), Fault> {
        let make = || {
            fs::create_dir_all(folder)?;
            let (file, path) = Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(folder)?.into_parts();
            let lock = file.try_clone()?;
            lock.lock()?;
            Ok((Self { path, _lock: lock }, file))
        };
        make().map_err(|error: Error| fault(folder, &error))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The failure of a temporary file or its folder.
pub(super) fn fault(path: &Path, error: &Error) -> Fault {
    let message =
        format!("cannot keep audio in {}: {error}: has the disk room, and may it be written to?", path.display());
    Fault::retryable(ErrorType::AudioUnreachable, message)
}

/// Deletes the files in `folder` that are of the pattern of ours, older than a day, and nobody's at work; how many.
pub(super) fn clean(folder: &Path, now: UtcMicros) -> std::io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let now = Duration::from_micros(now.0);
    let mut deleted = 0;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
            continue;
        }
        // One that is gone meanwhile was somebody's at work.
        let Ok(metadata) = entry.metadata() else { continue };
        let written = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        if !metadata.is_file() || now.saturating_sub(written) <= LEFT_BEHIND {
            continue;
        }
        let is_left = File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if is_left && fs::remove_file(entry.path()).is_ok() {
            deleted += 1;
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The moment so many seconds after a file was written.
    fn after(path: &Path, seconds: u64) -> UtcMicros {
        let written = fs::metadata(path).and_then(|it| it.modified()).expect("a file");
        let written = written.duration_since(UNIX_EPOCH).expect("after 1970");
        UtcMicros(written.as_micros() as u64).plus_ms(seconds * 1000)
    }

    #[test]
    fn what_was_left_behind_goes_after_a_day_and_nothing_else_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, _) = Temporary::create(folder.path()).expect("made");
        let Temporary { path, _lock: lock } = file;
        let left = path.keep().expect("kept");
        drop(lock);
        let (at_work, _) = Temporary::create(folder.path()).expect("made");
        let others = ["tidemark-object-mine.wav", "song.part", "tidemark.db"].map(|name| folder.path().join(name));
        for other in &others {
            fs::write(other, "somebody's").expect("written");
        }
        fs::create_dir(folder.path().join("tidemark-object-folder.part")).expect("made");
        assert_eq!(clean(folder.path(), after(&left, 86_399)).expect("cleaned"), 0);
        assert!(left.exists());
        assert_eq!(clean(folder.path(), after(&left, 86_402)).expect("cleaned"), 1);
        assert!(at_work.path().exists(), "what somebody is at work on stays, whatever the clock says");
        assert!(!left.exists() && others.iter().all(|other| other.exists()));
    }

    #[test]
    fn a_folder_that_was_never_made_is_clean() {
        assert_eq!(clean(Path::new("/no/such/folder"), UtcMicros(0)).expect("nothing to do"), 0);
    }

    #[test]
    fn a_file_that_is_dropped_is_gone_and_nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let (file, _) = Temporary::create(&folder.path().join("tmp")).expect("made");
        let path = file.path().to_owned();
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o077, 0);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_named_and_may_be_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("tmp"), "a file").expect("written");
        let fault = Temporary::create(&folder.path().join("tmp")).map(drop).expect_err("a file is in the way");
        assert!(fault.message.contains("/tmp") && fault.class == records::FaultClass::Retryable, "{fault}");
    }
}
