//! A Struct is what prost takes it for, or it is refused.
//!
//! Of what prost reads, these are refused on purpose: a field that is there twice in an entry or a
//! Value, of which prost takes the last or merges both; groups, which prost skips; an entry that is
//! written as a number, which prost takes for its length; and what no document may have, nulls and
//! infinities among them. Nesting is the other way round: prost gives up at some 33 Structs inside
//! one another.

use proptest::collection::vec;
use proptest::sample::Index;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// What a reader makes of bytes.
#[derive(Debug, PartialEq)]
enum Reading {
    Document(Json),
    /// A document that has nothing at these paths, sorted.
    Gaps(Vec<String>),
    Refused,
}

fn ours(wire: &[u8], length: usize) -> Reading {
    match in_pieces(wire, length) {
        Ok(document) => Reading::Document(document),
        Err(errors) if errors.iter().all(|error| error.message.starts_with(GAP)) => {
            // Some of many are only counted.
            assert_eq!(errors.len(), errors.iter().count());
            let mut gaps: Vec<_> = errors.iter().map(|error| error.path.clone()).collect();
            gaps.sort();
            Reading::Gaps(gaps)
        }
        Err(_) => Reading::Refused,
    }
}

const GAP: &str = "found nothing";

fn of_prost(wire: &[u8]) -> Reading {
    let document = match Struct::decode(wire) {
        Ok(fields) if !wire.is_empty() => whole_number(json_object(&fields)),
        _ => return Reading::Refused,
    };
    let mut gaps = Vec::new();
    find_gaps(&document, "", &mut gaps);
    gaps.sort();
    match gaps.is_empty() {
        true => Reading::Document(document),
        false => Reading::Gaps(gaps),
    }
}

fn json_object(fields: &Struct) -> Json {
    let fields = fields.fields.iter();
    let members = fields.map(|(name, value)| (name.clone(), json_value(value)));
    Json::Object(members.collect())
}

fn json_value(value: &WireValue) -> Json {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::from(*value),
        // Null where it is not finite.
        Some(Kind::NumberValue(number)) => Json::from(*number),
        Some(Kind::StringValue(text)) => Json::from(text.as_str()),
        Some(Kind::ListValue(list)) => list.values.iter().map(json_value).collect(),
        Some(Kind::StructValue(fields)) => json_object(fields),
    }
}

fn find_gaps(value: &Json, path: &str, gaps: &mut Vec<String>) {
    match value {
        Json::Null => gaps.push(path.to_owned()),
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_gaps(item, &format!("{path}[{index}]"), gaps);
            }
        }
        Json::Object(members) => {
            for (name, member) in members {
                find_gaps(member, &key_path(path, name), gaps);
            }
        }
        _ => {}
    }
}

/// Any Struct, seldom with nulls.
fn any_struct() -> impl Strategy<Value = Struct> {
    struct_of(any_leaf().prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            struct_of(inner.clone()).prop_map(Kind::StructValue),
            vec(inner, 0..6).prop_map(|values| Kind::ListValue(ListValue { values })),
        ]
        .prop_map(|kind| WireValue { kind: Some(kind) })
    }))
}

fn struct_of(value: impl Strategy<Value = WireValue>) -> impl Strategy<Value = Struct> {
    proptest::collection::btree_map(any::<String>(), value, 0..6)
        .prop_map(|fields| Struct { fields })
}

fn any_leaf() -> impl Strategy<Value = WireValue> {
    prop_oneof![
        1 => Just(None),
        1 => any::<i32>().prop_map(|null| Some(Kind::NullValue(null))),
        1 => prop::num::f64::ANY.prop_map(|number| Some(Kind::NumberValue(number))),
        10 => prop::num::f64::NORMAL.prop_map(|number| Some(Kind::NumberValue(number))),
        10 => any::<i32>().prop_map(|number| Some(Kind::NumberValue(number.into()))),
        20 => any::<bool>().prop_map(|value| Some(Kind::BoolValue(value))),
        20 => any::<String>().prop_map(|text| Some(Kind::StringValue(text))),
    ]
    .prop_map(|kind| WireValue { kind })
}

