//! One lane's stream of messages, opened anew whenever it breaks.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use google_cloud_pubsub::client::SubscriptionAdmin;
use google_cloud_pubsub::model;
use google_cloud_pubsub::subscriber::MessageStream;
use google_cloud_pubsub::subscriber::handler::Handler;
use records::{Announced, ErrorType, Fault, Lane, ObjectDefaults, announced};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::{Connection, code, fault};
use super::held::{Held, Message};

/// How long a stream may be silent before the subscription is looked at. A stream says nothing while it has no messages, and
/// nothing while it cannot be opened.
const QUIET: Duration = Duration::from_secs(5);
/// How soon it is looked at again where it was not reached, and how long a look may take.
const LOOK: Duration = Duration::from_secs(1);
/// How soon a stream that failed is opened anew; the pause doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long it takes until a stream that was closed here is closed there.
const SETTLE: Duration = Duration::from_millis(200);
/// A lease is extended for as long as Pub/Sub keeps any message: whoever works on one knows when to let go.
const LONGEST_LEASE: Duration = Duration::from_secs(31 * 24 * 3600);

/// What reads one subscription.
pub(super) struct LaneReader {
    pub(super) lane: Lane,
    /// Its full name.
    pub(super) subscription: String,
    pub(super) most: usize,
    pub(super) lease: Duration,
    pub(super) connection: Connection,
    pub(super) admin: SubscriptionAdmin,
    pub(super) objects: ObjectDefaults,
    pub(super) held: Arc<Held>,
    pub(super) closing: watch::Receiver<bool>,
}

impl Drop for LaneReader {
    /// A reader that panicked reads no longer, and says so, and holds up nobody who waits for its end.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let message = format!("{}: its reader died of a broken invariant; the log says which", self.subscription);
            self.held.note(self.lane, Some(Fault::permanent(ErrorType::Unavailable, message)));
            self.held.close(self.lane);
        }
    }
}

/// How a stream ended.
enum Ended {
    /// By failing; whether it had worked before.
    Failed(Fault, bool),
    /// The way to Pub/Sub is free again, and another stream will go it sooner than this one.
    Outdated,
}

/// What came next on a stream.
enum Next {
    Message(Box<model::Message>, Handler),
    End(Ended),
}

impl LaneReader {
    /// Reads until it is told to close, and then until every message is ended and Pub/Sub was told.
    pub(super) async fn run(mut self) {
        let mut closing = self.closing.clone();
        // A stream that is gone still extends the leases of what it brought, and carries their acknowledgements.
        let mut ending = JoinSet::new();
        let mut pause = PAUSE;
        while !*closing.borrow() {
            let ended = match self.stream().await {
                Ok(mut stream) => {
                    let token = stream.shutdown_token();
                    let ended = tokio::select! {
                        biased;
                        _ = closing.wait_for(|closing| *closing) => None,
                        ended = self.read(&mut stream) => Some(ended),
                    };
                    drop(stream);
                    ending.spawn(async move { token.shutdown().await });
                    ended
                }
                Err(fault) => Some(Ended::Failed(fault, false)),
            };
            while ending.try_join_next().is_some() {}
            match ended {
                None => break,
                Some(Ended::Outdated) => pause = PAUSE,
                Some(Ended::Failed(trouble, worked)) => {
                    self.held.note(self.lane, Some(trouble));
                    pause = if worked { PAUSE } else { LONGEST_PAUSE.min(pause * 2) };
                    tokio::select! {
                        _ = closing.wait_for(|closing| *closing) => break,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
        // What is given back while Pub/Sub takes the stream for open comes here again, where nobody reads it.
        tokio::time::sleep(SETTLE).await;
        self.held.close(self.lane);
        ending.join_all().await;
    }

    /// A stream on a connection of its own: one that fell silent may stay so for a quarter of an hour.
    async fn stream(&self) -> Result<MessageStream, Fault> {
        let subscriber = self.connection.subscriber().await?;
        let stream = subscriber.subscribe(&self.subscription);
        Ok(stream
            .set_max_lease(LONGEST_LEASE)
            .set_max_lease_extension(self.lease)
            .set_max_outstanding_messages(i64::try_from(self.most).unwrap_or(i64::MAX))
            .build())
    }

    async fn read(&mut self, stream: &mut MessageStream) -> Ended {
        let mut worked = false;
        loop {
            self.held.room(self.lane, self.most).await;
            match self.next(stream, &mut worked).await {
                Next::Message(message, handler) => self.take_in(*message, handler),
                Next::End(ended) => return ended,
            }
            worked = true;
        }
    }

    /// The next message, or what keeps it from coming.
    async fn next(&mut self, stream: &mut MessageStream, worked: &mut bool) -> Next {
        let mut next = pin!(stream.next());
        let mut is_cut_off = false;
        loop {
            let look = async {
                tokio::time::sleep(if is_cut_off { LOOK } else { QUIET }).await;
                look(&self.admin, &self.subscription).await
            };
            let looked = tokio::select! {
                biased;
                next = &mut next => return match next {
                    Some(Ok((message, handler))) => Next::Message(Box::new(message), handler),
                    Some(Err(error)) => Next::End(Ended::Failed(fault(&self.subscription, &error), *worked)),
                    None => Next::End(Ended::Outdated),
                },
                looked = look => looked,
            };
            match looked {
                Ok(()) if is_cut_off => return Next::End(Ended::Outdated),
                Ok(()) => {
                    *worked = true;
                    self.held.note(self.lane, None);
                }
                Err(trouble) => {
                    is_cut_off = true;
                    self.held.note(self.lane, Some(trouble));
                    if let Ok(admin) = self.connection.subscriptions().await {
                        self.admin = admin;
                    }
                }
            }
        }
    }

    fn take_in(&self, message: model::Message, handler: Handler) {
        let attribute = |key: &str| message.attributes.get(key).map(String::as_str);
        match announced(&message.data, attribute, &self.objects) {
            Announced::Upload(event) => {
                let payload = Arc::from(&*event);
                self.held.arrived(self.lane, Message { payload, ordering_key: message.ordering_key, handler });
            }
            Announced::Other => {
                self.held.skipped(self.lane);
                handler.ack();
            }
        }
    }
}

/// Whether a subscription can be reached and is there. Not everybody who may pull may look; who is told so has reached it.
pub(super) async fn look(admin: &SubscriptionAdmin, subscription: &str) -> Result<(), Fault> {
    let answer = admin.get_subscription().set_subscription(subscription).send();
    match tokio::time::timeout(LOOK, answer).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if code(&error) == "PERMISSION_DENIED" => Ok(()),
        Ok(Err(error)) => Err(fault(subscription, &error)),
        Err(_) => Err(Fault::retryable(ErrorType::Timeout, format!("{subscription}: Pub/Sub does not answer"))),
    }
}
