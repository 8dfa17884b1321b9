//! The question as a chat completion, and the answer out of one.
//!
//! The schema is asked for in one of two ways. `response_format` with a strict JSON Schema is the one that guarantees the
//! form; none of OpenAI's audio models takes it (their model pages list structured outputs as not supported). Function
//! calling they all take: then the schema is the parameters of the one function that the model must call.

use async_openai::types::chat::{
    ChatCompletionMessageToolCalls, ChatCompletionNamedToolChoice, ChatCompletionRequestMessageContentPartAudio,
    ChatCompletionRequestMessageContentPartText, ChatCompletionRequestUserMessage,
    ChatCompletionRequestUserMessageContent, ChatCompletionRequestUserMessageContentPart, ChatCompletionTool,
    ChatCompletionToolChoiceOption, ChatCompletionTools, CreateChatCompletionRequest, CreateChatCompletionResponse,
    FinishReason, FunctionName, FunctionObject, InputAudio, ResponseFormat, ResponseFormatJsonSchema,
    ResponseModalities,
};
use records::{ErrorType, Fault, Metadata};
use serde_json::Value;

use super::strict::strict;
use crate::schema::MetadataSchema;

/// The longest name that OpenAI gives a schema or a function.
const LONGEST_NAME: usize = 64;

/// How the schema is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As the format of the answer.
    ResponseFormat,
    /// As the parameters of a function to call.
    Function,
}

/// What is the same in every question.
#[derive(Debug)]
pub(super) struct Question {
    model: String,
    max_answer_tokens: u32,
    name: String,
    schema: Value,
}

impl Question {
    pub(super) fn new(model: &str, max_answer_tokens: u32, schema: &MetadataSchema) -> Self {
        let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
        let name = schema.name().chars().map(allowed).take(LONGEST_NAME).collect();
        Self { model: model.to_owned(), max_answer_tokens, name, schema: strict(schema.json()) }
    }

    /// The request for one upload.
    pub(super) fn ask(&self, form: Form, prompt: &str, audio: &InputAudio) -> CreateChatCompletionRequest {
        let sound =
            ChatCompletionRequestMessageContentPartAudio { input_audio: audio.clone(), prompt_cache_breakpoint: None };
        let words = ChatCompletionRequestMessageContentPartText { text: prompt.to_owned(), ..Default::default() };
        let parts = vec![
            ChatCompletionRequestUserMessageContentPart::InputAudio(sound),
            ChatCompletionRequestUserMessageContentPart::Text(words),
        ];
        let content = ChatCompletionRequestUserMessageContent::Array(parts);
        let request = CreateChatCompletionRequest {
            model: self.model.clone(),
            messages: vec![ChatCompletionRequestUserMessage { content, name: None }.into()],
            modalities: Some(vec![ResponseModalities::Text]),
            max_completion_tokens: Some(self.max_answer_tokens),
            temperature: Some(0.0),
            ..Default::default()
        };
        match form {
            Form::ResponseFormat => CreateChatCompletionRequest {
                response_format: Some(ResponseFormat::JsonSchema {
                    json_schema: ResponseFormatJsonSchema {
                        description: None,
                        name: self.name.clone(),
                        schema: self.schema.clone(),
                        strict: Some(true),
                    },
                }),
                ..request
            },
            Form::Function => CreateChatCompletionRequest {
                tools: Some(vec![ChatCompletionTools::Function(ChatCompletionTool { function: self.function() })]),
                tool_choice: Some(ChatCompletionToolChoiceOption::Function(ChatCompletionNamedToolChoice {
                    function: FunctionName { name: self.name.clone() },
                })),
                ..request
            },
        }
    }

    /// Not strict, which is structured output again; the answer is checked in any case.
    fn function(&self) -> FunctionObject {
        FunctionObject {
            name: self.name.clone(),
            description: Some("Records what was heard.".to_owned()),
            parameters: Some(self.schema.clone()),
            strict: None,
        }
    }
}

