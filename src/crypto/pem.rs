//! PEM (RFC 7468): keys and certificates in the configuration.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rsa::pkcs8::der::asn1::AnyRef;
use rsa::pkcs8::der::{Decode as _, Tag, Tagged as _};
use zeroize::Zeroizing;

/// Decodes every block with that label, in order. `None`: the text has no block, or something other than such blocks.
///
/// The two characters `\n` count as a line end: environment variables often have them.
pub fn blocks(text: &str, label: &str) -> Option<Vec<Zeroizing<Vec<u8>>>> {
    let text = Zeroizing::new(text.replace("\\r", ""));
    let text = Zeroizing::new(text.replace("\\n", "\n"));
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut rest = text.trim();
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let (body, after) = rest.strip_prefix(&begin)?.split_once(&end)?;
        // Full capacity at once: a buffer that grows leaves copies of the key in memory.
        let mut text = Zeroizing::new(String::with_capacity(body.len()));
        text.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
        let block = Zeroizing::new(BASE64_STANDARD.decode(text.as_bytes()).ok()?);
        // A key or certificate is one `SEQUENCE` with no bytes behind it.
        AnyRef::from_der(&block).ok().filter(|value| value.tag() == Tag::Sequence)?;
        blocks.push(block);
        rest = after.trim_start();
    }
    (!blocks.is_empty()).then_some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_one_label_and_nothing_else_are_read() {
        let one = "-----BEGIN X-----\nMAIB\nAg==\n-----END X-----";
        let read =
            |text: &str| blocks(text, "X").map(|blocks| blocks.iter().map(|block| block.to_vec()).collect::<Vec<_>>());
        assert_eq!(read(one), Some(vec![vec![0x30, 2, 1, 2]]));
        assert_eq!(read(&one.replace('\n', "\\n")), Some(vec![vec![0x30, 2, 1, 2]]));
        assert_eq!(read(&format!("  {one}\r\n{one}\n")).map(|blocks| blocks.len()), Some(2));
        for bad in [
            "",
            "AAEC",
            &one.replace("X", "Y"),
            &format!("{one} x"),
            &one.replace("END", "BEGIN"),
            &one.replace("Ag==", "A"),
            &one.replace("Ag==", "AgM="),
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
