//! Which uploads are between their admission and their end, so that no model is asked twice about one at a time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use records::UploadId;

use crate::Ticket;

/// The uploads in work on this thread, each with the tickets of its further deliveries. `admit` fills it, `acknowledge`
/// empties it.
#[derive(Clone, Debug, Default)]
pub struct InWork(Rc<RefCell<BTreeMap<UploadId, Vec<Ticket>>>>);

impl InWork {
    /// Notes a delivery. `false` where its upload is in work already: then the ticket is kept for that work's end.
    pub(crate) fn enter(&self, id: &UploadId, ticket: &Ticket) -> bool {
        let mut in_work = self.0.borrow_mut();
        if let Some(further) = in_work.get_mut(id) {
            further.push(ticket.clone());
            return false;
        }
        in_work.insert(id.clone(), Vec::new());
        true
    }

    /// The upload has ended; the tickets of its further deliveries end with it.
    pub(crate) fn leave(&self, id: &UploadId) -> Vec<Ticket> {
        self.0.borrow_mut().remove(id).unwrap_or_default()
    }
}
