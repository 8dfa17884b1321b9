//! The paid model: OpenAI's chat completions through async-openai, asked about what the primary was not sure of.
//!
//! A call passes the day's budget and the circuit breaker, then has one time limit for everything: the request, the
//! pauses and the repeats. Each upload's requests carry an `Idempotency-Key` made from its id, so that whatever stands
//! between us and the model (OpenAI itself does not promise to) can tell a repeat from a second question.

mod chat;
mod clip;
mod failure;
mod ledger;
mod options;
mod pause;
mod strict;
mod time;
mod transport;

pub use ledger::{OpenAiCounts, Price};
pub use options::OpenAiOptions;
pub use secrecy::SecretString;
pub use time::Time;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_openai::Client;
use async_openai::config::Config;
use async_openai::traits::RequestOptionsBuilder;
use async_openai::types::chat::{CreateChatCompletionResponse, InputAudio};
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use records::{Annotation, ErrorType, Fault, MicroUsd, UtcMicros};
use secrecy::ExposeSecret;

use crate::breaker::Breaker;
use crate::schema::MetadataSchema;
use crate::{Annotator, ModelError, Request};
use chat::{Form, Question};
use failure::Failure;
use ledger::Ledger;
use transport::Access;

/// The OpenAI branch. It gives no measure of confidence, because audio models give no token probabilities.
pub struct OpenAi {
    options: OpenAiOptions,
    price: Price,
    schema: Arc<MetadataSchema>,
    question: Question,
    client: Client<Access>,
    breaker: Arc<Breaker>,
    ledger: Arc<Ledger>,
    /// The model does not take a response format: it said so once, and is not asked that way again.
    by_function: AtomicBool,
    time: Time,
}

/// A chat completion and how long the model took for it.
struct Answered {
    response: CreateChatCompletionResponse,
    took_ms: u64,
}

impl OpenAi {
    /// Prepares the client; nothing is sent.
    ///
    /// # Errors
    /// A [`ModelError`] that names the option that cannot be, or says that the key cannot be one (and not what it is).
    pub fn new(
        options: OpenAiOptions,
        key: &SecretString,
        schema: Arc<MetadataSchema>,
        time: Time,
    ) -> Result<Self, ModelError> {
        let price = options.check()?;
        Ok(Self {
            price,
            question: Question::new(&options.model, options.max_answer_tokens, &schema),
            client: transport::client(Access::new(&options.base_url, key)?)?,
            breaker: Arc::new(Breaker::new(options.breaker())),
            ledger: Arc::new(Ledger::new(options.daily_budget_micro_usd)),
            by_function: AtomicBool::new(false),
            options,
            schema,
            time,
        })
    }

    /// The same model with answers of another schema: budget, counts and circuit breaker are one for both.
    pub fn with_schema(&self, schema: Arc<MetadataSchema>) -> Self {
        Self {
            options: self.options.clone(),
            price: self.price,
            question: Question::new(&self.options.model, self.options.max_answer_tokens, &schema),
            schema,
            client: self.client.clone(),
            breaker: Arc::clone(&self.breaker),
            ledger: Arc::clone(&self.ledger),
            by_function: AtomicBool::new(self.by_function.load(Ordering::Relaxed)),
            time: self.time.clone(),
        }
    }

    /// Whether the service is asked at present: the circuit breaker is closed, or may try.
    pub fn is_available(&self) -> bool {
        self.breaker.is_available(self.now())
    }

    /// The counters since the process began.
    pub fn counts(&self) -> OpenAiCounts {
        self.ledger.counts()
    }

    /// Everything that was billed since the process began, answers that could not be used included. Of a call that was given
    /// up, nobody knows.
    pub fn spent(&self) -> MicroUsd {
        self.ledger.counts().spent
    }

    async fn ask(&self, request: &Request) -> Result<Annotation, Fault> {
        let now = self.now();
        if let Some(budget) = self.ledger.used_up(now) {
            let reason = format!("over budget: {} micro-dollars a day for OpenAI are spent", budget.0);
            return Err(Fault::permanent(ErrorType::Refused, reason));
        }
        let Some(pass) = self.breaker.pass(now) else {
            let reason = "OpenAI failed too often in a row and is left alone for a while";
            return Err(Fault::retryable(ErrorType::Unavailable, reason));
        };
        let audio = clip::clip(request.audio.clone(), self.options.max_audio_bytes, self.options.max_audio_s).await?;
        let answered = self.within_time(request, &audio).await;
        if !answered.as_ref().is_err_and(Failure::is_outage) {
            pass.succeeded();
        } else if pass.failed(self.now()) {
            let pause_ms = self.options.breaker_pause_ms;
            tracing::error!(upload_id = %request.upload_id, pause_ms, "OpenAI keeps failing and is left alone");
        }
        let Answered { response, took_ms } = answered.map_err(|failure| failure.fault(self.key()))?;
        let cost = self.cost(&response);
        self.ledger.spent(cost, self.now());
        let metadata = chat::read(response, &self.schema).map_err(|fault| self.without_key(fault).costing(cost))?;
        Ok(Annotation {
            model: self.options.model.clone(),
            metadata,
            confidence: None,
            field_confidence: Default::default(),
            inference_ms: took_ms,
            cost,
        })
    }

