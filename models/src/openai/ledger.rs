//! What was asked, what failed, what it cost.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_openai::types::chat::CompletionUsage;
use records::{ErrorType, MicroUsd, UtcMicros};
use serde::Deserialize;

const MICROS_A_DAY: u64 = 24 * 60 * 60 * 1_000_000;

/// What a model costs, each for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Text in the request.
    pub text_input_per_million: MicroUsd,
    /// What the service remembers from an earlier request.
    pub cached_input_per_million: MicroUsd,
    /// Sound in the request.
    pub audio_input_per_million: MicroUsd,
    /// The answer.
    pub output_per_million: MicroUsd,
}

impl Price {
    /// What a call cost, rounded up to whole micro-dollars. Where cached tokens are sound too, they are charged twice,
    /// because the usage does not tell: never too little.
    pub(super) fn of(&self, usage: &CompletionUsage) -> MicroUsd {
        let details = usage.prompt_tokens_details.as_ref();
        let cached = details.and_then(|details| details.cached_tokens).unwrap_or(0);
        let audio = details.and_then(|details| details.audio_tokens).unwrap_or(0);
        let text = usage.prompt_tokens.saturating_sub(cached).saturating_sub(audio);
        let millionths: u128 = [
            (text, self.text_input_per_million),
            (cached, self.cached_input_per_million),
            (audio, self.audio_input_per_million),
            (usage.completion_tokens, self.output_per_million),
        ]
        .into_iter()
        .map(|(tokens, price)| u128::from(tokens) * u128::from(price.0))
        .sum();
        MicroUsd(u64::try_from(millionths.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}

/// The counters of the OpenAI branch since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenAiCounts {
    /// Requests sent, repeats included.
    pub requests: u64,
    /// Requests that were repeats.
    pub retries: u64,
    /// Uploads without an answer, by why.
    pub failures: BTreeMap<ErrorType, u64>,
    /// Everything that was billed, for answers that could not be used too.
    pub spent: MicroUsd,
}

#[derive(Debug, Default)]
struct Book {
    counts: OpenAiCounts,
    day: u64,
    today: MicroUsd,
}

/// Keeps the counts and the day's budget.
#[derive(Debug)]
pub(super) struct Ledger {
    budget: Option<MicroUsd>,
    book: Mutex<Book>,
}

impl Ledger {
    pub(super) fn new(budget: Option<MicroUsd>) -> Self {
        Self { budget, book: Mutex::default() }
    }

    pub(super) fn counts(&self) -> OpenAiCounts {
        self.book().counts.clone()
    }

    pub(super) fn requested(&self, is_retry: bool) {
        let mut book = self.book();
        book.counts.requests += 1;
        book.counts.retries += u64::from(is_retry);
    }

    pub(super) fn failed(&self, error_type: ErrorType) {
        *self.book().counts.failures.entry(error_type).or_default() += 1;
    }

    pub(super) fn spent(&self, cost: MicroUsd, now: UtcMicros) {
        let mut book = self.book();
        book.counts.spent = book.counts.spent + cost;
        book.turn_to(now);
        book.today = book.today + cost;
    }

    /// The day's budget, where it is used up.
    pub(super) fn used_up(&self, now: UtcMicros) -> Option<MicroUsd> {
        let mut book = self.book();
        book.turn_to(now);
        self.budget.filter(|budget| book.today >= *budget)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nothing panics while it holds the book")
    }
}

impl Book {
    fn turn_to(&mut self, now: UtcMicros) {
        let day = now.0 / MICROS_A_DAY;
        if day > self.day {
            self.day = day;
            self.today = MicroUsd(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use async_openai::types::chat::PromptTokensDetails;

    use super::*;

    const PRICE: Price = Price {
        text_input_per_million: MicroUsd(2_500_000),
        cached_input_per_million: MicroUsd(250_000),
        audio_input_per_million: MicroUsd(32_000_000),
        output_per_million: MicroUsd(10_000_000),
    };

    fn usage(prompt: u32, audio: u32, cached: u32, completion: u32) -> CompletionUsage {
        let details =
            PromptTokensDetails { audio_tokens: Some(audio), cached_tokens: Some(cached), ..Default::default() };
        CompletionUsage {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt + completion,
            prompt_tokens_details: Some(details),
            completion_tokens_details: None,
        }
    }

    #[test]
    fn a_call_costs_its_tokens_by_kind_rounded_up_to_micro_dollars() {
        // 300 text at 2.5, 100 cached at 0.25, 600 sound at 32, 80 out at 10 micro-dollars each.
        assert_eq!(PRICE.of(&usage(1_000, 600, 100, 80)), MicroUsd(750 + 25 + 19_200 + 800));
        assert_eq!(PRICE.of(&usage(1, 0, 0, 0)), MicroUsd(3));
        assert_eq!(PRICE.of(&usage(1, 0, 1, 0)), MicroUsd(1));
        assert_eq!(PRICE.of(&usage(0, 0, 0, 0)), MicroUsd(0));
        let without_details = CompletionUsage { prompt_tokens_details: None, ..usage(1_000, 600, 100, 80) };
        assert_eq!(PRICE.of(&without_details), MicroUsd(2_500 + 800));
    }

    #[test]
    fn the_budget_is_used_up_when_it_is_reached_and_fresh_at_midnight() {
        let noon = UtcMicros(MICROS_A_DAY * 20_000 + MICROS_A_DAY / 2);
        let ledger = Ledger::new(Some(MicroUsd(100)));
        ledger.spent(MicroUsd(99), noon);
        assert_eq!(ledger.used_up(noon), None);
        ledger.spent(MicroUsd(1), noon);
        assert_eq!(ledger.used_up(noon), Some(MicroUsd(100)));
        let midnight = UtcMicros(MICROS_A_DAY * 20_001);
        assert_eq!(ledger.used_up(UtcMicros(midnight.0 - 1)), Some(MicroUsd(100)));
        assert_eq!(ledger.used_up(midnight), None);
        assert_eq!(ledger.counts().spent, MicroUsd(100), "the total outlives the day");
        assert_eq!(Ledger::new(None).used_up(noon), None);
    }
}
