//! Dashboards, alerts and the list of metrics, against gateways whose traffic has every outcome.

mod common;
mod idp;
mod observed;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use observed::Observed;
use serde::Deserialize;
use serde_json::Value;
use tollgate_tests::{DEADLINE, Prometheus, promtool, repository};

const DASHBOARD: &str = "deploy/grafana/dashboards/tollgate.json";
const RULES: &str = "deploy/prometheus/rules/tollgate.yml";
const RULE_TESTS: &str = "deploy/prometheus/tests/tollgate.yml";
const METRICS: &str = "docs/metrics.md";

/// Alerts about what a test can't bring about in the time that it has. Of these, what they compare
/// must be there; `promtool test rules` shows when they fire.
const OUT_OF_REACH: [&str; 2] = ["TollgateKeysStale", "TollgateReloadFails"];

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn rules() -> Vec<Rule> {
    let file: RuleFile = serde_saphyr::from_str(&read(RULES)).unwrap();
    file.groups
        .into_iter()
        .flat_map(|group| group.rules)
        .collect()
}

/// What a rule evaluates, where it is out of reach without the comparison at its end.
fn reachable(rule: &Rule) -> &str {
    let alert = rule.alert.as_deref().unwrap_or_default();
    if !OUT_OF_REACH.contains(&alert) {
        return &rule.expr;
    }
    let (compared, limit) = rule.expr.rsplit_once(" > ").expect("a comparison");
    limit.trim().parse::<u64>().expect("a number at the end");
    compared
}

/// The panels that show something, by title, with the expressions of each.
fn panels() -> Vec<(String, Vec<String>)> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels
        .filter(|panel| panel["type"] != "row")
        .map(|panel| {
            let targets = panel["targets"].as_array().unwrap().iter();
            let expressions = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
            (
                panel["title"].as_str().unwrap().to_owned(),
                expressions.collect(),
            )
        })
        .collect()
}

/// An expression as Grafana sends it, with its variables filled in.
fn filled_in(expression: &str) -> String {
    let filled = expression
        .replace("$__rate_interval", "1m")
        .replace("$__range", "1h")
        .replace("$job", ".*");
    assert!(!filled.contains('$') || filled.contains("\"$1"), "{filled}");
    filled
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_and_every_rule_has_data() {
    let mut observed = Observed::start().await;
    let gateways = [&observed.gateway, &observed.mortal, &observed.stored];
    let Some(prometheus) = Prometheus::start(&gateways, &[repository().join(RULES)]).await else {
        return;
    };
    observed.refuse_update().await;
    let mut pending: BTreeMap<String, String> = BTreeMap::new();
    for (title, expressions) in panels() {
        assert!(!expressions.is_empty(), "the panel {title} asks nothing");
        for (number, expression) in expressions.iter().enumerate() {
            pending.insert(
                format!("panel {title}, query {number}"),
                filled_in(expression),
            );
        }
    }
    for rule in rules() {
        let name = rule.alert.as_ref().or(rule.record.as_ref()).unwrap();
        pending.insert(format!("rule {name}"), reachable(&rule).to_owned());
    }
    assert!(pending.len() > 30, "found {} queries", pending.len());
    let all_answered = async {
        while !pending.is_empty() {
            observed.send().await;
            let mut unanswered = BTreeMap::new();
            for (what, expression) in std::mem::take(&mut pending) {
                if prometheus.query(&expression).await.is_empty() {
                    unanswered.insert(what, expression);
                }
            }
            pending = unanswered;
        }
    };
    let answered = tokio::time::timeout(DEADLINE, all_answered).await;
    assert!(answered.is_ok(), "no data for {pending:#?}");
}

#[test]
fn prometheus_accepts_the_rules_and_alerts_fire_when_they_should() {
    for arguments in [["check", "rules", RULES], ["test", "rules", RULE_TESTS]] {
        match promtool(&arguments) {
            None => return,
            Some(result) => drop(result.unwrap_or_else(|mistakes| panic!("{mistakes}"))),
        }
    }
}

#[test]
fn prometheus_accepts_its_configuration() {
    for entry in fs::read_dir(repository().join("deploy/prometheus")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        if let Some(result) = promtool(&["check", "config", path.to_str().unwrap()]) {
            result.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        }
    }
}

#[test]
fn every_alert_is_tested_and_says_what_to_do() {
    let operations = read("docs/operations.md");
    let headings: BTreeSet<String> = operations
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|heading| anchor(heading.trim_start_matches('#').trim()))
        .collect();
    let tests = read(RULE_TESTS);
    for rule in rules() {
        let Some(alert) = rule.alert else { continue };
        assert!(
            tests.contains(&format!("alertname: {alert}\n")),
            "{alert} has no test"
        );
        for annotation in ["summary", "description", "runbook"] {
            assert!(
                rule.annotations.contains_key(annotation),
                "{alert}: {annotation}"
            );
        }
        let runbook = rule.annotations["runbook"].strip_prefix("docs/operations.md#");
        let runbook = runbook.unwrap_or_else(|| panic!("{alert}: a runbook elsewhere"));
        assert!(headings.contains(runbook), "{alert}: no heading {runbook}");
    }
}

/// The anchor of a heading, as it is made where the documents are shown.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || matches!(c, '-' | '_') => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

#[test]
fn the_dashboard_can_be_shown() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{title}: its id is used twice"
        );
        let place = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title} is too wide");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} overlaps another panel");
            }
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "prometheus", "{title}");
        }
    }
}

/// A row of a table in [`METRICS`]: a metric's name, its kind and its labels.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = read(METRICS);
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `tollgate_")?.split('|').collect();
        let name = format!("tollgate_{}", cells[0].trim().trim_end_matches('`'));
        let labels = cells[2]
            .split(',')
            .map(|label| label.trim().trim_matches('`'));
        let labels = labels.filter(|label| !label.is_empty()).map(str::to_owned);
        Some((name, labels.collect()))
    });
    rows.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_metrics_is_what_there_is() {
    let documented = documented();
    let mut observed = Observed::start().await;
    let found = async |observed: &Observed| -> BTreeMap<String, BTreeSet<String>> {
        let gateways = [
            observed.gateway.stats().await,
            observed.stored.stats().await,
        ];
        let samples = gateways
            .iter()
            .flat_map(|stats| stats.with_prefix("tollgate_"));
        samples
            .map(|sample| (sample.name.clone(), sample.labels.keys().cloned().collect()))
            .collect()
    };
    // Those of quotas are set from time to time.
    let mut all = found(&observed).await;
    let complete = async {
        while !documented.keys().all(|name| all.contains_key(name)) {
            observed.send().await;
            all = found(&observed).await;
        }
    };
    let complete = tokio::time::timeout(DEADLINE, complete).await;
    assert!(
        complete.is_ok(),
        "documented {documented:#?}, found {all:#?}"
    );
    assert_eq!(documented, all);
}

#[test]
fn every_label_is_explained() {
    let text = read(METRICS);
    for label in tollgate_core::telemetry::LABELS {
        assert!(
            text.contains(&format!("\n| `{label}` |")),
            "{METRICS} does not explain {label}"
        );
    }
}

#[test]
fn rules_and_panels_name_only_metrics_that_are_documented() {
    let documented = documented();
    let mut expressions: Vec<String> = rules().into_iter().map(|rule| rule.expr).collect();
    expressions.extend(
        panels()
            .into_iter()
            .flat_map(|(_, expressions)| expressions),
    );
    for expression in expressions {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        for word in words.filter(|word| word.starts_with("tollgate_")) {
            assert!(documented.contains_key(word), "{word} in {expression}");
        }
    }
}
