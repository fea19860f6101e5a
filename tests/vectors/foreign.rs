//! The foreign functions of a running Envoy over HTTP: the filter in `tests/envoy/foreign-filter` calls the function
//! in the path with the octets of the body, and answers with the result.

use std::cell::{Cell, RefCell};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use jwt_simple::algorithms::{
    ECDSAP256KeyPairLike as _, ECDSAP384KeyPairLike as _, ES256KeyPair, ES384KeyPair, RS256KeyPair, RSAKeyPairLike as _,
};
use onbehalf::crypto::PublicKey;

pub struct Envoy {
    connection: RefCell<BufReader<TcpStream>>,
    calls: Cell<usize>,
    last_answer: RefCell<Option<Vec<u8>>>,
}

impl Envoy {
    pub fn from_environment() -> Self {
        let address = std::env::var("ONBEHALF_FOREIGN_HOST").expect("ONBEHALF_FOREIGN_HOST is 127.0.0.1:PORT");
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_nodelay(true).expect("sets an option");
        Self { connection: BufReader::new(stream).into(), calls: Cell::new(0), last_answer: RefCell::default() }
    }

    pub fn calls(&self) -> usize {
        self.calls.get()
    }

    pub fn last_answer_has(&self, start: &[u8]) -> bool {
        self.last_answer.borrow().as_ref().is_some_and(|answer| answer.starts_with(start))
    }

    /// The result of a foreign function. Any other response fails the test.
    pub fn call(&self, name: &str, arguments: &[u8]) -> Option<Vec<u8>> {
        self.calls.set(self.calls.get() + 1);
        let mut connection = self.connection.borrow_mut();
        let head = format!("POST /{name} HTTP/1.1\r\nhost: foreign\r\ncontent-length: {}\r\n\r\n", arguments.len());
        connection.get_mut().write_all(&[head.as_bytes(), arguments].concat()).expect("sends");

        let mut lines =
            (&mut *connection).lines().map(|line| line.expect("a line")).take_while(|line| !line.is_empty());
        let status = lines.next().expect("a status line");
        let headers: Vec<String> = lines.collect();
        let header = |name: &str| {
            headers.iter().find_map(|line| line.split_once(": ").filter(|(found, _)| *found == name)).map(|(_, v)| v)
        };
        let length = header("content-length").unwrap_or("0").parse().expect("a length");
        let mut body = vec![0; length];
        connection.read_exact(&mut body).expect("a body");
        let answer = match (status.as_str(), header("x-returned")) {
            ("HTTP/1.1 200 OK", Some("Ok")) => Some(body),
            ("HTTP/1.1 200 OK", Some(_)) => None,
            _ => panic!("{status}: {headers:?}"),
        };
        self.last_answer.replace(answer.clone());
        answer
    }
}

/// A private key in PEM, and its public key.
pub fn rsa_key() -> (String, PublicKey) {
    let pair = RS256KeyPair::generate(2048).unwrap();
    let public = pair.key_pair().public_key().to_components();
    (pair.key_pair().to_pem().unwrap(), PublicKey::rsa(&public.n, &public.e).unwrap())
}

/// A private key in PEM, and its public key.
pub fn p256_key() -> (String, PublicKey) {
    let pair = ES256KeyPair::generate();
    let point = pair.key_pair().public_key().to_bytes_uncompressed();
    let (x, y) = point[1..].split_at(32);
    (pair.key_pair().to_pem().unwrap(), PublicKey::p256(x, y).unwrap())
}

/// A private key in PEM, and its public key.
pub fn p384_key() -> (String, PublicKey) {
    let pair = ES384KeyPair::generate();
    let point = pair.key_pair().public_key().to_bytes_uncompressed();
    let (x, y) = point[1..].split_at(48);
    (pair.key_pair().to_pem().unwrap(), PublicKey::p384(x, y).unwrap())
}
