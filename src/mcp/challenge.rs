//! `WWW-Authenticate` (RFC 6750 section 3, RFC 9449 section 7.1, RFC 9728 section 5.1). Every value is a quoted string.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::metadata;
use crate::config::{Bound, Resource};
use crate::token::dpop;

/// How a token is presented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 6750.
    #[default]
    Bearer,
    /// RFC 9449.
    Dpop,
}

impl Scheme {
    /// Its name in `Authorization` and `WWW-Authenticate`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::Dpop => "DPoP",
        }
    }
}

/// What was wrong with what was presented.
pub struct Problem<'a> {
    /// `error`.
    pub error: &'a str,
    /// `error_description`.
    pub description: &'a str,
    /// What a token must claim beside what it does: JSON text, sent in standard base64.
    pub claims: Option<&'a str>,
    /// How it was presented: it is this challenge that says what was wrong.
    pub scheme: Scheme,
}

/// A challenge for each way in which the resource takes tokens: where to get one, and what was wrong, if there was one.
pub fn challenges(resource: &Resource, problem: Option<&Problem<'_>>) -> Vec<String> {
    let schemes: &[Scheme] = match resource.dpop.mode {
        Bound::Off => &[Scheme::Bearer],
        Bound::Optional => &[Scheme::Bearer, Scheme::Dpop],
        Bound::Required => &[Scheme::Dpop],
    };
    let blamed =
        |scheme: Scheme| problem.filter(|problem| problem.scheme == scheme || !schemes.contains(&problem.scheme));
    schemes.iter().map(|scheme| challenge(resource, *scheme, blamed(*scheme))).collect()
}

fn challenge(resource: &Resource, scheme: Scheme, problem: Option<&Problem<'_>>) -> String {
    let mut parameters = Vec::new();
    if let Some(problem) = problem {
        parameters.push(("error", problem.error.to_owned()));
        parameters.push(("error_description", problem.description.to_owned()));
    }
    if scheme == Scheme::Dpop {
        parameters.push(("algs", dpop::ALGORITHMS.join(" ")));
    }
    parameters.push(("resource_metadata", metadata::url(resource)));
    if !resource.scopes_supported.is_empty() {
        parameters.push(("scope", resource.scopes_supported.join(" ")));
    }
    if let Some(claims) = problem.and_then(|problem| problem.claims) {
        parameters.push(("claims", BASE64_STANDARD.encode(claims)));
    }
    let parameters: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    format!("{} {}", scheme.name(), parameters.join(", "))
}
