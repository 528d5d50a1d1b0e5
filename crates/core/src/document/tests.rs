use std::cell::Cell;

use proptest::prelude::*;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as WireValue};
use serde_json::{Value as Json, json};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

mod wire;

/// A text that is handed over by pieces of this many bytes, some times.
struct Kept<'a> {
    text: &'a [u8],
    length: usize,
    /// Up to here.
    end: usize,
    /// So many times more.
    times: Cell<usize>,
}

impl<'a> Kept<'a> {
    fn new(text: &'a [u8], length: usize) -> Self {
        Kept {
            text,
            length,
            end: text.len(),
            times: usize::MAX.into(),
        }
    }
}

impl Text for Kept<'_> {
    fn size(&self) -> usize {
        self.text.len()
    }

    fn piece(&self, start: usize, most: usize) -> Option<Vec<u8>> {
        assert!(most <= self.length);
        self.times.set(self.times.get().checked_sub(1)?);
        let end = start.checked_add(most)?;
        let piece = self.text.get(start..end)?;
        (end <= self.end).then(|| piece.to_vec())
    }

    fn piece_size(&self) -> usize {
        self.length
    }
}

/// Reads all sections.
fn sections(document: Result<Document<'_>, ConfigErrors>) -> Result<Json, ConfigErrors> {
    let mut document = document?;
    let mut errors = ConfigErrors::default();
    let names: Vec<String> = document.remaining().map(str::to_owned).collect();
    let mut sections = serde_json::Map::new();
    for name in names {
        assert!(document.has(&name));
        if let Ok(section) = document.take::<Json>(&name, &mut errors) {
            sections.insert(name, section.unwrap());
        }
    }
    assert_eq!(document.remaining().count(), 0);
    match errors.is_empty() {
        true => Ok(Json::Object(sections)),
        false => Err(errors),
    }
}

/// Reads all sections, the text by pieces of some length.
fn in_pieces(text: &[u8], length: usize) -> Result<Json, ConfigErrors> {
    remembering(text, length, json::LONG)
}

/// Reads all sections, the text by pieces of some length, and remembers the ends of what is long.
fn remembering(text: &[u8], length: usize, long: usize) -> Result<Json, ConfigErrors> {
    let kept = Kept::new(text, length);
    sections(Document::of(Pieces::of(&kept), long))
}

fn whole(text: &[u8]) -> Result<Json, ConfigErrors> {
    sections(Document::parse(text))
}

/// Writes an object the way Envoy serialises a Struct.
fn to_wire(json: &Json) -> Vec<u8> {
    match value(json).kind {
        Some(Kind::StructValue(fields)) => fields.encode_to_vec(),
        _ => panic!("expected an object"),
    }
}

fn value(json: &Json) -> WireValue {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(value).collect(),
        }),
        Json::Object(fields) => Kind::StructValue(object(fields)),
    };
    WireValue { kind: Some(kind) }
}

fn object(fields: &serde_json::Map<String, Json>) -> Struct {
    Struct {
        fields: fields
            .iter()
            .map(|(name, json)| (name.clone(), value(json)))
            .collect(),
    }
}

#[test]
fn nothing_is_not_a_value() {
    let text = r#"{"usage_plan": {"plans": {"gold": {"limit": 1, "apis": null}}, "x": [null]}, "a": null}"#;
    let document: Json = serde_json::from_str(text).unwrap();
    for text in [text.as_bytes(), &to_wire(&document)] {
        let errors = Document::parse(text).unwrap_err();
        let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(
            paths,
            ["a", "usage_plan.plans.gold.apis", "usage_plan.x[0]"]
        );
    }
}

#[test]
fn a_document_may_be_a_struct_in_its_wire_form() {
    let document = json!({
        "a": [1.0, "x", true, { "b": {}, "long": "ä".repeat(500) }],
        "c": { "d": -2.5, "e": 1e7, "f": -3.0, "g": 1e300 },
    });
    let read = json!({
        "a": [1, "x", true, { "b": {}, "long": "ä".repeat(500) }],
        "c": { "d": -2.5, "e": 10_000_000, "f": -3, "g": 1e300 },
    });
    let wire = to_wire(&document);
    assert_eq!(whole(&wire), Ok(read.clone()));
    assert_eq!(in_pieces(&wire, 100), Ok(read.clone()));
    assert_eq!(whole(document.to_string().as_bytes()), Ok(read));
}

