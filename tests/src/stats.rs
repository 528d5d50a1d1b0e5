//! What Envoy counts, read from the Prometheus text of its admin port.

use std::collections::BTreeMap;

/// All samples of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Stats(Vec<Sample>);

/// One line of the Prometheus text.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name; for a histogram with `_bucket`, `_sum` or `_count` at its end.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Stats {
    /// Reads the Prometheus text format; comments and lines that are no sample are skipped.
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(Sample::parse).collect())
    }

    /// The samples of a name that have all of these labels (and perhaps others).
    pub fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.0
            .iter()
            .filter(move |sample| sample.name == name && sample.has(labels))
    }

    /// The sum of [`select`](Self::select); 0 when Envoy has no such sample (yet).
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.select(name, labels).map(|sample| sample.value).sum()
    }

    /// The value of the only sample of [`select`](Self::select), `None` if there is none.
    ///
    /// # Panics
    ///
    /// When several samples fit: name more labels, or use [`sum`](Self::sum).
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.select(name, labels);
        let first = found.next()?;
        if let Some(second) = found.next() {
            panic!("several samples fit {name} {labels:?}: {first:?}, {second:?}");
        }
        Some(first.value)
    }

    /// All samples whose name starts with `prefix`.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0
            .iter()
            .filter(move |sample| sample.name.starts_with(prefix))
    }
}

impl Sample {
    /// The value of one label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.label(name) == Some(value))
    }

    /// Reads `name{label="value",…} value`.
    fn parse(line: &str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (left, value) = line.rsplit_once(' ')?;
        let (name, labels) = match left.split_once('{') {
            None => (left, ""),
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
        };
        Some(Self {
            name: name.to_owned(),
            labels: parse_labels(labels)?,
            value: value.parse().ok()?,
        })
    }
}

fn parse_labels(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let (value, rest) = parse_quoted(rest)?;
        labels.insert(name.to_owned(), value);
        text = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some(labels)
}

/// The text up to the closing quote, unescaped, and what follows the quote.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(match chars.next()? {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# TYPE requests_total counter
requests_total{plan="gold",decision="allow"} 7
requests_total{plan="gold",decision="deny"} 2
requests_total{plan="a\"b\\c, d=\"",decision="allow"} 1
envoy_server_live{} 1

seconds_bucket{le="+Inf"} 3e2
"#;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let stats = Stats::parse(TEXT);
        let allowed = [("plan", "gold"), ("decision", "allow")];
        assert_eq!(stats.get("requests_total", &allowed), Some(7.0));
        assert_eq!(stats.sum("requests_total", &[("plan", "gold")]), 9.0);
        assert_eq!(stats.get("requests_total", &[("plan", "lead")]), None);
        assert_eq!(stats.get("envoy_server_live", &[]), Some(1.0));
        assert_eq!(stats.get("seconds_bucket", &[("le", "+Inf")]), Some(300.0));
        assert_eq!(stats.with_prefix("requests").count(), 3);
    }

    #[test]
    fn label_values_are_unescaped() {
        let stats = Stats::parse(TEXT);
        let plan = r#"a"b\c, d=""#;
        assert_eq!(stats.get("requests_total", &[("plan", plan)]), Some(1.0));
    }

    #[test]
    #[should_panic(expected = "several samples fit")]
    fn an_ambiguous_lookup_is_refused() {
        Stats::parse(TEXT).get("requests_total", &[("plan", "gold")]);
    }
}
