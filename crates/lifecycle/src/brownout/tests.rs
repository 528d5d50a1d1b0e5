#![allow(clippy::arithmetic_side_effects, reason = "a test may fail by a panic")]

use proptest::prelude::*;
use tollgate_core::config::Document;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn instant(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_second()
}

fn rfc_3339(at: i64) -> String {
    jiff::Timestamp::from_second(at).unwrap().to_string()
}

fn read(brownouts: &str) -> Vec<BrownoutConfig> {
    let text = format!(r#"{{"brownouts": {brownouts}}}"#);
    let mut document = Document::parse(text.as_bytes()).unwrap();
    let mut errors = ConfigErrors::default();
    match document.take("brownouts", &mut errors) {
        Ok(configs) => configs.unwrap(),
        Err(_) => panic!("{errors}"),
    }
}

fn compile(brownouts: &str, life: Window) -> Result<Brownouts, String> {
    let mut errors = ConfigErrors::default();
    let brownouts = Brownouts::compile(&read(brownouts), life, "brownouts", &mut errors);
    errors
        .is_empty()
        .then_some(brownouts)
        .ok_or_else(|| errors.to_string())
}

/// From 2026-11-01 to 2026-12-01.
fn november() -> Window {
    Window {
        start: instant("2026-11-01T00:00:00Z"),
        end: instant("2026-12-01T00:00:00Z"),
    }
}

/// `start/until answer` of each stretch.
fn shown(brownouts: &Brownouts) -> Vec<String> {
    let stretches = brownouts.stretches.iter();
    stretches
        .map(
            |Stretch {
                 start,
                 end,
                 until,
                 answer,
             }| {
                let end = match end == until {
                    true => String::new(),
                    false => format!("{} ", rfc_3339(*end)),
                };
                format!("{} {end}{} {answer:?}", rfc_3339(*start), rfc_3339(*until))
            },
        )
        .collect()
}

#[test]
fn windows_of_every_kind() {
    for (brownouts, expected) in [
        (
            r#"[{"at": "0 9 * * MON", "for": "15m", "until": "2026-11-10T00:00:00Z"}]"#,
            vec![
                "2026-11-02T09:00:00Z 2026-11-02T09:15:00Z Gone",
                "2026-11-09T09:00:00Z 2026-11-09T09:15:00Z Gone",
            ],
        ),
        (
            r#"[{"at": "0 9 2 * *", "for": "1h", "utc_offset": "+02:00", "answer": "unavailable"}]"#,
            vec!["2026-11-02T07:00:00Z 2026-11-02T08:00:00Z Unavailable"],
        ),
        // The last is cut at the sunset.
        (
            r#"[{"at": "50 23 30 * *", "for": "15m"}]"#,
            vec!["2026-11-30T23:50:00Z 2026-12-01T00:00:00Z Gone"],
        ),
        // Those that touch are one.
        (
            r#"[{"at": "0,15,30 9 2 * *", "for": "15m"}]"#,
            vec!["2026-11-02T09:00:00Z 2026-11-02T09:45:00Z Gone"],
        ),
        (
            r#"[{"ramp": {"period": "7d", "first": "1h", "last": "5h"}, "from": "2026-11-02T00:00:00Z"}]"#,
            vec![
                "2026-11-02T00:00:00Z 2026-11-02T01:00:00Z Gone",
                "2026-11-09T00:00:00Z 2026-11-09T02:00:00Z Gone",
                "2026-11-16T00:00:00Z 2026-11-16T03:00:00Z Gone",
                "2026-11-23T00:00:00Z 2026-11-23T04:00:00Z Gone",
                "2026-11-30T00:00:00Z 2026-11-30T05:00:00Z Gone",
            ],
        ),
        // The last may be all of its period, up to the sunset.
        (
            r#"[{"ramp": {"period": "1h", "first": "20m", "last": "1h"}, "from": "2026-11-30T22:00:00Z"}]"#,
            vec![
                "2026-11-30T22:00:00Z 2026-11-30T22:20:00Z Gone",
                "2026-11-30T23:00:00Z 2026-12-01T00:00:00Z Gone",
            ],
        ),
        (
            r#"[{"from": "2026-11-20T09:00:00Z", "for": "12h"},
                {"from": "2026-11-25T09:00:00Z", "until": "2026-11-26T09:00:00Z"}]"#,
            vec![
                "2026-11-20T09:00:00Z 2026-11-20T21:00:00Z Gone",
                "2026-11-25T09:00:00Z 2026-11-26T09:00:00Z Gone",
            ],
        ),
        // Where two meet, the answer is that of the first, and it is over when both are.
        (
            r#"[{"from": "2026-11-20T09:00:00Z", "for": "2h", "answer": "unavailable"},
                {"from": "2026-11-20T08:00:00Z", "for": "2h"},
                {"from": "2026-11-20T10:30:00Z", "for": "1h"}]"#,
            vec![
                "2026-11-20T08:00:00Z 2026-11-20T09:00:00Z 2026-11-20T11:30:00Z Gone",
                "2026-11-20T09:00:00Z 2026-11-20T11:00:00Z 2026-11-20T11:30:00Z Unavailable",
                "2026-11-20T11:00:00Z 2026-11-20T11:30:00Z Gone",
            ],
        ),
    ] {
        assert_eq!(
            shown(&compile(brownouts, november()).unwrap()),
            expected,
            "{brownouts}"
        );
    }
}