#[test]
fn what_json_has_no_number_for_is_nothing() {
    for number in [f64::NAN, f64::INFINITY] {
        let kind = Some(Kind::NumberValue(number));
        let fields = [("a".to_owned(), WireValue { kind })];
        let wire = Struct {
            fields: fields.into_iter().collect(),
        };
        let errors = whole(&wire.encode_to_vec()).unwrap_err().to_string();
        assert!(errors.starts_with("a: found nothing"), "{errors}");
    }
}

#[test]
fn of_members_that_are_twice_in_the_wire_form_the_last_counts() {
    let fields = [json!({ "a": 1, "b": 0 }), json!({ "a": 2 })];
    let wire = fields.iter().flat_map(to_wire).collect::<Vec<_>>();
    assert_eq!(whole(&wire), Ok(json!({ "a": 2, "b": 0 })));
}

#[test]
fn a_key_that_is_there_twice_is_refused() {
    for text in [
        r#"{"a": 1, "a": 1}"#,
        r#"{"x": [{"a": {"b": 1, "\u0062": 2}}]}"#,
    ] {
        let error = whole(text.as_bytes()).unwrap_err().to_string();
        assert!(
            error.contains(": an object has the same key twice at line 1 column"),
            "{error}"
        );
    }
}

#[test]
fn a_document_that_is_no_object_is_refused_with_a_cure() {
    for (text, expected) in [
        ("", "the configuration is empty"),
        (" \n", "the configuration is empty"),
        ("[]", "the configuration is a list, expected an object"),
        (" null", "the configuration is null, expected an object"),
        ("7", "the configuration is a number, expected an object"),
        (
            "{",
            "the configuration is not JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            "{\"a\":\n 1,}",
            "the configuration is not JSON: trailing comma at line 2 column 4",
        ),
        (
            "{} x",
            "the configuration is not JSON: trailing characters at line 1 column 4",
        ),
        ("\u{0}\u{1}", "the configuration is not JSON"),
    ] {
        for errors in [whole(text.as_bytes()), in_pieces(text.as_bytes(), 2)] {
            let errors = errors.unwrap_err().to_string();
            assert!(errors.starts_with(expected), "{text:?}: {errors}");
        }
    }
}

#[test]
fn a_document_nested_without_end_is_refused() {
    let deep = "[".repeat(100_000);
    assert!(whole(deep.as_bytes()).is_err());
    let nested = |levels| (0..levels).fold(json!({}), |inner, _| json!({ "a": inner }));
    for (levels, is_read) in [(126, true), (127, false), (200, false)] {
        let document = nested(levels);
        let text = whole(document.to_string().as_bytes());
        assert_eq!(text.is_ok(), is_read, "{levels}");
        assert_eq!(whole(&to_wire(&document)).is_ok(), is_read, "{levels}");
    }
}

#[test]
fn what_the_host_does_not_hand_over_is_missed() {
    let document = json!({ "a": "x".repeat(100), "b": { "c": 1 } });
    for text in [document.to_string().into_bytes(), to_wire(&document)] {
        for end in 0..text.len() {
            let kept = Kept {
                end,
                ..Kept::new(&text, 20)
            };
            let errors = Document::read(&kept).unwrap_err();
            assert_eq!(errors.to_string(), UNREADABLE, "{end}");
        }
    }
}

#[test]
fn what_the_host_no_longer_hands_over_is_missed() {
    let list: Vec<Json> = (0..30).map(|number| json!({ "n": number })).collect();
    let text = json!({ "a": list }).to_string().into_bytes();
    let mut read = false;
    for pieces in 0..1000 {
        let kept = Kept {
            times: pieces.into(),
            ..Kept::new(&text, 20)
        };
        let found = sections(Document::of(Pieces::of(&kept), 16));
        read = found.is_ok();
        match found {
            Ok(found) => {
                assert_eq!(found["a"].as_array(), Some(&list));
                break;
            }
            Err(errors) => assert!(errors.to_string().ends_with(UNREADABLE), "{errors}"),
        }
    }
    assert!(read);
}

#[test]
fn the_end_of_what_is_long_is_searched_for_once() {
    let document = (0..50).fold(json!({}), |inner, _| {
        let mut items = vec![json!("twenty letters and a bit"); 40];
        items.insert(20, inner);
        json!({ "a": items })
    });
    let text = document.to_string();
    let length = 200;
    let pieces = text.len() / length;
    let fetched = |long| {
        let kept = Kept::new(text.as_bytes(), length);
        let read = sections(Document::of(Pieces::of(&kept), long));
        assert_eq!(read.as_ref(), Ok(&document));
        usize::MAX - kept.times.get()
    };
    let (remembered, forgotten) = (fetched(1000), fetched(usize::MAX));
    assert!(remembered < 5 * pieces, "{remembered} of {pieces}");
    assert!(forgotten > 30 * pieces, "{forgotten} of {pieces}");
}

/// JSON of some depth, without nulls.
fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        (-1e9..1e9_f64).prop_map(Json::from),
        any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 60, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Json::from),
            any_object(inner),
        ]
    })
}

