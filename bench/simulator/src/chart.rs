//! Lines over time, as SVG.

use std::fmt::Write;

pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    /// One for each second.
    pub(crate) values: Vec<u64>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 40.0;

/// Colours that people with colour blindness tell apart (Okabe and Ito).
const COLOURS: [&str; 5] = ["#d55e00", "#e69f00", "#0072b2", "#56b4e9", "#009e73"];

/// Draws lines on a logarithmic scale from 10 upwards.
pub(crate) fn chart(title: &str, lines: &[Line<'_>]) -> String {
    let seconds = lines
        .iter()
        .map(|line| line.values.len())
        .max()
        .unwrap_or(0);
    let most = lines.iter().flat_map(|line| &line.values).max();
    let decades = (most.copied().unwrap_or(0).max(11) as f64).log10().ceil();
    let x = |second: usize| {
        let span = seconds.saturating_sub(1).max(1) as f64;
        LEFT + second as f64 / span * (WIDTH - LEFT - RIGHT)
    };
    let y = |value: f64| {
        let height = (value.max(10.0).log10() - 1.0) / (decades - 1.0);
        HEIGHT - BOTTOM - height * (HEIGHT - TOP - BOTTOM)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"{title}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{title}</text>\n"
    );
    for decade in 1..=decades as i32 {
        let at = y(10_f64.powi(decade));
        let (right, label) = (WIDTH - RIGHT, 10_u64.pow(decade as u32));
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 6.0,
            at + 4.0,
        );
    }
    for second in (0..seconds).step_by(seconds.div_ceil(8).max(1)) {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{second} s</text>",
            x(second),
            HEIGHT - BOTTOM + 18.0,
        );
    }
    for (index, (line, colour)) in lines.iter().zip(COLOURS).enumerate() {
        let points = line.values.iter().enumerate();
        let points: Vec<String> = points
            .map(|(second, value)| format!("{:.1},{:.1}", x(second), y(*value as f64)))
            .collect();
        let at = TOP + 18.0 * index as f64;
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
             <path d=\"M{:.0} {at}h16\" stroke=\"{colour}\" stroke-width=\"3\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
            points.join(" "),
            WIDTH - RIGHT + 10.0,
            WIDTH - RIGHT + 32.0,
            at + 4.0,
            line.name,
        );
    }
    svg.push_str("</svg>\n");
    svg
}
