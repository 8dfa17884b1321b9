//! A server that says what it was given to say, byte by byte: for the answers that llmock cannot give.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

/// A request as it came.
pub(crate) struct Heard {
    /// The request line and the headers.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: Value,
}

/// What to say to one request.
pub(crate) enum Say {
    /// These bytes, then the end of the connection.
    Bytes(String),
    /// Nothing, with the connection open.
    Nothing,
}

/// Answers one connection after the other, and hands on what it heard. Returns the base address.
pub(crate) fn serve(answers: Vec<Say>) -> (String, Receiver<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (tell, heard) = channel();
    let server = move || {
        let mut silent = Vec::new();
        for say in answers {
            let (mut stream, _) = listener.accept().expect("a connection");
            let request = hear(&stream);
            match say {
                // A client that has heard enough hangs up.
                Say::Bytes(bytes) => stream.write_all(bytes.as_bytes()).unwrap_or_default(),
                Say::Nothing => silent.push(stream),
            }
            if tell.send(request).is_err() {
                return;
            }
        }
        // The port stays taken, and the silent connections open, until the test is over.
        while listener.accept().is_ok() {}
    };
    std::thread::Builder::new().name("canned".into()).spawn(server).expect("a thread");
    (format!("http://{address}/v1"), heard)
}

fn hear(stream: &TcpStream) -> Heard {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).expect("a header line") > 0, "half a request: {head}");
    }
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.expect("a length")];
    reader.read_exact(&mut body).expect("a body");
    Heard { head, body: serde_json::from_slice(&body).expect("JSON") }
}

/// An HTTP answer with these extra header lines.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Say {
    let length = body.len();
    Say::Bytes(format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"))
}

/// A chat completion of 1,000 tokens of text, 600 of sound and 80 of answer.
pub(crate) fn completion(message: Value) -> String {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-audio-1.5",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 1_600, "completion_tokens": 80, "total_tokens": 1_680,
            "prompt_tokens_details": {"audio_tokens": 600, "cached_tokens": 0},
        },
    })
    .to_string()
}
