//! Alerts: how one stands, and what is told of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::UtcMicros;

/// How an alert stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertPhase {
    /// What it watches for is not so.
    #[default]
    Inactive,
    /// It is so, but not for long enough.
    Pending,
    /// It is so for long enough: somebody was told.
    Firing,
    /// It was so, and is no longer: whoever was told was told this too.
    Resolved,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody has to look at once.
    Critical,
    /// Somebody has to look.
    #[default]
    Warning,
    /// Good to know.
    Info,
}

crate::upload::text_form!(AlertPhase {
    Inactive = "inactive",
    Pending = "pending",
    Firing = "firing",
    Resolved = "resolved"
});
crate::upload::text_form!(Severity { Critical = "critical", Warning = "warning", Info = "info" });

impl AlertPhase {
    /// Whether a change into it is told.
    pub fn is_told(self) -> bool {
        match self {
            Self::Inactive | Self::Pending => false,
            Self::Firing | Self::Resolved => true,
        }
    }
}

/// What is told of a change, in the terms of Prometheus' Alertmanager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What names the alert, the same when it fires and when it is resolved; `alertname` and `severity` among them.
    pub labels: BTreeMap<String, String>,
    /// What is said about it.
    pub annotations: BTreeMap<String, String>,
    /// When it began to fire.
    pub starts_at: UtcMicros,
    /// When it was resolved; `None` while it fires.
    pub ends_at: Option<UtcMicros>,
}

impl Notice {
    /// `Firing` or `Resolved`.
    pub fn phase(&self) -> AlertPhase {
        if self.ends_at.is_some() { AlertPhase::Resolved } else { AlertPhase::Firing }
    }

    /// A label's value; empty where it has none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// The hash of the labels by which Prometheus and Alertmanager know an alert (FNV-1a over sorted names and values), in 16
    /// hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let bytes = self.labels.iter().flat_map(|(name, value)| [name.as_bytes(), &[0xff], value.as_bytes(), &[0xff]]);
        let hash = bytes.flatten().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{hash:016x}")
    }
}

/// An alert as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its name in the configuration.
    pub name: String,
    /// How it stands.
    pub phase: AlertPhase,
    /// Since when. It rises with each change, so that it tells them apart.
    pub since: UtcMicros,
    /// What was told of it last; `None` where it has never fired.
    pub notice: Option<Notice>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_that_of_prometheus() {
        let labels =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let of = |pairs: &[(&str, &str)]| {
            let (annotations, starts_at) = (BTreeMap::new(), UtcMicros(0));
            Notice { labels: labels(pairs), annotations, starts_at, ends_at: None }.fingerprint()
        };
        // Of no labels it is the hash's offset, which is written down in Prometheus' source.
        assert_eq!(of(&[]), format!("{:x}", 14_695_981_039_346_656_037_u64));
        assert_eq!(of(&[("b", "2"), ("a", "1")]), of(&[("a", "1"), ("b", "2")]));
        assert_ne!(of(&[("a", "12")]), of(&[("a1", "2")]), "a name does not run into its value");
    }
}
