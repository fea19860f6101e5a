//! Builder of OAuth clients and of their authentication at a token endpoint.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rsa::sha2::{Digest as _, Sha256};
use sha1::Sha1;

use crate::config::error::Code;
use crate::config::find_placeholder;
use crate::config::findings::Reported;
use crate::config::names::own_header_name;
use crate::config::reader::Fields;
use crate::config::secrets::{certificate, secret, variable};
use crate::crypto::{Algorithm, SigningKey, pem};
use crate::dpop::DpopKey;
use crate::jose::is_compact;
use crate::provider::{AssertionSource, CertificateHeader, Client, ClientAuthentication, ClientSecret};

/// Builds the client in the field `client`, which must be there.
pub(super) fn build(parent: &Fields<'_>) -> Result<Client, Reported> {
    let fields = parent.required_object("client")?;
    let id = fields.required_text("id");
    if let Ok(id) = id {
        find_placeholder(&fields, "id", id);
    }
    let authentication = fields.required_object("authentication").and_then(|fields| authentication(&fields));
    let dpop =
        fields.object("dpop").and_then(|dpop| dpop.map(|fields| Ok((signing_key(&fields)?, fields))).transpose());
    let (Ok(id), Ok(authentication), Ok(dpop)) = (id, authentication, dpop) else {
        return Err(Reported::DEPENDS);
    };
    if let (Some((key, fields)), ClientAuthentication::PrivateKeyJwt { key: other, .. }) = (&dpop, &authentication)
        && other.public_jwk() == key.public_jwk()
    {
        fields.warn("key", format_args!("the same key as in authentication"));
    }
    Ok(Client { id: id.to_owned(), authentication, dpop: dpop.map(|(key, _)| DpopKey::new(key)) })
}

fn authentication(fields: &Fields<'_>) -> Result<ClientAuthentication, Reported> {
    match fields.required_text("method")? {
        "client_secret_basic" => Ok(ClientAuthentication::SecretBasic(client_secret(fields)?)),
        "client_secret_post" => Ok(ClientAuthentication::SecretPost(client_secret(fields)?)),
        "private_key_jwt" => {
            let key = signing_key(fields)?;
            let optional = |name: &str| fields.text(name).map(|text| text.map(str::to_owned));
            Ok(ClientAuthentication::PrivateKeyJwt {
                certificate: certificate_header(fields, &key)?,
                key,
                key_id: optional("key_id")?,
                audience: optional("audience")?,
            })
        }
        "client_assertion" => Ok(ClientAuthentication::Assertion(assertion(fields)?)),
        "envoy_injected" => Ok(ClientAuthentication::Upstream),
        "none" => {
            let text = "a public client: whoever knows the client id and has a user's token can exchange it, too";
            fields.warn("method", format_args!("{text}"));
            Ok(ClientAuthentication::Public)
        }
        "tls_client_auth" | "self_signed_tls_client_auth" => Ok(ClientAuthentication::MutualTls),
        _ => Err(Reported::DEPENDS),
    }
}

fn client_secret(fields: &Fields<'_>) -> Result<ClientSecret, Reported> {
    let current = secret(fields, "secret");
    let previous = fields.has("previous_secret").then(|| secret(fields, "previous_secret")).transpose();
    let (Ok(current), Ok(previous)) = (current, previous) else {
        return Err(Reported::DEPENDS);
    };
    if previous.as_ref().is_some_and(|previous| previous.reveal() == current.reveal()) {
        fields.warn("previous_secret", format_args!("it is the same as secret"));
    }
    Ok(ClientSecret { current, previous })
}

/// Reads the source of an assertion that another issuer makes.
fn assertion(parent: &Fields<'_>) -> Result<AssertionSource, Reported> {
    let fields = parent.required_object("assertion")?;
    let Some(name) = fields.text("env")? else {
        let name = fields.required_text("header")?;
        return Ok(AssertionSource::Header(own_header_name(&fields, "header", name)?));
    };
    let assertion = variable(&fields, name)?;
    if !is_compact(assertion.reveal().as_bytes()) {
        return Err(fields.refuse(Code::NotAToken, "env", "a variable that holds another value", "a signed JWT"));
    }
    fields.warn("env", format_args!("it is read once, when Envoy starts; use header for an assertion that rotates"));
    Ok(AssertionSource::Environment(assertion))
}

/// Reads the private key in `key`, for `algorithm`.
fn signing_key(fields: &Fields<'_>) -> Result<SigningKey, Reported> {
    let text = secret(fields, "key");
    let algorithm = Algorithm::from_name(fields.required_text("algorithm")?).ok_or(Reported::DEPENDS)?;
    SigningKey::parse(algorithm, text?.reveal()).ok_or_else(|| {
        let kind = match algorithm {
            Algorithm::Es256 => "a P-256 key",
            Algorithm::Es384 => "a P-384 key",
            Algorithm::EdDsa => "an Ed25519 key",
            _ => "an RSA key of 2048 to 4096 bits",
        };
        let expected = format!(
            "{kind} as PEM that begins with BEGIN PRIVATE KEY (openssl pkcs8 -topk8 -nocrypt -in key.pem converts other forms)"
        );
        fields.refuse(Code::NotAKey, "key", "a value that is not such a key", &expected)
    })
}

/// Reads the header parameters of assertions that identify the certificate of the key.
fn certificate_header(fields: &Fields<'_>, key: &SigningKey) -> Result<CertificateHeader, Reported> {
    if !fields.has("certificate") {
        return match fields.has("certificate_header") {
            true => {
                let expected = "the certificate that certificate_header is about";
                Err(fields.refuse(Code::MissingCertificate, "certificate", "nothing", expected))
            }
            false => Ok(CertificateHeader::default()),
        };
    }
    let text = certificate(fields, "certificate")?;
    let wrong = |found: &str| {
        let expected = "the certificate of key as PEM, followed by the certificates of its issuers";
        fields.refuse(Code::NotACertificate, "certificate", found, expected)
    };
    let chain = pem::blocks(text.reveal(), "CERTIFICATE").ok_or_else(|| wrong("no PEM of certificates"))?;
    let certificate =
        chain.first().filter(|der| key.is_in(der)).ok_or_else(|| wrong("a certificate of another key"))?;
    let mut members = fields.texts("certificate_header")?;
    if members.is_empty() {
        members.push("x5t#S256".to_owned());
    }
    let mut header = CertificateHeader::default();
    for member in &members {
        match member.as_str() {
            "x5t#S256" => {
                header.thumbprints.push(("x5t#S256", BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(certificate))));
            }
            "x5t" => header.thumbprints.push(("x5t", BASE64_URL_SAFE_NO_PAD.encode(Sha1::digest(certificate)))),
            "x5c" => header.chain = chain.iter().map(|der| BASE64_STANDARD.encode(der)).collect(),
            _ => return Err(Reported::DEPENDS),
        }
    }
    Ok(header)
}
