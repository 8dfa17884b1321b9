//! Puts one file in the place of many, so that whatever dies, every row stays.
//!
//! In a folder the day's files change at one moment: its folder is made anew beside, with the one file and links to all that stays,
//! and the two folders exchange their names. A bucket has no such moment: the one file is put, then the many are deleted. What is
//! about to happen is in the store before, so that a next process ends it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek};
use std::path::{Path, PathBuf};

use object_store::ObjectStoreExt;
use records::UtcMicros;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::runtime::Handle;

use super::compact::{name, range};
use super::place::{Bucket, Place, put};
use super::{ExportError, ParquetExport, Reached, at};
use crate::objects::Temporary;
use crate::store::{Batch, Store};

/// A file that is being written, to be there in place of others.
pub(super) enum Replacing {
    /// Beside the folder of its partition.
    InFolder { beside: PathBuf, folder: PathBuf, name: String },
    /// On this machine.
    InBucket { staged: Temporary, bucket: Bucket, partition: String, name: String },
}

/// Where a partition is made anew: not in the folder that readers search, whatever they think of dots.
fn beside(folder: &Path) -> PathBuf {
    let name = folder.file_name().expect("the folder has a name").to_string_lossy();
    folder.with_file_name(format!(".{name}.compacting"))
}

/// Deletes a folder, if there is one.
fn delete(folder: &Path) -> Result<(), ExportError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        deleted => deleted.map_err(at(folder)),
    }
}

fn sync(folder: &Path) -> Result<(), ExportError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

impl Replacing {
    /// Begins a file of a partition, with a name that none of it has.
    pub(super) fn begin(place: &Place, partition: &str, name: &str) -> Result<(Self, File), ExportError> {
        match place {
            Place::Folder(all) => {
                let beside = beside(all);
                delete(&beside)?;
                fs::create_dir(&beside).map_err(at(&beside))?;
                let path = beside.join(name);
                let file = File::create(&path).map_err(at(&path))?;
                Ok((Self::InFolder { beside, folder: all.join(partition), name: name.to_owned() }, file))
            }
            Place::Bucket(bucket) => {
                let (staged, file) = bucket.stage()?;
                let (bucket, partition, name) = (bucket.clone(), partition.to_owned(), name.to_owned());
                Ok((Self::InBucket { staged, bucket, partition, name }, file))
            }
        }
    }

    /// What is written to.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::InFolder { beside, name, .. } => beside.join(name),
            Self::InBucket { staged, .. } => staged.path().to_owned(),
        }
    }

    /// Puts the file in the place of these. When this returns, it outlives the process and the machine, and they are gone.
    pub(super) fn finish(
        self,
        mut file: File,
        replaced: &[&str],
        (store, whole, now): (&Store, Batch, UtcMicros),
        runtime: &Handle,
        reached: Reached,
    ) -> Result<(), ExportError> {
        let path = self.path();
        match self {
            Self::InFolder { beside, folder, .. } => {
                file.sync_all().map_err(at(&path))?;
                let permissions = fs::metadata(&folder).map_err(at(&folder))?.permissions();
                fs::set_permissions(&beside, permissions).map_err(at(&beside))?;
                link_others(&folder, &beside, replaced).map_err(at(&beside))?;
                sync(&beside)?;
                reached()?;
                renameat_with(CWD, &beside, CWD, &folder, RenameFlags::EXCHANGE)
                    .map_err(|error| at(&folder)(io::Error::from(error)))?;
                reached()?;
                // Both folders whose entries changed; then what was replaced may go.
                folder.ancestors().skip(1).take(2).try_for_each(sync)?;
                reached()?;
                delete(&beside)?;
            }
            Self::InBucket { bucket, partition, name, .. } => {
                let note = note(&bucket, &partition);
                runtime.block_on(store.begin_compaction(&note, whole, now))?;
                reached()?;
                file.rewind().map_err(at(&path))?;
                let key = bucket.key(&partition, &name);
                runtime.block_on(put(&*bucket.store, &key, file)).map_err(bucket.failed(&partition, &name))?;
                reached()?;
                delete_objects(&bucket, &partition, replaced, runtime, reached)?;
                runtime.block_on(store.end_compaction(&note, whole))?;
            }
        }
        reached()
    }
}

/// Gives everything in a folder that is not replaced a name in the one beside it as well.
fn link_others(folder: &Path, beside: &Path, replaced: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if !replaced.iter().any(|replaced| name == *replaced) {
            fs::hard_link(folder.join(&name), beside.join(&name))?;
        }
    }
    Ok(())
}

/// Under which the store knows of a compaction that is at work.
fn note(bucket: &Bucket, partition: &str) -> String {
    format!("compaction of {}/{partition}", bucket.url)
}

fn delete_objects(
    bucket: &Bucket,
    partition: &str,
    names: &[&str],
    runtime: &Handle,
    reached: Reached,
) -> Result<(), ExportError> {
    for name in names {
        match runtime.block_on(bucket.store.delete(&bucket.key(partition, name))) {
            Err(object_store::Error::NotFound { .. }) => {}
            deleted => deleted.map_err(bucket.failed(partition, name))?,
        }
        reached()?;
    }
    Ok(())
}

impl ParquetExport {
    /// Ends what a process that died had begun: where the one file is there, the many go.
    pub(super) fn end_compactions(&self, runtime: &Handle, reached: Reached) -> Result<(), ExportError> {
        let bucket = match &self.place {
            Place::Folder(folder) => return delete(&beside(folder)),
            Place::Bucket(bucket) => bucket,
        };
        for (note, whole) in runtime.block_on(self.store.compactions(&self::note(bucket, "")))? {
            let partition = note.rsplit('/').next().unwrap_or_default();
            let files = self.place.files(runtime, partition)?;
            if files.iter().any(|file| file.name == name(whole)) {
                let is_replaced =
                    |it: &Batch| *it != whole && whole.first_seq <= it.first_seq && it.last_seq <= whole.last_seq;
                let replaced = files.iter().filter(|file| range(&file.name).as_ref().is_some_and(is_replaced));
                let names: Vec<&str> = replaced.map(|file| file.name.as_str()).collect();
                delete_objects(bucket, partition, &names, runtime, reached)?;
            }
            runtime.block_on(self.store.end_compaction(&note, whole))?;
            reached()?;
        }
        Ok(())
    }
}
