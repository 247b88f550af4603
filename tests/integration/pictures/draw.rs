//! A dashboard as SVG: panels where its JSON has them, with what was found for each.

use std::fmt::Write as _;

use serde_json::Value;

/// What a panel shows.
pub enum Shown {
    Number(f64),
    Lines(Vec<Line>),
    Table { names: Vec<String>, rows: Vec<Vec<String>> },
}

pub struct Line {
    pub name: String,
    /// Seconds since 1970, and the value.
    pub points: Vec<(f64, f64)>,
}

/// A unit of the dashboard's grid, in pixels.
const UNIT: [f64; 2] = [52.0, 34.0];
const GAP: f64 = 6.0;
const TOP: f64 = 40.0;
const PALETTE: [&str; 8] =
    ["#2f6fb4", "#3a9d5d", "#c8402f", "#d99a2b", "#7a52a8", "#3aa6a6", "#8a6d3b", "#777"];

struct Area {
    x: f64,
    y: f64,
    w: f64,
    h: f64,
}

pub fn picture(board: &Value, shown: &[Shown], times: [f64; 2]) -> String {
    let panels = board["panels"].as_array().unwrap();
    let place = |panel: &Value, side: &str| panel["gridPos"][side].as_f64().unwrap();
    let rows = panels.iter().map(|panel| place(panel, "y") + place(panel, "h")).fold(0.0, f64::max);
    let (width, height) = (24.0 * UNIT[0] + GAP, rows * UNIT[1] + TOP + GAP);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' font-family='sans-serif' font-size='12'>\n\
         <rect width='{width}' height='{height}' fill='#f4f5f5'/>\n\
         <text x='{GAP}' y='26' font-size='18' fill='#222'>{}</text>\n",
        escaped(board["title"].as_str().unwrap())
    );
    for (panel, shown) in panels.iter().zip(shown) {
        let area = Area {
            x: place(panel, "x") * UNIT[0] + GAP,
            y: place(panel, "y") * UNIT[1] + TOP,
            w: place(panel, "w") * UNIT[0] - GAP,
            h: place(panel, "h") * UNIT[1] - GAP,
        };
        area.frame(&mut svg, panel);
        match shown {
            Shown::Number(value) => area.number(&mut svg, panel, *value),
            Shown::Lines(lines) => area.lines(&mut svg, panel, lines, times),
            Shown::Table { names, rows } => area.table(&mut svg, panel, names, rows),
        }
    }
    svg + "</svg>\n"
}

impl Area {
    fn frame(&self, svg: &mut String, panel: &Value) {
        let Self { x, y, w, h } = self;
        // Of the text that a variable puts there, the picture shows the effect.
        let title = escaped(panel["title"].as_str().unwrap().trim_end_matches(" ${trace}"));
        let _ = writeln!(
            svg,
            "<rect x='{x:.0}' y='{y:.0}' width='{w:.0}' height='{h:.0}' fill='white' stroke='#ddd'/>\
             <text x='{:.0}' y='{:.0}' fill='#222' font-weight='bold'>{title}</text>",
            x + 8.0,
            y + 17.0
        );
    }

    fn number(&self, svg: &mut String, panel: &Value, value: f64) {
        let defaults = &panel["fieldConfig"]["defaults"];
        let steps = defaults["thresholds"]["steps"].as_array().unwrap();
        let reached =
            steps.iter().rev().find(|step| step["value"].as_f64().is_none_or(|least| value >= least));
        let colour = reached.and_then(|step| step["color"].as_str()).unwrap_or("green");
        let colour = match colour {
            "red" => "#c8402f",
            "orange" => "#d9862b",
            _ => "#3a9d5d",
        };
        let _ = writeln!(
            svg,
            "<text x='{:.0}' y='{:.0}' font-size='34' text-anchor='middle' fill='{colour}'>{}</text>",
            self.x + self.w / 2.0,
            self.y + self.h * 0.68,
            with_unit(value, defaults["unit"].as_str().unwrap_or("short"))
        );
    }

