//! A service of objects that answers as it is told to, byte by byte: for the failures that no emulator has.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What is asked: an object and a range of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Behind the address's slash: bucket and key.
    pub(crate) path: String,
    /// The first byte and the one behind the last.
    pub(crate) range: (usize, usize),
}

/// An object as one request finds it.
#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) e_tag: Option<&'static str>,
    /// Further lines of the head.
    pub(crate) headers: String,
    /// What `Content-Range` gives as its size, where that is not the number of bytes.
    pub(crate) claims: Option<u64>,
}

impl Object {
    pub(crate) fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self { bytes: bytes.into(), e_tag: Some("\"one\""), headers: String::new(), claims: None }
    }
}

/// What to say to a request.
pub(crate) enum Say {
    /// The part of the object that is asked for.
    Part(Object),
    /// So many bytes of that part, then the end of the connection.
    Cut(Object, usize),
    /// A status and a page.
    Status(&'static str, &'static str),
    /// Nothing, with the connection open.
    Nothing,
}

/// A service, and what it was asked.
pub(crate) struct Service {
    /// Its address.
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Service {
    /// Starts a service that says to its nth request, from 0, what `say` says.
    pub(crate) fn start(say: impl Fn(usize, &Asked) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, say) = (Arc::clone(&asked), Arc::new(say));
        let serve = move || {
            while let Ok((stream, _)) = listener.accept() {
                let (noted, say) = (Arc::clone(&noted), Arc::clone(&say));
                std::thread::spawn(move || answer(stream, &noted, &*say));
            }
        };
        std::thread::Builder::new().name("canned".into()).spawn(serve).expect("a thread");
        Self { address, asked }
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn answer(mut stream: TcpStream, noted: &Mutex<Vec<Asked>>, say: &dyn Fn(usize, &Asked) -> Say) {
    let asked = hear(&stream);
    let number = {
        let mut noted = noted.lock().expect("no panic");
        noted.push(asked.clone());
        noted.len() - 1
    };
    match say(number, &asked) {
        Say::Part(object) => part(&mut stream, &asked, &object, usize::MAX),
        Say::Cut(object, bytes) => part(&mut stream, &asked, &object, bytes),
        Say::Status(status, page) => {
            let length = page.len();
            let text = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{page}");
            stream.write_all(text.as_bytes()).unwrap_or_default();
        }
        // Open until the client hangs up.
        Say::Nothing => drop(BufReader::new(stream).read_line(&mut String::new())),
    }
}

fn hear(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).expect("a header line") > 0 {}
    let path = head.split(' ').nth(1).expect("a request line").trim_start_matches('/').replace("%2E", ".");
    let range = head.lines().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let range = range.expect("objects are asked for in pieces");
    let (first, last) = range.split_once('-').expect("two ends");
    let last: usize = last.parse().expect("a number");
    Asked { path, range: (first.parse().expect("a number"), last + 1) }
}

/// A client that has heard enough hangs up.
fn part(stream: &mut TcpStream, asked: &Asked, object: &Object, most: usize) {
    let size = object.claims.unwrap_or(object.bytes.len() as u64);
    let end = asked.range.1.min(usize::try_from(size).expect("64 bits"));
    let (first, last, length) = (asked.range.0, end - 1, end - asked.range.0);
    let e_tag = object.e_tag.map(|tag| format!("etag: {tag}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nconnection: close\r\nlast-modified: Wed, 21 Oct 2026 07:28:00 GMT\r\n{e_tag}{}\
         content-length: {length}\r\ncontent-range: bytes {first}-{last}/{size}\r\n\r\n",
        object.headers
    );
    let body = object.bytes.get(first..end.min(object.bytes.len())).unwrap_or_default();
    stream.write_all(head.as_bytes()).unwrap_or_default();
    stream.write_all(&body[..most.min(body.len())]).unwrap_or_default();
}
