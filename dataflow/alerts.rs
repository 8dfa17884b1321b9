//! Alerts: [`watch`] decides about them by what ended lately and what waits, [`tell`] tells targets of the changes, [`service`]
//! does both beside a worker.
//!
//! A change is written with a notice for each target in one transaction; a notice is there until its target has acknowledged it.
//! So whoever dies at any moment neither forgets a change nor makes it twice, and at worst tells again what was acknowledged to
//! nobody.

pub mod service;
pub mod tell;
pub mod watch;
