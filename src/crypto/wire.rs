//! Wire format of Protocol Buffers (protobuf.dev, "Encoding"): fields of a message, read and written.

/// Content of a field, by its wire type.
pub(crate) enum Content<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1, as a double.
    Double(f64),
    /// Wire type 2: bytes, text or a message.
    Bytes(&'a [u8]),
}

/// Fields of a message, each with its number and content. An item `None` says that the bytes are not a message; it is the last.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Content<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Content<'a>)> {
        let tag = self.varint()?;
        let content = match tag & 7 {
            0 => Content::Varint(self.varint()?),
            1 => Content::Double(f64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Content::Bytes(self.take(length)?)
            }
            _ => return None,
        };
        Some((tag >> 3, content))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Writes a message of fields of wire type 2.
pub(super) fn message_of(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut message = Vec::with_capacity(fields.iter().map(|(_, bytes)| bytes.len().saturating_add(6)).sum());
    for (number, bytes) in fields {
        message.push(number << 3 | 2);
        let mut length = bytes.len();
        while length >= 0x80 {
            message.push(low_bits(length) | 0x80);
            length >>= 7;
        }
        message.push(low_bits(length));
        message.extend_from_slice(bytes);
    }
    message
}

fn low_bits(number: usize) -> u8 {
    number.to_le_bytes().first().map_or(0, |byte| byte & 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_message_reads_back() {
        let long = [7; 300];
        let message = message_of(&[(1, b"sha256"), (4, &long)]);
        let fields: Option<Vec<_>> = Fields(&message).collect();
        let fields = fields.unwrap();
        assert!(matches!(fields[0], (1, Content::Bytes(b"sha256"))));
        assert!(matches!(fields[1], (4, Content::Bytes(bytes)) if bytes == long));
        assert!(Fields(&message[..message.len() - 1]).any(|field| field.is_none()));
    }
}