    /// The call within its time limit: to the upload's deadline, but at least `least_timeout_ms` and at most `timeout_ms`.
    async fn within_time(&self, request: &Request, audio: &InputAudio) -> Result<Answered, Failure> {
        let (now, options) = (self.now(), &self.options);
        let limit_ms = request.deadline.ms_since(now).clamp(options.least_timeout_ms, options.timeout_ms);
        let limit = Duration::from_millis(limit_ms);
        let call = std::pin::pin!(self.call(request, audio, now.plus_ms(limit_ms)));
        match select(call, (self.time.sleep)(limit)).await {
            Either::Left((answered, _)) => answered,
            Either::Right(_) => Err(Failure::TimedOut(limit)),
        }
    }

    /// Asks, and asks again where the service certainly did nothing and the pause before it ends in time.
    async fn call(&self, request: &Request, audio: &InputAudio, end: UtcMicros) -> Result<Answered, Failure> {
        let mut repeat = 0;
        loop {
            let form = match self.by_function.load(Ordering::Relaxed) {
                true => Form::Function,
                false => Form::ResponseFormat,
            };
            self.ledger.requested(repeat > 0);
            let failure = match self.exchange(request, form, audio).await {
                Ok(answered) => return Ok(answered),
                Err(failure) => failure,
            };
            if form == Form::ResponseFormat && failure.is_about_response_format() {
                tracing::info!(model = self.model(), "the model takes no response format and is asked by function");
                self.by_function.store(true, Ordering::Relaxed);
                continue;
            }
            repeat += 1;
            let now = self.now();
            let pause = pause::pause(failure.retry_after(), repeat, &request.upload_id, now);
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            if !failure.is_worth_repeating() || repeat > self.options.max_retries || now.plus_ms(pause_ms) >= end {
                return Err(failure);
            }
            let fault = failure.fault(self.key());
            tracing::warn!(upload_id = %request.upload_id, lane = %request.lane, pause_ms, %fault, "OpenAI is asked again");
            (self.time.sleep)(pause).await;
        }
    }

    async fn exchange(&self, request: &Request, form: Form, audio: &InputAudio) -> Result<Answered, Failure> {
        // The two forms are two questions: under one key, a gateway would answer the second with the refusal of the first.
        let key = match form {
            Form::ResponseFormat => request.upload_id.to_string(),
            Form::Function => format!("{}/function", request.upload_id),
        };
        let asked_at = self.now();
        let chat = self.client.chat().header("Idempotency-Key", key)?;
        let response = chat.create(self.question.ask(form, &request.prompt, audio)).await?;
        Ok(Answered { response, took_ms: self.now().ms_since(asked_at) })
    }

    fn cost(&self, response: &CreateChatCompletionResponse) -> MicroUsd {
        match &response.usage {
            Some(usage) => self.price.of(usage),
            None => {
                tracing::warn!(model = self.model(), "an answer came without its usage: its cost is not counted");
                MicroUsd(0)
            }
        }
    }

    /// A model may say anything, and a fault of its answer quotes it.
    fn without_key(&self, fault: Fault) -> Fault {
        Fault { message: fault.message.replace(self.key(), "[key]"), ..fault }
    }

    fn key(&self) -> &str {
        self.client.config().api_key().expose_secret()
    }

    fn now(&self) -> UtcMicros {
        (self.time.now)()
    }
}

impl Annotator for OpenAi {
    fn model(&self) -> &str {
        &self.options.model
    }

    fn annotate(&self, request: Request) -> BoxFuture<'_, Result<Annotation, Fault>> {
        async move {
            let result = self.ask(&request).await;
            if let Err(fault) = &result {
                self.ledger.failed(fault.error_type);
            }
            result
        }
        .boxed()
    }
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi").field("options", &self.options).field("counts", &self.counts()).finish_non_exhaustive()
    }
}
