//! What the store is, in the plainest maps: the reference that it is held to.

use std::collections::BTreeMap;

use connectors::store::{Delivery, Lease, Pending, Redriven, Write};
use records::Admitted;
use records::{Lane, Outcome, Status, UploadId, UtcMicros};

struct Message {
    lane: Lane,
    payload: Vec<u8>,
    enqueued_at: UtcMicros,
    leased_until: Option<UtcMicros>,
    deliveries: u32,
}

pub(crate) struct Admission {
    lane: Lane,
    pub(crate) arrived_at: UtcMicros,
    pub(crate) version: u32,
}

#[derive(Default)]
pub(crate) struct Model {
    last_message: u64,
    messages: BTreeMap<u64, Message>,
    pub(crate) admissions: BTreeMap<UploadId, Admission>,
    pub(crate) log: Vec<Outcome>,
    /// The moment before which nobody arrives any more.
    pub(crate) sealed: UtcMicros,
    /// By upload and version: the event's bytes, and whether it was redriven.
    pub(crate) dead_letters: BTreeMap<(UploadId, u32), (Vec<u8>, bool)>,
}

impl Model {
    pub(crate) fn enqueue(&mut self, lane: Lane, payload: Vec<u8>, now: UtcMicros) -> u64 {
        self.last_message += 1;
        let message = Message { lane, payload, enqueued_at: now, leased_until: None, deliveries: 0 };
        self.messages.insert(self.last_message, message);
        self.last_message
    }

    pub(crate) fn lease(&mut self, lane: Lane, max: usize, until: UtcMicros, now: UtcMicros) -> Vec<Delivery> {
        for message in self.messages.values_mut().filter(|message| message.lane == lane) {
            message.leased_until = message.leased_until.filter(|until| *until > now);
        }
        let ready =
            self.messages.iter_mut().filter(|(_, message)| message.lane == lane && message.leased_until.is_none());
        let give = |(number, message): (&u64, &mut Message)| {
            message.leased_until = Some(until);
            message.deliveries += 1;
            Delivery {
                lease: Lease { message: *number, delivery: message.deliveries },
                payload: message.payload.as_slice().into(),
                enqueued_at: message.enqueued_at,
            }
        };
        ready.take(max).map(give).collect()
    }

    /// Sets the end of those leases that count; how many there were.
    pub(crate) fn set_lease(&mut self, leases: &[Lease], until: Option<UtcMicros>) -> u64 {
        let mut held: Vec<&Lease> = Vec::new();
        for lease in leases {
            if let Some(message) = self.messages.get(&lease.message)
                && message.deliveries == lease.delivery
                && message.leased_until.is_some()
                && !held.contains(&lease)
            {
                held.push(lease);
            }
        }
        for lease in &held {
            self.messages.get_mut(&lease.message).expect("it is held").leased_until = until;
        }
        held.len() as u64
    }

    pub(crate) fn acknowledge(&mut self, leases: &[Lease]) {
        self.messages.retain(|number, _| leases.iter().all(|lease| lease.message != *number));
    }

    pub(crate) fn admit(&mut self, id: UploadId, lane: Lane, now: UtcMicros) {
        let arrived_at = now.max(self.sealed);
        self.admissions.entry(id).or_insert(Admission { lane, arrived_at, version: 1 });
    }

    /// The arrival before which all have their outcome and none comes any more.
    pub(crate) fn closed_until(&self) -> UtcMicros {
        let is_open = |id: &UploadId| self.log.iter().all(|outcome| outcome.upload_id != *id);
        let open = self.admissions.iter().filter(|(id, _)| is_open(id)).map(|(_, admission)| admission.arrived_at);
        open.chain([self.sealed]).min().expect("there is one")
    }

    pub(crate) fn admitted(&self, id: &UploadId) -> Admitted {
        let admission = &self.admissions[id];
        match self.outcome(id) {
            Some(_) => Admitted::Finished,
            None => Admitted::Open { arrived_at: admission.arrived_at, version: admission.version },
        }
    }

    pub(crate) fn outcome(&self, id: &UploadId) -> Option<&Outcome> {
        let version = self.admissions.get(id)?.version;
        self.log.iter().find(|outcome| outcome.upload_id == *id && outcome.version == version)
    }

    pub(crate) fn commit(&mut self, (outcome, _, payload): &Write) -> bool {
        let key = (outcome.upload_id.clone(), outcome.version);
        if self.log.iter().any(|other| (&other.upload_id, other.version) == (&key.0, key.1)) {
            return false;
        }
        self.log.push(outcome.clone());
        if outcome.status == Status::DeadLettered {
            self.dead_letters.insert(key, (payload.to_vec(), false));
        }
        true
    }

    pub(crate) fn redrive(&mut self, ids: &[UploadId], now: UtcMicros) -> Vec<Redriven> {
        let mut requeued = Vec::new();
        let answers = ids.iter().map(|id| self.redrive_one(id, &mut requeued)).collect();
        // The one that died first comes first.
        requeued.sort_unstable_by_key(|(place, ..)| *place);
        for (_, lane, payload) in requeued {
            self.enqueue(lane, payload, now);
        }
        answers
    }

    fn redrive_one(&mut self, id: &UploadId, requeued: &mut Vec<(usize, Lane, Vec<u8>)>) -> Redriven {
        let Some(admission) = self.admissions.get_mut(id) else { return Redriven::Unknown };
        let version = admission.version;
        let stands = |outcome: &Outcome| outcome.upload_id == *id && outcome.version == version;
        let Some(place) = self.log.iter().position(stands) else {
            return if version == 1 { Redriven::NotDeadLettered } else { Redriven::AlreadyRequeued };
        };
        match (self.log[place].status, self.dead_letters.get_mut(&(id.clone(), version))) {
            (Status::Completed, _) => Redriven::NotDeadLettered,
            (Status::DeadLettered, None) => Redriven::Purged,
            (Status::DeadLettered, Some((payload, redriven))) => {
                *redriven = true;
                admission.version += 1;
                requeued.push((place, admission.lane, payload.clone()));
                Redriven::Requeued { version: version + 1 }
            }
        }
    }

    pub(crate) fn purge(&mut self, doomed: impl Fn(&UploadId, u32) -> bool) -> u64 {
        let before = self.dead_letters.len();
        self.dead_letters.retain(|(id, version), _| !doomed(id, *version));
        (before - self.dead_letters.len()) as u64
    }

    pub(crate) fn pending(&self, lane: Lane, now: UtcMicros) -> Pending {
        let mut pending = Pending::default();
        for message in self.messages.values().filter(|message| message.lane == lane) {
            if message.leased_until.is_some_and(|until| until > now) {
                pending.leased += 1;
            } else {
                pending.ready += 1;
                let oldest = pending.oldest_enqueued_at.unwrap_or(message.enqueued_at);
                pending.oldest_enqueued_at = Some(oldest.min(message.enqueued_at));
            }
        }
        pending
    }
}
