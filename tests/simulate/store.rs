//! What survives a crash: the source's messages and the store's rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use operators::{Admission, Write};
use records::Admitted;
use records::{Lane, Outcome, Upload, UploadId, UtcMicros};

use crate::summary::Bug;

/// A message in the source.
pub(crate) struct Message {
    pub(crate) upload_id: UploadId,
    pub(crate) payload: Arc<[u8]>,
    pub(crate) lane: Lane,
    pub(crate) leased_until: Option<UtcMicros>,
    pub(crate) acknowledged: bool,
    pub(crate) deliveries: u32,
}

/// Messages by number, admissions and outcomes by upload.
#[derive(Default)]
pub(crate) struct Durable {
    pub(crate) messages: BTreeMap<u64, Message>,
    admissions: BTreeMap<UploadId, UtcMicros>,
    outcomes: Vec<Outcome>,
    /// The first upload that got a second outcome.
    pub(crate) doubled: Option<UploadId>,
}

impl Durable {
    pub(crate) fn enqueue(&mut self, number: u64, payload: String, lane: Lane) {
        let payload: Arc<[u8]> = payload.into_bytes().into();
        let upload_id = match Upload::from_event(&payload) {
            Ok(upload) => upload.upload_id,
            Err(invalid) => invalid.upload_id,
        };
        let message = Message { upload_id, payload, lane, leased_until: None, acknowledged: false, deliveries: 0 };
        self.messages.insert(number, message);
    }

    pub(crate) fn admit(&mut self, admission: &Admission) -> Admitted {
        if self.outcome(&admission.upload_id).is_some() {
            return Admitted::Finished;
        }
        let arrived_at = *self.admissions.entry(admission.upload_id.clone()).or_insert(admission.arrived_at);
        Admitted::Open { arrived_at, version: 1 }
    }

    pub(crate) fn commit(&mut self, (outcome, _, _): &Write, bug: Option<Bug>) {
        if bug == Some(Bug::NoUniqueKey) || self.outcome(&outcome.upload_id).is_none() {
            if self.outcome(&outcome.upload_id).is_some() {
                self.doubled.get_or_insert_with(|| outcome.upload_id.clone());
            }
            self.outcomes.push(outcome.clone());
        }
    }

    pub(crate) fn outcome(&self, id: &UploadId) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.upload_id == *id)
    }

    pub(crate) fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.messages.values().all(|message| message.acknowledged)
    }
}
