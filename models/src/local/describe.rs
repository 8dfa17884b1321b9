//! A batch on the model: rows in, annotations out.

use std::slice;
use std::sync::Arc;

use records::{Annotation, ErrorType, Fault, MicroUsd};

use super::Clock;
use super::merge::{Described, merge};
use crate::ModelError;
use crate::confidence::{by_field, overall};
use crate::grammar::{AnswerGrammar, GrammarChooser};
use crate::qwen2_audio::{Qwen2Audio, Row};
use crate::schema::MetadataSchema;

/// The model with what turns its tokens into annotations.
pub(super) struct Describer {
    pub(super) model: Qwen2Audio,
    pub(super) grammar: AnswerGrammar,
    pub(super) schema: Arc<MetadataSchema>,
    pub(super) name: String,
    pub(super) clock: Clock,
}

impl Describer {
    /// An annotation for each request, which has a row for each of its segments. All rows are run together.
    pub(super) fn describe(&self, requests: Vec<Vec<Row>>) -> Vec<Result<Annotation, Fault>> {
        let segments: Vec<usize> = requests.iter().map(Vec::len).collect();
        let rows: Vec<Row> = requests.into_iter().flatten().collect();
        let started = (self.clock)();
        let mut described = together_or_alone(&rows, |rows| self.rows(rows)).into_iter();
        let inference_ms = (self.clock)().ms_since(started);
        let annotation = |segments| {
            let of_request: Vec<_> = described.by_ref().take(segments).collect();
            let of_request: Vec<Described> = of_request.into_iter().collect::<Result<_, _>>()?;
            let nothing = || Fault::permanent(ErrorType::AudioTooShort, "there is nothing to hear");
            let Described { metadata, confidence } = merge(of_request).ok_or_else(nothing)?;
            Ok(Annotation {
                model: self.name.clone(),
                metadata,
                confidence: Some(overall(&self.schema, &confidence)),
                field_confidence: confidence,
                inference_ms,
                cost: MicroUsd(0),
            })
        };
        segments.into_iter().map(annotation).collect()
    }

    fn rows(&self, rows: &[Row]) -> Vec<Result<Described, ModelError>> {
        let mut choosers: Vec<GrammarChooser> = rows.iter().map(|_| self.grammar.chooser()).collect();
        let generated = self.model.generate(rows, &mut choosers);
        generated.into_iter().zip(choosers).map(|(result, chooser)| result.and_then(|_| self.read(chooser))).collect()
    }

    fn read(&self, chooser: GrammarChooser) -> Result<Described, ModelError> {
        let (answer, choices) = chooser.into_answer()?;
        // Why it does not read would quote the answer.
        let metadata = self.schema.read(&answer).map_err(|_| {
            ModelError::Grammar(format!("an answer that the schema {} refuses was let through", self.schema.name()))
        })?;
        Ok(Described { metadata, confidence: by_field(&self.schema, &answer, &choices) })
    }
}

/// Runs rows together, and once more alone each of them on which libtorch failed: so the row that was too large, or that
/// libtorch does not bear, fails alone.
fn together_or_alone<T>(
    rows: &[Row],
    run: impl Fn(&[Row]) -> Vec<Result<T, ModelError>>,
) -> Vec<Result<T, ModelError>> {
    let mut results = run(rows);
    if rows.len() > 1 {
        for (row, result) in
            rows.iter().zip(&mut results).filter(|(_, result)| matches!(result, Err(ModelError::Torch(_))))
        {
            tracing::warn!(batch = rows.len(), "libtorch failed on a batch: a row of it is run alone");
            if let Some(alone) = run(slice::from_ref(row)).pop() {
                *result = alone;
            }
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn row(question: &str) -> Row {
        Row { mels: Vec::new(), question: question.into() }
    }

    /// A model on which a batch fails that holds a row named "poison", and the row "NaN" fails by itself.
    fn run(rows: &[Row]) -> Vec<Result<Arc<str>, ModelError>> {
        let poisoned = rows.iter().any(|row| &*row.question == "poison");
        let answer = |row: &Row| match &*row.question {
            "NaN" => Err(ModelError::NotANumber { token: 0 }),
            _ if poisoned => Err(ModelError::Torch("out of memory".into())),
            _ => Ok(Arc::clone(&row.question)),
        };
        rows.iter().map(answer).collect()
    }

    #[test]
    fn a_row_that_libtorch_does_not_bear_fails_alone() {
        let rows = ["a", "poison", "NaN", "b"].map(row);
        let results = together_or_alone(&rows, run);
        assert_eq!(results[0].as_deref().ok(), Some("a"));
        assert!(matches!(results[1], Err(ModelError::Torch(_))), "{:?}", results[1]);
        assert!(matches!(results[2], Err(ModelError::NotANumber { .. })), "{:?}", results[2]);
        assert_eq!(results[3].as_deref().ok(), Some("b"));
    }

    #[test]
    fn what_did_not_fail_in_libtorch_is_not_run_again() {
        let runs = RefCell::new(Vec::new());
        for rows in [&["a", "NaN"][..], &["poison"], &["a", "poison"]] {
            let rows: Vec<Row> = rows.iter().map(|question| row(question)).collect();
            together_or_alone(&rows, |rows| {
                runs.borrow_mut().push(rows.len());
                run(rows)
            });
        }
        assert_eq!(runs.take(), [2, 1, 2, 1, 1]);
    }
}
