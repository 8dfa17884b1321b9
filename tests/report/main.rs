//! The report: complete windows over any history, and the same rows from a replay; alerts, which follow from live windows;
//! reports of experiments and their shadows; and replays of uploads.

mod alerts;
mod closing;
mod difference;
mod experiments;
#[path = "../../connectors/tests/store/make.rs"]
mod make;
mod replay;
mod shadows;
mod uploads;
