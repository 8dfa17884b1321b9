//! An address that alerts are sent to by POST. It may hold a secret, so it is in no message and in no log: a webhook goes by its
//! name.

use std::fmt;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use records::{ErrorType, Fault};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use crate::sink::{Message, Sink, Topic};

/// An address as it is configured.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum WebhookAddress {
    /// As it stands.
    Text(String),
    /// What a variable of the environment holds.
    Environment {
        /// The variable.
        env: String,
    },
}

impl fmt::Debug for WebhookAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("…"),
            Self::Environment { env } => write!(f, "${env}"),
        }
    }
}

impl WebhookAddress {
    /// The address itself.
    ///
    /// # Errors
    /// In words, where it is none, or its variable is not set.
    fn url(&self) -> Result<Url, String> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Environment { env } => std::env::var(env).map_err(|_| format!("wants {env} in the environment"))?,
        };
        let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.ok_or_else(|| "must be an address that begins with http:// or https://".to_owned())
    }
}

/// A receiver of alerts.
pub struct Webhook {
    name: String,
    url: Url,
    http: Client,
}

impl Webhook {
    /// The receiver of that name. An answer is waited for as long as `timeout`.
    ///
    /// # Errors
    /// In words, without the address, where there is none to send to.
    pub fn new(name: &str, address: &WebhookAddress, timeout: Duration) -> Result<Self, String> {
        // A redirect would carry alerts to where nobody has said that they may go.
        let http = Client::builder().timeout(timeout).redirect(Policy::none()).build();
        let http = http.map_err(|error| format!("there is no HTTP client: {}", error.without_url()))?;
        Ok(Self { name: format!("webhook {name}"), url: address.url()?, http })
    }

    async fn post(&self, message: &Message) -> Result<(), Fault> {
        let post = self.http.post(self.url.clone()).header("content-type", "application/json");
        let status = match post.body(message.payload.clone()).send().await {
            Ok(answer) => answer.status(),
            Err(error) if error.is_connect() => {
                return Err(Fault::retryable(ErrorType::Unavailable, format!("{}: cannot be reached", self.name)));
            }
            Err(error) => {
                let kind = if error.is_timeout() { ErrorType::Timeout } else { ErrorType::Unavailable };
                return Err(Fault::indeterminate(kind, format!("{}: no answer", self.name)));
            }
        };
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(Fault::retryable(ErrorType::RateLimited, format!("{}: answers {status}", self.name)))
            }
            status if status.is_server_error() => {
                Err(Fault::retryable(ErrorType::Unavailable, format!("{}: answers {status}", self.name)))
            }
            status => Err(Fault::permanent(
                ErrorType::Refused,
                format!("{}: answers {status}: does its address lead to a receiver of alerts?", self.name),
            )),
        }
    }
}

impl Sink for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn takes(&self, topic: Topic) -> bool {
        topic == Topic::Alerts
    }

    fn publish<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            for message in messages.iter().filter(|message| self.takes(message.topic)) {
                self.post(message).await?;
            }
            Ok(())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use records::FaultClass;

    use super::*;

    /// A receiver that says `answer` to whoever comes, or nothing where it is empty; its address, with a secret in it.
    fn receiver(answer: &'static str) -> WebhookAddress {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://user:hidden@{}/hidden?token=hidden", listener.local_addr().expect("bound"));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut request = Vec::new();
                let mut part = [0; 4096];
                // The body ends with its brace; whoever hears nothing hangs up.
                while !request.ends_with(b"}") || answer.is_empty() {
                    match stream.read(&mut part) {
                        Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
                        _ => break,
                    }
                }
                let head = String::from_utf8_lossy(&request).to_lowercase();
                assert!(
                    head.starts_with("post /hidden?token=hidden ") && head.contains("content-type: application/json")
                );
                let answer = format!("HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap_or_default();
            }
        });
        WebhookAddress::Text(address)
    }

    async fn send(address: &WebhookAddress) -> Result<(), Fault> {
        let webhook = Webhook::new("oncall", address, Duration::from_millis(300)).expect("an address");
        let payload = br#"{"status":"firing"}"#.to_vec();
        let message = Message { topic: Topic::Alerts, key: "f".into(), payload, attributes: Vec::new() };
        webhook.publish(&[message]).await
    }

    #[tokio::test]
    async fn an_answer_decides_whether_it_was_taken_and_no_fault_says_the_address() {
        assert_eq!(send(&receiver("200 OK")).await, Ok(()));
        assert_eq!(send(&receiver("204 No Content")).await, Ok(()));
        let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let nobody = WebhookAddress::Text(format!("http://{nobody}/hidden"));
        for (address, class) in [
            (receiver("503 Service Unavailable"), FaultClass::Retryable),
            (receiver("429 Too Many Requests"), FaultClass::Retryable),
            (receiver("404 Not Found"), FaultClass::Permanent),
            (receiver("302 Found\r\nlocation: http://127.0.0.1:1/"), FaultClass::Permanent),
            (receiver(""), FaultClass::Indeterminate),
            (nobody, FaultClass::Retryable),
        ] {
            let fault = send(&address).await.expect_err("not taken");
            assert_eq!(fault.class, class, "{fault}");
            assert!(fault.message.starts_with("webhook oncall: ") && !fault.message.contains("hidden"), "{fault}");
            assert!(!format!("{address:?}").contains("hidden"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_saying_it() {
        let text = |text: &str| WebhookAddress::Text(text.into());
        let unset = WebhookAddress::Environment { env: "TIDEMARK_NO_SUCH".into() };
        for (address, names) in [
            (text("hidden"), "http://"),
            (text("ftp://hidden/"), "http://"),
            (unset, "TIDEMARK_NO_SUCH in the environment"),
        ] {
            let error = Webhook::new("oncall", &address, Duration::from_secs(1)).err().expect("refused");
            assert!(error.contains(names) && !error.contains("hidden"), "{error}");
        }
    }
}
