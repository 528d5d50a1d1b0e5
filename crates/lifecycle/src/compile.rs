//! From the configuration to lives, with all mistakes at once.

use tollgate_calendar::Window;
use tollgate_core::apis::{ApiId, ApiTable};
use tollgate_core::config::{ConfigErrors, OneOrMany, Rejected, Table, quote};
use tollgate_core::headers::Headers;
use tollgate_core::name::Name;
use tollgate_core::order;
use tollgate_core::time::{Instant3339, NANOS_PER_SECOND, Timestamp};

use crate::brownout::Brownouts;
use crate::config::{AfterSunset, SelectorConfig, VersionConfig};
use crate::dates::{Deprecation, Sunset};
use crate::lifecycle::{End, Lifecycle};
use crate::selector::{Place, VersionSelector};
use crate::successor::Successor;

mod leads_back;
mod loops;

use leads_back::{leads_back, redirects_forever};

/// The lives of all versions, found by request.
#[derive(Clone, Debug, Default)]
pub struct LifecycleTable {
    lives: Vec<Lifecycle>,
    /// For each API, by its index, the indices of its versions: narrower ones first, otherwise in
    /// the order of the document.
    by_api: Vec<Vec<usize>>,
}

impl LifecycleTable {
    /// Compiles the section at `path`. All mistakes are recorded; with any, the table is good for
    /// nothing.
    pub fn compile(
        configs: &[VersionConfig],
        path: &str,
        apis: &ApiTable,
        errors: &mut ConfigErrors,
    ) -> LifecycleTable {
        let mut table = LifecycleTable::default();
        let mut known: Vec<Known> = Vec::new();
        let mut placed: Vec<String> = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let own = resolve_apis(config, &path, apis, errors);
            let selector = compile_selector(&config.version, &format!("{path}.version"), errors);
            let mut cx = Compile {
                path: &path,
                apis,
                own: &own,
                errors: &mut *errors,
            };
            let life = cx.life(config, selector.as_ref().ok());
            let Ok(selector) = selector else {
                continue;
            };
            let version = Known {
                path,
                apis: own,
                selector,
            };
            for other in &known {
                version.check_overlap(other, apis, errors);
            }
            if let Ok(life) = life {
                table.add(life, &version);
                placed.push(version.path.clone());
            }
            known.push(version);
        }
        for versions in &mut table.by_api {
            let lives = &table.lives;
            let takes_all = |index: &usize| {
                let life = lives.get(*index);
                life.is_some_and(|life| life.selector.takes_all())
            };
            order::sort_by(versions, |a, b| takes_all(a).cmp(&takes_all(b)));
        }
        loops::check(&table, &placed, apis, errors);
        table
    }

    /// The life of the version that a request is for. `query` is what follows the `?`.
    pub fn find(&self, api: ApiId, headers: &Headers, query: Option<&[u8]>) -> Option<&Lifecycle> {
        self.get(self.find_place(api, headers, query)?)
    }

    /// The place of that life, to be [got](LifecycleTable::get) again.
    pub fn find_place(&self, api: ApiId, headers: &Headers, query: Option<&[u8]>) -> Option<usize> {
        let versions = self.by_api.get(api.index())?.iter();
        let versions =
            versions.filter_map(|index| Some((*index, &self.lives.get(*index)?.selector)));
        let mut preferred = None;
        for (index, selector) in versions.clone() {
            let preference = selector.preference(headers);
            // Of what is wanted as much, the first.
            if preference.is_some() && preference > preferred.map(|(preference, _)| preference) {
                preferred = preference.map(|preference| (preference, index));
            }
        }
        let preferred = preferred.map(|(_, index)| index);
        let named = |(index, selector): &(usize, &VersionSelector)| {
            preferred == Some(*index) || selector.is_named(headers, query)
        };
        // Whatever stands first: a version that is named goes before one for requests that name none.
        let found = versions.clone().find(named).or_else(|| {
            versions
                .clone()
                .find(|(_, it)| it.takes_rest(headers, query))
        });
        found.map(|(index, _)| index)
    }

    /// The life at a place.
    pub fn get(&self, place: usize) -> Option<&Lifecycle> {
        self.lives.get(place)
    }

    /// When the API ends, in seconds since the Unix epoch. Where its versions end one by one, the next
    /// of them to end; when all have ended, the last.
    pub fn next_end(&self, api: ApiId, now: Timestamp) -> Option<u64> {
        let now = now.as_seconds();
        let versions = self.by_api.get(api.index())?.iter();
        let lives = versions.filter_map(|index| self.lives.get(*index));
        let ends = lives.filter_map(|life| Some(life.end.as_ref()?.at));
        let next = ends.min_by_key(|end| (*end <= now, end.abs_diff(now)))?;
        u64::try_from(next).ok()
    }

    /// The lives, in the order of the document.
    pub fn iter(&self) -> impl Iterator<Item = &Lifecycle> {
        self.lives.iter()
    }

    /// Whether some consumers have an end of their own, so that it matters who asks.
    pub fn has_grace(&self) -> bool {
        self.lives.iter().any(Lifecycle::has_grace)
    }

    fn add(&mut self, life: Lifecycle, version: &Known) {
        let index = self.lives.len();
        self.lives.push(life);
        for api in &version.apis {
            if self.by_api.len() <= api.index() {
                self.by_api
                    .resize(api.index().saturating_add(1), Vec::new());
            }
            if let Some(versions) = self.by_api.get_mut(api.index()) {
                versions.push(index);
            }
        }
    }
}

