//! How the differences of an experiment went, as SVG: one panel an arm and metric.

use std::fmt::Write;

use operators::compare::{Interval, Metric, Point};
use records::UtcMicros;

use super::Report;

/// The size of a panel's frame, and of what is around it, in pixels.
const ACROSS: f64 = 280.0;
const DOWN: f64 = 160.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 44.0;
const WIDTH: f64 = LEFT + ACROSS + 24.0;
const HEIGHT: f64 = TOP + DOWN + 40.0;
const COLUMNS: usize = 3;

const BAND: &str = "#bcd3ea";
const LINE: &str = "#0b5cad";

/// How to read it.
const LEGEND: &str = "The line is the arm less the control, the band its interval: it holds at all times together. Where the \
                      band leaves the line at 0, there is a difference.";

/// A picture of the report.
pub fn picture(report: &Report) -> String {
    let panels = report.comparisons.len() * Metric::ALL.len();
    let rows = panels.div_ceil(COLUMNS);
    let (width, height) = (COLUMNS as f64 * WIDTH, 76.0 + rows as f64 * HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let title = format!("{}: arms less {}", report.definition.name, report.control());
    text(&mut svg, 20.0, 28.0, "font-size=\"16\"", &title);
    text(&mut svg, 20.0, height - 12.0, "fill=\"#555\"", LEGEND);
    let mut number = 0;
    for (arm, comparison) in report.comparisons.iter().enumerate() {
        for (place, metric) in Metric::ALL.into_iter().enumerate() {
            let (x, y) = ((number % COLUMNS) as f64 * WIDTH + LEFT, 44.0 + (number / COLUMNS) as f64 * HEIGHT + TOP);
            line(&mut svg, &format!("<g transform=\"translate({x} {y})\">"));
            let heading = format!("{}: {metric} {}", comparison.arm, metric.counts());
            text(&mut svg, 0.0, -12.0, "font-size=\"13\" font-weight=\"bold\"", &heading);
            let course: Vec<(UtcMicros, Interval)> =
                report.course.iter().filter_map(|point| at(point, arm, place)).collect();
            panel(&mut svg, metric, &course);
            line(&mut svg, "</g>");
            number += 1;
        }
    }
    line(&mut svg, "</svg>");
    svg
}

fn at(point: &Point, arm: usize, metric: usize) -> Option<(UtcMicros, Interval)> {
    Some((point.at, point.intervals.get(arm)?[metric]?))
}

fn panel(svg: &mut String, metric: Metric, course: &[(UtcMicros, Interval)]) {
    line(svg, &format!("<rect width=\"{ACROSS}\" height=\"{DOWN}\" fill=\"none\" stroke=\"#ccc\"/>"));
    let (Some((first, _)), Some((last, newest))) = (course.first(), course.last()) else {
        text(svg, ACROSS / 2.0, DOWN / 2.0, "text-anchor=\"middle\" fill=\"#555\"", "too early to tell");
        return;
    };
    // The first intervals are so wide that beside them nothing else is to be seen: what is beyond three of the newest ones'
    // widths is cut off.
    let reach = 1.5 * (newest.high - newest.low);
    let top = newest.high.max(0.0) + reach;
    let bottom = newest.low.min(0.0) - reach;
    let y = |value: f64| DOWN * (top - value.clamp(bottom, top)) / (top - bottom);
    let length = last.0.saturating_sub(first.0).max(1) as f64;
    let x = |moment: UtcMicros| ACROSS * (moment.0.saturating_sub(first.0)) as f64 / length;

    let along = |value: fn(&Interval) -> f64| -> Vec<String> {
        course.iter().map(|(moment, interval)| format!("{:.1},{:.1}", x(*moment), y(value(interval)))).collect()
    };
    let (highs, mut lows) = (along(|it| it.high), along(|it| it.low));
    lows.reverse();
    line(svg, &format!("<polygon points=\"{} {}\" fill=\"{BAND}\"/>", highs.join(" "), lows.join(" ")));
    let zero = y(0.0);
    line(svg, &format!("<path d=\"M0 {zero:.1}H{ACROSS}\" stroke=\"#888\" stroke-dasharray=\"4 4\"/>"));
    let differences = along(|it| it.difference).join(" ");
    line(svg, &format!("<polyline points=\"{differences}\" fill=\"none\" stroke=\"{LINE}\" stroke-width=\"1.5\"/>"));

    for value in [top, newest.high, newest.low, bottom] {
        text(svg, -6.0, y(value) + 4.0, "text-anchor=\"end\" font-size=\"9\"", &metric.number(value));
    }
    text(svg, -6.0, zero + 4.0, "text-anchor=\"end\" font-size=\"9\" fill=\"#888\"", "0");
    // To the second: 2026-09-21T14:13:20.
    let moment = |moment: UtcMicros| moment.to_string()[..19].replace('T', " ");
    text(svg, 0.0, DOWN + 15.0, "font-size=\"9\"", &moment(*first));
    text(svg, ACROSS, DOWN + 15.0, "text-anchor=\"end\" font-size=\"9\"", &moment(*last));
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
    use super::*;

    fn course(lows_and_highs: &[(f64, f64)]) -> Vec<(UtcMicros, Interval)> {
        let point = |(n, (low, high)): (usize, &(f64, f64))| {
            let interval = Interval { difference: f64::midpoint(*low, *high), variance: 1.0, low: *low, high: *high };
            (UtcMicros(1_790_000_000_000_000 + n as u64 * 1_000_000), interval)
        };
        lows_and_highs.iter().enumerate().map(point).collect()
    }

    #[test]
    fn the_line_and_the_band_go_where_the_difference_and_its_interval_are() {
        let mut svg = String::new();
        panel(&mut svg, Metric::SuccessRate, &course(&[(-0.3, 0.3), (-0.01, 0.03), (0.01, 0.03)]));
        // The newest interval is 0.02 wide: the frame goes from 0 − 0.03 to 0.03 + 0.03.
        assert!(svg.contains("<polyline points=\"0.0,106.7 140.0,88.9 280.0,71.1\""), "{svg}");
        assert!(
            svg.contains("<polygon points=\"0.0,0.0 140.0,53.3 280.0,53.3 280.0,88.9 140.0,124.4 0.0,160.0\""),
            "{svg}"
        );
        assert!(svg.contains(">3.00</text>") && svg.contains(">2026-09-21 14:13:22</text>"), "{svg}");
    }

    #[test]
    fn a_panel_without_a_point_says_so() {
        let mut svg = String::new();
        panel(&mut svg, Metric::Cost, &[]);
        assert!(svg.contains("too early to tell") && !svg.contains("NaN"), "{svg}");
    }
}
