//! Configurations that are none. A trap while configuring would be worse than any mistake in them: in a worker alone it
//! would switch the filter off.

use crate::plugin::*;
use keyward_testbed::protobuf::{Kind, Message as _, Struct, StructValue};
use proptest::prelude::*;

#[test]
fn the_same_bytes_have_the_same_result_in_every_vm() {
    let bad = br#"{"rulez":[],"mode":"x","rules":[{"path":"a","require":[]}],"admin":{}}"#;
    let log = |bytes: &[u8]| start_bytes(bytes).err().map(|state| state.log_text());
    let first = log(bad).expect("a wrong configuration is refused");
    assert_eq!(first.lines().count(), 5, "{first}");
    for _ in 0..3 {
        assert_eq!(log(bad).as_deref(), Some(&*first));
    }
}

#[test]
fn nesting_without_end_is_refused() {
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(200_000), close.repeat(200_000));
    for text in [nested("[", "]"), nested(r#"{"rules":["#, "]}"), nested(r#"{"a":"#, "}")] {
        assert!(start_bytes(text.as_bytes()).is_err());
    }
    // A Struct in a Struct in a Struct.
    let mut message = Struct::default();
    for _ in 0..300 {
        let value = StructValue { kind: Some(Kind::Struct(message)) };
        message = Struct { fields: [("rules".to_owned(), value)].into() };
    }
    assert!(start_bytes(&message.encode_to_vec()).is_err());
}

#[test]
fn a_list_as_long_as_it_may_be_is_read() {
    let rules: Vec<String> = (0..10_000).map(|n| format!(r#"{{"path":"/r/{n}","access":"public"}}"#)).collect();
    let mut vm = start_bytes(format!(r#"{{"rules":[{}]}}"#, rules.join(",")).as_bytes()).unwrap();
    assert_passed(&ask(&mut vm, "/r/9999", None), None);
    assert!(start_bytes(&[b' '; (8 << 20) + 1]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_trap(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = start_bytes(&bytes);
    }

    #[test]
    fn no_bytes_that_begin_like_a_struct_trap(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = start_bytes(&[b"\x0a".as_slice(), &bytes].concat());
    }
}
