//! When a version goes dark for practice.
//!
//! All windows are laid out when the configuration is loaded: to look one up is then a binary search,
//! and where windows touch, a client is told when the last of them ends.

use tollgate_calendar::{UtcOffset, Window};
use tollgate_core::config::{ConfigErrors, Rejected};
use tollgate_core::order;
use tollgate_core::units::Span;

use crate::compile::Dates;
use crate::config::{Answer, BrownoutConfig, RampConfig};
use crate::cron::Cron;

/// The brownouts of a version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Brownouts {
    /// The earliest first; none overlaps another.
    stretches: Box<[Stretch]>,
}

/// A stretch of time with one answer, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    start: i64,
    end: i64,
    /// When requests are served again: `end`, unless another follows at once.
    pub(crate) until: i64,
    pub(crate) answer: Answer,
}

/// The most windows that a version may have: one every hour for a year. A window is held in 32
/// bytes by each of Envoy's workers.
const MOST_WINDOWS: usize = 10_000;

impl Brownouts {
    /// Lays out the brownouts of a version that is deprecated and ends with `life`. All mistakes are
    /// recorded.
    pub(crate) fn compile(
        configs: &[BrownoutConfig],
        life: Window,
        path: &str,
        errors: &mut ConfigErrors,
    ) -> Brownouts {
        let mut windows = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let mut dates = Dates {
                path: &path,
                errors: &mut *errors,
            };
            // What is wrong is recorded.
            if let Ok(found) = lay_out(config, life, &mut dates) {
                windows.extend(found.into_iter().map(|window| (window, index)));
            }
        }
        if windows.len() > MOST_WINDOWS {
            let message = format!("found {} windows in all, {TOO_MANY}", windows.len());
            errors.add(path, message);
        }
        let stretches = merge(&windows, configs);
        let first = stretches.first();
        if first.is_some_and(|first| first.start <= life.start && first.until >= life.end) {
            errors.add(
                path,
                format!("found no moment without a brownout, {NOTHING_SERVED}"),
            );
        }
        Brownouts { stretches }
    }

    /// The brownout at an instant.
    pub(crate) fn find(&self, at: i64) -> Option<&Stretch> {
        let after = self
            .stretches
            .partition_point(|stretch| stretch.start <= at);
        let last = self.stretches.get(after.checked_sub(1)?)?;
        (at < last.end).then_some(last)
    }
}

const TOO_MANY: &str =
    "expected at most 10000: write a longer period, or dates nearer to each other";
const NOTHING_SERVED: &str = "expected some time in which requests are served: write shorter or \
                              fewer brownouts, or an earlier sunset";

/// The windows of one brownout.
fn lay_out(
    config: &BrownoutConfig,
    life: Window,
    dates: &mut Dates<'_>,
) -> Result<Vec<Window>, Rejected> {
    let bounds = bounds(config, life, dates);
    let offset = config.utc_offset.map(|offset| offset.0);
    let (windows, within) = match (config.at, config.ramp) {
        (Some(_), Some(_)) => {
            let message = "found with at, expected one of both: remove one, or write two brownouts";
            return Err(dates.errors.add(format!("{}.ramp", dates.path), message));
        }
        (Some(cron), None) => {
            let length = whole_span(config.length, "for", dates)?;
            let within = bounds?;
            (
                scheduled(cron, length, offset.unwrap_or_default(), within, dates)?,
                within,
            )
        }
        (None, ramp) => {
            if offset.is_some() {
                let message = "does nothing without at: remove it";
                dates
                    .errors
                    .add(format!("{}.utc_offset", dates.path), message);
            }
            let Some(ramp) = ramp else {
                // Its own dates are all that it is.
                return Ok(vec![bounds?]);
            };
            if config.length.is_some() {
                let message = "does nothing with a ramp, which has first and last: remove it";
                dates.errors.add(format!("{}.for", dates.path), message);
            }
            let within = bounds?;
            (ramping(ramp, within, dates)?, within)
        }
    };
    if covers(&windows, within) {
        return Err(dates
            .errors
            .add(dates.path, format!("never pauses, {NOTHING_SERVED}")));
    }
    Ok(windows)
}

