//! A wire to the emulator that can fall silent, as a network does that is cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// A port that leads to the emulator.
pub(crate) struct Wire {
    is_cut: Arc<AtomicBool>,
    /// Host and port.
    pub(crate) address: String,
}

impl Wire {
    pub(crate) async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (is_cut, server) = (Arc::new(AtomicBool::new(false)), server.to_owned());
        let of = Arc::clone(&is_cut);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("the emulator is reached");
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, Arc::clone(&of)));
                tokio::spawn(pass(from_server, to_client, Arc::clone(&of)));
            }
        });
        Self { is_cut, address }
    }

    /// From here on it says nothing, and loses what it is told. A connection that fell silent once stays so.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    /// From here on connections that are new pass everything on.
    pub(crate) fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_cut: Arc<AtomicBool>) {
    let mut bytes = vec![0; 1 << 16];
    let mut is_silent = false;
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        is_silent |= is_cut.load(Ordering::SeqCst);
        if !is_silent && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
