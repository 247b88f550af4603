//! OTLP values as a tree, with strings that need not be UTF-8: made up, or taken from a decoded message.

use arbitrary::{Result, Unstructured};
use forebay::otlp::messages::{AnyValue, KeyValue, any_value};
use prost::encoding;

/// An `AnyValue`.
#[derive(Clone, Debug)]
pub enum Value {
    /// No value is set.
    Empty,
    /// A string, as its bytes.
    Text(Vec<u8>),
    /// A bool.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An `ArrayValue`.
    Array(Vec<Value>),
    /// A `KeyValueList`.
    Map(Vec<Pair>),
}

/// A `KeyValue`: the key's bytes and the value.
pub type Pair = (Vec<u8>, Value);

/// No value is made deeper than this.
const DEEPEST: usize = 200;
/// Doubles at which the way of writing them changes.
const DOUBLES: [f64; 8] = [0.0, 1.0, 1e15, 1e16, 1e19, 1e21, 5e-324, f64::MAX];

impl Value {
    /// Makes a value of the bytes of `input`, each taken from the front.
    pub fn arbitrary(input: &mut Unstructured<'_>, depth: usize) -> Result<Self> {
        Ok(match input.arbitrary::<u8>()? % 16 {
            0 => Self::Empty,
            1 => Self::Bool(input.arbitrary()?),
            2 => Self::Int(input.arbitrary()?),
            3 => Self::Int(input.arbitrary::<i8>()?.into()),
            4 => Self::Double(input.arbitrary()?),
            5 => Self::Double(input.arbitrary::<i16>()?.into()),
            6 => Self::Double(DOUBLES[usize::from(input.arbitrary::<u8>()? % 8)] * 1.5 - 0.5),
            7 => Self::Bytes(text(input)?),
            8 if depth < DEEPEST => Self::Array(list(input, |input| Self::arbitrary(input, depth + 1))?),
            9 if depth < DEEPEST => Self::Map(pairs(input, depth + 1)?),
            10 if depth < DEEPEST => {
                let levels = usize::from(input.arbitrary::<u8>()?) % (DEEPEST - depth);
                let inner = Self::arbitrary(input, depth + levels)?;
                (0..levels).fold(inner, |inner, _| Self::Array(vec![inner]))
            }
            _ => Self::Text(text(input)?),
        })
    }

    /// The `AnyValue` message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Empty => {}
            Self::Text(text) => encoding::bytes::encode(1, text, &mut out),
            Self::Bool(value) => encoding::bool::encode(2, value, &mut out),
            Self::Int(number) => encoding::int64::encode(3, number, &mut out),
            Self::Double(number) => encoding::double::encode(4, number, &mut out),
            Self::Array(items) => {
                encoding::bytes::encode(5, &messages(1, items.iter().map(Self::encode)), &mut out)
            }
            Self::Map(entries) => {
                encoding::bytes::encode(6, &messages(1, entries.iter().map(encode_pair)), &mut out)
            }
            Self::Bytes(bytes) => encoding::bytes::encode(7, bytes, &mut out),
        }
        out
    }
}

/// Makes a list of pairs of the bytes of `input`.
pub fn pairs(input: &mut Unstructured<'_>, depth: usize) -> Result<Vec<Pair>> {
    list(input, |input| Ok((key(input)?, Value::arbitrary(input, depth)?)))
}

/// The `KeyValue` message of `pair`.
pub fn encode_pair((key, value): &Pair) -> Vec<u8> {
    messages(1, [key.clone()]).into_iter().chain(messages(2, [value.encode()])).collect()
}

/// The repeated field `number` of these messages.
pub fn messages(number: u32, messages: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    messages.into_iter().for_each(|message| encoding::bytes::encode(number, &message, &mut out));
    out
}

fn list<T>(
    input: &mut Unstructured<'_>,
    mut item: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let length = input.arbitrary::<u8>()? % 8;
    (0..length).map(|_| item(input)).collect()
}

/// A key; the one that means something more often than chance would have it.
fn key(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    match input.arbitrary::<u8>()? {
        255 => Ok(b"service.name".to_vec()),
        length => bytes(input, length),
    }
}

fn text(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let length = input.arbitrary()?;
    bytes(input, length)
}

fn bytes(input: &mut Unstructured<'_>, length: u8) -> Result<Vec<u8>> {
    Ok(input.bytes(usize::from(length).min(input.len()))?.to_vec())
}

impl From<&AnyValue> for Value {
    fn from(message: &AnyValue) -> Self {
        match &message.value {
            None => Self::Empty,
            Some(any_value::Value::StringValue(text)) => Self::Text(text.clone().into_bytes()),
            Some(any_value::Value::BoolValue(value)) => Self::Bool(*value),
            Some(any_value::Value::IntValue(number)) => Self::Int(*number),
            Some(any_value::Value::DoubleValue(number)) => Self::Double(*number),
            Some(any_value::Value::BytesValue(bytes)) => Self::Bytes(bytes.to_vec()),
            Some(any_value::Value::ArrayValue(array)) => {
                Self::Array(array.values.iter().map(Self::from).collect())
            }
            Some(any_value::Value::KvlistValue(list)) => Self::Map(decoded(&list.values)),
        }
    }
}

/// The pairs of decoded messages.
pub fn decoded(messages: &[KeyValue]) -> Vec<Pair> {
    let pair = |pair: &KeyValue| {
        (pair.key.clone().into_bytes(), pair.value.as_ref().map_or(Value::Empty, Value::from))
    };
    messages.iter().map(pair).collect()
}
