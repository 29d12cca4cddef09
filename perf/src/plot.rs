//! `--plot FILE`: latencies and IOPS over time as a picture.
//!
//! Above: latency by percentile, both axes logarithmic, the horizontal one in nines (90, 99, 99.9 … per cent), as tail
//! latencies are read. Below: IOPS over the time of the run.

use crate::outcome::Outcome;
use crate::units;
use perf_load::Progress;
use plotters::prelude::*;
use std::path::Path;
use std::time::Duration;

const SIZE: (u32, u32) = (960, 900);

/// Points of the curve of IOPS at most.
const POINTS_MAX: usize = 400;

type Area<'p> = DrawingArea<SVGBackend<'p>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// IOPS over time, gathered while a run goes on.
#[derive(Debug, Default)]
pub(crate) struct Course(Vec<Progress>);

impl Course {
    /// Notes how far the run is.
    pub(crate) fn note(&mut self, progress: Progress) {
        self.0.push(progress);
    }

    /// Seconds since the start and the IOPS up to there since the point before.
    fn points(&self) -> Vec<(f64, f64)> {
        let step = (self.0.len() / POINTS_MAX).max(1);
        let kept: Vec<&Progress> = self.0.iter().step_by(step).collect();
        let rate = |pair: &[&Progress]| {
            let seconds = (pair[1].elapsed - pair[0].elapsed).max(Duration::from_micros(1)).as_secs_f64();
            (pair[1].elapsed.as_secs_f64(), (pair[1].ios - pair[0].ios) as f64 / seconds)
        };
        kept.windows(2).map(rate).collect()
    }
}

/// Draws the picture. `tail`: latencies in nanoseconds by the share of IOs that took longer.
pub(crate) fn draw(
    path: &Path,
    outcome: &Outcome,
    tail: &[(f64, u64)],
    course: &Course,
) -> Result<(), String> {
    let drawn = try_draw(path, outcome, tail, &course.points());
    drawn.map_err(|error| format!("cannot draw {path:?} (--plot): {error}"))
}

fn try_draw(path: &Path, outcome: &Outcome, tail: &[(f64, u64)], course: &[(f64, f64)]) -> Drawn {
    let page = SVGBackend::new(path, SIZE).into_drawing_area();
    page.fill(&WHITE)?;
    let (above, below) = page.split_vertically(SIZE.1 / 2);
    let what = format!(
        "{} {}, queue depth {}: {} IOPS",
        outcome.workload,
        units::bytes(outcome.io_bytes.into()),
        outcome.queue_depth,
        units::count(outcome.iops)
    );
    draw_tail(&above, &what, tail)?;
    draw_course(&below, course)?;
    page.present()?;
    Ok(())
}

fn draw_tail(area: &Area<'_>, title: &str, tail: &[(f64, u64)]) -> Drawn {
    // The share that took longer, turned round: 1 at the median of halves, 10 at 90 %, 100 at 99 %.
    let points: Vec<(f64, f64)> = tail
        .iter()
        .filter(|(share, _)| *share > 0.0)
        .map(|(share, ns)| (1.0 / share, (*ns).max(1) as f64))
        .collect();
    let most = points.iter().map(|point| point.0).fold(10.0, f64::max);
    let low = points.iter().map(|point| point.1).fold(f64::MAX, f64::min).min(1e9);
    let high = points.iter().map(|point| point.1).fold(low * 10.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d((1.0..most).log_scale(), (low..high).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("per cent of IOs that took at most so long")
        .y_desc("latency")
        .x_label_formatter(&|nines| format!("{}", 100.0 - 100.0 / nines))
        .y_label_formatter(&|ns| units::time(*ns))
        .draw()?;
    chart.draw_series(LineSeries::new(points, BLUE.stroke_width(2)))?;
    Ok(())
}

fn draw_course(area: &Area<'_>, points: &[(f64, f64)]) -> Drawn {
    let end = points.last().map_or(1.0, |point| point.0);
    let high = points.iter().map(|point| point.1).fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..end, 0.0..high)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc("IOPS")
        .y_label_formatter(&|iops| units::count(*iops))
        .draw()?;
    chart.draw_series(LineSeries::new(points.iter().copied(), BLUE.stroke_width(2)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let mut course = Course::default();
        for (ms, ios) in [(0, 0), (100, 10), (300, 10), (400, 110)] {
            course.note(Progress { elapsed: Duration::from_millis(ms), ios });
        }
        let rates: Vec<f64> = course.points().into_iter().map(|point| point.1.round()).collect();
        assert_eq!(rates, [100.0, 0.0, 1000.0]);
        let mut long = Course::default();
        (0..100_000).for_each(|n| long.note(Progress { elapsed: Duration::from_millis(n), ios: n }));
        assert!(long.points().len() <= 2 * POINTS_MAX);
    }
}