/// A message as nobody writes it, though it may be read.
#[derive(Clone, Debug, Default)]
struct Odd {
    bytes: Vec<u8>,
    /// Whether a field that should be there once is there twice, in this message or inside.
    repeats: bool,
}

impl Odd {
    fn new(message: &impl prost::Message) -> Self {
        Odd {
            bytes: message.encode_to_vec(),
            repeats: false,
        }
    }

    fn concat(parts: impl IntoIterator<Item = Odd>) -> Self {
        parts.into_iter().fold(Odd::default(), |mut whole, part| {
            whole.bytes.extend(part.bytes);
            whole.repeats |= part.repeats;
            whole
        })
    }

    /// As a field of another message.
    fn field(self, number: u8) -> Self {
        let mut bytes = vec![number << 3 | 2];
        prost::encode_length_delimiter(self.bytes.len(), &mut bytes).unwrap();
        bytes.extend(self.bytes);
        Odd { bytes, ..self }
    }

    fn is_there(&self) -> bool {
        !self.bytes.is_empty()
    }
}

/// A Struct with members in any order, some of them twice, and their parts in any order, too.
fn odd_struct(value: BoxedStrategy<Odd>) -> impl Strategy<Value = Odd> {
    vec(strangely(odd_entry(value), 1), 0..5).prop_map(Odd::concat)
}

fn odd_entry(value: BoxedStrategy<Odd>) -> impl Strategy<Value = Odd> {
    let name = "[ab]?|.{0,9}".prop_map(|name: String| Odd {
        bytes: name.into_bytes(),
        repeats: false,
    });
    let parts = (
        rarely_repeated(name.boxed()),
        rarely_repeated(strangely_inside(value).boxed()),
    );
    (parts, any::<bool>()).prop_map(|((names, values), reversed)| {
        let repeats = names.len() > 1 || values.len() > 1;
        let names = names.into_iter().map(|name| name.field(1));
        let values = values.into_iter().map(|value| value.field(2));
        let mut entry = match reversed {
            true => Odd::concat(values.chain(names)),
            false => Odd::concat(names.chain(values)),
        };
        entry.repeats |= repeats;
        entry
    })
}

fn odd_value() -> BoxedStrategy<Odd> {
    let leaf = any_leaf().prop_map(|value| Odd::new(&value));
    let value = leaf.prop_recursive(3, 30, 5, |inner| {
        prop_oneof![
            5 => odd_struct(inner.clone()).prop_map(|fields| fields.field(5)),
            5 => vec(strangely(strangely_inside(inner.clone()), 1), 0..5)
                .prop_map(|items| Odd::concat(items).field(6)),
            1 => (inner.clone(), inner).prop_map(|(one, other)| {
                let both = one.is_there() && other.is_there();
                let mut value = Odd::concat([one, other]);
                value.repeats |= both;
                value
            }),
        ]
    });
    value.boxed()
}

/// As this field, seldom with one beside it that nobody knows.
fn strangely(message: impl Strategy<Value = Odd>, number: u8) -> impl Strategy<Value = Odd> {
    (message, prop::option::weighted(0.1, unknown())).prop_map(move |(message, unknown)| {
        Odd::concat([message.field(number)].into_iter().chain(unknown))
    })
}

/// Seldom with a field in it that nobody knows.
fn strangely_inside(message: impl Strategy<Value = Odd>) -> impl Strategy<Value = Odd> {
    (prop::option::weighted(0.1, unknown()), message)
        .prop_map(|(unknown, message)| Odd::concat(unknown.into_iter().chain([message])))
}

/// Fields of a number that no message has, of each type.
fn unknown() -> impl Strategy<Value = Odd> {
    prop_oneof![
        Just(vec![7 << 3, 0x80, 1]),
        Just(vec![7 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8]),
        Just(vec![7 << 3 | 2, 2, 0xff, 0xfe]),
        Just(vec![7 << 3 | 5, 1, 2, 3, 4]),
    ]
    .prop_map(|bytes| Odd {
        bytes,
        repeats: false,
    })
}

fn rarely_repeated(part: BoxedStrategy<Odd>) -> impl Strategy<Value = Vec<Odd>> {
    prop_oneof![9 => vec(part.clone(), 1), 1 => vec(part, 0..3)]
}

fn sorted(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.sort_unstable();
    bytes
}

