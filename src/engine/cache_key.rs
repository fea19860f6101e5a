//! Key of an exchanged token: a digest of everything that shapes it. Shared data outlives a configuration, so a token must
//! never be found under a key of another shape.
//!
//! Provider and target are taken apart completely: a new field does not compile until it is decided here whether it shapes
//! the token.

use crate::cache::exchanged_tokens::KeyPrefix;
use crate::dpop::DpopKey;
use crate::http::Scheme;
use crate::provider::{
    ActorToken, AuthorizationServer, Endpoints, Provider, SubjectInput, TokenExchangeTarget, TokenType,
};
use crate::url::Url;

/// Digest of everything that shapes an exchanged token besides the subject token: who asks whom, and with which parameters.
pub(super) fn key_prefix(
    endpoints: &Endpoints,
    provider: &Provider,
    target: &TokenExchangeTarget,
    is_id_token: bool,
) -> KeyPrefix {
    let Provider {
        name,
        profile,
        issuer,
        // The target has it.
        client: _,
        // Identity in this worker alone.
        id: _,
        // Acceptance of the caller's token.
        tenants: _,
        audiences: _,
        every_audience: _,
        algorithms: _,
        audience_claim: _,
        scope_claims: _,
        required_claims: _,
        jwks: _,
        jwks_uri: _,
        oldest_keys: _,
        leeway: _,
        // The subject token is the other part of the key, and `is_id_token` says which kind it is.
        subject_token: _,
        // A form parameter.
        subject_token_type,
        // `endpoints` has it, configured or discovered.
        token_endpoint: _,
        // Transport of the request.
        cluster: _,
        jwks_cluster: _,
        token_cluster: _,
        timeout: _,
        retries: _,
    } = provider;
    let TokenExchangeTarget {
        client,
        parameters,
        token_type,
        // `Profile::parameters` has the form parameters. The server of the grant and the actor follow below.
        grant: _,
        audiences: _,
        resources: _,
        scope: _,
    } = target;
    let whom = [
        &**name,
        profile.name(),
        issuer.as_str(),
        endpoints.token_endpoint.as_ref().map_or("", Url::as_str),
        client.id.as_str(),
        // Key that the token is bound to.
        target.issued_to().dpop.as_ref().map_or("", DpopKey::thumbprint),
        match token_type {
            TokenType::Bearer => Scheme::Bearer.name(),
            TokenType::Dpop { url: _ } => Scheme::Dpop.name(),
        },
    ];
    let subject =
        SubjectInput { token: "", is_id_token, token_type: subject_token_type.as_deref(), claims: None, actor: None };
    let form = profile.parameters(target, subject);
    let server = target.authorization_server().into_iter();
    let server = server.flat_map(|AuthorizationServer { token_endpoint, client, cluster: _ }| {
        [token_endpoint.as_str(), client.id.as_str()]
    });
    // The actor's identity: its token rotates.
    let actor = target.actor_token().into_iter().flat_map(ActorToken::identity);
    let mut parts: Vec<&str> = whom.to_vec();
    parts.extend(server);
    parts.extend(actor);
    parts.extend(form.iter().flat_map(|(name, value)| [*name, &**value]));
    parts.extend(parameters.iter().flat_map(|(name, value)| [name.as_str(), value.reveal()]));
    KeyPrefix::of(parts.into_iter())
}

#[cfg(test)]
mod tests {
    use jwt_simple::algorithms::ECDSAP256KeyPairLike as _;
    use jwt_simple::algorithms::ES256KeyPair;

    use super::*;
    use crate::cache::exchanged_tokens::TokenKey;
    use crate::config::Config;

    #[test]
    fn a_token_is_kept_for_its_dpop_key_and_its_token_type() {
        let [one, other] = [(); 2].map(|()| ES256KeyPair::generate().key_pair().to_pem().unwrap());
        let of = |pem: Option<&str>, exchange: &str| {
            let dpop = pem.map_or("", |_| r#", "dpop": {"key": {"env": "K"}, "algorithm": "ES256"}"#);
            let text = format!(
                r#"{{"identity_providers": {{"p": {{"profile": "rfc8693", "issuer": "https://i.example", "cluster": "c",
                "audiences": ["a"], "client": {{"id": "g", "authentication": {{"method": "client_secret_post",
                "secret": {{"inline": "s"}}}}{dpop}}}}}}},
                "resources": [{{"url": "https://r.example", "exchange": {{"p": {{"audience": "a"{exchange}}}}}}}]}}"#
            );
            let env = |_: &str| pem.map(str::to_owned);
            let config = Config::parse(text.as_bytes(), &env).unwrap();
            let endpoints =
                Endpoints { jwks_uri: None, token_endpoint: Some(Url::parse("https://i.example/t").unwrap()) };
            let exchange = &config.resources[0].exchanges[0];
            TokenKey::of(
                &key_prefix(&endpoints, &exchange.provider, exchange.target.exchange().unwrap(), false),
                "subject",
            )
        };
        let dpop = r#", "token_type": "dpop""#;
        let keys =
            [of(None, ""), of(Some(&one), ""), of(Some(&one), dpop), of(Some(&other), ""), of(Some(&other), dpop)];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{index}");
        }
        assert!(of(Some(&one), dpop) == keys[2], "the same is found again");
    }
}