/// From when until when there are windows.
fn bounds(
    config: &BrownoutConfig,
    life: Window,
    dates: &mut Dates<'_>,
) -> Result<Window, Rejected> {
    let once = config.at.is_none() && config.ramp.is_none();
    let from = config
        .from
        .map(|from| dates.seconds("from", from))
        .transpose();
    let until = config
        .until
        .map(|until| dates.seconds("until", until))
        .transpose();
    let (from, until) = (from?, until?);
    let length = match once {
        true => config
            .length
            .map(|length| whole_span(Some(length), "for", dates))
            .transpose()?,
        false => None,
    };
    let (start, end) = match (from, until, length) {
        _ if !once => (from.unwrap_or(life.start), until.unwrap_or(life.end)),
        (Some(from), Some(until), None) => (from, until),
        (Some(from), None, Some(length)) => (from, from.saturating_add(length)),
        _ => {
            let message = "expected when it is: write at with for, or ramp, or from with for, or \
                           from with until";
            return Err(dates.errors.add(dates.path, message));
        }
    };
    let field = |written: bool, name: &str| match written {
        true => format!("{}.{name}", dates.path),
        false => dates.path.to_owned(),
    };
    if start >= end {
        let message = "ends before it begins: expected until after from";
        return Err(dates.errors.add(field(until.is_some(), "until"), message));
    }
    if start < life.start || start >= life.end {
        let message = "is outside of the time between deprecated and sunset, in which brownouts \
                       announce the end: write it later or earlier, or leave it out";
        return Err(dates.errors.add(field(from.is_some(), "from"), message));
    }
    if end > life.end {
        let message = "is after the sunset, when nothing is served anyway: write it earlier, or \
                       leave it out";
        return Err(dates.errors.add(field(until.is_some(), "until"), message));
    }
    Ok(Window { start, end })
}

/// A length of time in whole seconds, at least one.
fn whole_span(span: Option<Span>, name: &str, dates: &mut Dates<'_>) -> Result<i64, Rejected> {
    let path = format!("{}.{name}", dates.path);
    let Some(span) = span else {
        let message = format!("the field \"{name}\" is missing, add it with a duration as 15m");
        return Err(dates.errors.add(dates.path, message));
    };
    let seconds = i64::try_from(span.get().as_secs()).unwrap_or(i64::MAX);
    match seconds > 0 && span.get().subsec_nanos() == 0 {
        true => Ok(seconds),
        false => {
            let message = format!("found {span}, expected whole seconds, at least 1s");
            Err(dates.errors.add(path, message))
        }
    }
}

fn scheduled(
    cron: Cron,
    length: i64,
    offset: UtcOffset,
    within: Window,
    dates: &mut Dates<'_>,
) -> Result<Vec<Window>, Rejected> {
    let path = format!("{}.at", dates.path);
    let times: Vec<i64> = cron
        .times(within, offset)
        .take(MOST_WINDOWS.saturating_add(1))
        .collect();
    match times.len() {
        0 => {
            let message = "never comes between from and until, expected a time that does";
            Err(dates.errors.add(path, message))
        }
        count if count > MOST_WINDOWS => {
            let message = format!("comes more often than can be kept, {TOO_MANY}");
            Err(dates.errors.add(path, message))
        }
        _ => Ok(times
            .into_iter()
            .map(|start| window(start, length, within))
            .collect()),
    }
}

