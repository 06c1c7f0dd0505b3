use super::json::{Json, Kind, NotJson, Number};
use super::*;
use bumpalo::Bump;
use proptest::prelude::*;

/// Notes what it is shown, as text.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn note(&mut self, what: &str, json: &mut Json<'_>) -> Result<(), NotJson> {
        let raw = json.raw()?;
        self.0.push(format!("{what} {}", String::from_utf8_lossy(raw)));
        Ok(())
    }
}

impl<'a> Visitor<'a> for Notes {
    fn record(&mut self, json: &mut Json<'a>) -> Result<(), NotJson> {
        self.note("record", json)
    }

    fn resource(&mut self, json: &mut Json<'a>) -> Result<(), NotJson> {
        self.note("resource", json)
    }

    fn sent_at(&mut self, json: &mut Json<'a>) -> Result<(), NotJson> {
        self.note("sent_at", json)
    }
}

fn visit(body: &str) -> Result<Vec<String>, Rejection> {
    let mut notes = Notes::default();
    super::read(body.as_bytes(), &Bump::new(), &mut notes).map(|()| notes.0)
}

#[test]
fn the_parts_of_an_envelope_come_in_its_order() {
    assert_eq!(visit(r#"{"logs":[]}"#), Ok(vec![]));
    assert_eq!(
        visit(r#" {"resource":{"a":1},"logs":[{"x":2}, 3 ,null],"later":[{}]} "#).unwrap(),
        [r#"resource {"a":1}"#, r#"record {"x":2}"#, "record 3", "record null"]
    );
    assert_eq!(visit(r#"{"sent_at":"t","sentAt":"u","logs":[]}"#).unwrap(), [r#"sent_at "t""#]);
}

#[test]
fn every_logs_array_is_read_and_the_first_resource_counts() {
    let body = r#"{"logs":[1],"resource":{"a":1},"logs":[2],"resource":{"a":2}}"#;
    assert_eq!(visit(body).unwrap(), ["record 1", r#"resource {"a":1}"#, "record 2"]);
}

#[test]
fn null_is_the_same_as_absent() {
    let body = r#"{"sent_at":null,"resource":null,"logs":null,"sentAt":"t","resource":{},"logs":[1]}"#;
    assert_eq!(visit(body).unwrap(), [r#"sent_at "t""#, "resource {}", "record 1"]);
}

#[test]
fn json_without_logs_is_no_envelope() {
    for body in ["{}", "[]", "1", "\"logs\"", "null", r#"{"logs":{}}"#, r#"{"logs":null}"#, r#"{"Logs":[]}"#] {
        assert_eq!(visit(body), Err(Rejection::EnvelopeWithoutLogs), "{body}");
    }
}

#[test]
fn what_is_no_json_is_refused_wherever_it_stands() {
    for body in [
        "",
        " ",
        "{",
        "{\"logs\":[",
        r#"{"logs":[1,]}"#,
        r#"{"logs":[1}"#,
        r#"{"logs":[]}x"#,
        r#"{"logs":[]},"#,
        r#"{"logs":[],}"#,
        r#"{logs:[]}"#,
        r#"{"logs":[01]}"#,
        r#"{"logs":[1.]}"#,
        r#"{"logs":[.5]}"#,
        r#"{"logs":[+1]}"#,
        r#"{"logs":[1e]}"#,
        r#"{"logs":[NaN]}"#,
        r#"{"logs":[Infinity]}"#,
        r#"{"logs":[-Infinity]}"#,
        r#"{"logs":[nul]}"#,
        r#"{"logs":["\x"]}"#,
        r#"{"logs":["\u12"]}"#,
        "{\"logs\":[\"a\nb\"]}",
        r#"{"logs":['a']}"#,
        r#"{"logs":[]"other":1}"#,
        r#"{"logs":[1 2]}"#,
        "\u{feff}{\"logs\":[]}",
        r#"{"other":tru,"logs":[]}"#,
        r#"{"logs":[] /* */}"#,
    ] {
        assert_eq!(visit(body), Err(Rejection::BodyNotJson), "{body}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused_even_where_nobody_looks() {
    for body in [&b"{\"logs\":[\"\xff\"]}"[..], b"{\"logs\":[],\"other\":\"\xc3\x28\"}", b"{\"logs\":[],\"\xff\":1}"] {
        assert_eq!(super::read(body, &Bump::new(), &mut Notes::default()), Err(Rejection::BodyNotJson));
    }
}

#[test]
fn nesting_is_followed_to_127_and_ends_somewhere() {
    let nested = |depth: usize| format!(r#"{{"logs":[{}1{}]}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(visit(&nested(127)).is_ok());
    assert_eq!(visit(&nested(100_000)), Err(Rejection::BodyNotJson));
    assert_eq!(visit(&"[".repeat(100_000)), Err(Rejection::BodyNotJson));
}

#[test]
fn numbers_keep_what_their_kind_can_hold() {
    let long = "9".repeat(10_000);
    for (text, number) in [
        ("0", Number::Int(0)),
        ("-0", Number::Int(0)),
        ("-9223372036854775808", Number::Int(i64::MIN)),
        ("9223372036854775807", Number::Int(i64::MAX)),
        ("9223372036854775808", Number::Text(b"9223372036854775808")),
        ("1.5", Number::Double(1.5)),
        ("1e3", Number::Double(1000.0)),
        ("5e-324", Number::Double(5e-324)),
        ("1e400", Number::Text(b"1e400")),
        ("-1e400", Number::Text(b"-1e400")),
        (&long, Number::Text(long.as_bytes())),
    ] {
        let body = format!("[{text} , true]");
        let arena = Bump::new();
        let mut json = Json::new(body.as_bytes(), &arena);
        assert_eq!(json.array(), Ok(true));
        assert_eq!(json.number(), Ok(number), "{text}");
        assert_eq!(json.next_element(), Ok(true), "{text}");
        assert_eq!(json.boolean(), Ok(true));
        assert_eq!(json.next_element(), Ok(false));
        assert_eq!(json.end(), Ok(()));
    }
}

#[test]
fn strings_are_borrowed_unless_they_have_escapes() {
    let body = br#"["plain \u00e9?", "", "x"]"#;
    let arena = Bump::new();
    let mut json = Json::new(body, &arena);
    json.array().unwrap();
    let escaped = json.text().unwrap();
    assert_eq!((escaped, body.as_ptr_range().contains(&escaped.as_ptr())), ("plain é?".as_bytes(), false));
    json.next_element().unwrap();
    assert_eq!(json.text().unwrap(), b"");
    json.next_element().unwrap();
    let plain = json.text().unwrap();
    assert_eq!((plain, body.as_ptr_range().contains(&plain.as_ptr())), (&b"x"[..], true));
}

proptest! {
    /// serde_json is the judge of what is JSON, as far as it goes.
    #[test]
    fn what_serde_json_takes_is_taken(value in any_json()) {
        let body = format!(r#"{{"logs":[{value}]}}"#);
        prop_assert_eq!(visit(&body), Ok(vec![format!("record {value}")]));
    }

    #[test]
    fn what_serde_json_refuses_is_refused(value in any_json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = format!(r#"{{"logs":[{value}]}}"#).into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        // Ignoring a value, serde_json judges its grammar, and neither ranges nor surrogates.
        let judged = std::str::from_utf8(&body).is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
        super::repair(&mut body);
        let read = super::read(&body, &Bump::new(), &mut Notes::default());
        prop_assert_eq!(judged, read != Err(Rejection::BodyNotJson), "{:?}", String::from_utf8_lossy(&body));
    }

    #[test]
    fn no_bytes_trap(mut body in proptest::collection::vec(any::<u8>(), 0..200)) {
        super::repair(&mut body);
        let _ = super::read(&body, &Bump::new(), &mut Notes::default());
        let _ = Json::new(&body, &Bump::new()).peek().map(|kind| kind == Kind::Null);
    }
}

/// JSON text without lone surrogates and without numbers out of range, in which serde_json is stricter.
pub fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|i| i.to_string()),
        (-1e300..1e300f64).prop_map(|f| serde_json::to_string(&f).unwrap()),
        ".{0,12}".prop_map(|s| serde_json::to_string(&s).unwrap()),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((".{0,6}", inner), 0..6).prop_map(|fields| {
                let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{}:{v}", serde_json::to_string(k).unwrap())).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

#[test]
fn a_long_number_costs_nothing_wherever_it_stands() {
    let long = "9".repeat(5_000);
    for number in [long.clone(), format!("-{long}"), format!("{long}.5"), format!("{long}e-3"), format!("0.{long}")] {
        for body in
            [format!(r#"{{"logs":[{number}]}}"#), format!(r#"{{"logs":[],"x":[{number},1]}}"#), format!(r#"{{"logs":[[[{number}]],2]}}"#)]
        {
            assert!(visit(&body).is_ok(), "{}", body.get(..40).unwrap());
        }
    }
    for number in [
        format!("{long}-"),
        format!("{long}-+.eE..--"),
        format!("{long}."),
        format!("{long}e"),
        format!("{long}e+"),
        format!("0{long}"),
        format!("{long}x"),
    ] {
        assert_eq!(visit(&format!(r#"{{"logs":[{number}]}}"#)), Err(Rejection::BodyNotJson), "{}", number.get(4_990..).unwrap());
    }
}

#[test]
fn a_text_stands_there_again_only_if_every_byte_does() {
    let arena = Bump::new();
    for len in 0..50 {
        let text: Vec<u8> = (0..len).collect();
        let again = |body: &[u8]| {
            let mut json = Json::new(body, &arena);
            (json.again_all(&text), json.position())
        };
        assert_eq!(again(&[&text[..], b"more"].concat()), (true, text.len()));
        for place in 0..text.len() {
            let mut other = text.clone();
            other[place] ^= 0x40;
            assert_eq!(again(&other), (false, 0), "{len}: {place}");
        }
        if let Some((_, shorter)) = text.split_last() {
            assert_eq!(again(shorter), (false, 0), "{len}");
        }
    }
}
