//! The picture of a soak: what each server did, second by second.

use std::{ops::Range, path::Path};

use anyhow::anyhow;
use plotters::{
    coord::{
        Shift,
        ranged1d::{AsRangedCoord, ValueFormatter},
    },
    prelude::*,
};

use super::{
    record::{Record, Sampled},
    report::Report,
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Of one panel, in pixels.
const PANEL: (u32, u32) = (620, 170);
const TITLE: u32 = 44;
/// Points of a line; more cannot be seen.
const POINTS: usize = 400;
/// Events by their sort.
const COLOURS: [(&str, RGBColor); 4] = [
    ("upgrade", RGBColor(90, 160, 90)),
    ("upgrades", RGBColor(30, 110, 60)),
    ("fault", RGBColor(205, 60, 50)),
    ("restart", RGBColor(70, 110, 200)),
];

/// A line of a panel.
type Line = (&'static str, RGBColor, fn(&Sampled) -> f64);

const LATENCY: [Line; 3] = [
    ("p50", RGBColor(60, 60, 60), |s| millis(s.latency.p50)),
    ("p99", RGBColor(200, 130, 20), |s| millis(s.latency.p99)),
    ("max", RGBColor(190, 50, 120), |s| millis(s.latency.max)),
];
const MEMORY: [Line; 1] = [("memory", RGBColor(60, 60, 160), |s| {
    s.memory_kib as f64 / 1024.0
})];
const DESCRIPTORS: [Line; 1] = [("descriptors", RGBColor(20, 120, 120), |s| {
    s.descriptors as f64
})];

fn millis(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).max(0.01)
}

/// Draws it.
pub(super) fn draw(report: &Report, path: &Path) -> anyhow::Result<()> {
    // An error of the library borrows from what it was drawing on.
    picture(report, path).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn picture(report: &Report, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let rows = report.servers.len().max(1) as u32;
    let size = (3 * PANEL.0, TITLE + rows * PANEL.1);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (title, rest) = root.split_vertically(TITLE);
    let minutes = report.elapsed.as_secs_f64() / 60.0;
    let text = format!(
        "{minutes:.1} minutes, seed {}. Vertical lines:",
        report.seed
    );
    title.draw(&Text::new(text, (12, 14), ("sans-serif", 17)))?;
    for (at, (sort, colour)) in COLOURS.into_iter().enumerate() {
        let x = 420 + 130 * at as i32;
        title.draw(&Rectangle::new([(x, 12), (x + 16, 28)], colour.filled()))?;
        title.draw(&Text::new(sort, (x + 22, 14), ("sans-serif", 17)))?;
    }
    for (server, row) in report
        .servers
        .iter()
        .zip(rest.split_evenly((rows as usize, 1)))
    {
        let panels = row.split_evenly((1, 3));
        let [latency, memory, descriptors] = &panels[..] else {
            continue;
        };
        let (name, record) = (server.name, &server.record);
        let most = highest(record, &LATENCY).max(1.0) * 1.5;
        panel(
            latency,
            &format!("{name}: p50, p99, max of a second, ms"),
            record,
            &LATENCY,
            (0.05..most).log_scale(),
        )?;
        let most = highest(record, &MEMORY) * 1.3 + 0.1;
        let title = format!("{name}: memory of the newest generation, MiB");
        panel(memory, &title, record, &MEMORY, 0.0..most)?;
        let most = highest(record, &DESCRIPTORS) * 1.3 + 1.0;
        let title = format!("{name}: its descriptors");
        panel(descriptors, &title, record, &DESCRIPTORS, 0.0..most)?;
    }
    root.present()?;
    Ok(())
}

fn highest(record: &Record, lines: &[Line]) -> f64 {
    let samples = record.samples.iter();
    let values = samples.flat_map(|sample| lines.iter().map(move |(_, _, of)| of(sample)));
    values.fold(0.0, f64::max)
}

fn panel<Y>(
    area: &Area<'_>,
    title: &str,
    record: &Record,
    lines: &[Line],
    y: Y,
) -> Result<(), Box<dyn std::error::Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
{
    let end = record
        .samples
        .last()
        .map_or(1.0, |last| last.at.as_secs_f64());
    let minutes: Range<f64> = 0.0..end / 60.0;
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .margin_right(14)
        .caption(title, ("sans-serif", 15))
        .x_label_area_size(20)
        .y_label_area_size(46)
        .build_cartesian_2d::<_, Y>(minutes, y)?;
    let y = chart.y_range();
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(8)
        .y_labels(5)
        .x_label_formatter(&|minutes| format!("{minutes:.1}"))
        .label_style(("sans-serif", 12))
        .draw()?;
    for event in &record.events {
        let at = event.at.as_secs_f64() / 60.0;
        let colour = COLOURS.iter().find(|(sort, _)| *sort == event.sort);
        let style = colour.map_or(BLACK.mix(0.3), |(_, colour)| colour.mix(0.35));
        let line = [(at, y.start), (at, y.end)];
        chart.draw_series(LineSeries::new(line, style.stroke_width(1)))?;
    }
    for (_, colour, of) in lines {
        let points = thinned(&record.samples, *of);
        chart.draw_series(LineSeries::new(points, colour.stroke_width(1)))?;
    }
    Ok(())
}

/// The highest value of each span of time.
fn thinned(samples: &[Sampled], of: fn(&Sampled) -> f64) -> Vec<(f64, f64)> {
    let span = samples.len().div_ceil(POINTS).max(1);
    let highest = |span: &[Sampled]| {
        let at = span
            .first()
            .map_or(0.0, |first| first.at.as_secs_f64() / 60.0);
        (at, span.iter().map(of).fold(0.0, f64::max))
    };
    samples.chunks(span).map(highest).collect()
}