fn ramping(
    ramp: RampConfig,
    within: Window,
    dates: &mut Dates<'_>,
) -> Result<Vec<Window>, Rejected> {
    let path = format!("{}.ramp", dates.path);
    let mut inner = Dates {
        path: &path,
        errors: &mut *dates.errors,
    };
    let period = whole_span(Some(ramp.period), "period", &mut inner);
    let first = whole_span(Some(ramp.first), "first", &mut inner);
    let last = whole_span(Some(ramp.last), "last", &mut inner);
    let (period, first, last) = (period?, first?, last?);
    if first >= last {
        let message = format!(
            "found {}, expected more than first, {}",
            ramp.last, ramp.first
        );
        return Err(inner.errors.add(format!("{path}.last"), message));
    }
    if last > period {
        let message = format!(
            "found {}, expected at most the period, {}",
            ramp.last, ramp.period
        );
        return Err(inner.errors.add(format!("{path}.last"), message));
    }
    // One that has begun counts.
    let full = within
        .end
        .saturating_sub(within.start)
        .saturating_sub(1)
        .checked_div(period);
    let steps = full.unwrap_or_default();
    if steps == 0 {
        let message = "is as long as all the time there is, expected at least two periods in it";
        return Err(inner.errors.add(format!("{path}.period"), message));
    }
    if usize::try_from(steps).map_or(true, |steps| steps >= MOST_WINDOWS) {
        let message = format!("comes more often than can be kept, {TOO_MANY}");
        return Err(inner.errors.add(format!("{path}.period"), message));
    }
    let length = |step: i64| {
        // At most 10,000 steps of at most the time between two dates, 2^35 seconds.
        let grown = last
            .saturating_sub(first)
            .saturating_mul(step)
            .checked_div(steps);
        first.saturating_add(grown.unwrap_or_default())
    };
    let start = |step: i64| within.start.saturating_add(period.saturating_mul(step));
    Ok((0..=steps)
        .map(|step| window(start(step), length(step), within))
        .collect())
}

/// A window that begins within others, and ends with them at the latest.
fn window(start: i64, length: i64, within: Window) -> Window {
    Window {
        start,
        end: start.saturating_add(length).min(within.end),
    }
}

/// Whether windows, the earliest first, leave nothing of another one.
fn covers(windows: &[Window], within: Window) -> bool {
    let reached = windows.iter().try_fold(within.start, |reached, window| {
        (window.start <= reached).then(|| reached.max(window.end))
    });
    reached.is_some_and(|reached| reached >= within.end)
}

/// Brings the windows of several brownouts, each with its index, into an order without overlaps.
fn merge(windows: &[(Window, usize)], configs: &[BrownoutConfig]) -> Box<[Stretch]> {
    let begin = windows
        .iter()
        .map(|(window, index)| (window.start, *index, true));
    let end = windows
        .iter()
        .map(|(window, index)| (window.end, *index, false));
    let mut events: Vec<_> = begin.chain(end).collect();
    order::sort(&mut events);
    // How many windows of each brownout are open.
    let mut open = vec![0_usize; configs.len()];
    let mut stretches: Vec<Stretch> = Vec::new();
    let nexts = events.iter().skip(1).map(|(at, ..)| *at);
    for ((at, index, begins), next) in events.iter().zip(nexts) {
        if let Some(open) = open.get_mut(*index) {
            *open = match begins {
                true => open.saturating_add(1),
                false => open.saturating_sub(1),
            };
        }
        // The one written first.
        let answer = open.iter().zip(configs).find(|(open, _)| **open > 0);
        if let Some((_, BrownoutConfig { answer, .. })) = answer.filter(|_| *at < next) {
            push(&mut stretches, *at, next, *answer);
        }
    }
    let mut next: Option<Stretch> = None;
    for stretch in stretches.iter_mut().rev() {
        let follows = next.filter(|next| next.start == stretch.end);
        stretch.until = follows.map_or(stretch.end, |next| next.until);
        next = Some(*stretch);
    }
    stretches.into_boxed_slice()
}

fn push(stretches: &mut Vec<Stretch>, start: i64, end: i64, answer: Answer) {
    match stretches.last_mut() {
        Some(last) if last.end == start && last.answer == answer => last.end = end,
        _ => stretches.push(Stretch {
            start,
            end,
            until: end,
            answer,
        }),
    }
}

#[cfg(test)]
mod tests;
