//! A header map as Envoy keeps it: ordered, lower-case names, any bytes as values.

use std::fmt;

use crate::abi::{PAIRS_LIMIT, PAIRS_LIMIT_BYTES};

/// An ordered header map. Names and values are octets and need not be UTF-8.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Vec<u8>, Vec<u8>)>);

impl Headers {
    /// The first value of `name`, which is the only one that a filter gets when it reads one header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.find(name.as_bytes())
    }

    /// The first value of `name` as text. The test fails if it is not UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).map(|value| std::str::from_utf8(value).expect("header value is UTF-8"))
    }

    /// Every value of `name`.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        let name = name.as_bytes();
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_slice()).collect()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<&[u8]> {
        let name = name.to_ascii_lowercase();
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_slice())
    }

    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        self.0.push((name.to_ascii_lowercase(), value.to_vec()));
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        let name = name.to_ascii_lowercase();
        self.0.retain(|(key, _)| *key != name);
    }

    /// Envoy's `setCopy`: removes every value of the name and appends one.
    pub(crate) fn replace(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    /// The encoding of the ABI: count, then the two lengths of each pair, then the pairs, each string with a final
    /// zero.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("header fits 4 GiB").to_le_bytes();
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut out = u32::try_from(self.0.len()).expect("few headers").to_le_bytes().to_vec();
        for (name, value) in &self.0 {
            out.extend(length(name));
            out.extend(length(value));
        }
        for (name, value) in &self.0 {
            out.extend(name);
            out.push(0);
            out.extend(value);
            out.push(0);
        }
        out
    }

    /// `None` for octets that are no header map or exceed Envoy's limits, which Envoy reads as an empty map.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        if bytes.len() > PAIRS_LIMIT_BYTES {
            return None;
        }
        let number = |at: usize| -> Option<usize> {
            let word = bytes.get(at..at + 4)?;
            usize::try_from(u32::from_le_bytes(word.try_into().ok()?)).ok()
        };
        let count = number(0)?;
        if count > PAIRS_LIMIT {
            return None;
        }
        let mut at = 4 + 8 * count;
        let mut take = |size: usize| -> Option<&[u8]> {
            let taken = bytes.get(at..at + size)?;
            (bytes.get(at + size) == Some(&0)).then_some(())?;
            at += size + 1;
            Some(taken)
        };
        let mut pairs = Self::default();
        for pair in 0..count {
            let name = take(number(4 + 8 * pair)?)?;
            let value = take(number(8 + 8 * pair)?)?;
            pairs.add(name, value);
        }
        (at == bytes.len()).then_some(pairs)
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.add(name.as_ref(), value.as_ref());
        }
        headers
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        f.debug_list().entries(self.0.iter().map(|(name, value)| format!("{}: {}", lossy(name), lossy(value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_headers_decode_to_themselves() {
        let headers: Headers = [(&b"a"[..], &b"\xff\xfe"[..]), (b"b", b""), (b"a", b"again")].into_iter().collect();
        let bytes = headers.encode();
        assert_eq!(Headers::decode(&bytes), Some(headers));
        assert_eq!(Headers::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Headers::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(Headers::decode(&[255; 40]), None);
        let many: Headers = (0..1025).map(|_| ("a", "b")).collect();
        assert_eq!(Headers::decode(&many.encode()), None, "Envoy's limit");
    }

    #[test]
    fn first_value_is_read_and_all_values_are_replaced() {
        let mut headers: Headers = [("A", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        assert_eq!((headers.text("a"), headers.all("a").len()), (Some("1"), 2));
        headers.replace(b"A", b"4");
        assert_eq!(headers.all("a"), [b"4"]);
    }
}
