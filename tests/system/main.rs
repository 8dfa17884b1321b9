//! The whole of Tidemark through its command: real files, the real model code on a small random checkpoint, the real store.

mod alerts;
mod bad_input;
mod cache;
mod calibrate;
mod commands;
mod crash;
mod drain;
mod experiments;
mod fallback;
mod harness;
#[path = "../../models/tests/openai/llmock.rs"]
mod llmock;
mod nano;
mod replay;
mod windows;
