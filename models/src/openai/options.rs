//! What the OpenAI branch is told to do: the section `[fallback]` of the configuration. The key is no part of it.

use std::collections::BTreeMap;

use records::MicroUsd;
use serde::Deserialize;

use super::ledger::Price;
use crate::ModelError;
use crate::breaker::BreakerRules;

/// The options of the OpenAI branch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenAiOptions {
    /// Where the API is, its version included.
    pub base_url: String,
    /// The model to ask; it takes audio and has a price below.
    pub model: String,
    /// What each model costs. The defaults are OpenAI's list prices of 2026.
    pub prices: BTreeMap<String, Price>,
    /// No call is made once this much was spent since midnight UTC; calls that are under way then may go past it. Counted
    /// from the start of the process. No limit where it is not set.
    pub daily_budget_micro_usd: Option<MicroUsd>,
    /// The longest that one upload's call may take, repeats and pauses included.
    pub timeout_ms: u64,
    /// What a call is granted although its upload's deadline is nearer, or past: a late answer is worth more than none,
    /// and no answer to sound comes sooner.
    pub least_timeout_ms: u64,
    /// How often a call is repeated that the service certainly did not serve: 429, 5xx, no connection.
    pub max_retries: u32,
    /// After this many failed calls in a row the service is left alone.
    pub breaker_failures: u32,
    /// How long it is left alone before one call tries whether it is back.
    pub breaker_pause_ms: u64,
    /// MP3 and 16-bit WAV files up to this size are sent as they are; of everything else, the beginning.
    pub max_audio_bytes: u64,
    /// How much a beginning is; it is sent as 16 kHz mono WAV.
    pub max_audio_s: u64,
    /// The longest answer, in tokens.
    pub max_answer_tokens: u32,
}

impl Default for OpenAiOptions {
    fn default() -> Self {
        let audio = Price {
            text_input_per_million: MicroUsd(2_500_000),
            cached_input_per_million: MicroUsd(2_500_000),
            audio_input_per_million: MicroUsd(32_000_000),
            output_per_million: MicroUsd(10_000_000),
        };
        Self {
            base_url: "https://api.openai.com/v1".to_owned(),
            model: "gpt-audio-1.5".to_owned(),
            prices: ["gpt-audio-1.5", "gpt-audio"].map(|model| (model.to_owned(), audio)).into(),
            daily_budget_micro_usd: None,
            timeout_ms: 60_000,
            least_timeout_ms: 10_000,
            max_retries: 3,
            breaker_failures: 5,
            breaker_pause_ms: 30_000,
            max_audio_bytes: 1_000_000,
            max_audio_s: 60,
            max_answer_tokens: 1_000,
        }
    }
}

impl OpenAiOptions {
    /// The price of the model, once everything else is known to be possible.
    ///
    /// # Errors
    /// A [`ModelError`] that names the option.
    pub fn check(&self) -> Result<Price, ModelError> {
        let url = reqwest::Url::parse(&self.base_url);
        if !url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            return Err(ModelError::OpenAi(format!("base_url {:?} is no http(s) address", self.base_url)));
        }
        for (name, value) in [
            ("least_timeout_ms", self.least_timeout_ms),
            ("breaker_failures", u64::from(self.breaker_failures)),
            ("max_audio_s", self.max_audio_s),
            ("max_answer_tokens", u64::from(self.max_answer_tokens)),
        ] {
            if value == 0 {
                return Err(ModelError::OpenAi(format!("{name} must be at least 1")));
            }
        }
        if self.least_timeout_ms > self.timeout_ms {
            let (least, most) = (self.least_timeout_ms, self.timeout_ms);
            return Err(ModelError::OpenAi(format!("least_timeout_ms ({least}) is above timeout_ms ({most})")));
        }
        self.prices.get(&self.model).copied().ok_or_else(|| {
            let known: Vec<_> = self.prices.keys().map(String::as_str).collect();
            ModelError::OpenAi(format!("model {:?} has no price; prices has {}", self.model, known.join(", ")))
        })
    }

    pub(super) fn breaker(&self) -> BreakerRules {
        BreakerRules { failures: self.breaker_failures, pause_ms: self.breaker_pause_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_possible_and_an_option_that_is_not_is_named() {
        OpenAiOptions::default().check().expect("possible");
        for (options, names) in [
            (OpenAiOptions { model: "gpt-9".into(), ..Default::default() }, "gpt-9"),
            (OpenAiOptions { base_url: "api.openai.com".into(), ..Default::default() }, "base_url"),
            (OpenAiOptions { least_timeout_ms: 0, ..Default::default() }, "least_timeout_ms"),
            (OpenAiOptions { timeout_ms: 1, ..Default::default() }, "timeout_ms"),
            (OpenAiOptions { breaker_failures: 0, ..Default::default() }, "breaker_failures"),
            (OpenAiOptions { max_audio_s: 0, ..Default::default() }, "max_audio_s"),
            (OpenAiOptions { max_answer_tokens: 0, ..Default::default() }, "max_answer_tokens"),
        ] {
            let error = options.check().expect_err("must be refused").to_string();
            assert!(error.contains(names), "{error}");
        }
    }

    #[test]
    fn a_key_that_no_option_has_is_refused() {
        let error = serde_json::from_str::<OpenAiOptions>(r#"{"api_key":"sk-1"}"#).expect_err("must be refused");
        assert!(error.to_string().contains("api_key"), "{error}");
    }
}