/// A version by which later ones are judged.
struct Known {
    path: String,
    apis: Vec<ApiId>,
    selector: VersionSelector,
}

impl Known {
    fn check_overlap(&self, other: &Known, apis: &ApiTable, errors: &mut ConfigErrors) {
        let shared = self.apis.iter().find(|api| other.apis.contains(api));
        if let Some(api) = shared.filter(|_| self.selector.overlaps(&other.selector)) {
            let name = quote(apis.name(*api));
            let message = format!(
                "requests for {name} that this is about may be for {} too, expected different \
                 versions: merge them, or tell them apart by version",
                other.path
            );
            errors.add(self.path.as_str(), message);
        }
    }
}

/// Reads dates of one object, and records what is wrong with them.
pub(crate) struct Dates<'a> {
    pub(crate) path: &'a str,
    pub(crate) errors: &'a mut ConfigErrors,
}

impl Dates<'_> {
    /// A date in whole seconds since the Unix epoch.
    pub(crate) fn seconds(&mut self, field: &str, at: Instant3339) -> Result<i64, Rejected> {
        let Instant3339(at) = at;
        // The last instant that can be told stands for all later ones.
        let is_last = at == Timestamp::from_nanos(u64::MAX);
        match is_last || at.as_nanos().is_multiple_of(NANOS_PER_SECOND) {
            true => Ok(at.as_seconds()),
            false => {
                let message = "has a fraction of a second, which headers can't tell: write whole \
                               seconds";
                Err(self.errors.add(format!("{}.{field}", self.path), message))
            }
        }
    }
}

fn resolve_apis(
    config: &VersionConfig,
    path: &str,
    apis: &ApiTable,
    errors: &mut ConfigErrors,
) -> Vec<ApiId> {
    let mut resolved: Vec<ApiId> = Vec::new();
    let mut resolve = |name: &Name, path: String| {
        let Ok(id) = apis.resolve(name.as_str(), path.as_str(), errors) else {
            return;
        };
        match resolved.contains(&id) {
            true => drop(errors.add(
                path,
                format!("{} is there twice, write it once", quote(name.as_str())),
            )),
            false => resolved.push(id),
        }
    };
    match (&config.api, &config.apis) {
        (Some(name), None) => resolve(name, format!("{path}.api")),
        (None, Some(names)) if !names.is_empty() => {
            for (index, name) in names.iter().enumerate() {
                resolve(name, format!("{path}.apis[{index}]"));
            }
        }
        (None, Some(_)) => {
            errors.add(
                format!("{path}.apis"),
                "the list is empty, expected the names of APIs",
            );
        }
        (Some(_), Some(_)) => {
            errors.add(
                format!("{path}.apis"),
                "found with api, expected one of both: remove one",
            );
        }
        (None, None) => {
            errors.add(
                path,
                "the field \"api\" is missing, add it, or \"apis\" for several",
            );
        }
    }
    resolved
}

