//! A wire to the database that can be cut: after a commit is passed on, before it is, or at once.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What the wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Wire {
    /// Passes everything on.
    Whole,
    /// Passes a COMMIT on, and breaks before its answer.
    LosesTheAnswerOfCommit,
    /// Keeps a COMMIT and everything behind it to itself, without a word.
    SilentAtCommit,
    /// Keeps everything to itself.
    Silent,
}

const WIRES: [Wire; 4] = [Wire::Whole, Wire::LosesTheAnswerOfCommit, Wire::SilentAtCommit, Wire::Silent];

/// A port that leads to the database.
pub(crate) struct Proxy {
    wire: Arc<AtomicU8>,
    server: Arc<Mutex<String>>,
}

impl Proxy {
    /// In front of the server of `url`, and the address that leads through it; without TLS, to see what passes.
    pub(crate) async fn start(url: &str) -> (Self, String) {
        let (user, place) = url.rsplit_once('@').expect("an address with a user");
        let (server, database) = place.split_once('/').expect("an address with a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let wire = Arc::new(AtomicU8::new(Wire::Whole as u8));
        let server = Arc::new(Mutex::new(server.to_owned()));
        tokio::spawn(accept(listener, Arc::clone(&server), Arc::clone(&wire)));
        (Self { wire, server }, format!("{user}@{address}/{database}?sslmode=disable"))
    }

    /// Where new connections lead to, as `host:port`.
    #[allow(dead_code, reason = "not every test binary moves its database")]
    pub(crate) fn leads_to(&self, server: &str) {
        server.clone_into(&mut self.server.lock().expect("nobody panics with it"));
    }

    /// What it does from the next byte on. A connection that fell silent once stays so.
    pub(crate) fn becomes(&self, wire: Wire) {
        self.wire.store(wire as u8, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, server: Arc<Mutex<String>>, wire: Arc<AtomicU8>) {
    while let Ok((client, _)) = listener.accept().await {
        let place = server.lock().expect("nobody panics with it").clone();
        // Where the database is gone, so is who asks for it.
        let Ok(server) = TcpStream::connect(place).await else { continue };
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let broken = Arc::new(AtomicBool::new(false));
        tokio::spawn(pass(from_client, to_server, Arc::clone(&wire), Arc::clone(&broken)));
        tokio::spawn(pass(from_server, to_client, Arc::clone(&wire), broken));
    }
}

/// One direction of a connection, to its end or until it is broken.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, wire: Arc<AtomicU8>, broken: Arc<AtomicBool>) {
    let mut bytes = vec![0; 1 << 16];
    let mut is_silent = false;
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if broken.load(Ordering::SeqCst) {
            return;
        }
        let is_commit = bytes[..count].windows(7).any(|word| word == b"COMMIT\0");
        match WIRES[wire.load(Ordering::SeqCst) as usize] {
            Wire::Whole => {}
            Wire::LosesTheAnswerOfCommit => broken.store(is_commit, Ordering::SeqCst),
            Wire::SilentAtCommit => is_silent |= is_commit,
            Wire::Silent => is_silent = true,
        }
        if !is_silent && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
