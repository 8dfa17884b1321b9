//! A wire to the emulator's REST interface that fails at one request: before it is passed on, or after it was answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to the request whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not arrive.
    LosesTheRequest,
    /// It arrives and is worked on, and its answer is lost.
    LosesTheAnswer,
}

struct Plan {
    fault: Fault,
    /// Requests from the beginning of which one fails.
    left: AtomicUsize,
}

/// Far more requests than a test makes.
const NEVER: usize = usize::MAX / 2;

/// A port that leads to the emulator.
pub(crate) struct Proxy {
    plan: Arc<Plan>,
    /// Its address.
    pub(crate) endpoint: String,
}

impl Proxy {
    /// In front of an endpoint; `fault` strikes once it was planned.
    pub(crate) async fn start(endpoint: &str, fault: Fault) -> Self {
        let server = endpoint.strip_prefix("http://").expect("no TLS").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let plan = Arc::new(Plan { fault, left: AtomicUsize::new(NEVER) });
        let shared = Arc::clone(&plan);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server.clone(), Arc::clone(&shared)));
            }
        });
        Self { plan, endpoint }
    }

    /// The `nth` request from now on fails, from 0.
    pub(crate) fn fails_at(&self, nth: usize) {
        self.plan.left.store(nth, Ordering::SeqCst);
    }

    /// Whether it has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.plan.left.load(Ordering::SeqCst) > NEVER
    }
}

async fn pass(mut client: TcpStream, server: String, plan: Arc<Plan>) {
    let mut server = TcpStream::connect(server).await.expect("the emulator is reached");
    while let Some(request) = message(&mut client).await {
        // Past 0 it wraps round to more than NEVER.
        let fails = plan.left.fetch_sub(1, Ordering::SeqCst) == 0;
        if fails && plan.fault == Fault::LosesTheRequest {
            return;
        }
        server.write_all(&request).await.expect("passed on");
        let Some(answer) = message(&mut server).await else { return };
        if fails || client.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// A request or an answer, whole: a head, and a body as long as it says.
async fn message(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if bytes.len() >= end + length.unwrap_or(0) {
                return Some(bytes);
            }
        }
        if from.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
