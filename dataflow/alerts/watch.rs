//! Watches: reads the log of outcomes into live views, one for each width of a window, and decides by them and by the queue.
//!
//! What is in memory follows from the store, so whoever meets an error opens it anew.

use std::collections::BTreeMap;

use connectors::store::{AlertChange, Store, StoreError};
use operators::alerts::{Metric, Reading, Rule, end, next};
use records::{Alert, UtcMicros};

use crate::report::closing::PAGE;
use crate::report::live::Live;

/// Rules, and how their alerts stand.
pub struct Watch {
    store: Store,
    rules: Vec<Rule>,
    /// By width, in seconds.
    lives: BTreeMap<u32, Live>,
    read_seq: u64,
    alerts: BTreeMap<String, Alert>,
}

impl Watch {
    /// Goes on with the alerts of the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(store: Store, rules: Vec<Rule>, now: UtcMicros) -> Result<Self, StoreError> {
        let widths = rules.iter().filter(|rule| rule.metric != Metric::Queue).map(|rule| rule.window_s);
        let lives: BTreeMap<u32, Live> = widths.map(|width_s| (width_s, Live::new(width_s))).collect();
        let read_seq = match lives.last_key_value() {
            Some((_, widest)) => widest.begin(&store, now).await?,
            None => 0,
        };
        let alerts = store.alerts().await?.into_iter().map(|alert| (alert.name.clone(), alert)).collect();
        Ok(Self { store, rules, lives, read_seq, alerts })
    }

    /// Each rule, its alert as it stands (`None`: it never was anything but inactive), and what the rule reads of what has ended by
    /// `now`; `queue` is what waits by lane: high, low. A reading is `None` where that is not known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(
        &mut self,
        queue: Option<[u64; 2]>,
        now: UtcMicros,
    ) -> Result<Vec<(&Rule, Option<&Alert>, Option<Reading>)>, StoreError> {
        while !self.lives.is_empty() {
            let page = self.store.outcomes_after(self.read_seq, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            self.read_seq = *last;
            for live in self.lives.values_mut() {
                page.iter().for_each(|(_, outcome)| live.add(outcome, now));
            }
        }
        let windows: BTreeMap<u32, _> =
            self.lives.iter_mut().map(|(width_s, live)| (*width_s, live.totals(now))).collect();
        let read = |rule: &'_ Rule| {
            let window = windows.get(&rule.window_s).cloned().into_iter().flatten();
            rule.read(window, queue)
        };
        Ok(self.rules.iter().map(|rule| (rule, self.alerts.get(&rule.name), read(rule))).collect())
    }

    /// Reads, and gives the changes that follow.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn decide(&mut self, queue: Option<[u64; 2]>, now: UtcMicros) -> Result<Vec<AlertChange>, StoreError> {
        let change = |before: Option<&Alert>, after| AlertChange { before: before.map(|it| it.since), after };
        let mut changes: Vec<AlertChange> = Vec::new();
        for (rule, alert, reading) in self.read(queue, now).await? {
            let after = reading.and_then(|reading| next(alert, rule, reading, now));
            changes.extend(after.map(|after| change(alert, after)));
        }
        let is_gone = |alert: &&Alert| self.rules.iter().all(|rule| rule.name != alert.name);
        for alert in self.alerts.values().filter(is_gone) {
            changes.extend(end(alert, now).map(|after| change(Some(alert), after)));
        }
        Ok(changes)
    }

    /// Makes changes, and has each of `targets` told of those that are to be told.
    ///
    /// # Errors
    /// [`StoreError`]; then this is not to be used any more. [`StoreError::Held`] where somebody else watches as well.
    pub async fn make(&mut self, changes: Vec<AlertChange>, targets: &[String]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.store.change_alerts(&changes, targets).await?;
        self.alerts.extend(changes.into_iter().map(|change| (change.after.name.clone(), change.after)));
        Ok(())
    }

    /// Each rule, and its alert as it stands.
    pub fn alerts(&self) -> impl Iterator<Item = (&Rule, Option<&Alert>)> {
        self.rules.iter().map(|rule| (rule, self.alerts.get(&rule.name)))
    }
}