/// The metadata in a response.
///
/// # Errors
/// Permanent where the model will not answer, or not within its limit; retryable where the answer breaks the schema.
pub(super) fn read(response: CreateChatCompletionResponse, schema: &MetadataSchema) -> Result<Metadata, Fault> {
    let Some(choice) = response.choices.into_iter().next() else {
        return Err(Fault::retryable(ErrorType::Model, "OpenAI's answer is empty"));
    };
    let message = choice.message;
    if message.refusal.is_some() {
        return Err(Fault::permanent(ErrorType::Refused, "OpenAI's model refuses to describe this audio"));
    }
    match choice.finish_reason {
        Some(FinishReason::Length) => {
            let reason = "OpenAI's answer is cut off at its limit: raise max_answer_tokens";
            return Err(Fault::permanent(ErrorType::Model, reason));
        }
        Some(FinishReason::ContentFilter) => {
            return Err(Fault::permanent(ErrorType::Refused, "OpenAI's content filter withheld the answer"));
        }
        Some(FinishReason::Stop | FinishReason::ToolCalls | FinishReason::FunctionCall) | None => {}
    }
    let called = message.tool_calls.into_iter().flatten().find_map(|call| match call {
        ChatCompletionMessageToolCalls::Function(call) => Some(call.function.arguments),
        ChatCompletionMessageToolCalls::Custom(_) => None,
    });
    let answer = called.or(message.content).unwrap_or_default();
    schema.read(&answer).map_err(|reason| Fault::retryable(ErrorType::Model, format!("OpenAI: {reason}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ANSWER: &str = r#"{"genre":"rock","tempo_bpm":120,"key":"E minor","instruments":["drums"]}"#;

    fn schema() -> MetadataSchema {
        MetadataSchema::load("music-basic").expect("built in")
    }

    fn response(choice: Value) -> CreateChatCompletionResponse {
        let choices = if choice.is_null() { json!([]) } else { json!([choice]) };
        let response = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices});
        serde_json::from_value(response).expect("a chat completion")
    }

    #[test]
    fn the_schema_goes_as_strict_format_or_as_the_one_function_to_call() {
        let question = Question::new("gpt-audio", 99, &schema());
        let audio = InputAudio { data: "UklGRg==".into(), ..Default::default() };
        let asked = |form| serde_json::to_value(question.ask(form, "What is it?", &audio)).expect("serialises");

        let format = asked(Form::ResponseFormat);
        assert_eq!(format["response_format"]["json_schema"]["strict"], true);
        assert_eq!(format["response_format"]["json_schema"]["name"], "music-basic");
        assert_eq!(format["messages"][0]["content"][0]["input_audio"], json!({"data": "UklGRg==", "format": "mp3"}));
        assert_eq!(format["messages"][0]["content"][1]["text"], "What is it?");
        assert_eq!((&format["max_completion_tokens"], &format["modalities"]), (&json!(99), &json!(["text"])));
        assert!(format.get("tools").is_none());

        let function = asked(Form::Function);
        assert!(function.get("response_format").is_none());
        assert_eq!(function["tool_choice"], json!({"type": "function", "function": {"name": "music-basic"}}));
        let parameters = &function["tools"][0]["function"]["parameters"];
        assert_eq!(*parameters, format["response_format"]["json_schema"]["schema"]);
    }

    #[test]
    fn the_answer_is_read_from_the_text_or_from_the_call() {
        let call = json!([{"id": "1", "type": "function", "function": {"name": "music-basic", "arguments": ANSWER}}]);
        for message in [
            json!({"role": "assistant", "content": ANSWER}),
            json!({"role": "assistant", "content": null, "tool_calls": call}),
        ] {
            let response = response(json!({"index": 0, "message": message, "finish_reason": "stop"}));
            assert_eq!(read(response, &schema()).expect("valid")["genre"], "rock");
        }
    }

    #[test]
    fn an_answer_that_is_none_is_a_fault_that_says_which() {
        let message = |content: &str| json!({"role": "assistant", "content": content});
        let refusal = json!({"role": "assistant", "content": null, "refusal": "I can't help with that."});
        for (choice, fault) in [
            (Value::Null, Fault::retryable(ErrorType::Model, "empty")),
            (json!({"message": refusal, "finish_reason": "stop"}), Fault::permanent(ErrorType::Refused, "refuses")),
            (
                json!({"message": message(ANSWER), "finish_reason": "content_filter"}),
                Fault::permanent(ErrorType::Refused, "filter"),
            ),
            (
                json!({"message": message("{\"genre\":"), "finish_reason": "length"}),
                Fault::permanent(ErrorType::Model, "max_answer_tokens"),
            ),
            (json!({"message": message("{\"genre\":"), "finish_reason": "stop"}), {
                Fault::retryable(ErrorType::Model, "no JSON")
            }),
            (json!({"message": message("{}"), "finish_reason": "stop"}), Fault::retryable(ErrorType::Model, "breaks")),
            (json!({"message": {"role": "assistant"}}), Fault::retryable(ErrorType::Model, "no JSON")),
        ] {
            let mut choice = choice;
            if let Some(choice) = choice.as_object_mut() {
                choice.insert("index".into(), 0.into());
            }
            let found = read(response(choice), &schema()).expect_err("no answer");
            assert_eq!((found.class, found.error_type), (fault.class, fault.error_type), "{found}");
            assert!(found.message.contains(&fault.message), "{found} does not say {:?}", fault.message);
        }
    }
}
