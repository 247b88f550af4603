//! Any value as a body and as an attribute of record, resource and scope: the JSON says what the value says, and
//! what was replaced in it is counted.

use arbitrary::Unstructured;
use forebay::table::{Replaced, Space, Transcoder};

use super::value::{Pair, Value, encode_pair, messages, pairs};
use super::{expect, request, rows};

/// Checks what `data` is made into; gives the number of values that were replaced.
pub fn check(data: &[u8]) -> u64 {
    let mut input = Unstructured::new(data);
    let made = Value::arbitrary(&mut input, 0).and_then(|body| Ok((body, pairs(&mut input, 0)?)));
    let Ok((body, attributes)) = made else { return 0 };
    let sent = encode(&body, &attributes);
    let transcoder = Transcoder::default();
    let done = transcoder.transcode(&sent, 1, 1, &mut Space::unlimited()).expect("it is well-formed");
    let read = rows::read(&done.rows);
    let ([row], [resource], [scope]) = (&read[..], &done.rows.resources[..], &done.rows.scopes[..]) else {
        panic!("one record became {done:?}");
    };
    let mut replaced = Replaced::default();
    request::check_body(row, Some(body), &mut replaced);
    expect::object(rows::json(row, "attributes").expect("never NULL"), &attributes, 0, &mut replaced);
    expect::resource(resource, &attributes, &mut replaced);
    expect::sorted_object(&scope.attributes, &attributes, &mut replaced);
    assert_eq!(done.replaced, replaced);
    let again =
        transcoder.transcode(&sent, 1, 1, &mut Space::unlimited()).expect("it was well-formed before");
    assert_eq!(again.rows.bytes(), done.rows.bytes(), "what is remembered is what was read");
    replaced.iter().map(|(_, count)| count).sum()
}

/// A request of one record.
fn encode(body: &Value, attributes: &[Pair]) -> Vec<u8> {
    let pairs = |number| messages(number, attributes.iter().map(encode_pair));
    let record = [messages(5, [body.encode()]), pairs(6)].concat();
    let scope_logs = [messages(1, [pairs(3)]), messages(2, [record])].concat();
    let resource_logs = [messages(1, [pairs(1)]), messages(2, [scope_logs])].concat();
    messages(1, [resource_logs])
}
