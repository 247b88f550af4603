//! How resources and scopes are interned.

use prost::Message;

use super::*;
use crate::otlp::messages::any_value::Value;
use crate::otlp::messages::{
    AnyValue as ValueMessage, ArrayValue, InstrumentationScope, KeyValue as PairMessage,
    Resource as ResourceMessage,
};

fn pair(key: &str, value: &str) -> PairMessage {
    let value = ValueMessage { value: Some(Value::StringValue(value.into())) };
    PairMessage { key: key.into(), value: Some(value) }
}

fn met<T>(met: Result<Read<T>, NoSpace>) -> Interned<T> {
    met.unwrap().unwrap()
}

fn replaced<T>(met: &Interned<T>) -> u64 {
    met.new.iter().flat_map(Replaced::iter).map(|(_, count)| count).sum()
}

fn resource(interner: &Interner, attributes: Vec<PairMessage>, url: &str) -> Arc<Resource> {
    let message = ResourceMessage { attributes, dropped_attributes_count: 3 }.encode_to_vec();
    let schema_url = url.as_bytes();
    let met = met(interner.resource(&message, schema_url, &mut Space::unlimited()));
    let content = met.content.clone();
    interner.remember(vec![New { message: &message, schema_url, content }], Vec::new());
    met.content
}

#[test]
fn the_id_depends_on_the_content_and_not_on_the_order() {
    let interner = Interner::default();
    let one = resource(&interner, vec![pair("service.name", "shop"), pair("b", "2")], "");
    let turned = resource(&interner, vec![pair("b", "2"), pair("service.name", "shop")], "");
    assert_eq!(one.id, turned.id);
    let again = resource(&interner, vec![pair("b", "2"), pair("service.name", "shop")], "");
    assert!(Arc::ptr_eq(&turned, &again), "it is the one remembered");
    assert_eq!(one.service_name.as_deref(), Some("shop"));
    assert_eq!(one.dropped_attributes_count, 3);
    for other in [
        resource(&interner, vec![pair("service.name", "shop")], ""),
        resource(&interner, vec![pair("service.name", "shop"), pair("b", "2")], "https://url"),
        resource(&interner, vec![pair("service.name", "shopb"), pair("", "2")], ""),
    ] {
        assert_ne!(one.id, other.id);
    }
}

#[test]
fn a_scope_and_a_resource_of_nothing_differ() {
    let interner = Interner::default();
    let resource = met(interner.resource(&[], &[], &mut Space::unlimited())).content;
    let scope = met(interner.scope(&[], &[], &mut Space::unlimited())).content;
    assert_ne!(resource.id, scope.id);
    assert_eq!((resource.attributes.as_str(), resource.service_name.as_deref()), ("{}", None));
    assert_eq!((scope.name.as_deref(), scope.version.as_deref()), (None, None));
}

#[test]
fn a_scope_keeps_its_fields() {
    let message = InstrumentationScope {
        name: "lib".into(),
        version: "1.2".into(),
        attributes: vec![pair("k", "v")],
        dropped_attributes_count: u32::MAX,
    };
    let scope = met(Interner::default().scope(&message.encode_to_vec(), b"u", &mut Space::unlimited()));
    assert_eq!(replaced(&scope), 1);
    let scope = scope.content;
    assert_eq!((scope.name.as_deref(), scope.version.as_deref()), (Some("lib"), Some("1.2")));
    assert_eq!((scope.attributes.as_str(), scope.schema_url.as_deref()), (r#"{"k":"v"}"#, Some("u")));
    assert_eq!(scope.dropped_attributes_count, i32::MAX);
}

#[test]
fn a_replacement_counts_once_and_only_where_it_is_stored() {
    let count = |message: &[u8]| {
        let met = Interner::default().resource(message, &[], &mut Space::unlimited()).unwrap();
        met.as_ref().map_or(0, replaced)
    };
    let nul = ValueMessage { value: Some(Value::StringValue("\0".into())) };
    let list = ValueMessage { value: Some(Value::ArrayValue(ArrayValue { values: vec![nul.clone()] })) };
    for value in [nul, list] {
        let name = PairMessage { key: "service.name".into(), value: Some(value) };
        let message = ResourceMessage { attributes: vec![name], dropped_attributes_count: 0 };
        let message = message.encode_to_vec();
        assert_eq!(count(&message), 1, "it is an attribute and a column");
        // One more attribute, whose value is an array of which nothing is there.
        let malformed = [&message[..], &[0x0a, 6, 0x12, 4, 0x2a, 2, 0x0a, 9]].concat();
        assert_eq!(count(&malformed), 0, "it is not stored");
    }
}

#[test]
fn only_what_is_remembered_is_not_new_again() {
    let interner = Interner::default();
    let message =
        ResourceMessage { attributes: vec![pair("k", "\0")], dropped_attributes_count: 0 }.encode_to_vec();
    let meet = || met(interner.resource(&message, b"u", &mut Space::unlimited()));
    assert_eq!(replaced(&meet()), 1);
    assert_eq!(replaced(&meet()), 1, "nobody has said that it was stored");
    assert_eq!(interner.resources.lock().unwrap().bytes, 0, "so that it takes no memory");
    let content = meet().content;
    interner.remember(vec![New { message: &message, schema_url: b"u", content }], Vec::new());
    assert!(meet().new.is_none());
}

#[test]
fn the_cache_is_bounded_in_bytes() {
    let interner = Interner::default();
    for index in 0..100 {
        resource(&interner, vec![pair(&index.to_string(), &"x".repeat(100_000))], "");
    }
    let recent = interner.resources.lock().unwrap();
    assert!(recent.bytes <= RECENT_BYTES && !recent.entries.is_empty());
    assert_eq!(recent.bytes, recent.entries.values().map(|known| known.bytes).sum::<usize>());
}
