//! Text with one spelling per value: what PostgreSQL itself says of the same texts.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::place;
use crate::change::ValueRef;
use crate::store::conformance::server::Server;
use crate::store::postgres::connect::{Purpose, Session};
use crate::store::postgres::form::Form;
use crate::store::postgres::parameter::text;
use crate::store::postgres::types::ColumnType;

/// What becomes of a text in a type; nothing if it is none of its values.
const BACK: &str = "CREATE FUNCTION back(given text, kind text) RETURNS text LANGUAGE plpgsql AS $$ \
    DECLARE got text; BEGIN EXECUTE format('SELECT concat($1::%s)', kind) INTO got USING given; \
    RETURN got; EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$";

fn back(session: &mut Session, given: &str, form: Form) -> Option<String> {
    let sql = "SELECT back($1::text, $2::text)";
    session.query(sql, &[text(given), text(&form.sql())]).unwrap()[0].get(0)
}

/// PostgreSQL gives it back, and it is left out all the same: as text it has another place in time.
fn is_out_of_order(form: Form, text: &str) -> bool {
    let year = text.split('-').next().unwrap_or("");
    let is_dated = matches!(form, Form::Date | Form::Timestamp(_) | Form::Timestamptz(_));
    is_dated && (text.ends_with(" BC") || (year.len() > 4 && year != "infinity"))
}

fn one_of(patterns: &[&'static str]) -> BoxedStrategy<String> {
    let patterns = patterns.iter().map(|pattern| (*pattern).prop_map(|text| text).boxed());
    proptest::strategy::Union::new(patterns.collect::<Vec<_>>()).boxed()
}

/// Text in one form or another, as PostgreSQL writes it.
pub(super) fn canonical() -> BoxedStrategy<String> {
    one_of(&[
        "20[0-9]{2}-0[1-9]-[12][0-9]",
        "[01][0-9]:[0-5][0-9]:[0-5][0-9](\\.[1-9])?",
        "20[0-9]{2}-0[1-9]-[12][0-9] [01][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{0,5}[1-9])?",
        "20[0-9]{2}-0[1-9]-[12][0-9] [01][0-9]:[0-5][0-9]:[0-5][0-9](\\.[1-9])?\\+00",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "\\{\"a\": -?[1-9]\\.[05]{2}, \"b\": \\[\\]\\}",
    ])
}

fn uuids() -> BoxedStrategy<String> {
    one_of(&[
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[0-9A-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[0-9a-f]{32}",
        "\\{[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\\}",
    ])
}

const DATES: &str = "(0000|0001|0099|1582|1900|2000|20[0-9]{2}|9999|10000|5874897|1)-(0[0-9]|1[0-3]|[1-9])-([0-2][0-9]|3[0-2])";
const CLOCKS: &str = "(0[0-9]|1[0-9]|2[0-4]|9):([0-5][0-9]|60)(:([0-5][0-9]|60)(\\.[0-9]{0,7})?)?";
const ENDS: &str = "(|| |\\+00|\\+00:00|\\+0|-00|Z|\\+02|-07:30| BC| AD|\\+00 BC)";

fn moments() -> BoxedStrategy<String> {
    let endless = prop_oneof![Just("infinity"), Just("-infinity"), Just("Infinity"), Just("now")];
    let day = proptest::string::string_regex(DATES).unwrap();
    let clock = proptest::string::string_regex(CLOCKS).unwrap();
    let between = prop_oneof![4 => Just(" "), 1 => Just("T"), 1 => Just("  ")];
    let end = proptest::string::string_regex(ENDS).unwrap();
    let parts = (day, between, clock, end).boxed();
    prop_oneof![
        1 => endless.prop_map(str::to_owned),
        2 => parts.clone().prop_map(|(day, _, _, end)| day + &end),
        2 => parts.clone().prop_map(|(_, _, clock, end)| clock + &end),
        8 => parts.prop_map(|(day, between, clock, end)| day + between + &clock + &end),
    ]
    .boxed()
}

/// JSON as somebody wrote it, or what comes close to it.
fn documents() -> BoxedStrategy<String> {
    let numbers =
        one_of(&["-?[0-9]{1,4}(\\.[0-9]{0,3})?([eE][-+]?[0-9]{1,2})?", "-?0(\\.0{1,2})?"]);
    let strings = one_of(&[
        "\"[a-c]{0,3}\"",
        "\"(\\\\[\"bfnrtu/\\\\]|\\\\u00[01][0-9a-fA-F]|\\\\u00e9|\\\\ud83d\\\\ude00|é|\u{7f}|😀|x){0,3}\"",
    ]);
    let words = prop_oneof![Just("null"), Just("true"), Just("false"), Just("nul")];
    let leaf = prop_oneof![numbers, strings.clone(), words.prop_map(str::to_owned)];
    let comma = prop_oneof![5 => Just(", "), 1 => Just(","), 1 => Just(" , ")].boxed();
    let colon = prop_oneof![5 => Just(": "), 1 => Just(":"), 1 => Just(" : ")].boxed();
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let pair = (strings.clone(), colon.clone(), inner.clone());
        let pair = pair.prop_map(|(key, colon, value)| key + colon + &value);
        let list = proptest::collection::vec(inner, 0..4);
        let object = proptest::collection::vec(pair, 0..4);
        prop_oneof![
            (list, comma.clone()).prop_map(|(list, comma)| format!("[{}]", list.join(comma))),
            (object, comma.clone()).prop_map(|(list, comma)| format!("{{{}}}", list.join(comma))),
        ]
    })
    .boxed()
}

