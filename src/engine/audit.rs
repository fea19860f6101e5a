//! Who, what and how it ended: what is said of a refusal, of an exchange, and of a request that went on.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::cache::verified_tokens::VerifiedToken;
use crate::config::Config;
use crate::provider::Provider;
use crate::telemetry::{CacheOutcome, CallerFacts, Fact, Record, SubjectDisplay, record};

/// What a decision has found out about a request.
#[derive(Default)]
pub(super) struct AuditContext {
    pub(super) resource: Option<usize>,
    /// Whose token it is. Nobody's, until its signature is verified.
    pub(super) caller: Option<Rc<VerifiedToken>>,
    pub(super) cache: Option<CacheOutcome>,
}

impl AuditContext {
    /// Whether the token goes on to its resource for the first time, as far as this worker remembers.
    pub(super) fn is_first(&self) -> bool {
        let caller = self.caller.as_ref().zip(self.resource);
        caller.is_some_and(|(caller, resource)| caller.is_first_at(resource))
    }

    /// Who is calling what: the same for each request with that token, and made once.
    pub(super) fn caller_facts(&self, config: &Config) -> Option<CallerFacts> {
        let (caller, index) = self.caller.as_ref().zip(self.resource)?;
        let provider = config.providers.get(caller.provider)?;
        let resource = config.resources.get(index)?;
        let facts = || {
            let mut facts: Vec<(Fact, Rc<str>)> = Vec::with_capacity(8);
            // Each is a hostcall for each request: what no filter decides by is for the access log only.
            if config.audit.hits {
                facts.push((Fact::Event, "forwarded".into()));
                facts.push((Fact::Cache, CacheOutcome::Hit.label().into()));
                let issuer = caller.issuer.clone().unwrap_or_else(|| provider.issuer.shared());
                facts.push((Fact::Issuer, record::shared_value(issuer)));
            }
            facts.push((Fact::Resource, record::shared_value(resource.url.shared())));
            facts.push((Fact::Provider, record::shared_value(provider.name.clone())));
            let of_caller = [
                (Fact::Subject, subject(config, caller, provider)),
                (Fact::Client, client(config, caller, provider)),
                (Fact::Tenant, caller.caller.tenant.as_deref().map(Cow::from)),
            ];
            for (fact, text) in of_caller {
                facts.extend(text.filter(|text| !text.is_empty()).map(|text| (fact, record::value(&text))));
            }
            facts.into()
        };
        Some(caller.facts_at(index, facts))
    }

    /// Who and what, behind how it ended: the first facts of the record.
    pub(super) fn record(&self, config: &Config, ending: &[(Fact, &str)], took: Duration) -> Record {
        let mut record = Record::default();
        for (fact, value) in ending {
            record.add(*fact, value);
        }
        let resource = self.resource.and_then(|index| config.resources.get(index));
        record.add(Fact::Resource, resource.map_or("", |resource| resource.url.as_str()));
        if let Some(caller) = &self.caller
            && let Some(provider) = config.providers.get(caller.provider)
        {
            record.add(Fact::Provider, &provider.name);
            record.add(Fact::Issuer, issuer(caller, provider));
            record.add(Fact::Subject, &subject(config, caller, provider).unwrap_or_default());
            record.add(Fact::Client, &client(config, caller, provider).unwrap_or_default());
            record.add(Fact::Tenant, caller.caller.tenant.as_deref().unwrap_or_default());
            let target = resource.and_then(|resource| resource.targets.get(caller.provider)?.as_ref());
            record.add(Fact::Scopes, target.and_then(|target| target.scope.as_deref()).unwrap_or_default());
        }
        record.add(Fact::Cache, self.cache.map_or("", CacheOutcome::label));
        record.add(Fact::LatencyMs, &took.as_millis().to_string());
        record
    }
}

fn issuer<'a>(caller: &'a VerifiedToken, provider: &'a Provider) -> &'a str {
    caller.issuer.as_deref().unwrap_or(provider.issuer.as_str())
}

/// The user, as the operator wants users to be shown. Filters decide by it, so it is never cut: a digest stands for one that
/// is too long.
fn subject<'a>(config: &Config, caller: &'a VerifiedToken, provider: &Provider) -> Option<Cow<'a, str>> {
    let user = caller.caller.user.as_str();
    match config.audit.subjects {
        SubjectDisplay::None => None,
        SubjectDisplay::Plain => Some(whole(config, "audit subject", caller, provider, user)),
        SubjectDisplay::Hashed => Some(digest(config, "audit subject", issuer(caller, provider), user).into()),
    }
}

/// The application, which is never cut either.
fn client<'a>(config: &Config, caller: &'a VerifiedToken, provider: &Provider) -> Option<Cow<'a, str>> {
    let client = caller.caller.client.as_deref()?;
    Some(whole(config, "audit client", caller, provider, client))
}

/// A digest that stands for a name begins so.
const DIGEST: &str = "digest~";

/// A name, or a digest where it is too long. A name that looks like such a digest gives way to one, too: it could be another's.
fn whole<'a>(config: &Config, of: &str, caller: &VerifiedToken, provider: &Provider, name: &'a str) -> Cow<'a, str> {
    if record::is_whole(name) && !name.starts_with(DIGEST) {
        return name.into();
    }
    [DIGEST, &digest(config, of, issuer(caller, provider), name)].concat().into()
}

/// The same for the same name, and nothing by which those without a secret of the configuration could try names.
fn digest(config: &Config, of: &str, issuer: &str, name: &str) -> String {
    let code = config.shared_key.code(&[of, issuer, name].map(str::as_bytes));
    BASE64_URL_SAFE_NO_PAD.encode(code.first_chunk::<16>().unwrap_or(&[0; 16]))
}
