//! The wire below async-openai: who we are, and one HTTP exchange. Nothing here is repeated, because one place decides
//! about that; and nothing reaches async-openai that it would write to the log, as it does with answers it cannot read.

use std::time::Duration;

use async_openai::Client;
use async_openai::config::Config;
use async_openai::middleware::HttpRequestFactory;
use async_openai::types::chat::CreateChatCompletionResponse;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};

use super::failure::Failure;
use crate::ModelError;

/// Long enough for any network that works; a call that waits longer has certainly not begun.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// No answer is longer: what is, is not read to its end.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Where the API is, and by which key it lets us in.
#[derive(Clone)]
pub(super) struct Access {
    base_url: String,
    key: SecretString,
    authorization: HeaderValue,
}

impl Access {
    /// Takes a key as it is, but for space around it, such as the line end of a secret's file.
    pub(super) fn new(base_url: &str, key: &SecretString) -> Result<Self, ModelError> {
        let key = key.expose_secret().trim();
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_graphic()) {
            return Err(ModelError::OpenAi("the key is empty or has a character that no key has".to_owned()));
        }
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {key}")).expect("visible ASCII is a header value");
        authorization.set_sensitive(true);
        let base_url = base_url.trim_end_matches('/').to_owned();
        Ok(Self { base_url, key: SecretString::from(key), authorization })
    }
}

impl Config for Access {
    fn headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, self.authorization.clone())])
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.base_url
    }

    fn api_key(&self) -> &SecretString {
        &self.key
    }
}

/// async-openai on this wire. Redirects are not followed: audio and key go where the configuration says.
pub(super) fn client(access: Access) -> Result<Client<Access>, ModelError> {
    let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(Policy::none()).build();
    let http = http.map_err(|error| ModelError::OpenAi(format!("no HTTP client: {error}")))?;
    let wire = http.clone();
    let service = tower::service_fn(move |request: HttpRequestFactory| exchange(wire.clone(), request));
    Ok(Client::build(http, access).with_http_service(service))
}

async fn exchange(http: reqwest::Client, request: HttpRequestFactory) -> Result<Response, Failure> {
    let response = http.execute(request.build().await?).await.map_err(|error| match error.is_connect() {
        true => Failure::Unreachable(reason(error)),
        false => Failure::Broken(reason(error)),
    })?;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = body(response).await?;
    if status != StatusCode::OK {
        return Err(Failure::status(status.as_u16(), retry_after, &body));
    }
    match serde_json::from_slice::<CreateChatCompletionResponse>(&body) {
        Ok(_) => Ok(http::Response::new(body).into()),
        Err(_) => Err(Failure::Garbled),
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::Broken(reason(error)))? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::Garbled);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost cause, the one that says something, without the address.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
