//! Where Pub/Sub is, as whom it is spoken to, and what its errors mean.

use std::time::Duration;

use google_cloud_auth::credentials::anonymous;
use google_cloud_gax::retry_policy::RetryPolicyExt;
use google_cloud_pubsub::Error;
use google_cloud_pubsub::client::{Publisher, Subscriber, SubscriptionAdmin, TopicAdmin};
use google_cloud_pubsub::retry_policy::RetryableErrors;
use records::{ErrorType, Fault};

/// How long a batch of messages is tried to be published, before whoever publishes hears of it.
const PUBLISH_FOR: Duration = Duration::from_secs(10);

/// A project of Pub/Sub, or of its emulator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    project: String,
    endpoint: Option<String>,
}

/// A client's builder, pointed at a connection.
macro_rules! to {
    ($connection:expr, $builder:expr) => {{
        let connection: &Connection = $connection;
        let mut builder = $builder;
        if let Some(endpoint) = &connection.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        // Nobody's credentials go over a wire that everybody can read.
        if connection.is_plain() {
            builder = builder.with_credentials(anonymous::Builder::new().build());
        }
        builder.build().await.map_err(|error| {
            Fault::permanent(
                ErrorType::Refused,
                format!(
                    "cannot open a client of Pub/Sub: {error}. Credentials come from `gcloud auth application-default \
                     login` or the machine's service account; for the emulator set PUBSUB_EMULATOR_HOST"
                ),
            )
        })
    }};
}

impl Connection {
    /// A project at Google, with the credentials of the environment (application default credentials), or at `endpoint`; an
    /// endpoint of `http://` is an emulator, which is spoken to without any.
    pub fn new(project: impl Into<String>, endpoint: Option<String>) -> Self {
        Self { project: project.into(), endpoint }
    }

    fn is_plain(&self) -> bool {
        self.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"))
    }

    /// The full name of a topic, which may be of another project where it is full already.
    pub fn topic(&self, name: &str) -> String {
        self.full("topics", name)
    }

    /// The full name of a subscription, as of a topic.
    pub fn subscription(&self, name: &str) -> String {
        self.full("subscriptions", name)
    }

    fn full(&self, kind: &str, name: &str) -> String {
        if name.contains('/') { name.to_owned() } else { format!("projects/{}/{kind}/{name}", self.project) }
    }

    pub(super) async fn subscriber(&self) -> Result<Subscriber, Fault> {
        to!(self, Subscriber::builder())
    }

    pub(super) async fn subscriptions(&self) -> Result<SubscriptionAdmin, Fault> {
        to!(self, SubscriptionAdmin::builder())
    }

    pub(super) async fn topics(&self) -> Result<TopicAdmin, Fault> {
        to!(self, TopicAdmin::builder())
    }

    pub(super) async fn publisher(&self, topic: &str) -> Result<Publisher, Fault> {
        let publisher = Publisher::builder(self.topic(topic));
        to!(self, publisher.with_retry_policy(RetryableErrors.with_time_limit(PUBLISH_FOR)))
    }
}

/// The name of an error's code, where the service gave one.
pub(super) fn code(error: &Error) -> &'static str {
    error.status().map_or("", |status| status.code.name())
}

/// What an error about `resource` means, and what mends it.
pub(super) fn fault(resource: &str, error: &Error) -> Fault {
    let said = error.status().map_or_else(|| error.to_string(), |status| status.message.clone());
    match code(error) {
        "NOT_FOUND" => {
            Fault::permanent(ErrorType::Refused, format!("{resource} is not there: `tidemark pubsub setup` makes it"))
        }
        "PERMISSION_DENIED" | "UNAUTHENTICATED" => Fault::permanent(
            ErrorType::Refused,
            format!(
                "no access to {resource}: {said}. Subscriptions want roles/pubsub.subscriber and roles/pubsub.viewer, \
                 topics roles/pubsub.publisher, and `tidemark pubsub setup` roles/pubsub.editor"
            ),
        ),
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "ALREADY_EXISTS" | "OUT_OF_RANGE" | "UNIMPLEMENTED" => {
            Fault::permanent(ErrorType::Refused, format!("{resource}: {said}"))
        }
        "RESOURCE_EXHAUSTED" => Fault::retryable(ErrorType::RateLimited, format!("{resource}: {said}")),
        _ => Fault::retryable(ErrorType::Unavailable, format!("{resource}: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_of_the_project_and_a_full_one_stays() {
        let connection = Connection::new("p1", None);
        assert_eq!(connection.topic("t"), "projects/p1/topics/t");
        assert_eq!(connection.subscription("projects/p2/subscriptions/s"), "projects/p2/subscriptions/s");
    }

    #[test]
    fn only_an_emulator_is_spoken_to_without_credentials() {
        let at = |endpoint: Option<&str>| Connection::new("p1", endpoint.map(str::to_owned)).is_plain();
        assert!(at(Some("http://127.0.0.1:8085")));
        assert!(!at(None) && !at(Some("https://europe-west1-pubsub.googleapis.com")));
    }
}
