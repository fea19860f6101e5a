//! Known-answer test: the ES256 signature of RFC 7515 appendix A.3.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::crypto::{Algorithm, Crypto, PublicKey};

const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const SIGNING_INPUT: &[u8] =
    b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const SIGNATURE: &str = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

/// Returns `true` if `crypto` accepts the signature, and refuses it for another text.
pub fn holds(crypto: &dyn Crypto) -> bool {
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let signature = decode(SIGNATURE);
    PublicKey::p256(&decode(X), &decode(Y)).is_some_and(|key| {
        crypto.verify(Algorithm::Es256, &key, SIGNING_INPUT, &signature)
            && !crypto.verify(Algorithm::Es256, &key, b"another text", &signature)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Software;

    #[test]
    fn the_software_gives_the_known_answer() {
        assert!(holds(&Software));
    }
}
