//! The model's choice among allowed tokens, worked out where the logits lie: a few numbers a row are read back, not the
//! whole vocabulary.

use tch::{Kind, TchError, Tensor};
use toktrie::SimpleVob;

use crate::Chosen;

/// For each row of `logits` (rows, vocab) the likeliest token among those allowed it; `None` allows all. A row whose
/// logits are no numbers has no choice.
pub(super) fn choose(logits: &Tensor, allowed: &[Option<&SimpleVob>]) -> Result<Vec<Option<Chosen>>, TchError> {
    let whole = logits.f_logsumexp(-1, false)?;
    let (masked, among) = if allowed.iter().all(Option::is_none) {
        (logits.shallow_clone(), whole.shallow_clone())
    } else {
        let masked = logits.f_masked_fill(&forbidden(logits, allowed)?, f64::NEG_INFINITY)?;
        let among = masked.f_logsumexp(-1, false)?;
        (masked, among)
    };
    let (most, token) = masked.f_max_dim(-1, false)?;
    // A token's number is below 2^24, so float32 holds it.
    let numbers = Tensor::f_stack(&[token.f_to_kind(Kind::Float)?, most, among, whole], -1)?;
    let numbers = Vec::<f32>::try_from(&numbers.f_view([-1])?)?;
    Ok(numbers.chunks_exact(4).zip(allowed).map(|(row, allowed)| chosen(row, *allowed)).collect())
}

fn chosen(row: &[f32], allowed: Option<&SimpleVob>) -> Option<Chosen> {
    let &[token, most, among, whole] = row else { return None };
    if !whole.is_finite() {
        return None;
    }
    if most == f32::NEG_INFINITY {
        // All that is allowed is impossible: the first of equals.
        let (first, count) = allowed.map_or((None, 0), |allowed| (allowed.first_bit_set(), allowed.num_set()));
        return Some(Chosen { token: first? as u32, log_prob: most, mass: 0.0, share: (count as f64).recip() });
    }
    let probability = |part: f32, of: f32| f64::from(part - of).exp().min(1.0);
    let (mass, share) = (probability(among, whole), probability(most, among));
    Some(Chosen { token: token as u32, log_prob: most - whole, mass, share })
}

/// (rows, vocab): the tokens that may not come. The bits go to the device as they are, an eighth of a byte a token.
fn forbidden(logits: &Tensor, allowed: &[Option<&SimpleVob>]) -> Result<Tensor, TchError> {
    let (rows, vocab) = logits.size2()?;
    let words = (vocab as usize).div_ceil(32);
    let mut bits = Vec::with_capacity(allowed.len() * words * 4);
    for (row, allowed) in (1..).zip(allowed) {
        match allowed {
            Some(allowed) => bits.extend(allowed.as_slice().iter().take(words).flat_map(|word| word.to_le_bytes())),
            None => bits.resize(bits.len() + words * 4, u8::MAX),
        }
        bits.resize(row * words * 4, 0);
    }
    let (bits, ones) = (Tensor::f_from_slice(&bits)?, Tensor::f_from_slice(&[1u8, 2, 4, 8, 16, 32, 64, 128])?);
    let bits = bits.f_view([rows, words as i64 * 4, 1])?.f_to_device(logits.device())?;
    let allowed = bits.f_bitwise_and_tensor(&ones.f_to_device(logits.device())?)?;
    allowed.f_view([rows, -1])?.f_narrow(1, 0, vocab)?.f_eq(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chooser::choice;

    fn mask(tokens: &[bool]) -> SimpleVob {
        SimpleVob::from_slice(tokens)
    }

    #[test]
    fn a_row_of_no_numbers_has_no_choice_and_the_others_have() {
        let logits = Tensor::from_slice(&[0.0, f32::NAN, 1.0, 2.0, 5.0, f32::INFINITY]).view([3, 2]);
        let forbids_the_nan = mask(&[true, false]);
        let chosen = choose(&logits, &[Some(&forbids_the_nan), None, None]).expect("runs");
        assert_eq!((chosen[0], chosen[2]), (None, None));
        assert_eq!(chosen[1].map(|chosen| (chosen.token, chosen.mass)), Some((1, 1.0)));
    }

    #[test]
    fn where_all_that_is_allowed_is_impossible_the_first_is_chosen_with_no_mass() {
        let logits = Tensor::from_slice(&[0.0, f32::NEG_INFINITY, f32::NEG_INFINITY]).view([1, 3]);
        let chosen = choose(&logits, &[Some(&mask(&[false, true, true]))]).expect("runs")[0].expect("a choice");
        assert_eq!((chosen.token, chosen.mass, chosen.share), (1, 0.0, 0.5));
    }

    proptest! {
        #[test]
        fn the_choice_is_that_of_the_plain_sum(
            rows in prop::collection::vec((prop::collection::vec((-30f32..30.0, any::<bool>()), 77), any::<bool>()), 1..5),
        ) {
            let logits: Vec<f32> = rows.iter().flat_map(|(row, _)| row.iter().map(|(logit, _)| *logit)).collect();
            let masks: Vec<Option<SimpleVob>> = rows
                .iter()
                .map(|(row, free)| (!free).then(|| mask(&row.iter().map(|(_, allowed)| *allowed).collect::<Vec<_>>())))
                .collect();
            prop_assume!(masks.iter().flatten().all(|mask| mask.num_set() > 0));
            let logits = Tensor::from_slice(&logits).view([rows.len() as i64, 77]);
            let chosen = choose(&logits, &masks.iter().map(Option::as_ref).collect::<Vec<_>>()).expect("runs");
            let log_probs = Vec::<f32>::try_from(&logits.log_softmax(-1, Kind::Float).view([-1])).expect("numbers");
            for ((found, mask), log_probs) in chosen.into_iter().zip(&masks).zip(log_probs.chunks_exact(77)) {
                let (found, expected) = (found.expect("a choice"), choice(log_probs, mask.as_ref()).expect("a choice"));
                prop_assert_eq!(found.token, expected.token);
                prop_assert!((found.log_prob - expected.log_prob).abs() < 1e-4);
                prop_assert!((found.mass - expected.mass).abs() < 1e-4 && (found.share - expected.share).abs() < 1e-4);
            }
        }
    }
}
