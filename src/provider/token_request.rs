//! Token request: one request to a token endpoint (RFC 6749 section 3.2), with the reading of its response.

use std::time::Duration;

use crate::crypto::Crypto;
use crate::dpop::ProofTarget;
use crate::http::{Callout, CalloutResult};
use crate::json;
use crate::provider::client_auth::authenticate;
use crate::provider::known_secrets::KnownSecrets;
use crate::provider::{
    Accepted, ActorTokenSource, AssertionSource, AuthorizationServer, Client, ClientAuthentication, Grant, Issued,
    Provider, SecretVersion, TokenEndpointError, TokenExchangeTarget, grant, token_error, token_response,
};
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::url::Url;

/// Maximum size of a response body in bytes. A token must fit into a header section, which Envoy limits to 60 KiB.
const MAX_RESPONSE_BYTES: usize = 256 * 1024;

/// Token of the user that the request contains, and the parameters that come with the user's request.
#[derive(Clone, Copy, Default)]
pub struct SubjectInput<'a> {
    /// Token: `subject_token` or `assertion`.
    pub token: &'a str,
    /// The token is an ID token. `false`: an access token.
    pub is_id_token: bool,
    /// Value of `subject_token_type` in place of the usual one ([`Provider::subject_token_type`]).
    pub token_type: Option<&'a str>,
    /// Claims that the upstream requires in the new token: JSON text of a claims challenge (OpenID Connect Core section
    /// 5.5). Ignored if it is no JSON object, or if the profile does not take claims
    /// ([`Profile::takes_claims`](crate::provider::Profile::takes_claims)). The claims are not part of the cache key: the
    /// token that is issued for them replaces the cached one.
    pub claims: Option<&'a str>,
    /// Actor token of the request ([`ActorTokenSource::Header`](crate::provider::ActorTokenSource)).
    pub actor: Option<&'a str>,
}

/// Server that a token request of an exchange goes to.
#[derive(Clone, Copy)]
pub enum Hop<'a> {
    /// The identity provider. For [`Grant::IdJag`](crate::provider::Grant) this is the ID-JAG request; otherwise it is the
    /// only request.
    IdentityProvider,
    /// The resource authorization server: the access token request with the ID-JAG.
    ResourceServer {
        /// ID-JAG that the provider issued.
        id_jag: &'a str,
    },
}

/// Token request with everything that shapes it.
#[derive(Clone, Copy)]
pub struct TokenRequest<'a> {
    /// Identity provider of the user.
    pub provider: &'a Provider,
    /// Target of the exchange.
    pub target: &'a TokenExchangeTarget,
    /// Token endpoint of the provider.
    pub token_endpoint: &'a Url,
    /// Token of the user.
    pub subject: SubjectInput<'a>,
    /// Version of the client secret.
    pub secret_version: SecretVersion,
    /// Client assertion that came with the user's request ([`AssertionSource::Header`](crate::provider::AssertionSource)).
    pub assertion: Option<&'a Secret>,
    /// Latest nonce of the endpoint for DPoP proofs (RFC 9449 section 8).
    pub nonce: Option<&'a str>,
    /// Server that the request goes to.
    pub hop: Hop<'a>,
    /// An exchange for this resource and provider has succeeded since the configuration was loaded.
    pub has_worked: bool,
    /// The log gets the provider's `error_description`.
    pub shows_descriptions: bool,
}

