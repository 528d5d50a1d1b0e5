//! What all importers need: names, rates and templates of paths.

use std::collections::BTreeMap;

use super::output::Out;

/// Names that are taken here, each once.
#[derive(Debug, Default)]
pub(crate) struct Names {
    used: BTreeMap<String, u32>,
}

impl Names {
    /// A name made of a text: other characters become hyphens, and a number tells those apart that
    /// would be the same.
    pub(crate) fn of(&mut self, text: &str) -> String {
        let is_taken = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
        let plain: String = text
            .chars()
            .map(|c| if is_taken(&c) { c } else { '-' })
            .collect();
        let plain = plain.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let plain: String = plain.chars().take(MOST_NAME).collect();
        let plain = match plain.is_empty() {
            true => "unnamed".to_owned(),
            false => plain,
        };
        loop {
            let count = self.used.entry(plain.clone()).or_default();
            *count += 1;
            let name = match *count {
                1 => return plain,
                count => format!("{plain}-{count}"),
            };
            if !self.used.contains_key(&name) {
                self.used.insert(name.clone(), 1);
                return name;
            }
        }
    }
}

/// Leaves room for the number that tells names apart.
const MOST_NAME: usize = 110;

/// A whole number of requests in a period, for a number of requests a second that may be a fraction.
pub(crate) fn rate_of_second(per_second: f64) -> Option<String> {
    let periods = [(1.0, "s"), (60.0, "m"), (3600.0, "h"), (86_400.0, "d")];
    let whole = periods.iter().find_map(|(seconds, unit)| {
        let count = per_second * seconds;
        let is_whole = count >= 1.0 && (count - count.round()).abs() < 1e-9 * count;
        is_whole.then(|| format!("{}/{unit}", count.round()))
    });
    whole.or_else(|| {
        let daily = (per_second * 86_400.0).floor();
        (daily >= 1.0).then(|| format!("{daily}/d"))
    })
}

/// The template of all paths that begin with the segments of a prefix.
pub(crate) fn under(prefix: &str) -> String {
    format!("{}/**", prefix.trim_end_matches('/'))
}

/// Whether a path has nothing that means something else in a template.
pub(crate) fn is_literal(path: &str) -> bool {
    path.starts_with('/') && !path.contains(['*', '{', '}', '?', '#', ' ', '\\', ';'])
}

/// An API of one match.
pub(crate) fn api(name: &str, hosts: &[String], paths: &[String], methods: &[String]) -> Out {
    let requests = Out::map([] as [(&str, Out); 0])
        .with("hosts", Out::texts(hosts))
        .with("path", Out::texts(paths))
        .with("methods", Out::texts(methods));
    Out::map([
        ("name", Out::text(name)),
        ("match", Out::List(vec![requests])),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let mut names = Names::default();
        let all = ["a b", "a-b", "a-b-2", "", "é", "a/b"].map(|text| names.of(text));
        assert_eq!(
            all,
            ["a-b", "a-b-2", "a-b-2-2", "unnamed", "unnamed-2", "a-b-3"]
        );
    }

    #[test]
    fn rates_are_whole_numbers() {
        for (per_second, expected) in [
            (10.0, Some("10/s")),
            (0.5, Some("30/m")),
            (0.1, Some("6/m")),
            (1.0 / 3600.0, Some("1/h")),
            (1.5, Some("90/m")),
            (0.000_001, None),
            (0.0, None),
        ] {
            assert_eq!(
                rate_of_second(per_second).as_deref(),
                expected,
                "{per_second}"
            );
        }
    }
}
