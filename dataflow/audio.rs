//! The audio of the uploads in work: fetched once, heard by both models, and let go of when its upload has ended; and what
//! the cache knows of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use connectors::objects::{Audio, Objects};
use records::{Fault, Lane, Upload, UploadId};

use crate::cache::Known;

/// The audio of the uploads in work, by upload: of each, one delivery is in work at a time.
pub(crate) struct AudioInWork {
    objects: Arc<Objects>,
    held: Mutex<BTreeMap<UploadId, Held>>,
}

struct Held {
    audio: Arc<Audio>,
    known: Option<Arc<Known>>,
}

impl AudioInWork {
    pub(crate) fn new(objects: Arc<Objects>) -> Self {
        Self { objects, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<UploadId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The upload's audio, fetched where this is the first time that it is asked for.
    ///
    /// # Errors
    /// The [`Fault`] of the audio. It is fetched anew when it is asked for again.
    pub(crate) async fn of(&self, upload: &Upload, lane: Lane) -> Result<Arc<Audio>, Fault> {
        let held = self.held().get(&upload.upload_id).map(|held| Arc::clone(&held.audio));
        if let Some(audio) = held {
            return Ok(audio);
        }
        let audio = Arc::new(self.objects.fetch(&upload.audio_uri, lane).await?);
        let held = Held { audio: Arc::clone(&audio), known: None };
        self.held().insert(upload.upload_id.clone(), held);
        Ok(audio)
    }

    /// Notes what the cache knows of an upload whose audio is held.
    pub(crate) fn note(&self, id: &UploadId, known: Known) {
        if let Some(held) = self.held().get_mut(id) {
            held.known = Some(Arc::new(known));
        }
    }

    /// What the cache knows of an upload; `None` where it was not asked.
    pub(crate) fn known(&self, id: &UploadId) -> Option<Arc<Known>> {
        self.held().get(id)?.known.clone()
    }

    /// The upload has ended.
    pub(crate) fn let_go(&self, id: &UploadId) {
        let held = self.held().remove(id);
        // A file is deleted here, not under the lock.
        drop(held);
    }
}
