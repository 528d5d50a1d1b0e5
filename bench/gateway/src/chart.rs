//! Added CPU as horizontal bars, in SVG.

use std::fmt::Write as _;

use crate::measure::{Row, median};

const WIDTH: f64 = 860.0;
const LABELS: f64 = 360.0;
const VALUES: f64 = 60.0;
const ROW: f64 = 24.0;
const BAR: f64 = 16.0;
const TOP: f64 = 40.0;

/// Bars for all rows but the first, which they are added to.
pub(crate) fn added(rows: &[Row]) -> String {
    let bars: Vec<(&str, f64)> = rows
        .iter()
        .skip(1)
        .map(|row| (row.name.as_str(), median(&row.added_us).max(0.0)))
        .collect();
    let most = bars.iter().map(|(_, us)| *us).fold(0.1, f64::max);
    let height = TOP + ROW * bars.len() as f64 + 10.0;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="{LABELS}" y="22" font-size="15" fill="#222222">CPU that a request adds to Envoy, µs</text>
"##
    );
    for (index, (name, us)) in bars.iter().enumerate() {
        let y = TOP + ROW * index as f64;
        let width = (WIDTH - LABELS - VALUES) * us / most;
        let middle = y + BAR - 4.0;
        let color = match name.contains(".wasm") {
            true => "#1f6feb",
            false => "#8c959f",
        };
        let written = writeln!(
            svg,
            r##"<text x="{label}" y="{middle}" text-anchor="end" fill="#222222">{name}</text>
<rect x="{LABELS}" y="{y}" width="{width:.1}" height="{BAR}" fill="{color}"/>
<text x="{value:.1}" y="{middle}" fill="#222222">{us:.1}</text>"##,
            label = LABELS - 8.0,
            value = LABELS + width + 6.0,
            name = plain(name),
        );
        written.expect("text can be written");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Text without the marks of Markdown, as XML has it.
fn plain(name: &str) -> String {
    name.replace(['`', '*'], "")
        .replace('&', "&amp;")
        .replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_but_the_first_has_a_bar() {
        let row = |name: &str, us| Row {
            name: name.to_owned(),
            cpu_us: vec![us],
            service_us: vec![0.0],
            per_second: vec![1.0],
            added_us: vec![us],
        };
        let svg = added(&[
            row("no filter", 0.0),
            row("**`a.wasm`**", 2.0),
            row("b<c", 4.0),
        ]);
        assert_eq!(svg.matches("<rect x=").count(), 2);
        assert!(svg.contains(">a.wasm<"), "{svg}");
        assert!(svg.contains("b&lt;c"), "{svg}");
        assert!(svg.contains(r#"width="440.0""#), "{svg}");
    }
}
