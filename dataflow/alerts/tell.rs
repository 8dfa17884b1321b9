//! Tells a target of changes, in their order for each alert, until it has acknowledged each.

use std::collections::BTreeSet;

use connectors::sink::{Message, Sink, Topic};
use connectors::spool::fault;
use connectors::store::Store;
use futures::FutureExt;
use futures::future::BoxFuture;
use records::{AlertPhase, Fault, FaultClass, Notice};
use serde_json::{Value, json};

/// Notices that are read at once.
const PAGE: usize = 1000;

/// Tells `sink` what it has not acknowledged. A process that dies on the way tells again the notice that it was at.
///
/// # Errors
/// The sink's or the store's; the next call goes on where this one was. A notice that is refused holds up no other alert's.
pub async fn tell(store: &Store, sink: &dyn Sink) -> Result<(), Fault> {
    let (mut refused, mut first, mut after) = (BTreeSet::new(), None, 0);
    loop {
        let page = store.untold(sink.name(), after, PAGE).await.map_err(fault)?;
        let Some((last, _)) = page.last() else { return first.map_or(Ok(()), Err) };
        after = *last;
        for (id, notice) in page {
            let fingerprint = notice.fingerprint();
            if refused.contains(&fingerprint) {
                continue;
            }
            match sink.publish(&[message(sink.name(), &notice)]).await {
                Ok(()) => store.told(id).await.map_err(fault)?,
                Err(error) if error.class == FaultClass::Permanent => {
                    refused.insert(fingerprint);
                    first.get_or_insert(error);
                }
                // It would be the same for the next one.
                Err(error) => return Err(error),
            }
        }
    }
}

fn message(receiver: &str, notice: &Notice) -> Message {
    let status = notice.phase().to_string();
    let attributes = vec![
        ("alert", notice.label("alertname").to_owned()),
        ("status", status),
        ("severity", notice.label("severity").to_owned()),
        ("fingerprint", notice.fingerprint()),
        ("starts_at", notice.starts_at.to_string()),
        ("summary", notice.annotations.get("summary").cloned().unwrap_or_default()),
    ];
    let payload = payload(receiver, notice).to_string().into_bytes();
    Message { topic: Topic::Alerts, key: notice.fingerprint(), payload, attributes }
}

/// The body that Alertmanager sends to webhooks
/// (<https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>): a group of one alert.
fn payload(receiver: &str, notice: &Notice) -> Value {
    let (status, name) = (notice.phase().as_str(), notice.label("alertname"));
    let Notice { labels, annotations, starts_at, ends_at } = notice;
    // What has not ended ends, by Alertmanager's custom, at the zero of Go's time.
    let ends_at = ends_at.map_or("0001-01-01T00:00:00Z".to_owned(), |end| end.to_string());
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{alertname={name:?}}}"),
        "truncatedAlerts": 0,
        "status": status,
        "receiver": receiver,
        "groupLabels": { "alertname": name },
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [{
            "status": status,
            "labels": labels,
            "annotations": annotations,
            "startsAt": starts_at,
            "endsAt": ends_at,
            "generatorURL": "",
            "fingerprint": notice.fingerprint(),
        }],
    })
}

/// The log, which is always told.
pub struct Log;

impl Sink for Log {
    fn name(&self) -> &str {
        "log"
    }

    fn takes(&self, topic: Topic) -> bool {
        topic == Topic::Alerts
    }

    fn publish<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            for message in messages {
                let of = |name| message.attributes.iter().find(|(it, _)| *it == name).map_or("", |(_, text)| text);
                let (alert, severity, summary) = (of("alert"), of("severity"), of("summary"));
                if of("status") == AlertPhase::Firing.as_str() {
                    tracing::warn!(alert, severity, "firing: {summary}");
                } else {
                    tracing::info!(alert, severity, "resolved: {summary}");
                }
            }
            Ok(())
        }
        .boxed()
    }
}
