//! How good a curve is on answers that it was not fitted to.

use super::curve::sorted;
use super::{Curve, Method, Scored};

/// The labels are cut into so many parts; each is scored by a curve that was fitted to the others.
const PARTS: usize = 5;

/// The answers, by score, each with the score that a curve gives it which was fitted without it (cross-validation in five
/// parts, of like scores and like shares of right answers, and the same for any order of `scored`). Steps fit the labels
/// that made them exactly, so judging a curve by those says nothing. `None` with fewer than two right or two wrong answers.
pub fn held_out(method: Method, scored: &[Scored]) -> Option<Vec<Scored>> {
    let (right, wrong): (Vec<_>, Vec<_>) = sorted(scored).into_iter().partition(|it| it.right);
    let dealt: Vec<Scored> = right.into_iter().chain(wrong).collect();
    let in_part = |part: usize, inside: bool| -> Vec<Scored> {
        dealt.iter().enumerate().filter(|(n, _)| (n % PARTS == part) == inside).map(|(_, it)| *it).collect()
    };
    let mut all = Vec::with_capacity(dealt.len());
    for part in 0..PARTS {
        let curve = Curve::fit(method, &in_part(part, false)).ok()?;
        all.extend(curve.apply_all(&in_part(part, true)));
    }
    Some(sorted(&all))
}