#[test]
fn what_is_said_twice_is_refused() {
    let text = |text: &str| Odd {
        bytes: text.as_bytes().to_vec(),
        repeats: false,
    };
    let [name, number, words] = [
        text("a").field(1),
        Odd::new(&value(&json!(1.5))),
        Odd::new(&value(&json!("b"))),
    ];
    let entry = |parts: &[&Odd]| Odd::concat(parts.iter().map(|part| (*part).clone())).field(1);
    let as_value = |value: &Odd| value.clone().field(2);
    let fields = |name: &str| Odd::new(&value(&json!({ name: 1 })));
    for (what, refused) in [
        ("name", entry(&[&name, &name, &as_value(&number)])),
        (
            "value",
            entry(&[&name, &as_value(&number), &as_value(&number)]),
        ),
        (
            "kind",
            entry(&[
                &name,
                &as_value(&Odd::concat([number.clone(), number.clone()])),
            ]),
        ),
        (
            "other kind",
            entry(&[&name, &as_value(&Odd::concat([number.clone(), words]))]),
        ),
        (
            "Struct",
            entry(&[&name, &as_value(&Odd::concat([fields("b"), fields("c")]))]),
        ),
    ] {
        assert_ne!(of_prost(&refused.bytes), Reading::Refused, "{what}");
        assert_eq!(ours(&refused.bytes, 7), Reading::Refused, "{what}");
    }
    let once = entry(&[&name, &as_value(&number)]);
    assert_eq!(ours(&once.bytes, 7), Reading::Document(json!({ "a": 1.5 })));
}

#[test]
fn an_entry_of_another_type_is_refused() {
    let mut wire = to_wire(&json!({ "a": 1 }));
    assert_eq!(wire[0], 1 << 3 | 2);
    wire[0] = 1 << 3;
    assert_eq!(of_prost(&wire), Reading::Document(json!({ "a": 1 })));
    assert_eq!(ours(&wire, 7), Reading::Refused);
}

#[test]
fn groups_are_refused() {
    let mut wire = to_wire(&json!({ "a": 1 }));
    // The beginning and the end of field 7.
    wire.extend([7 << 3 | 3, 7 << 3 | 4]);
    assert_eq!(of_prost(&wire), Reading::Document(json!({ "a": 1 })));
    assert_eq!(ours(&wire, 7), Reading::Refused);
}

proptest! {
    #[test]
    fn a_struct_is_read_as_what_it_is(fields in any_struct(), length in 1..200_usize) {
        let wire = fields.encode_to_vec();
        let read = ours(&wire, length);
        prop_assert_eq!(&read, &of_prost(&wire));
        prop_assert_eq!(read == Reading::Refused, fields.fields.is_empty());
    }

    /// Where it is cut between members, it is a shorter one.
    #[test]
    fn a_struct_that_was_cut_off_is_read_as_others_do(fields in any_struct(), end in any::<Index>(), length in 1..200_usize) {
        let mut wire = fields.encode_to_vec();
        wire.truncate(end.index(wire.len().max(1)));
        prop_assert_eq!(ours(&wire, length), of_prost(&wire));
    }

    #[test]
    fn a_struct_with_other_bytes_is_read_as_others_do_or_refused(fields in any_struct(), changes in vec((any::<Index>(), any::<u8>()), 1..4), length in 1..200_usize) {
        let mut wire = fields.encode_to_vec();
        for (at, byte) in changes.into_iter().filter(|_| !fields.fields.is_empty()) {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        let (read, usual) = (ours(&wire, length), of_prost(&wire));
        if read != usual {
            prop_assert_eq!(read, Reading::Refused);
            // Whatever prost would write, in any order, is never refused.
            let again = Struct::decode(&*wire).unwrap().encode_to_vec();
            prop_assert_ne!(sorted(again), sorted(wire));
        }
    }

    #[test]
    fn an_odd_struct_is_read_as_others_do_where_it_repeats_nothing(odd in odd_struct(odd_value()), length in 1..200_usize) {
        let usual = of_prost(&odd.bytes);
        prop_assert_eq!(usual != Reading::Refused, odd.is_there());
        let expected = if odd.repeats { Reading::Refused } else { usual };
        prop_assert_eq!(ours(&odd.bytes, length), expected);
    }
}
