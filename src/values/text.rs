//! Decodes text files as the editors of all systems save them.

/// The reason why a file cannot be read as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    /// It is in the encoding that some Windows programs call Unicode.
    #[error("it is UTF-16; save the file as UTF-8")]
    Utf16,
    /// It is in none that is known.
    #[error("byte {0} is not UTF-8; save the file as UTF-8")]
    Unknown(usize),
}

/// `bytes` without the byte order mark that Windows programs put before UTF-8. With the mark, a token or key at the start would
/// never match.
pub fn unmarked(mut bytes: Vec<u8>) -> Result<Vec<u8>, NotText> {
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        bytes.drain(..3);
    }
    match bytes[..] {
        // With its own mark, or of ASCII characters, every other byte of which is 0.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => Err(NotText::Utf16),
        _ => Ok(bytes),
    }
}

/// The text in `bytes`.
pub fn decode(bytes: Vec<u8>) -> Result<String, NotText> {
    let text = String::from_utf8(unmarked(bytes)?);
    text.map_err(|error| NotText::Unknown(error.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_no_part_of_the_text() {
        let utf16 = |text: &str, to: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to).collect::<Vec<_>>();
        for (bytes, expected) in [
            (b"\xef\xbb\xbftoken\r\n".to_vec(), Ok("token\r\n")),
            (b"token".to_vec(), Ok("token")),
            (b"\xef\xbb\xbf".to_vec(), Ok("")),
            (b"t".to_vec(), Ok("t")),
            (Vec::new(), Ok("")),
            ("caf\u{e9}".into(), Ok("caf\u{e9}")),
            (b"caf\xe9".to_vec(), Err(NotText::Unknown(3))),
            (utf16("\u{feff}token", u16::to_le_bytes), Err(NotText::Utf16)),
            (utf16("\u{feff}token", u16::to_be_bytes), Err(NotText::Utf16)),
            (utf16("token", u16::to_le_bytes), Err(NotText::Utf16)),
            (utf16("token", u16::to_be_bytes), Err(NotText::Utf16)),
        ] {
            assert_eq!(decode(bytes.clone()).as_deref(), expected.as_deref(), "{bytes:?}");
        }
    }
}
