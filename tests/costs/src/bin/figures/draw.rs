//! How the figures look: bars on a light card, which stands out from a light page and from a dark one.

use std::path::Path;

use anyhow::anyhow;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

/// Bars that are shown together, on one scale.
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    /// Behind each value.
    pub(crate) unit: &'static str,
    pub(crate) bars: Vec<Bar>,
}

/// One of them.
pub(crate) struct Bar {
    pub(crate) label: &'static str,
    pub(crate) value: f64,
    pub(crate) ours: bool,
}

// In pixels.
const WIDTH: u32 = 760;
const MARGIN: i32 = 20;
const TITLE: i32 = 44;
const HEADING: i32 = 30;
const ROW: i32 = 21;
const BETWEEN: i32 = 12;
/// Labels end here, and bars begin.
const AXIS: i32 = 280;
/// For the values behind the longest bars.
const VALUES: i32 = 84;

const CARD: RGBColor = RGBColor(250, 250, 246);
const EDGE: RGBColor = RGBColor(205, 205, 200);
const INK: RGBColor = RGBColor(34, 34, 34);
const FAINT: RGBColor = RGBColor(95, 95, 95);
const OURS: RGBColor = RGBColor(196, 88, 28);
const OTHERS: RGBColor = RGBColor(125, 142, 163);

/// Draws charts below each other.
pub(crate) fn draw(path: &Path, title: &str, charts: &[Chart]) -> anyhow::Result<()> {
    // An error of the library borrows from what it was drawing on.
    picture(path, title, charts).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn picture(path: &Path, title: &str, charts: &[Chart]) -> Result<(), Box<dyn std::error::Error>> {
    let height = |chart: &Chart| HEADING + ROW * chart.bars.len() as i32 + BETWEEN;
    let all = TITLE + charts.iter().map(height).sum::<i32>() + BETWEEN;
    let root = SVGBackend::new(path, (WIDTH, all as u32)).into_drawing_area();
    root.fill(&CARD)?;
    let card = [(0, 0), (WIDTH as i32 - 1, all - 1)];
    root.draw(&Rectangle::new(card, EDGE.stroke_width(1)))?;
    let text = |text: String, at, size: u32, colour: RGBColor, side| {
        let anchor = Pos::new(side, VPos::Center);
        let style = ("sans-serif", size).into_font().color(&colour);
        Text::new(text, at, style.pos(anchor))
    };
    let left = HPos::Left;
    root.draw(&text(title.to_owned(), (MARGIN, 26), 18, INK, left))?;
    let mut top = TITLE;
    for chart in charts {
        let heading = (MARGIN, top + HEADING / 2);
        root.draw(&text(chart.title.to_owned(), heading, 14, FAINT, left))?;
        let most = chart.bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
        for (nth, bar) in chart.bars.iter().enumerate() {
            let middle = top + HEADING + ROW * nth as i32 + ROW / 2;
            let colour = if bar.ours { OURS } else { OTHERS };
            let longest = f64::from(WIDTH as i32 - AXIS - VALUES);
            let end = AXIS + (longest * bar.value / most).round() as i32;
            let corners = [(AXIS, middle - 7), (end.max(AXIS + 1), middle + 7)];
            root.draw(&Rectangle::new(corners, colour.filled()))?;
            let label = bar.label.to_owned();
            root.draw(&text(label, (AXIS - 10, middle), 13, INK, HPos::Right))?;
            let value = format!("{}{}", figures(bar.value), chart.unit);
            root.draw(&text(value, (end + 7, middle), 13, INK, left))?;
        }
        top += height(chart);
    }
    root.present()?;
    Ok(())
}

/// Three that count.
fn figures(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
