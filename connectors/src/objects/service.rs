//! Clients of buckets, one each, kept for the next object of the same bucket.

use std::collections::HashMap;
use std::fmt::{Debug, Formatter};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider};

use super::checksum::NotingConnector;
use super::{ObjectsOptions, Service};

/// Buckets whose clients are kept. Uploads name them, so there may be any number.
const KEPT: usize = 64;

/// How long one request may take, its body included; a piece is small enough for it.
const REQUEST: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);

/// The library repeats a request after a 5xx, a 429, and a lost connection, and reads on where a body broke off, as long as
/// the ETag is the same. It does not outlast more than this, nor a server without ETags: [`super::fetch`] does.
const REPEATS: usize = 3;

pub(super) struct Buckets {
    gcs_endpoint: Option<String>,
    s3_endpoint: Option<String>,
    retry: RetryConfig,
    client: ClientOptions,
    open: Mutex<HashMap<(Service, String), Arc<dyn ObjectStore>>>,
}

impl Buckets {
    pub(super) fn new(options: &ObjectsOptions) -> Self {
        let limit = Duration::from_millis(options.timeout_ms);
        let emulator = std::env::var("STORAGE_EMULATOR_HOST").ok().filter(|host| !host.is_empty());
        let emulator = emulator.map(|host| if host.contains("://") { host } else { format!("http://{host}") });
        Self {
            gcs_endpoint: options.gcs_endpoint.clone().or(emulator).map(without_slash),
            s3_endpoint: options.s3_endpoint.clone().map(without_slash),
            retry: RetryConfig {
                backoff: BackoffConfig {
                    init_backoff: Duration::from_millis(100),
                    max_backoff: Duration::from_secs(5),
                    base: 2.0,
                },
                max_retries: REPEATS,
                retry_timeout: limit,
            },
            client: ClientOptions::new().with_timeout(REQUEST.min(limit)).with_connect_timeout(CONNECT.min(limit)),
            open: Mutex::default(),
        }
    }

    /// The client of a bucket. Nothing is asked of the service yet.
    pub(super) fn open(&self, service: Service, bucket: &str) -> object_store::Result<Arc<dyn ObjectStore>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(&(service, bucket.to_owned())) {
            return Ok(Arc::clone(store));
        }
        let store: Arc<dyn ObjectStore> = match service {
            Service::Gcs => Arc::new(self.gcs(bucket).build()?),
            Service::S3 => Arc::new(self.s3(bucket).build()?),
        };
        if open.len() >= KEPT {
            open.clear();
        }
        open.insert((service, bucket.to_owned()), Arc::clone(&store));
        Ok(store)
    }

    fn gcs(&self, bucket: &str) -> GoogleCloudStorageBuilder {
        let builder = GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(bucket)
            .with_retry(self.retry.clone())
            .with_http_connector(NotingConnector);
        let Some(endpoint) = &self.gcs_endpoint else { return builder.with_client_options(self.client.clone()) };
        let is_plain = endpoint.starts_with("http://");
        // What is put asks for credentials although nothing is signed.
        let builder = match is_plain {
            true => builder
                .with_credentials(Arc::new(StaticCredentialProvider::new(GcpCredential { bearer: String::new() }))),
            false => builder,
        };
        builder
            .with_base_url(endpoint)
            .with_skip_signature(is_plain)
            .with_client_options(self.client.clone().with_allow_http(is_plain))
    }

    fn s3(&self, bucket: &str) -> AmazonS3Builder {
        let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(self.retry.clone());
        let of_environment =
            ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| std::env::var(name).ok());
        let is_plain = |url: &String| url.starts_with("http://");
        let allow_http = self.s3_endpoint.as_ref().or(of_environment.as_ref()).is_some_and(is_plain);
        let builder = builder.with_client_options(self.client.clone().with_allow_http(allow_http));
        match &self.s3_endpoint {
            // Where both are set, this key is the one that the library takes.
            Some(endpoint) => builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint),
            None => builder,
        }
    }
}

/// Clients hold keys: they are not shown.
impl Debug for Buckets {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        let endpoints = [("gcs_endpoint", &self.gcs_endpoint), ("s3_endpoint", &self.s3_endpoint)];
        out.debug_map().entries(endpoints).finish()
    }
}

fn without_slash(url: String) -> String {
    url.trim_end_matches('/').to_owned()
}
