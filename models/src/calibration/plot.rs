//! Reliability diagrams as SVG: how often an answer was right, beside how sure the model was of it.

use std::fmt::Write;

use super::{Scored, reliability};

/// One diagram of a sheet.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What was judged.
    pub name: String,
    /// With raw scores.
    pub before: Vec<Scored>,
    /// With calibrated scores; empty where there is no calibration.
    pub after: Vec<Scored>,
}

/// The side of a diagram, and what is around it, in pixels.
const SIDE: f64 = 240.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 76.0;
const WIDTH: f64 = LEFT + SIDE + 24.0;
const HEIGHT: f64 = TOP + SIDE + 92.0;
const COLUMNS: usize = 3;

/// Raw scores in grey, calibrated ones in blue, which a colour-blind reader tells apart, too.
const BEFORE: &str = "#8a8a8a";
const AFTER: &str = "#0b5cad";

/// How to read it.
const LEGEND: &str = "A point is a tenth of the confidence, as large as its count; its line is the 95 % interval of the \
                      share. On the diagonal, confidence is a probability.";

/// A sheet of diagrams under a title. In each, a point a tenth of the score: its mean score across, its share of right
/// answers upward, with the 95 % interval of that share (Wilson). Below stand the counts.
pub fn sheet(title: &str, panels: &[Panel]) -> String {
    let (width, height) = (COLUMNS as f64 * WIDTH, 64.0 + panels.len().div_ceil(COLUMNS) as f64 * HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    text(&mut svg, 20.0, 28.0, "font-size=\"16\"", title);
    text(&mut svg, 20.0, height - 12.0, "fill=\"#555\"", LEGEND);
    for (n, panel) in panels.iter().enumerate() {
        let (column, row) = (n % COLUMNS, n / COLUMNS);
        let (x, y) = (column as f64 * WIDTH + LEFT, 40.0 + row as f64 * HEIGHT + TOP);
        line(&mut svg, &format!("<g transform=\"translate({x} {y})\">"));
        diagram(&mut svg, panel);
        line(&mut svg, "</g>");
    }
    line(&mut svg, "</svg>");
    svg
}

fn diagram(svg: &mut String, panel: &Panel) {
    text(svg, 0.0, -44.0, "font-size=\"14\" font-weight=\"bold\"", &panel.name);
    text(svg, 0.0, -24.0, &format!("fill=\"{BEFORE}\""), "○ raw");
    if !panel.after.is_empty() {
        text(svg, 52.0, -24.0, &format!("fill=\"{AFTER}\""), "● calibrated, held out");
    }
    line(svg, &format!("<rect width=\"{SIDE}\" height=\"{SIDE}\" fill=\"none\" stroke=\"#ccc\"/>"));
    line(svg, &format!("<path d=\"M0 {SIDE}L{SIDE} 0\" stroke=\"#ccc\" stroke-dasharray=\"4 4\"/>"));
    for fifth in 0..=5 {
        let (at, label) = (SIDE * f64::from(fifth) / 5.0, format!("{:.1}", f64::from(fifth) / 5.0));
        text(svg, at, SIDE + 15.0, "text-anchor=\"middle\"", &label);
        text(svg, -6.0, SIDE - at + 4.0, "text-anchor=\"end\"", &label);
    }
    text(svg, SIDE / 2.0, SIDE + 32.0, "text-anchor=\"middle\"", "confidence");
    let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 -34 {0})\"", SIDE / 2.0);
    text(svg, -34.0, SIDE / 2.0, &turned, "share that is right");
    series(svg, &panel.before, BEFORE, "#fff", SIDE + 52.0);
    series(svg, &panel.after, AFTER, AFTER, SIDE + 68.0);
}

/// The points of some scores, and their counts in a line at `counts_y`.
fn series(svg: &mut String, scored: &[Scored], colour: &str, fill: &str, counts_y: f64) {
    if scored.is_empty() {
        return;
    }
    let small = format!("font-size=\"9\" fill=\"{colour}\"");
    text(svg, -6.0, counts_y, &format!("text-anchor=\"end\" {small}"), &format!("n {}", scored.len()));
    let bins = reliability(scored);
    for (n, bin) in bins.iter().enumerate() {
        let middle = SIDE * (n as f64 + 0.5) / bins.len() as f64;
        text(svg, middle, counts_y, &format!("text-anchor=\"middle\" {small}"), &bin.count.to_string());
        let (Some(score), Some(accuracy)) = (bin.mean_score(), bin.accuracy()) else { continue };
        let (x, y) = (SIDE * score, |share: f64| SIDE * (1.0 - share));
        let (low, high) = wilson(bin.right as f64, bin.count as f64);
        line(svg, &format!("<path d=\"M{x:.1} {:.1}V{:.1}\" stroke=\"{colour}\"/>", y(low), y(high)));
        let radius = 2.0 + 8.0 * (bin.count as f64 / scored.len() as f64).sqrt();
        let circle = format!("cx=\"{x:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\"", y(accuracy));
        line(svg, &format!("<circle {circle} fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"));
    }
}

/// The 95 % interval of a share (Wilson 1927).
fn wilson(right: f64, count: f64) -> (f64, f64) {
    let (z, share) = (1.959_964, right / count);
    let middle = share + z * z / (2.0 * count);
    let half = z * (share * (1.0 - share) / count + z * z / (4.0 * count * count)).sqrt();
    let scale = 1.0 + z * z / count;
    (((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
}

fn text(svg: &mut String, x: f64, y: f64, style: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    line(svg, &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{content}</text>"));
}

fn line(svg: &mut String, element: &str) {
    writeln!(svg, "{element}").expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use records::Confidence;

    use super::*;

    fn scored(score: f64, right: bool) -> Scored {
        Scored { score: Confidence::try_from(score).expect("a probability"), right }
    }

    #[test]
    fn a_point_stands_where_the_mean_score_and_the_share_of_right_answers_cross() {
        let before: Vec<Scored> = (0..10).map(|n| scored(0.75, n < 4)).collect();
        let svg = sheet("t", &[Panel { name: "p".into(), before, after: Vec::new() }]);
        assert!(svg.contains("cx=\"180.0\" cy=\"144.0\""), "{svg}");
        assert!(svg.contains(">n 10</text>") && svg.contains(">10</text>") && !svg.contains("calibrated"), "{svg}");
    }

    #[test]
    fn a_name_cannot_break_the_picture() {
        let after = vec![scored(1.0, true)];
        let panel = Panel { name: "a<b>&\"c".into(), before: after.clone(), after };
        let svg = sheet("<title>", &[panel.clone(), panel]);
        assert!(svg.contains("a&lt;b&gt;&amp;\"c") && svg.contains("&lt;title&gt;"), "{svg}");
        let (opened, closed) = (svg.matches("<g ").count(), svg.matches("</g>").count());
        assert_eq!((opened, closed, svg.contains("NaN")), (2, 2, false));
    }

    #[test]
    fn the_interval_of_a_share_is_wilsons() {
        let (low, high) = wilson(8.0, 10.0);
        assert!((low - 0.4901625).abs() < 1e-6 && (high - 0.9433178).abs() < 1e-6, "{low} {high}");
        assert!(wilson(0.0, 3.0).0 == 0.0 && wilson(3.0, 3.0).1 == 1.0);
    }
}
