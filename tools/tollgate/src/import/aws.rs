//! Usage plans and API keys of Amazon API Gateway.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value as Json;

use super::Imported;
use super::output::Out;
use super::parts::{Names, api, rate_of_second, under};
use crate::{input, key};

#[derive(Deserialize)]
struct Export {
    items: Vec<Json>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsagePlan {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    api_stages: Vec<ApiStage>,
    throttle: Option<Throttle>,
    quota: Option<Quota>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiStage {
    api_id: String,
    stage: String,
    #[serde(default)]
    throttle: BTreeMap<String, Throttle>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Throttle {
    rate_limit: Option<f64>,
    burst_limit: Option<f64>,
}

#[derive(Clone, Deserialize)]
struct Quota {
    limit: f64,
    #[serde(default)]
    offset: f64,
    period: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiKey {
    id: String,
    #[serde(default)]
    name: String,
    value: Option<String>,
    enabled: Option<bool>,
    created_date: Option<Json>,
    #[serde(default)]
    stage_keys: Vec<String>,
}

#[derive(Deserialize)]
struct PlanKey {
    id: String,
}

/// What the exports hold together.
#[derive(Default)]
struct Exports {
    plans: Vec<UsagePlan>,
    keys: Vec<ApiKey>,
    /// The ids of the keys of each plan, where they were given.
    members: BTreeMap<String, Vec<String>>,
}

/// Imports exports; `PLAN_ID=FILE` names the keys of a plan.
pub(crate) fn import(files: &[String]) -> anyhow::Result<Imported> {
    let mut exports = Exports::default();
    for file in files {
        exports.read(file)?;
    }
    if exports.plans.is_empty() {
        bail!("no export of get-usage-plans was given");
    }
    let mut import = Import::default();
    let plans: Vec<Plan> = exports.plans.iter().map(|plan| import.plan(plan)).collect();
    import.consumers(&exports, &plans);
    Ok(import.finish(plans))
}

impl Exports {
    fn read(&mut self, file: &str) -> anyhow::Result<()> {
        let (plan, path) = match file.split_once('=') {
            Some((plan, path)) => (Some(plan), path),
            None => (None, file),
        };
        let input = input::read(path.as_ref())?;
        let export: Export = serde_json::from_str(&input.text).with_context(|| {
            format!(
                "{}: expected an export of the AWS command line, as JSON with items",
                input.name
            )
        })?;
        for item in export.items {
            let context = || format!("{}: an item is not understood", input.name);
            if let Some(plan) = plan {
                let key: PlanKey = serde_json::from_value(item).with_context(context)?;
                self.members
                    .entry(plan.to_owned())
                    .or_default()
                    .push(key.id);
            } else if ["apiStages", "throttle", "quota"]
                .iter()
                .any(|field| item.get(field).is_some())
            {
                self.plans
                    .push(serde_json::from_value(item).with_context(context)?);
            } else {
                self.keys
                    .push(serde_json::from_value(item).with_context(context)?);
            }
        }
        Ok(())
    }

    /// The plans that a key is on.
    fn plans_of(&self, key: &ApiKey) -> Vec<usize> {
        let plans = self.plans.iter().enumerate();
        let on = plans.filter(|(_, plan)| match self.members.get(&plan.id) {
            Some(members) => members.contains(&key.id),
            None => plan.api_stages.iter().any(|stage| {
                let name = format!("{}/{}", stage.api_id, stage.stage);
                key.stage_keys.contains(&name)
            }),
        });
        on.map(|(index, _)| index).collect()
    }
}

#[derive(Default)]
struct Import {
    imported: Imported,
    names: Names,
    apis: BTreeMap<(String, String), (String, Out)>,
    consumers: Vec<Out>,
}

struct Plan {
    name: String,
    document: Out,
    has_offset: bool,
}

impl Import {
    fn plan(&mut self, plan: &UsagePlan) -> Plan {
        let label = if plan.name.is_empty() {
            &plan.id
        } else {
            &plan.name
        };
        let name = self.names.of(label);
        let mut methods = Vec::new();
        let mut apis = Vec::new();
        for stage in &plan.api_stages {
            apis.push(self.api(stage));
            for (method, throttle) in &stage.throttle {
                match (pattern(stage, method), bucket(*throttle)) {
                    (Some(pattern), Some(bucket)) => methods.push((pattern, Out::map(bucket))),
                    _ => self
                        .imported
                        .lose(format!("plan {label}: the throttle of {method}")),
                }
            }
        }
        let throttle = plan.throttle.and_then(bucket).map(Out::map);
        let throttle = match (throttle, methods.is_empty()) {
            (Some(throttle), _) => throttle.with("methods", Out::map(methods)),
            (None, true) => Out::Map(Vec::new()),
            (None, false) => {
                self.imported.lose(format!(
                    "plan {label}: throttles of methods without one of the plan"
                ));
                Out::Map(Vec::new())
            }
        };
        let quota = plan
            .quota
            .as_ref()
            .and_then(|quota| self.quota(label, quota));
        let document = Out::map([] as [(&str, Out); 0])
            .with("throttle", throttle)
            .with("quota", quota)
            .with("apis", Out::texts(apis));
        Plan {
            name,
            document,
            has_offset: plan.quota.as_ref().is_some_and(|quota| quota.offset > 0.0),
        }
    }

    fn quota(&mut self, label: &str, quota: &Quota) -> Option<Out> {
        let period = match quota.period.as_str() {
            "DAY" => "day",
            "WEEK" => "week",
            "MONTH" => "month",
            other => {
                self.imported
                    .lose(format!("plan {label}: a quota for the period {other}"));
                return None;
            }
        };
        let offset = (quota.offset > 0.0).then_some(Out::Number(quota.offset as u64));
        Some(
            Out::map([
                ("limit", Out::Number(quota.limit as u64)),
                ("period", Out::text(period)),
            ])
            .with("offset", offset),
        )
    }

    /// The API of a stage.
    fn api(&mut self, stage: &ApiStage) -> String {
        let place = (stage.api_id.clone(), stage.stage.clone());
        if let Some((name, _)) = self.apis.get(&place) {
            return name.clone();
        }
        let name = self.names.of(&format!("{}-{}", stage.api_id, stage.stage));
        let host = format!("{}.example", stage.api_id);
        let path = under(&format!("/{}", stage.stage));
        let document = api(&name, &[host], &[path], &[]);
        self.apis.insert(place, (name.clone(), document));
        name
    }

    fn consumers(&mut self, exports: &Exports, plans: &[Plan]) {
        let mut ids = Names::default();
        for found in &exports.keys {
            let label = if found.name.is_empty() {
                &found.id
            } else {
                &found.name
            };
            let on = exports.plans_of(found);
            let Some(plan) = on.first().and_then(|index| plans.get(*index)) else {
                self.imported
                    .lose(format!("key {label}: it is on no plan that was given"));
                continue;
            };
            if on.len() > 1 {
                self.imported.lose(format!(
                    "key {label}: it is on several plans; a consumer has one, here {}",
                    plan.name
                ));
            }
            let Some(value) = found.value.as_ref().filter(|value| !value.is_empty()) else {
                self.imported.lose(format!(
                    "key {label}: its value is not in the export; use get-api-keys --include-values"
                ));
                continue;
            };
            if found.enabled == Some(false) {
                self.imported
                    .lose(format!("key {label}: it is disabled, and left out"));
                continue;
            }
            let since = found
                .created_date
                .as_ref()
                .and_then(instant)
                .filter(|_| plan.has_offset);
            let digest = Out::map([("sha256", Out::text(key::sha256(value)))]);
            self.consumers.push(
                Out::map([
                    ("id", Out::text(ids.of(label))),
                    ("plan", Out::text(&plan.name)),
                ])
                .with("since", since.map(Out::Text))
                .with("keys", Out::List(vec![digest])),
            );
        }
    }

    fn finish(mut self, plans: Vec<Plan>) -> Imported {
        let imported = &mut self.imported;
        imported.differ(
            "throttles and quotas of AWS are best effort; here they are exact, in each Envoy by \
             itself",
        );
        imported.differ(
            "AWS answers 403 to a missing or unknown key, and 429 beyond a limit; here it is 401 \
             and 429",
        );
        imported.differ(
            "the hosts of the APIs are not in the export: put yours in place of <api id>.example, \
             and take the stage out of the paths where your own domain leaves it out",
        );
        imported.differ(
            "the throttles of the stage, the account and the Region are not in the export; \
             rate_limit has limits for everybody",
        );
        if plans.iter().any(|plan| has_methods(&plan.document)) {
            imported.differ(
                "the throttle of a method applies together with the plan's; set replaces_plan: true \
                 to let it apply alone",
            );
        }
        let apis = self.apis.into_values().map(|(_, document)| document);
        let apis = Out::List(apis.collect());
        let plans = plans.into_iter().map(|plan| (plan.name, plan.document));
        let usage_plan = Out::map([("key", Out::map([("header", Out::text("x-api-key"))]))])
            .with("plans", Out::map(plans))
            .with("consumers", Out::List(self.consumers));
        self.imported.section("apis", apis);
        self.imported.section("usage_plan", usage_plan);
        self.imported
    }
}

fn has_methods(plan: &Out) -> bool {
    let Out::Map(fields) = plan else { return false };
    fields.iter().any(|(name, value)| match value {
        Out::Map(inner) => name == "throttle" && inner.iter().any(|(name, _)| name == "methods"),
        _ => false,
    })
}

fn bucket(throttle: Throttle) -> Option<[(&'static str, Out); 2]> {
    let rate = rate_of_second(throttle.rate_limit?)?;
    let burst = throttle.burst_limit.filter(|burst| *burst >= 1.0);
    // Without a burst nothing could pass.
    let burst = burst.unwrap_or(1.0) as u64;
    Some([("rate", Out::Text(rate)), ("burst", Out::Number(burst))])
}

/// `/pets/{id}/GET` of a stage as `GET /prod/pets/{id}`.
fn pattern(stage: &ApiStage, method: &str) -> Option<String> {
    let (path, method) = method.rsplit_once('/')?;
    let path: Vec<&str> = path.split('/').collect();
    let path = path.iter().map(|segment| match segment.strip_suffix("+}") {
        Some(_) => "**",
        None => segment,
    });
    let path = path.collect::<Vec<_>>().join("/");
    let path = format!("/{}{path}", stage.stage);
    match method {
        "*" | "ANY" => Some(path),
        method => Some(format!("{method} {path}")),
    }
}

/// A date as the command line writes it, by its version: RFC 3339, or seconds since 1970.
fn instant(date: &Json) -> Option<String> {
    let timestamp = match date {
        Json::String(text) => text.parse::<jiff::Timestamp>().ok()?,
        Json::Number(seconds) => {
            jiff::Timestamp::from_second(seconds.as_f64().map(|seconds| seconds as i64)?).ok()?
        }
        _ => return None,
    };
    Some(timestamp.to_string())
}