impl<'a> TokenRequest<'a> {
    /// Returns the client that sends the request.
    pub fn client(&self) -> &'a Client {
        self.resource_server().map_or(&self.target.client, |server| &server.client)
    }

    /// Returns `true` for the ID-JAG request, whose token is for the access token request and not for the upstream.
    pub const fn is_for_id_jag(&self) -> bool {
        matches!(self.hop, Hop::IdentityProvider) && self.target.authorization_server().is_some()
    }

    /// Returns `true` if the request has a DPoP proof (RFC 9449 section 5).
    pub fn has_proof(&self) -> bool {
        self.client().dpop.is_some()
    }

    /// Returns the URL of the request.
    pub fn endpoint(&self) -> &'a Url {
        self.resource_server().map_or(self.token_endpoint, |server| &server.token_endpoint)
    }

    /// Returns `true` if the subject token alone distinguishes the request from those of other users, and `invalid_request`
    /// is the code for an invalid one (RFC 8693 section 2.2.2). An actor token may have expired for all users.
    pub(super) const fn can_blame_subject_token(&self) -> bool {
        matches!(self.hop, Hop::IdentityProvider)
            && matches!(self.target.grant, Grant::TokenExchange { actor_token: None, .. } | Grant::IdJag(_))
    }

    /// Returns the tokens that this exchange sends: the user's token and the ID-JAG.
    pub(super) fn tokens_sent(&self) -> impl Iterator<Item = &'a str> {
        let id_jag = match self.hop {
            Hop::IdentityProvider => None,
            Hop::ResourceServer { id_jag } => Some(id_jag),
        };
        [Some(self.subject.token), id_jag].into_iter().flatten()
    }

    /// Returns the tokens and assertions of others that this exchange sends.
    pub(super) fn secrets_sent(&self) -> impl Iterator<Item = &'a str> {
        let actor = self.target.actor_token().and_then(|actor| match &actor.source {
            ActorTokenSource::Fixed(token) => Some(token.reveal()),
            ActorTokenSource::Header(_) => self.subject.actor,
        });
        let assertion = match &self.client().authentication {
            ClientAuthentication::Assertion(AssertionSource::Environment(assertion)) => Some(assertion),
            _ => self.assertion,
        };
        self.tokens_sent().chain(actor).chain(assertion.map(Secret::reveal))
    }

    /// Returns the resource authorization server, if the request goes there.
    pub(super) fn resource_server(&self) -> Option<&'a AuthorizationServer> {
        match self.hop {
            Hop::IdentityProvider => None,
            Hop::ResourceServer { .. } => self.target.authorization_server(),
        }
    }

    /// Builds the callout, anew for every attempt. `None`: the client cannot authenticate or sign its proof.
    pub fn call(&self, timeout: Duration, crypto: &dyn Crypto, now: UnixTime) -> Option<Callout> {
        let Self { provider, target, subject, nonce, .. } = *self;
        let (client, url) = (self.client(), self.endpoint());
        let credentials = authenticate(client, self.secret_version, self.assertion, url, crypto, now)?;
        let (parameters, further) = match self.hop {
            Hop::IdentityProvider => (provider.profile.parameters(target, subject), target.parameters.as_slice()),
            Hop::ResourceServer { id_jag } => (grant::jwt_bearer(id_jag), [].as_slice()),
        };
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in parameters {
            form.append_pair(name, &value);
        }
        for (name, value) in further {
            form.append_pair(name, value.reveal());
        }
        for (name, value) in &credentials.fields {
            form.append_pair(name, value.reveal());
        }
        let mut headers = vec![
            ("content-type", Secret::new("application/x-www-form-urlencoded".to_owned())),
            ("accept", Secret::new("application/json".to_owned())),
        ];
        headers.extend(credentials.authorization.map(|value| ("authorization", value)));
        if let Some(key) = &client.dpop {
            let proof = ProofTarget { method: "POST", url: url.without_query(), access_token: None, nonce };
            headers.push(("dpop", key.prove(proof, crypto, now)?));
        }
        Some(Callout {
            cluster: self.resource_server().map_or(&provider.token_cluster, |server| &server.cluster).clone(),
            method: "POST",
            url: url.clone(),
            headers,
            body: Secret::new(form.finish()),
            timeout,
            most_bytes: MAX_RESPONSE_BYTES,
        })
    }

    /// Reads the result of the callout: a token for the next hop, or the error. `accepted`: the tokens that this proxy
    /// accepts from callers, which no upstream may get.
    pub fn read(
        &self,
        result: &CalloutResult,
        accepted: &[Accepted<'_>],
        now: UnixTime,
    ) -> Result<Issued, TokenEndpointError> {
        let read = match result {
            CalloutResult::Response(response) => {
                let text = String::from_utf8_lossy(&response.body);
                let is_read = |name: &str| {
                    let members = token_response::MEMBERS.iter().chain(&token_error::MEMBERS);
                    members.chain(self.provider.profile.trace_fields()).any(|member| *member == name)
                };
                let body = json::members(&text, &is_read);
                let secrets = KnownSecrets { request: self, body: body.as_ref() };
                match response.status {
                    200..=299 => token_response::read(secrets, response, accepted, now)
                        .map_err(|unusable| TokenEndpointError::unusable_response(unusable, secrets, response)),
                    _ => Err(token_error::read(secrets, response, now)),
                }
            }
            CalloutResult::Failed(failure) | CalloutResult::ByEnvoy(failure, _) => {
                Err(TokenEndpointError::no_response(*failure).with_words(result.words()))
            }
        };
        read.map_err(|error| self.at_hop(error))
    }

    /// Returns the error as one of this request: an error of the resource authorization server has another meaning.
    pub fn at_hop(&self, error: TokenEndpointError) -> TokenEndpointError {
        match self.resource_server() {
            None => error,
            Some(server) => {
                let is_other_host = !self.provider.issuer.is_host_of(&server.token_endpoint);
                error.of_resource_server(is_other_host)
            }
        }
    }
}