fn any_object(member: impl Strategy<Value = Json>) -> impl Strategy<Value = Json> {
    proptest::collection::btree_map(any::<String>(), member, 0..8)
        .prop_map(|members| Json::Object(members.into_iter().collect()))
}

/// Some lengths of pieces, with the one of plugins.
const LENGTHS: [usize; 5] = [1, 2, 3, 7, 1 << 16];

/// Some lengths from which on ends are remembered, with the one of plugins.
const LONGS: [usize; 4] = [1, 2, 16, json::LONG];

proptest! {
    #[test]
    fn what_is_written_is_read(document in any_object(any_json()), length in 1..200_usize) {
        let pretty = serde_json::to_vec_pretty(&document).unwrap();
        let usual = Ok(whole_number(serde_json::from_slice(&pretty).unwrap()));
        prop_assert_eq!(&whole(document.to_string().as_bytes()), &usual);
        prop_assert_eq!(&whole(&pretty), &usual);
        prop_assert_eq!(&in_pieces(&pretty, length), &usual);
        let wire = to_wire(&document);
        let read = whole(&wire);
        let is_empty = document == json!({});
        prop_assert!(is_empty || read.is_ok());
        prop_assert_eq!(&in_pieces(&wire, length), &read);
    }

    #[test]
    fn what_is_remembered_and_held_changes_nothing(document in any_object(any_json())) {
        let pretty = serde_json::to_vec_pretty(&document).unwrap();
        for text in [document.to_string().into_bytes(), pretty, to_wire(&document)] {
            let usual = whole(&text);
            for (length, long) in LENGTHS.into_iter().flat_map(|length| LONGS.map(|long| (length, long))) {
                prop_assert_eq!(&remembering(&text, length, long), &usual, "{} {}", length, long);
            }
        }
    }

    #[test]
    fn text_is_json_where_others_say_so(text in r#"[\[\]{}",:0-9a-e.\-+ \\u]{0,30}|\[(null|true|-?[0-9]{1,20}(\.5)?(e3)?|"\\n\\u00e9")(,\{"k":\{\}\})?\]"#) {
        let usual = serde_json::from_str::<Json>(&text);
        let text = format!("{{\"a\":{text}}}");
        match (whole(text.as_bytes()), usual) {
            (Ok(read), Ok(usual)) => {
                prop_assert_eq!(&read["a"], &whole_number(usual));
            }
            (Ok(_), Err(_)) => prop_assert!(text.matches(':').count() > 1, "{}", text),
            (Err(_), Err(_)) => {}
            (Err(errors), Ok(_)) => {
                let errors = errors.to_string();
                prop_assert!(errors.contains("found nothing") || errors.contains("same key twice"), "{}", errors);
            }
        }
    }

    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 1..200_usize) {
        prop_assert_eq!(whole(&bytes), in_pieces(&bytes, length));
    }

    #[test]
    fn a_struct_that_was_changed_is_read(document in any_object(any_json()), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), length in 1..200_usize) {
        let mut wire = to_wire(&document);
        for (index, byte) in changes.iter().filter(|_| document != json!({})) {
            let at = index.index(wire.len());
            wire[at] = *byte;
        }
        prop_assert_eq!(whole(&wire), in_pieces(&wire, length));
    }
}

/// Above it, not every integer is a double.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// What a reader makes of doubles that are integers.
fn whole_number(json: Json) -> Json {
    match json {
        Json::Number(number) => match number.as_f64() {
            Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() <= LARGEST => {
                Json::from(double as i64)
            }
            _ => Json::Number(number),
        },
        Json::Array(items) => items.into_iter().map(whole_number).collect(),
        Json::Object(members) => {
            let members = IntoIterator::into_iter(members);
            members
                .map(|(name, json)| (name, whole_number(json)))
                .collect()
        }
        other => other,
    }
}