/// The same text with another character somewhere.
fn nearly(text: &str, place: usize, with: char) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    if !characters.is_empty() {
        let place = place % characters.len();
        characters[place] = with;
    }
    characters.into_iter().collect()
}

/// A form holds exactly what comes back from PostgreSQL to the letter.
#[test]
fn a_form_holds_what_the_server_gives_back_and_nothing_else() {
    let Some(server) = Server::get() else { return };
    let mut session = Session::open(&place(server), Purpose::Write).unwrap();
    session.batch(BACK).unwrap();
    let mut runner = TestRunner::deterministic();
    for (form, texts) in [
        (Form::Uuid, uuids()),
        (Form::Date, moments()),
        (Form::Time(None), moments()),
        (Form::Time(Some(2)), moments()),
        (Form::Timestamp(None), moments()),
        (Form::Timestamp(Some(0)), moments()),
        (Form::Timestamptz(None), moments()),
        (Form::Timestamptz(Some(3)), moments()),
        (Form::Jsonb, documents()),
        (Form::Char(3), one_of(&["[ a-zé]{2,4}", "[a-z]{1,3} {0,2}"])),
    ] {
        let change = (any::<usize>(), proptest::char::range(' ', 'z'));
        let mut held = 0;
        for _ in 0..300 {
            let given = texts.new_tree(&mut runner).unwrap().current();
            let (at, with) = change.new_tree(&mut runner).unwrap().current();
            let written = back(&mut session, &given, form).unwrap_or_default();
            for text in [nearly(&written, at, with), nearly(&given, at, with), written, given] {
                let same = back(&mut session, &text, form).as_ref() == Some(&text);
                let expected = same && !is_out_of_order(form, &text);
                assert_eq!(form.holds(&text), expected, "{form:?} {text:?}");
                held += usize::from(expected);
            }
        }
        assert!(held > 50, "{form:?}: only {held} texts are held");
    }
}

/// What lies in a node is in the order in which PostgreSQL has it.
#[test]
fn texts_lie_in_the_order_of_time() {
    let Some(server) = Server::get() else { return };
    let mut session = Session::open(&place(server), Purpose::Write).unwrap();
    let mut texts: Vec<String> = ["-infinity", "infinity"].map(str::to_owned).into();
    for moment in ["0001-01-01 00:00:00", "2024-05-31 12:30:00", "9999-12-31 23:59:59"] {
        for fraction in ["", ".000001", ".05", ".25", ".250001", ".3"] {
            texts.push(format!("{moment}{fraction}+00"));
        }
    }
    texts.sort();
    let sql =
        "SELECT t::text FROM unnest(string_to_array($1::text, ',')::timestamptz[]) AS t ORDER BY t";
    let rows = session.query(sql, &[text(&texts.join(","))]).unwrap();
    let sorted: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(sorted, texts);
}

#[test]
fn a_real_of_32_bits_is_told_from_its_neighbours() {
    let kind = ColumnType::of("REAL FLOAT4").unwrap();
    for real in [0.5, -0.0, f64::from(0.1f32), f64::from(f32::MAX), 1e-45f32.into(), f64::INFINITY]
    {
        assert_eq!(kind.refuses(ValueRef::Real(real)), None, "{real}");
    }
    for real in [0.1, 1e39, 1e-46, 16_777_217.0, f64::MIN_POSITIVE] {
        assert!(kind.refuses(ValueRef::Real(real)).is_some(), "{real}");
    }
    assert!(kind.refuses(ValueRef::Integer(1)).is_some());
}