fn compile_selector(
    configs: &OneOrMany<SelectorConfig>,
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<VersionSelector, Rejected> {
    let mut rejected = None;
    let mut selector = VersionSelector::default();
    for (index, config) in configs.0.iter().enumerate() {
        let path = match configs.0.len() {
            1 => path.to_owned(),
            _ => format!("{path}[{index}]"),
        };
        selector.is_default |= config.default;
        match compile_place(config, &path, errors) {
            Ok(place) => selector.places.push(place),
            Err(error) => rejected = Some(error),
        }
    }
    rejected.map_or(Ok(selector), Err)
}

fn compile_place(
    config: &SelectorConfig,
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<Place, Rejected> {
    let SelectorConfig {
        header,
        query,
        media_type,
        value: OneOrMany(values),
        default,
    } = config;
    match (header, query, media_type) {
        (None, None, Some(range)) if values.is_empty() && !default => {
            Ok(Place::MediaType(range.clone()))
        }
        (None, None, Some(_)) => {
            let message = "found with value or default, which are for a header or parameter: remove \
                           them, and name the version in the media type";
            Err(errors.add(format!("{path}.media_type"), message))
        }
        (Some(_), None, None) | (None, Some(_), None) if values.is_empty() => Err(errors.add(
            path,
            "the field \"value\" is missing, add it with the version",
        )),
        (Some(name), None, None) => match values.iter().find(|value| value.trim() != *value) {
            Some(value) => {
                let message = format!(
                    "found {} with space around it, which no header has",
                    quote(value)
                );
                Err(errors.add(format!("{path}.value"), message))
            }
            None => Ok(Place::Header(name.clone(), values.clone())),
        },
        (None, Some(name), None) => Ok(Place::Query(name.clone(), values.clone())),
        _ => Err(errors.add(path, "expected exactly one of header, query and media_type")),
    }
}

/// Where one version is compiled.
struct Compile<'a> {
    path: &'a str,
    apis: &'a ApiTable,
    /// The APIs that it is a version of.
    own: &'a [ApiId],
    errors: &'a mut ConfigErrors,
}

impl Compile<'_> {
    fn life(
        &mut self,
        config: &VersionConfig,
        selector: Option<&VersionSelector>,
    ) -> Result<Lifecycle, Rejected> {
        let dates = self.dates(config);
        let grace = self.grace(&config.grace, dates.as_ref().ok());
        let brownouts = self.brownouts(config, dates.as_ref().ok());
        self.check_fields(config);
        self.check_successors(config, selector);
        let (deprecated, sunset) = dates?;
        let deprecation =
            config
                .deprecated
                .map(|Instant3339(at)| match config.legacy_deprecation_true {
                    true => Deprecation::legacy(at),
                    false => Deprecation::new(at),
                });
        let end = sunset
            .zip(config.sunset)
            .map(|(at, date)| End::new(at, date));
        Ok(Lifecycle {
            selector: selector.cloned().unwrap_or_default(),
            version: selector.and_then(VersionSelector::label),
            deprecated,
            deprecation,
            end,
            grace,
            brownouts,
            after_sunset: config.after_sunset,
            successor: config.successor.clone(),
            latest: config.latest.clone(),
            docs: config.docs.clone(),
            mode: config.mode,
        })
    }

    /// When it is deprecated and when it ends.
    fn dates(&mut self, config: &VersionConfig) -> Result<(Option<i64>, Option<i64>), Rejected> {
        let mut dates = Dates {
            path: self.path,
            errors: &mut *self.errors,
        };
        let deprecated = config
            .deprecated
            .map(|at| dates.seconds("deprecated", at))
            .transpose();
        let sunset = config
            .sunset
            .map(|at| dates.seconds("sunset", at))
            .transpose();
        match (deprecated?, sunset?) {
            // One of several versions may live on; it is told apart from those that don't.
            (None, None) if config.version.0.is_empty() => {
                let message = "found neither deprecated nor sunset, expected a date for one of \
                               them, or version for one that lives on";
                Err(self.errors.add(self.path, message))
            }
            (Some(deprecated), Some(sunset)) if sunset < deprecated => {
                let message = "is before deprecated, expected a later date: clients must be told \
                               before it ends";
                Err(self.add("sunset", message))
            }
            both => Ok(both),
        }
    }

    fn grace(
        &mut self,
        grace: &Table<Instant3339, Name>,
        dates: Option<&(Option<i64>, Option<i64>)>,
    ) -> Box<[(Box<str>, End)]> {
        let sunset = dates.and_then(|(_, sunset)| *sunset);
        if !grace.0.is_empty() && dates.is_some() && sunset.is_none() {
            self.add(
                "grace",
                "does nothing without sunset: add that, or remove it",
            );
        }
        let mut ends = Vec::with_capacity(grace.0.len());
        for (name, date) in &grace.0 {
            let path = format!("{}.grace", self.path);
            let mut dates = Dates {
                path: &path,
                errors: &mut *self.errors,
            };
            let Ok(at) = dates.seconds(name.as_str(), *date) else {
                continue;
            };
            if sunset.is_some_and(|sunset| at <= sunset) {
                let path = tollgate_core::config::key_path(&path, name.as_str());
                let message = "is not after sunset, expected a later date, or none";
                self.errors.add(path, message);
            }
            ends.push((name.as_str().into(), End::new(at, *date)));
        }
        order::sort_by(&mut ends, |(a, _): &(Box<str>, End), (b, _)| a.cmp(b));
        ends.into_boxed_slice()
    }

    fn brownouts(
        &mut self,
        config: &VersionConfig,
        dates: Option<&(Option<i64>, Option<i64>)>,
    ) -> Brownouts {
        if config.brownouts.is_empty() {
            return Brownouts::default();
        }
        match dates {
            Some((Some(start), Some(end))) if start < end => {
                let life = Window {
                    start: *start,
                    end: *end,
                };
                let path = format!("{}.brownouts", self.path);
                Brownouts::compile(&config.brownouts, life, &path, self.errors)
            }
            Some(_) => {
                let message = "expected some time between deprecated and sunset: brownouts are for \
                               clients who were told, and before the end";
                self.add("brownouts", message);
                Brownouts::default()
            }
            // What is wrong with the dates is recorded.
            None => Brownouts::default(),
        }
    }

    /// Refuses fields that do nothing without others.
    fn check_fields(&mut self, config: &VersionConfig) {
        if config.legacy_deprecation_true && config.deprecated.is_none() {
            self.add(
                "legacy_deprecation_true",
                "does nothing without deprecated: remove it",
            );
        }
        if config.after_sunset != AfterSunset::Gone && config.sunset.is_none() {
            self.add(
                "after_sunset",
                "does nothing without sunset: add that, or remove it",
            );
        }
        if config.after_sunset == AfterSunset::Redirect && config.successor.is_none() {
            let message = "there is no successor to redirect to: add it, or write gone";
            self.add("after_sunset", message);
        }
    }

    fn check_successors(&mut self, config: &VersionConfig, selector: Option<&VersionSelector>) {
        let fields = [("successor", &config.successor), ("latest", &config.latest)];
        for (field, successor) in fields {
            let Some(successor) = successor else {
                continue;
            };
            if self.check_fill(field, successor).is_err() {
                continue;
            }
            let own = self
                .own
                .iter()
                .find(|api| leads_back(successor, **api, self.apis));
            let (Some(api), Some(selector)) = (own, selector) else {
                continue;
            };
            let name = quote(self.apis.name(*api));
            if selector.takes_all() {
                let message = format!(
                    "leads back to {name}, which is what ends: write where the next version is, or \
                     narrow this one with version"
                );
                self.add(field, message);
            } else if field == "successor"
                && config.after_sunset == AfterSunset::Redirect
                && redirects_forever(successor, selector)
            {
                let message = format!(
                    "leads back to this version of {name}, and a redirect can't change headers: \
                     write where the next version is, with its query parameter if it has one, or \
                     write gone"
                );
                self.add(field, message);
            }
        }
    }

    /// Checks that the wildcards can be filled whatever path of the API was asked for.
    fn check_fill(&mut self, field: &str, successor: &Successor) -> Result<(), Rejected> {
        for api in self.own {
            for template in self.apis.templates(*api) {
                let Err(missing) = successor.check_fill(template) else {
                    continue;
                };
                let message = format!(
                    "can't be computed from the path \"{template}\" of {}: {missing}",
                    quote(self.apis.name(*api))
                );
                return Err(self.add(field, message));
            }
        }
        Ok(())
    }

    fn add(&mut self, field: &str, message: impl Into<String>) -> Rejected {
        self.errors.add(format!("{}.{field}", self.path), message)
    }
}

impl End {
    fn new(at: i64, Instant3339(date): Instant3339) -> End {
        End {
            at,
            sunset: Sunset::new(date),
        }
    }
}

#[cfg(test)]
mod tests;