#[test]
fn brownouts_that_make_no_sense_are_refused_with_a_cure() {
    let day = "2026-11-20T00:00:00Z";
    for (brownout, expected) in [
        (r#""for": "1h""#.to_owned(), "brownouts[0]: expected when it is: write at with for, or ramp"),
        (format!(r#""from": "{day}""#), "brownouts[0]: expected when it is"),
        (
            format!(r#""from": "{day}", "until": "2026-11-21T00:00:00Z", "for": "1h""#),
            "brownouts[0]: expected when it is",
        ),
        (r#""at": "0 9 * * *""#.to_owned(), "brownouts[0]: the field \"for\" is missing"),
        (r#""at": "0 9 * * *", "for": "0s""#.to_owned(), "brownouts[0].for: found 0s, expected whole seconds"),
        (r#""at": "0 9 * * *", "for": "1s5ms""#.to_owned(), "brownouts[0].for: found 1s5ms"),
        (
            r#""at": "0 9 * * *", "for": "1h", "ramp": {"period": "1h", "first": "1m", "last": "2m"}"#.to_owned(),
            "brownouts[0].ramp: found with at, expected one of both",
        ),
        (r#""at": "0 9 1 12 *", "for": "1h""#.to_owned(), "brownouts[0].at: never comes between from and until"),
        (r#""at": "0 0 30 2 *", "for": "1h""#.to_owned(), "brownouts[0].at: never comes"),
        (r#""at": "* * * * *", "for": "1s""#.to_owned(), "brownouts[0].at: comes more often than can be kept, expected at most 10000"),
        (r#""at": "0 * * * *", "for": "1h""#.to_owned(), "brownouts[0]: never pauses, expected some time in which"),
        (
            format!(r#""at": "0 9 * * *", "for": "1h", "from": "{day}", "until": "{day}""#),
            "brownouts[0].until: ends before it begins",
        ),
        (
            r#""at": "0 9 * * *", "for": "1h", "from": "2026-10-31T00:00:00Z""#.to_owned(),
            "brownouts[0].from: is outside of the time between deprecated and sunset",
        ),
        (
            r#""from": "2026-12-01T00:00:00Z", "for": "1h""#.to_owned(),
            "brownouts[0].from: is outside of the time",
        ),
        (
            r#""at": "0 9 * * *", "for": "1h", "until": "2026-12-01T00:00:01Z""#.to_owned(),
            "brownouts[0].until: is after the sunset",
        ),
        (
            r#""from": "2026-11-30T23:00:00Z", "for": "2h""#.to_owned(),
            "brownouts[0]: is after the sunset",
        ),
        (
            r#""from": "2026-11-30T23:00:00.5Z", "for": "2h""#.to_owned(),
            "brownouts[0].from: has a fraction of a second",
        ),
        (
            r#""from": "2026-11-01T00:00:00Z", "until": "2026-12-01T00:00:00Z""#.to_owned(),
            "brownouts: found no moment without a brownout, expected some time",
        ),
        (
            r#""ramp": {"period": "1h", "first": "2m", "last": "2m"}"#.to_owned(),
            "brownouts[0].ramp.last: found 2m, expected more than first, 2m",
        ),
        (
            r#""ramp": {"period": "1h", "first": "30m", "last": "61m"}"#.to_owned(),
            "brownouts[0].ramp.last: found 1h1m, expected at most the period, 1h",
        ),
        (
            r#""ramp": {"period": "30d", "first": "1m", "last": "2m"}"#.to_owned(),
            "brownouts[0].ramp.period: is as long as all the time there is",
        ),
        (
            r#""ramp": {"period": "2s", "first": "1s", "last": "2s"}"#.to_owned(),
            "brownouts[0].ramp.period: comes more often than can be kept",
        ),
        (
            r#""ramp": {"period": "1h", "first": "1m", "last": "2m"}, "for": "1h""#.to_owned(),
            "brownouts[0].for: does nothing with a ramp",
        ),
        (
            r#""ramp": {"period": "1h", "first": "1m", "last": "2m"}, "utc_offset": "Z""#.to_owned(),
            "brownouts[0].utc_offset: does nothing without at",
        ),
    ] {
        let error = compile(&format!("[{{{brownout}}}]"), november()).unwrap_err();
        assert!(error.starts_with(expected), "{brownout}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn every_mistake_is_told() {
    let error = compile(
        r#"[{"ramp": {"period": "0s", "first": "1ms", "last": "0s"}, "utc_offset": "Z", "for": "1h",
             "from": "2026-10-31T00:00:00Z"},
            {"at": "* * * * *", "for": "1s"},
            {"at": "1 * * * *", "for": "1s", "from": "1970-01-01T00:00:00.1Z", "until": "1970-01-01T00:00:00.2Z"}]"#,
        november(),
    )
    .unwrap_err();
    for expected in [
        "brownouts[0].utc_offset:",
        "brownouts[0].for:",
        "brownouts[0].from:",
        "brownouts[1].at:",
        "brownouts[2].from:",
        "brownouts[2].until:",
    ] {
        assert!(error.contains(expected), "{expected} in\n{error}");
    }
    let ramp = r#"[{"ramp": {"period": "0s", "first": "1ms", "last": "0s"}}]"#;
    assert_eq!(compile(ramp, november()).unwrap_err().lines().count(), 3);
}

#[test]
fn brownouts_that_leave_nothing_together_are_refused() {
    let halves =
        r#"[{"at": "0 0-22/2 * * *", "for": "1h"}, {"at": "0 1-23/2 * * *", "for": "1h"}]"#;
    let error = compile(halves, november()).unwrap_err();
    assert!(error.starts_with("brownouts: found no moment"), "{error}");
    let many = r#"[{"at": "*/7 * * * *", "for": "1s"}, {"at": "*/8 * * * *", "for": "1s"}]"#;
    let error = compile(many, november()).unwrap_err();
    assert!(error.starts_with("brownouts: found 12"), "{error}");
}

/// A brownout as it is written, its answer, and its windows, which may go on after the sunset.
fn brownout(life: Window) -> impl Strategy<Value = (String, Answer, Vec<Window>)> {
    let answer = prop::sample::select(vec![Answer::Gone, Answer::Unavailable]);
    let once = (life.start..life.end - 2 * HOUR, 1..2 * HOUR).prop_map(|(start, length)| {
        let text = format!(r#""from": "{}", "for": "{length}s""#, rfc_3339(start));
        (
            text,
            vec![Window {
                start,
                end: start + length,
            }],
        )
    });
    let daily = (0..24_i64, 0..60_i64, 1..3 * HOUR).prop_map(move |(hour, minute, length)| {
        let text = format!(r#""at": "{minute} {hour} * * *", "for": "{length}s""#);
        let starts = (life.start - DAY..life.end + DAY)
            .filter(|at| at % DAY == hour * HOUR + minute * 60 && life.contains(*at));
        (
            text,
            starts
                .map(|start| Window {
                    start,
                    end: start + length,
                })
                .collect(),
        )
    });
    let ramp = (2..20_i64, 1..100_i64, 1..100_i64).prop_map(move |(periods, first, more)| {
        let length = life.end - life.start;
        let period = length / periods;
        let (first, last) = (first, first + more);
        let text =
            format!(r#""ramp": {{"period": "{period}s", "first": "{first}s", "last": "{last}s"}}"#);
        let count = (0..).take_while(|step| step * period < length).count() as i64;
        let windows = (0..count).map(|step| {
            let start = life.start + step * period;
            Window {
                start,
                end: start + first + (last - first) * step / (count - 1),
            }
        });
        (text, windows.collect())
    });
    (prop_oneof![once, daily, ramp], answer).prop_map(|((text, windows), answer)| {
        let name = format!("{answer:?}").to_lowercase();
        (
            format!(r#"{{{text}, "answer": "{name}"}}"#),
            answer,
            windows,
        )
    })
}

/// Three days and a bit.
fn short_life() -> Window {
    let start = instant("2026-11-20T03:20:10Z");
    Window {
        start,
        end: start + 3 * DAY + 5_000,
    }
}

proptest! {
    #[test]
    fn the_first_brownout_that_is_on_answers(
        brownouts in prop::collection::vec(brownout(short_life()), 1..4),
        at in prop::collection::vec(-10_i64..3 * DAY + 5_010, 20),
    ) {
        let life = short_life();
        let texts: Vec<&str> = brownouts.iter().map(|(text, ..)| text.as_str()).collect();
        let compiled = compile(&format!("[{}]", texts.join(", ")), life).unwrap();
        let model = |at: i64| {
            let is_on = |windows: &[Window]| windows.iter().any(|window| window.contains(at));
            let found = brownouts.iter().find(|(.., windows)| is_on(windows));
            found.filter(|_| at < life.end).map(|(_, answer, _)| *answer)
        };
        // At random instants, and at the seconds around each beginning and end.
        let edges = brownouts.iter().flat_map(|(.., windows)| windows);
        let edges = edges.flat_map(|window| [window.start, window.end]);
        let edges = edges.flat_map(|at| [at - 1, at, at + 1]);
        for at in at.into_iter().map(|at| life.start + at).chain(edges) {
            let found = compiled.find(at);
            prop_assert_eq!(found.map(|found| found.answer), model(at), "{:?}", texts);
            if let Some(found) = found {
                prop_assert!(found.until > at && found.until <= life.end);
                prop_assert!(model(found.until).is_none());
                prop_assert!(model(found.until - 1).is_some());
                prop_assert!((at..found.until).step_by(61).all(|at| model(at).is_some()));
            }
        }
    }
}