    fn lines(&self, svg: &mut String, panel: &Value, lines: &[Line], times: [f64; 2]) {
        let defaults = &panel["fieldConfig"]["defaults"];
        let stacked = defaults["custom"]["stacking"]["mode"] == "normal";
        let plot = Area { x: self.x + 58.0, y: self.y + 28.0, w: self.w - 70.0, h: self.h - 66.0 };
        let highest = highest(lines, stacked);
        let most = defaults["max"].as_f64().unwrap_or(if highest > 0.0 { highest * 1.1 } else { 1.0 });
        plot.axes(svg, most, defaults["unit"].as_str().unwrap_or("short"), times);
        let at = |time: f64, value: f64| {
            let share = ((time - times[0]) / (times[1] - times[0])).clamp(0.0, 1.0);
            (plot.x + plot.w * share, plot.y + plot.h * (1.0 - (value / most).min(1.0)))
        };
        let mut below: Vec<(f64, f64)> = Vec::new();
        let mut legend = self.x + 10.0;
        for (number, line) in lines.iter().enumerate() {
            let colour = colour_of(panel, &line.name, number);
            if stacked {
                plot.stack(svg, line, &mut below, &at, colour);
            } else {
                let points: Vec<_> = line.points.iter().map(|(time, value)| at(*time, *value)).collect();
                let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                let _ = writeln!(
                    svg,
                    "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='1.6'/>",
                    points.join(" ")
                );
            }
            let y = self.y + self.h - 9.0;
            let name = escaped(&line.name);
            let _ = writeln!(
                svg,
                "<rect x='{legend:.0}' y='{:.0}' width='10' height='4' fill='{colour}'/><text x='{:.0}' y='{y:.0}' fill='#444'>{name}</text>",
                y - 5.0,
                legend + 14.0
            );
            legend += 30.0 + 6.6 * line.name.chars().count() as f64;
        }
    }

    /// A bar for each point, upon what is there already at that time.
    fn stack(
        &self,
        svg: &mut String,
        line: &Line,
        below: &mut Vec<(f64, f64)>,
        at: &impl Fn(f64, f64) -> (f64, f64),
        colour: &str,
    ) {
        let step = line.points.windows(2).map(|pair| pair[1].0 - pair[0].0).fold(f64::MAX, f64::min);
        let step = if step == f64::MAX { 1.0 } else { step };
        for (time, value) in line.points.iter().filter(|(_, value)| *value > 0.0) {
            let place =
                below.iter().position(|(there, _)| (there - time).abs() < step / 2.0).unwrap_or_else(|| {
                    below.push((*time, 0.0));
                    below.len() - 1
                });
            let (x, bottom) = at(*time, below[place].1);
            below[place].1 += value;
            let (right, top) = (at(time + step, 0.0).0, at(*time, below[place].1).1);
            let _ = writeln!(
                svg,
                "<rect x='{x:.1}' y='{top:.1}' width='{:.1}' height='{:.1}' fill='{colour}'/>",
                (right - x).max(1.0) - 0.3,
                (bottom - top).max(0.0)
            );
        }
    }

    fn axes(&self, svg: &mut String, most: f64, unit: &str, [start, end]: [f64; 2]) {
        for part in 0..=4 {
            let (value, y) = (most * f64::from(part) / 4.0, self.y + self.h * (1.0 - f64::from(part) / 4.0));
            let _ = writeln!(
                svg,
                "<path d='M{:.0} {y:.1}h{:.0}' stroke='#e6e6e6'/><text x='{:.0}' y='{:.0}' text-anchor='end' fill='#666'>{}</text>",
                self.x,
                self.w,
                self.x - 6.0,
                y + 4.0,
                with_unit(value, unit)
            );
        }
        let minutes = ((end - start) / 60.0).round() as i64;
        for minute in 0..=minutes {
            let x = self.x + self.w * minute as f64 / minutes as f64;
            let _ = writeln!(
                svg,
                "<text x='{x:.0}' y='{:.0}' text-anchor='middle' fill='#666'>{}</text>",
                self.y + self.h + 15.0,
                if minute == minutes { "now".to_owned() } else { format!("-{} min", minutes - minute) }
            );
        }
    }

