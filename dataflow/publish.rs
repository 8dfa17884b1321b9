//! Publishes committed outcomes to a sink of messages, in the order of their commits, none left out.

use connectors::sink::{Message, Sink, Topic};
use connectors::spool::fault;
use connectors::store::{Store, StoreError};
use records::{ErrorType, Fault, Outcome, Status};

/// Outcomes that are published before the place in the log is noted.
const PAGE: usize = 256;

/// Publishes what the sink does not have yet; how many outcomes. A process that dies on the way publishes the page that it
/// was at again.
///
/// # Errors
/// The sink's or the store's; the next call goes on where this one was.
pub async fn publish(store: &Store, sink: &dyn Sink) -> Result<u64, Fault> {
    // A look is cheap, and a turn on Postgres is a session of its own.
    let position = store.sink_position(sink.name()).await.map_err(fault)?;
    if store.outcomes_after(position, 1).await.map_err(fault)?.is_empty() {
        return Ok(0);
    }
    let _turn = match store.claim_export(sink.name()).await {
        // Another worker publishes.
        Err(StoreError::Held { .. }) => return Ok(0),
        turn => turn.map_err(fault)?,
    };
    let mut position = store.sink_position(sink.name()).await.map_err(fault)?;
    let mut published = 0;
    loop {
        let page = store.outcomes_after(position, PAGE).await.map_err(fault)?;
        let Some((last, _)) = page.last() else { return Ok(published) };
        let mut messages = Vec::new();
        for (_, outcome) in &page {
            if sink.takes(Topic::Results) {
                messages.push(result(outcome)?);
            }
            if outcome.status == Status::DeadLettered && sink.takes(Topic::DeadLetters) {
                messages.extend(dead_letter(store, outcome).await.map_err(fault)?);
            }
        }
        sink.publish(&messages).await?;
        store.advance_sink(sink.name(), *last).await.map_err(fault)?;
        (position, published) = (*last, published + page.len() as u64);
        // Where others commit all the time there is always something further: it is the next call's.
        if page.len() < PAGE {
            return Ok(published);
        }
    }
}

/// What both kinds of messages say beside their body.
fn attributes(outcome: &Outcome) -> Vec<(&'static str, String)> {
    vec![("upload_id", outcome.upload_id.to_string()), ("version", outcome.version.to_string())]
}

fn result(outcome: &Outcome) -> Result<Message, Fault> {
    let payload = serde_json::to_vec(outcome)
        .map_err(|error| Fault::permanent(ErrorType::InvalidEvent, format!("{}: {error}", outcome.upload_id)))?;
    let mut attributes = attributes(outcome);
    attributes.extend([("status", outcome.status.to_string()), ("lane", outcome.lane.to_string())]);
    attributes.extend(outcome.customer_id.clone().map(|customer| ("customer_id", customer)));
    Ok(Message { topic: Topic::Results, key: outcome.upload_id.to_string(), payload, attributes })
}

/// The event as it came, so that whoever mends its cause can send it again. `None` where it was purged meanwhile.
async fn dead_letter(store: &Store, outcome: &Outcome) -> Result<Option<Message>, StoreError> {
    let Some((letter, attempts)) = store.dead_letter(&outcome.upload_id).await? else { return Ok(None) };
    let faults: Vec<String> = attempts
        .into_iter()
        .filter(|(version, _)| *version == outcome.version)
        .filter_map(|(_, attempt)| attempt.fault)
        .map(|fault| fault.message)
        .collect();
    let last = outcome.error.clone().unwrap_or_default();
    let mut attributes = attributes(outcome);
    attributes.extend([
        ("reason", outcome.error_type.map_or("", ErrorType::as_str).to_owned()),
        ("attempts", outcome.attempts.to_string()),
        ("first_error", faults.into_iter().next().unwrap_or_else(|| last.clone())),
        ("last_error", last),
    ]);
    let (key, payload) = (outcome.upload_id.to_string(), letter.payload.to_vec());
    Ok(Some(Message { topic: Topic::DeadLetters, key, payload, attributes }))
}
