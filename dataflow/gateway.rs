//! HTTP: metrics for Prometheus, health for whoever restarts processes, readiness for whoever sends traffic.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// What the gateway tells.
#[derive(Clone)]
pub struct Gateway {
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
    /// `Ok`, or what keeps the process from working.
    pub readiness: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Gateway {
    /// Serves on `listener` until the process ends.
    pub fn start(self, listener: TcpListener) {
        let router = Router::new()
            .route("/metrics", get(|State(gateway): State<Self>| async move { gateway.metrics.text() }))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(self);
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the gateway ended");
            }
        });
    }
}

async fn ready(State(gateway): State<Gateway>) -> (StatusCode, String) {
    match (gateway.readiness)() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