    fn table(&self, svg: &mut String, panel: &Value, names: &[String], rows: &[Vec<String>]) {
        let overrides = panel["fieldConfig"]["overrides"].as_array().unwrap();
        let wanted = |name: &String| {
            let of_it = overrides.iter().filter(|over| over["matcher"]["options"] == name.as_str());
            let properties = of_it.flat_map(|over| over["properties"].as_array().unwrap());
            let width = properties.into_iter().find(|property| property["id"] == "custom.width")?;
            width["value"].as_f64()
        };
        let fixed: f64 = names.iter().filter_map(wanted).sum();
        let free = names.iter().filter(|name| wanted(name).is_none()).count().max(1) as f64;
        let scale = ((self.w - 16.0) / (fixed + free * 60.0)).min(1.0);
        let width = |name| wanted(name).map_or((self.w - 16.0 - fixed * scale) / free, |width| width * scale);
        let fit = ((self.h - 44.0) / 17.0) as usize;
        let header = std::iter::once((names, true));
        for (number, (row, is_header)) in
            header.chain(rows.iter().map(|row| (&row[..], false)).take(fit)).enumerate()
        {
            let (mut x, y) = (self.x + 8.0, self.y + 38.0 + 17.0 * number as f64);
            for (name, value) in names.iter().zip(row) {
                let letters = ((width(name) - 8.0) / 6.3).max(1.0) as usize;
                let colour = match name.as_str() {
                    "severity" if !is_header => colour_of_severity(value),
                    _ if is_header => "#1a5fb4",
                    _ => "#333",
                };
                let text: String = value.replace('\n', " ").chars().take(letters).collect();
                let _ = writeln!(
                    svg,
                    "<text x='{x:.0}' y='{y:.0}' fill='{colour}' font-size='11'>{}</text>",
                    escaped(&text)
                );
                x += width(name);
            }
        }
    }
}

fn highest(lines: &[Line], stacked: bool) -> f64 {
    let values = lines.iter().flat_map(|line| &line.points);
    if !stacked {
        return values.map(|(_, value)| *value).fold(0.0, f64::max);
    }
    let mut sums = std::collections::BTreeMap::<i64, f64>::new();
    values.for_each(|(time, value)| *sums.entry((time * 2.0) as i64).or_default() += value);
    sums.into_values().fold(0.0, f64::max)
}

fn colour_of<'a>(panel: &'a Value, name: &str, number: usize) -> &'a str {
    let overrides = panel["fieldConfig"]["overrides"].as_array().unwrap();
    let own = overrides.iter().find(|over| over["matcher"]["options"] == name);
    own.and_then(|over| over["properties"][0]["value"]["fixedColor"].as_str())
        .unwrap_or(PALETTE[number % PALETTE.len()])
}

fn colour_of_severity(severity: &str) -> &'static str {
    match severity {
        "ERROR" => "#d44a3a",
        "FATAL" => "#8f3bb8",
        "WARN" => "#b9791a",
        "INFO" => "#3f8f32",
        _ => "#6d7fa9",
    }
}

fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "percentunit" => format!("{:.0} %", value * 100.0),
        "s" if value < 1.0 => format!("{:.1} ms", value * 1000.0),
        "s" if value < 600.0 => format!("{value:.0} s"),
        "s" => format!("{:.1} h", value / 3600.0),
        "bytes" if value >= f64::from(1 << 30) => format!("{:.1} GiB", value / f64::from(1 << 30)),
        "bytes" if value >= f64::from(1 << 20) => format!("{:.0} MiB", value / f64::from(1 << 20)),
        "bytes" => format!("{:.0} KiB", value / 1024.0),
        _ if value >= 1e6 => format!("{:.1} M", value / 1e6),
        _ if value >= 1e4 => format!("{:.0} K", value / 1e3),
        _ if value >= 10.0 || value == value.round() => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}
