//! The shapes of JSON that messages of protobuf are written from: a list, an object, one whose faults are its own.

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
        _ => fault(json, wire, "there is no list here"),
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

/// The same of a message that may be one of many in each other.
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
        _ => fault(json, wire, "there is no object here"),
    }
}

/// The same of a message whose faults are its own.
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
        _ => fault(json, wire, "there is no object here")?,
    }
    if wire.fault.take().is_some() {
        wire.spoil(&open)?;
        wire.replaced = replaced;
    }
    wire.fault = before;
    wire.end(open)
}

/// Passes over a value that its field cannot hold, and remembers it.
pub(super) fn fault(json: &mut JsonReader<'_>, wire: &mut Writer<'_>, what: &'static str) -> Done {
    wire.fault.get_or_insert(json.malformed(what));
    skip(json)
}

pub(super) fn skip(json: &mut JsonReader<'_>) -> Done {
    Ok(json.skip()?)
}
