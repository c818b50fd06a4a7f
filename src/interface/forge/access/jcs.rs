//! Canonical JSON (RFC 8785): equal values have the same text, however they were written.

use serde_json::{Map, Number, Value};

/// Returns the canonical text of a value.
pub(super) fn canonical(value: &Value) -> String {
    let mut out = String::new();
    push(&mut out, value);
    out
}

/// Appends the canonical text of a string, which is what `serde_json` writes.
pub(super) fn push_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("a string is always JSON"));
}

/// Appends the canonical text of a value. The recursion is bounded, because the parser bounds
/// depth.
fn push(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => push_number(out, number),
        Value::String(text) => push_string(out, text),
        Value::Array(items) => push_array(out, items),
        Value::Object(members) => push_object(out, members),
    }
}

/// Appends a number as JavaScript writes it. All numbers are doubles, so `1` and `1.0` are equal.
fn push_number(out: &mut String, number: &Number) {
    let double = number.as_f64().expect("the parser refuses numbers that are not finite doubles");
    out.push_str(ryu_js::Buffer::new().format_finite(double));
}

fn push_array(out: &mut String, items: &[Value]) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(']');
}

fn push_object(out: &mut String, members: &Map<String, Value>) {
    let mut members: Vec<_> = members.iter().collect();
    // By UTF-16 units, as JavaScript compares strings. Beyond the basic plane UTF-8 sorts
    // differently.
    members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
    out.push('{');
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        push(out, value);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(json: &str) -> String {
        canonical(&serde_json::from_str(json).unwrap())
    }

    /// The samples of RFC 8785, sections 3.2.2 and 3.2.3.
    #[test]
    fn the_standards_samples() {
        let given = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected = concat!(
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
            r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
        assert_eq!(of(given), expected);

        let given = r#"{
            "\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter", "1": "One",
            "\ud83d\ude00": "Emoji", "\u0080": "Control", "\u00f6": "Latin Letter"
        }"#;
        let expected = concat!(
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"ö\":\"Latin Letter\",",
            "\"€\":\"Euro Sign\",\"😀\":\"Emoji\",\"\u{fb33}\":\"Hebrew Letter\"}"
        );
        assert_eq!(of(given), expected);
    }

    /// The doubles of RFC 8785, appendix B, by their bits.
    #[test]
    fn the_standards_numbers() {
        let numbers = [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ];
        for (bits, expected) in numbers {
            assert_eq!(canonical(&Value::from(f64::from_bits(bits))), expected);
            assert_eq!(of(expected), expected);
        }
    }

    #[test]
    fn numbers_are_doubles_however_they_are_written() {
        let same = [
            ("1", "1.0"),
            ("-0", "0"),
            ("-0.0", "0e7"),
            ("100", "1E2"),
            ("9007199254740993", "9007199254740992"),
            ("18446744073709551615", "18446744073709552000"),
            ("-9223372036854775807", "-9223372036854776000"),
            ("123456789012345678901234567890", "1.2345678901234568e29"),
            ("0.1", "0.1000000000000000055511151231257827"),
            ("1e-400", "0"),
        ];
        for (one, other) in same {
            assert_eq!(of(one), of(other), "{one} {other}");
        }
        assert_eq!(of("18446744073709551615"), "18446744073709552000");
        assert_eq!(of("-9223372036854775807"), "-9223372036854776000");
        // The parser refuses a number that is beyond the range of a double.
        for number in ["1e400", "-1e400", "1e309", "NaN", "Infinity"] {
            assert!(serde_json::from_str::<Value>(number).is_err(), "{number}");
        }
    }

    #[test]
    fn what_stands_twice_counts_as_javascript_counts_it() {
        assert_eq!(of(r#"{"a":1,"b":2,"a":3}"#), r#"{"a":3,"b":2}"#);
    }

    proptest! {
        #[test]
        fn doubles_come_back(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
            let text = of(&format!("{number:e}"));
            prop_assert_eq!(text.parse::<f64>().unwrap(), number);
            prop_assert_eq!(of(&text), text);
        }

        #[test]
        fn strings_come_back(text in any::<String>()) {
            let json = canonical(&Value::from(&*text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            prop_assert!(!json.bytes().any(|byte| byte < 0x20));
        }

        #[test]
        fn members_are_sorted_by_utf16(names in prop::collection::vec(".{0,4}", 0..6)) {
            let members: Map<String, Value> =
                names.into_iter().map(|name| (name, Value::Null)).collect();
            let json = canonical(&Value::Object(members.clone()));
            let mut sorted: Vec<String> = members.into_iter().map(|(name, _)| name).collect();
            sorted.sort_by_key(|name| name.encode_utf16().collect::<Vec<_>>());
            let of = |name: String| format!("{}:null", canonical(&name.into()));
            let expected: Vec<_> = sorted.into_iter().map(of).collect();
            prop_assert_eq!(json, format!("{{{}}}", expected.join(",")));
        }
    }
}
