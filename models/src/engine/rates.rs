//! How long the engine takes, learned from its steps, and so when a row that waits will be answered.

/// What a step did, or what is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Work {
    /// Mel frames encoded; a part of the layers counts as that part of the frames.
    pub(crate) frames: f64,
    /// Tokens of prompts read.
    pub(crate) tokens: usize,
    /// Rows whose answers went on.
    pub(crate) rows: usize,
}

/// What a new measurement weighs against all before it.
const WEIGHT: f64 = 0.1;
/// Numbers of rows, by powers of two, whose passes are measured apart.
const SIZES: usize = 10;

/// Exponential averages, in seconds; `None` until measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rates {
    frame: Option<f64>,
    token: Option<f64>,
    /// A pass that reads only answers, by the number of rows: up to 1, 2, 4, …
    pass: [Option<f64>; SIZES],
    /// Passes that an answer takes.
    passes: Option<f64>,
}

fn learn(average: &mut Option<f64>, measured: f64) {
    *average = Some(average.map_or(measured, |average| average + WEIGHT * (measured - average)));
}

fn size(rows: usize) -> usize {
    (rows.max(1).next_power_of_two().trailing_zeros() as usize).min(SIZES - 1)
}

impl Rates {
    /// Learns from a step that took so many seconds.
    pub(crate) fn learn_step(&mut self, work: &Work, took: f64) {
        let (frames, tokens) = (work.frames, work.tokens as f64);
        if frames == 0.0 && tokens == 0.0 {
            if work.rows > 0 {
                learn(&mut self.pass[size(work.rows)], took);
            }
            return;
        }
        let Some(answers) = (if work.rows == 0 { Some(0.0) } else { self.pass(work.rows) }) else { return };
        let reading = (took - answers).max(0.0);
        let (of_frames, of_tokens) = (self.frame.map(|frame| frame * frames), self.token.map(|token| token * tokens));
        if tokens == 0.0 {
            learn(&mut self.frame, reading / frames);
        } else if frames == 0.0 {
            learn(&mut self.token, reading / tokens);
        } else if let (Some(of_frames), Some(of_tokens)) = (of_frames, of_tokens) {
            // The two share it as they are known to cost.
            let factor = reading / (of_frames + of_tokens).max(f64::MIN_POSITIVE);
            learn(&mut self.frame, of_frames / frames * factor);
            learn(&mut self.token, of_tokens / tokens * factor);
        } else if let Some(of_tokens) = of_tokens {
            learn(&mut self.frame, (reading - of_tokens).max(0.0) / frames);
        } else {
            learn(&mut self.token, (reading - of_frames.unwrap_or_default()).max(0.0) / tokens);
        }
    }

    /// Learns from an answer that took so many passes.
    pub(crate) fn learn_answer(&mut self, passes: usize) {
        learn(&mut self.passes, passes as f64);
    }

    /// A pass of so many answers: as measured, or as the nearest number of rows that was.
    fn pass(&self, rows: usize) -> Option<f64> {
        let at = size(rows);
        let measured = (0..SIZES).filter_map(|size| Some((size.abs_diff(at), self.pass[size]?)));
        measured.min_by_key(|(distance, _)| *distance).map(|(_, pass)| pass)
    }

    /// Seconds until an answer is there before which all of `work` is to be done, its own included, and `rounds` answers
    /// one after the other, of `rows` at once. `None` while too little was measured.
    pub(crate) fn seconds(&self, work: &Work, rounds: usize, rows: usize) -> Option<f64> {
        let read = self.frame? * work.frames + self.token? * work.tokens as f64;
        Some(read + self.pass(rows)? * self.passes? * rounds as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn work(frames: f64, tokens: usize, rows: usize) -> Work {
        Work { frames, tokens, rows }
    }

    #[test]
    fn nothing_is_foretold_before_all_kinds_of_work_were_measured() {
        let mut rates = Rates::default();
        rates.learn_step(&work(0.0, 0, 1), 0.01);
        rates.learn_step(&work(500.0, 0, 0), 0.2);
        rates.learn_step(&work(0.0, 100, 1), 0.11);
        assert_eq!(rates.seconds(&work(1.0, 1, 0), 1, 1), None);
        rates.learn_answer(20);
        let seconds = rates.seconds(&work(1000.0, 200, 0), 2, 1).expect("all is known");
        assert!((seconds - (0.4 + 0.2 + 2.0 * 20.0 * 0.01)).abs() < 1e-9, "{seconds}");
    }

    proptest! {
        #[test]
        fn rates_settle_at_what_work_costs_whatever_the_mixture(
            frame in 1e-5f64..1e-3, token in 1e-5f64..1e-3, pass in 1e-4f64..1e-2,
            steps in prop::collection::vec((0usize..3, 0usize..3, 0usize..2), 400..500),
        ) {
            let mut rates = Rates::default();
            for (frames, tokens, rows) in steps {
                let work = work(frames as f64 * 250.0, tokens * 100, rows);
                let took = frame * work.frames + token * work.tokens as f64 + pass * work.rows as f64;
                rates.learn_step(&work, took);
            }
            rates.learn_answer(10);
            let found = rates.seconds(&work(1000.0, 500, 0), 1, 1).expect("all is known");
            let expected = frame * 1000.0 + token * 500.0 + pass * 10.0;
            prop_assert!((found - expected).abs() < 0.05 * expected, "{found}, not {expected}");
        }
    }
}
