//! One pass of the language model over the new tokens of all rows that run.

use records::Lane;
use tch::Tensor;

use super::Engine;
use super::choice::choose;
use super::hearing::guarded;
use super::row::Clips;
use crate::qwen2_audio::Span;
use crate::{Chosen, ModelError, TokenChooser};

/// Tokens of prompts that a pass reads at most beside the answers' own, on CUDA and on a processor: enough to be worth the
/// pass, and no more, as who comes meanwhile waits for it.
const CHUNK: usize = 512;
const CHUNK_ON_CPU: usize = 256;
/// The same of low-priority prompts while a high-priority row is being answered: what such a row waits in each pass.
const CHUNK_BESIDE_HIGH: usize = 64;

/// A row's part of a pass.
#[derive(Clone, Debug)]
struct Turn {
    key: u64,
    span: Span,
    /// Whether all it has is read then, so that the model says what comes next.
    asked: bool,
}

impl<C: TokenChooser + 'static> Engine<'_, C> {
    /// Reads the next tokens of all rows that are heard, and lets each that is asked go on by the model's choice.
    pub(super) fn read(&mut self) {
        let turns = self.turns();
        if turns.is_empty() {
            return;
        }
        let asked = turns.iter().filter(|turn| turn.asked);
        let choosers = asked.filter_map(|turn| Some((turn.key, self.rows.get_mut(&turn.key)?.chooser.take()?)));
        let choosers = choosers.collect();
        self.masks.ask(choosers);
        let of_prompt = |turn: &Turn| self.rows.get(&turn.key).map_or(0, |row| turn.span.new.min(row.unread_prompt()));
        self.work.tokens = turns.iter().map(of_prompt).sum();
        self.work.rows = turns.iter().filter(|turn| turn.asked).count();
        match self.pass(&turns) {
            Ok(choices) => self.go_on(&turns, choices),
            Err(error) if turns.len() == 1 => self.fail_on_device(turns[0].key, error),
            Err(error) => {
                tracing::warn!(rows = turns.len(), %error, "a pass failed: each row is read alone");
                for turn in turns {
                    match self.pass(std::slice::from_ref(&turn)) {
                        Ok(choices) => self.go_on(&[turn], choices),
                        Err(error) => self.fail_on_device(turn.key, error),
                    }
                }
            }
        }
    }

    /// Whose turn it is and for how many tokens: every answer's own, and of prompts, the most urgent first, up to a chunk.
    /// Neighbours in the cache with one token each come first and in its order: they attend together.
    fn turns(&self) -> Vec<Turn> {
        let running = || self.schedule.running().filter_map(|ask| Some((ask.key, self.rows.get(&ask.key)?)));
        let urgent = running().any(|(_, row)| row.urgency.lane == Lane::High);
        let mut room = if self.model.is_on_cpu() { CHUNK_ON_CPU } else { CHUNK };
        let mut low_room = if urgent { CHUNK_BESIDE_HIGH } else { room };
        let turn = |(key, row): (u64, &super::row::Answering<C>)| {
            if !matches!(row.clips, Clips::Heard(_)) {
                return None;
            }
            let mut new = row.unread();
            if !row.is_decoding() {
                new = new.min(room);
                if row.urgency.lane == Lane::Low {
                    new = new.min(low_room);
                    low_room -= new;
                }
                room -= new;
            }
            let span = row.span(new).filter(|span| span.new > 0)?;
            Some(Turn { key, asked: new == row.unread(), span })
        };
        let mut turns: Vec<Turn> = running().filter_map(turn).collect();
        turns.sort_by_key(|turn| (turn.span.new > 1, turn.span.slot.start));
        turns
    }

    /// The choice for each turn that is asked.
    fn pass(&mut self, turns: &[Turn]) -> Result<Vec<Option<Chosen>>, ModelError> {
        let logits = guarded(|| self.logits(turns));
        // The choosers come back whatever came of the pass.
        for (key, chooser, allowed) in self.masks.answers() {
            let Some(row) = self.rows.get_mut(&key) else { continue };
            row.chooser = Some(chooser);
            match allowed {
                Ok(allowed) => row.allowed = allowed,
                Err(error) => row.refused = Some(error),
            }
        }
        let asked = turns.iter().filter(|turn| turn.asked);
        let allowed: Vec<_> = asked.map(|turn| self.rows.get(&turn.key).and_then(|row| row.allowed.as_ref())).collect();
        match allowed.is_empty() {
            true => logits.map(|_| Vec::new()),
            false => Ok(choose(&logits?, &allowed)?),
        }
    }

    fn logits(&mut self, turns: &[Turn]) -> Result<Tensor, ModelError> {
        #[cfg(test)]
        if let Some(fault) = &mut self.fault {
            fault(&turns.iter().map(|turn| turn.key).collect::<Vec<_>>())?;
        }
        let (mut ids, mut sound, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        for Turn { key, span, asked: is_asked } in turns {
            let Some(row) = self.rows.get(key) else { continue };
            sound.extend(row.sound(span.new).into_iter().map(|(at, clip)| (ids.len() + at, clip)));
            ids.extend(&row.tokens[span.held..span.held + span.new]);
            if *is_asked {
                asked.push(ids.len() as i64 - 1);
            }
        }
        let spans: Vec<Span> = turns.iter().map(|turn| turn.span.clone()).collect();
        Ok(self.model.read(&ids, &sound, &spans, &mut self.cache, &asked)?)
    }

    fn go_on(&mut self, turns: &[Turn], choices: Vec<Option<Chosen>>) {
        let vocab = self.model.config().text_config.vocab_size;
        let mut choices = choices.into_iter();
        for Turn { key, span, asked } in turns {
            let chosen = if *asked { choices.next() } else { None };
            let Some(row) = self.rows.get_mut(key) else { continue };
            row.held += span.new;
            let Some(chosen) = chosen else { continue };
            let next = match row.refused.take() {
                Some(error) => Err(error),
                None => row.go_on(chosen, vocab),
            };
            match next {
                Ok(false) => {}
                Ok(true) => {
                    self.schedule.remove(*key);
                    let answer = self.rows.remove(key).and_then(super::row::Answering::into_answer);
                    self.ended.extend(answer.map(|answer| (*key, Ok(answer))));
                }
                Err(error) => self.fail(*key, error),
            }
        }
    }

    /// Ends a row on which libtorch failed, and finds out whether the device still works: some errors of CUDA stay for as
    /// long as the process lives.
    pub(super) fn fail_on_device(&mut self, key: u64, error: ModelError) {
        self.fail(key, error);
        self.broken |= guarded(|| self.probe()).is_err();
    }

    fn probe(&mut self) -> Result<(), ModelError> {
        #[cfg(test)]
        if let Some(fault) = &mut self.fault {
            fault(&[])?;
        }
        Ok(self.model.probe()?)
    }
}
