//! Header block of a request or response, in the buffer of the host.

/// Header fields of a request in order, with names in lower case and pseudo-headers, and the client certificate of its connection.
///
/// The fields stay in the buffer of the host: a string for each name and value would be most of the allocations of a request.
#[derive(Clone)]
pub struct Request {
    pairs: Vec<u8>,
    /// SHA-256 of the client's TLS certificate in DER, if it has one.
    pub peer_certificate: Option<[u8; 32]>,
    /// Returns `true` if the request has passed this filter before. It asks the host, so it is called only where that matters.
    pub has_passed: fn() -> bool,
}

impl Request {
    /// Takes a header map as a proxy-wasm host serialises it: the number of fields, the length of each name and value (32 bits
    /// each, little-endian), then names and values, each followed by a zero byte.
    pub const fn from_pairs(pairs: Vec<u8>) -> Self {
        Self { pairs, peer_certificate: None, has_passed: || false }
    }

    /// Serialises fields, for tests.
    pub fn new(fields: &[(&str, &[u8])]) -> Self {
        let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut pairs = u32::try_from(fields.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        for (name, value) in fields {
            pairs.extend(length(name.as_bytes()));
            pairs.extend(length(value));
        }
        for (name, value) in fields {
            pairs.extend([name.as_bytes(), b"\0", value, b"\0"].concat());
        }
        Self::from_pairs(pairs)
    }

    /// Memory of the fields, in bytes.
    pub const fn bytes(&self) -> usize {
        self.pairs.len()
    }

    /// Every field, in order. The fields end where the buffer is not a header map.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (count, rest) = self.pairs.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let count = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(usize::MAX);
        let (lengths, content) = rest.split_at_checked(count.saturating_mul(8)).unwrap_or_default();
        let (lengths, _) = lengths.as_chunks::<4>();
        let (lengths, _) = lengths.as_chunks::<2>();
        lengths.iter().scan(content, |content, [name, value]| {
            let mut part = |length: &[u8; 4]| {
                let (part, rest) = content.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
                *content = rest.get(1..)?;
                Some(part)
            };
            Some((part(name)?, part(value)?))
        })
    }

    /// Value of the first field with that name.
    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields().find_map(|(field, value)| (field == name).then_some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_map_is_read_as_the_host_writes_it() {
        let fields: [(&str, &[u8]); 4] = [(":path", b"/"), ("x", b""), ("cookie", b"a\0b"), ("y", b"\xff\xfe")];
        let request = Request::new(&fields);
        let read: Vec<_> = request.fields().collect();
        let expected: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), *value)).collect();
        assert_eq!(read, expected);
        assert_eq!((request.field(b"x"), request.field(b"z")), (Some(&b""[..]), None));
    }

    #[test]
    fn a_buffer_that_is_no_header_map_gives_no_more_than_it_has() {
        let whole = Request::new(&[("a", b"1"), ("b", b"2")]).pairs;
        for length in 0..whole.len() {
            assert!(Request::from_pairs(whole[..length].to_vec()).fields().count() < 2, "{length}");
        }
        let mut lie = whole;
        lie[..4].fill(0xff);
        assert_eq!(Request::from_pairs(lie.clone()).fields().count(), 0);
        lie[..4].copy_from_slice(&[2, 0, 0, 0]);
        lie[4..8].fill(0xff);
        assert_eq!(Request::from_pairs(lie).fields().count(), 0);
    }
}
