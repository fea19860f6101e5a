//! PEM (RFC 7468), as operators have keys and certificates.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

/// The contents of every block of that label, in order. `None`: there is anything else in the text, or nothing.
///
/// Environment variables often hold `\n` for a line end: that is understood too.
pub fn blocks(text: &str, label: &str) -> Option<Vec<Zeroizing<Vec<u8>>>> {
    let text = Zeroizing::new(text.replace("\\n", "\n"));
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut rest = text.trim();
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let (body, after) = rest.strip_prefix(&begin)?.split_once(&end)?;
        let body: Zeroizing<String> = Zeroizing::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        blocks.push(Zeroizing::new(BASE64_STANDARD.decode(body.as_bytes()).ok()?));
        rest = after.trim_start();
    }
    (!blocks.is_empty()).then_some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_one_label_and_nothing_else_are_read() {
        let one = "-----BEGIN X-----\nAAEC\nAw==\n-----END X-----";
        let read =
            |text: &str| blocks(text, "X").map(|blocks| blocks.iter().map(|block| block.to_vec()).collect::<Vec<_>>());
        assert_eq!(read(one), Some(vec![vec![0, 1, 2, 3]]));
        assert_eq!(read(&one.replace('\n', "\\n")), Some(vec![vec![0, 1, 2, 3]]));
        assert_eq!(read(&format!("  {one}\r\n{one}\n")).map(|blocks| blocks.len()), Some(2));
        for bad in [
            "",
            "AAEC",
            &one.replace("X", "Y"),
            &format!("{one} x"),
            &one.replace("END", "BEGIN"),
            &one.replace("Aw==", "A"),
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
