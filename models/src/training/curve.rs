//! The loss curve: a row of CSV a step, and a picture of it.

use std::fmt::Write;
use std::path::Path;

use super::checkpoint::write_error;
use crate::ModelError;

/// One step's losses.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The step's number, from 0.
    pub step: u64,
    /// The learning rate.
    pub rate: f64,
    /// The gradient's length before it was shortened.
    pub gradient: f64,
    /// Weighted losses by name.
    pub losses: Vec<(String, f64)>,
}

impl Point {
    /// All losses together.
    pub fn sum(&self) -> f64 {
        self.losses.iter().map(|(_, loss)| loss).sum()
    }
}

/// The points of a run, in long form: `step,name,value`.
#[derive(Debug, Default)]
pub(crate) struct Curve(Vec<Point>);

const HEADER: &str = "step,rate,gradient,name,loss";

impl Curve {
    /// Reads what a run that was cut has written, up to step `steps`.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] with the line that is no point.
    pub(crate) fn load(path: &Path, steps: u64) -> Result<Self, ModelError> {
        let mut curve = Self::default();
        let Ok(text) = std::fs::read_to_string(path) else { return Ok(curve) };
        for line in text.lines().skip(1) {
            let (step, rate, gradient, name, loss) =
                parse(line).ok_or_else(|| ModelError::invalid(path, format!("{line:?} is no point")))?;
            if step >= steps {
                break;
            }
            let loss = (name.to_owned(), loss);
            match curve.0.last_mut().filter(|point| point.step == step) {
                Some(point) => point.losses.push(loss),
                None => curve.0.push(Point { step, rate, gradient, losses: vec![loss] }),
            }
        }
        Ok(curve)
    }

    pub(crate) fn push(&mut self, point: Point) {
        self.0.push(point);
    }

    /// Writes `loss.csv` and `loss.svg` into `folder`.
    ///
    /// # Errors
    /// [`ModelError::Write`].
    pub(crate) fn save(&self, folder: &Path) -> Result<(), ModelError> {
        let mut csv = format!("{HEADER}\n");
        for Point { step, rate, gradient, losses } in &self.0 {
            for (name, loss) in losses {
                writeln!(csv, "{step},{rate:e},{gradient:.5},{name},{loss:.6}").expect("a String takes all");
            }
        }
        for (name, text) in [("loss.csv", csv), ("loss.svg", self.picture())] {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|error| write_error(&path, error))?;
        }
        Ok(())
    }

    /// A line a loss, of means over a hundredth of the run each, on a logarithmic scale.
    fn picture(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.0.iter().flat_map(|point| &point.losses) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let last = self.0.last().map_or(1, |point| point.step + 1);
        let wide = last.div_ceil(100);
        let series: Vec<Vec<(f64, f64)>> = names.iter().map(|name| self.means(name, wide)).collect();
        let values = || series.iter().flatten().map(|(_, loss)| loss.max(LEAST));
        let (low, high) = (values().fold(f64::MAX, f64::min).log10(), values().fold(LEAST, f64::max).log10());
        let x = |step: f64| LEFT + WIDTH * step / last as f64;
        let y = |loss: f64| TOP + HEIGHT * (high - loss.max(LEAST).log10()) / (high - low).max(1e-9);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" \
             font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
            LEFT + WIDTH + 110.0,
            TOP + HEIGHT + 40.0
        );
        let mut line = |element: String| writeln!(svg, "{element}").expect("a String takes all");
        for decade in low.floor() as i32..=high.ceil() as i32 {
            let at = y(10f64.powi(decade));
            if (TOP..=TOP + HEIGHT).contains(&at) {
                line(format!("<path d=\"M{LEFT} {at:.1}h{WIDTH}\" stroke=\"#ddd\"/>"));
                line(format!(
                    "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    LEFT - 6.0,
                    at + 4.0,
                    10f64.powi(decade)
                ));
            }
        }
        for ((name, points), colour) in names.iter().zip(&series).zip(COLOURS.iter().cycle()) {
            let path: Vec<String> =
                points.iter().map(|&(step, loss)| format!("{:.1},{:.1}", x(step), y(loss))).collect();
            line(format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
                path.join(" ")
            ));
            if let Some(&(_, loss)) = points.last() {
                line(format!(
                    "<text x=\"{}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
                    LEFT + WIDTH + 4.0,
                    y(loss) + 4.0
                ));
            }
        }
        line(format!("<text x=\"{LEFT}\" y=\"{}\">0</text>", TOP + HEIGHT + 18.0));
        line(format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{last} steps</text>",
            LEFT + WIDTH,
            TOP + HEIGHT + 18.0
        ));
        svg.push_str("</svg>\n");
        svg
    }

    /// The mean loss of each `wide` steps in which it was taken, at their middle.
    fn means(&self, name: &str, wide: u64) -> Vec<(f64, f64)> {
        let parts = self.0.chunk_by(|a, b| a.step / wide == b.step / wide);
        let mean = |part: &[Point]| {
            let all = part.iter().flat_map(|point| &point.losses).filter(|(of, _)| of == name);
            let losses: Vec<f64> = all.map(|(_, loss)| *loss).collect();
            let middle = (part.first()?.step + part.last()?.step) as f64 / 2.0;
            (!losses.is_empty()).then(|| (middle, losses.iter().sum::<f64>() / losses.len() as f64))
        };
        parts.filter_map(mean).collect()
    }
}

fn parse(line: &str) -> Option<(u64, f64, f64, &str, f64)> {
    let mut cells = line.split(',');
    let mut next = || cells.next();
    Some((next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?, next()?, next()?.parse().ok()?))
}

/// The least loss that is drawn.
const LEAST: f64 = 1e-4;
const LEFT: f64 = 56.0;
const TOP: f64 = 20.0;
const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 320.0;
/// Told apart by colour-blind readers, too (Okabe and Ito).
const COLOURS: [&str; 7] = ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u64) -> Point {
        let losses = vec![("beat".to_owned(), 0.5 / (step + 1) as f64), ("answer".to_owned(), 3.0)];
        Point { step, rate: 1e-3, gradient: 2.0, losses }
    }

    #[test]
    fn a_curve_is_read_back_up_to_where_the_run_goes_on() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut curve = Curve::default();
        (0..10).for_each(|step| curve.push(point(step)));
        curve.save(dir.path()).expect("saved");
        let read = Curve::load(&dir.path().join("loss.csv"), 7).expect("reads");
        assert_eq!((read.0.len(), read.0[6].step), (7, 6));
        assert!((read.0[6].sum() - point(6).sum()).abs() < 1e-5);
        let svg = std::fs::read_to_string(dir.path().join("loss.svg")).expect("read");
        assert!(svg.contains(">beat</text>") && svg.contains(">10 steps</text>") && !svg.contains("NaN"), "{svg}");
    }
}
