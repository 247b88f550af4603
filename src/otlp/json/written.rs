//! How JSON becomes protobuf messages: a list, an object, and an object that keeps its errors to itself.

use super::Unwritten;
use super::reader::{JsonReader, Kind};
use super::writer::{Open, Writer};

pub(super) type Done = Result<(), Unwritten>;

/// The elements of a list.
pub(super) fn each<'j, 'w>(
    json: &mut JsonReader<'j>,
    wire: &mut Writer<'w>,
    item: impl Fn(&mut JsonReader<'j>, &mut Writer<'w>) -> Done,
) -> Done {
    match json.kind()? {
        Kind::Array => json.array(|json| item(json, wire)),
        Kind::Null => Ok(json.null()?),
        _ => fault(json, wire, "expected a list"),
    }
}

/// A message, whose members are written by `member`.
pub(super) fn message<'j, 'w>(
    json: &mut JsonReader<'j>,
    wire: &mut Writer<'w>,
    number: u8,
    member: impl Fn(&mut JsonReader<'j>, &mut Writer<'w>, &[u8]) -> Done,
) -> Done {
    opened(json, wire, |wire| wire.begin(number), member)
}

/// The same for a message that may be deeply nested.
pub(super) fn nested<'j, 'w>(
    json: &mut JsonReader<'j>,
    wire: &mut Writer<'w>,
    number: u8,
    member: impl Fn(&mut JsonReader<'j>, &mut Writer<'w>, &[u8]) -> Done,
) -> Done {
    opened(json, wire, |wire| wire.begin_nested(number), member)
}

fn opened<'j, 'w>(
    json: &mut JsonReader<'j>,
    wire: &mut Writer<'w>,
    begin: impl FnOnce(&mut Writer<'w>) -> Result<Open, Unwritten>,
    member: impl Fn(&mut JsonReader<'j>, &mut Writer<'w>, &[u8]) -> Done,
) -> Done {
    match json.kind()? {
        Kind::Object => {
            let open = begin(wire)?;
            json.object(|json, key| member(json, wire, &key.name()))?;
            wire.end(open)
        }
        Kind::Null => Ok(json.null()?),
        _ => fault(json, wire, "expected an object"),
    }
}

/// The same for a message whose errors make only itself unreadable.
pub(super) fn by_itself<'j, 'w>(
    json: &mut JsonReader<'j>,
    wire: &mut Writer<'w>,
    number: u8,
    member: impl Fn(&mut JsonReader<'j>, &mut Writer<'w>, &[u8]) -> Done,
) -> Done {
    if json.kind()? == Kind::Null {
        return Ok(json.null()?);
    }
    let (before, replaced) = (wire.fault.take(), wire.replaced);
    let open = wire.begin(number)?;
    match json.kind()? {
        Kind::Object => json.object(|json, key| member(json, wire, &key.name()))?,
        _ => fault(json, wire, "expected an object")?,
    }
    if wire.fault.take().is_some() {
        wire.spoil(&open)?;
        wire.replaced = replaced;
    }
    wire.fault = before;
    wire.end(open)
}

/// Skips a value that its field cannot hold, and notes the error.
pub(super) fn fault(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, what: &'static str) -> Done {
    wire.fault.get_or_insert(json.malformed(what));
    skip(json)
}

pub(super) fn skip(json: &mut JsonReader<'_>) -> Done {
    Ok(json.skip()?)
}
