//! Audit: records and filter state of refusals, exchanges and forwarded requests.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::cache::verified_tokens::VerifiedToken;
use crate::config::Config;
use crate::refusal::{Refusal, log_at};
use crate::resource::{Resource, SlashForm};
use crate::telemetry::{CacheOutcome, CallerFacts, Fact, Record, SubjectDisplay, record};

/// Audit context of a request: what the pipeline has found out so far.
#[derive(Default)]
pub(super) struct AuditContext {
    pub(super) resource: Option<Rc<Resource>>,
    /// Form of the resource's URL that the client uses.
    pub(super) form: SlashForm,
    /// Token of the caller. `None` until its signature is verified.
    pub(super) caller: Option<Rc<VerifiedToken>>,
    pub(super) cache: Option<CacheOutcome>,
}

impl AuditContext {
    /// Returns `true` the first time that the token goes to its resource, as far as this worker remembers.
    pub(super) fn is_first(&self) -> bool {
        let caller = self.caller.as_ref().zip(self.resource.as_ref());
        caller.is_some_and(|(caller, resource)| caller.is_first_at(resource.id))
    }

    /// Filter state of the caller: the same for each request with that token to that resource, and made once.
    pub(super) fn caller_facts(&self, config: &Config) -> Option<CallerFacts> {
        let (caller, resource) = self.caller.as_ref().zip(self.resource.as_ref())?;
        let provider = &caller.provider;
        let facts = || {
            let mut facts: Vec<(Fact, Rc<str>)> = Vec::with_capacity(8);
            // Each fact is a hostcall for each request: a fact that no filter decides by is for the access log only.
            if config.audit.hits {
                facts.push((Fact::Event, "forwarded".into()));
                facts.push((Fact::Cache, CacheOutcome::Hit.label().into()));
                let issuer = caller.issuer.clone().unwrap_or_else(|| provider.issuer.shared());
                facts.push((Fact::Issuer, record::shared_value(issuer)));
            }
            facts.push((Fact::Resource, record::shared_value(resource.url.shared())));
            facts.push((Fact::Provider, record::shared_value(provider.name.clone())));
            let of_caller = [
                (Fact::Subject, subject(config, caller)),
                (Fact::Client, client(config, caller)),
                (Fact::Tenant, caller.identity.tenant.as_deref().map(Cow::from)),
            ];
            for (fact, text) in of_caller {
                facts.extend(text.filter(|text| !text.is_empty()).map(|text| (fact, record::value(&text))));
            }
            facts.into()
        };
        Some(caller.facts_at(resource.id, facts))
    }

    /// Record of a request or an exchange: how it ended, and then who asked for what.
    pub(super) fn record(&self, config: &Config, ending: &[(Fact, &str)], took: Duration) -> Record {
        let mut record = Record::default();
        for (fact, value) in ending {
            record.add(*fact, value);
        }
        record.add(Fact::Resource, self.resource.as_ref().map_or("", |resource| resource.url.as_str()));
        if let Some(caller) = &self.caller {
            record.add(Fact::Provider, &caller.provider.name);
            record.add(Fact::Issuer, issuer(caller));
            record.add(Fact::Subject, &subject(config, caller).unwrap_or_default());
            record.add(Fact::Client, &client(config, caller).unwrap_or_default());
            record.add(Fact::Tenant, caller.identity.tenant.as_deref().unwrap_or_default());
            let exchange = self.resource.as_ref().and_then(|resource| resource.exchange(&caller.provider));
            record.add(
                Fact::Scopes,
                exchange.and_then(|exchange| exchange.target.exchange()?.scope.as_deref()).unwrap_or_default(),
            );
        }
        record.add(Fact::Cache, self.cache.map_or("", CacheOutcome::label));
        record.add(Fact::LatencyMs, &took.as_millis().to_string());
        record
    }
}

/// Record of a token exchange that ended with `outcome`, while that many requests waited for it.
pub(super) fn exchange_record(
    audit: &AuditContext,
    config: &Config,
    outcome: &str,
    waiters: usize,
    took: Duration,
) -> Record {
    let event = if audit.cache == Some(CacheOutcome::Renewed) { "renewed" } else { "exchanged" };
    let mut record = audit.record(config, &[(Fact::Event, event), (Fact::Outcome, outcome)], took);
    record.add(Fact::Waiters, &waiters.to_string());
    record
}

/// Logs a token exchange that failed, or could not start, with `refusal`.
pub(super) fn log_failed_exchange(
    audit: &AuditContext,
    config: &Config,
    refusal: &Refusal,
    waiters: usize,
    took: Duration,
) {
    let mut record = exchange_record(audit, config, refusal.reason.label(), waiters, took);
    record.add_detail(&refusal.detail);
    log_at(refusal.reason, &record);
}

fn issuer(caller: &VerifiedToken) -> &str {
    caller.issuer.as_deref().unwrap_or(caller.provider.issuer.as_str())
}

/// Subject, in the form that `audit.subjects` selects. Filters decide by it, so it is never cut: a digest stands for one
/// that is too long.
fn subject<'a>(config: &Config, caller: &'a VerifiedToken) -> Option<Cow<'a, str>> {
    let user = caller.identity.user.as_str();
    match config.audit.subjects {
        SubjectDisplay::None => None,
        SubjectDisplay::Plain => Some(whole(config, "audit subject", caller, user)),
        SubjectDisplay::Hashed => Some(digest(config, "audit subject", issuer(caller), user).into()),
    }
}

/// Client, which is never cut either.
fn client<'a>(config: &Config, caller: &'a VerifiedToken) -> Option<Cow<'a, str>> {
    let client = caller.identity.client.as_deref()?;
    Some(whole(config, "audit client", caller, client))
}

/// Prefix of a digest that stands for a name.
const DIGEST: &str = "digest~";

/// Name, or a digest where it is too long. A name with the prefix of a digest is replaced, too: it could be the digest of
/// another name.
fn whole<'a>(config: &Config, of: &str, caller: &VerifiedToken, name: &'a str) -> Cow<'a, str> {
    if record::is_whole(name) && !name.starts_with(DIGEST) {
        return name.into();
    }
    [DIGEST, &digest(config, of, issuer(caller), name)].concat().into()
}

/// Keyed digest of a name: the same for the same name. Only holders of the configured secrets can try names against it.
fn digest(config: &Config, of: &str, issuer: &str, name: &str) -> String {
    let code = config.shared_key.mac(&[of, issuer, name].map(str::as_bytes));
    BASE64_URL_SAFE_NO_PAD.encode(code.first_chunk::<16>().unwrap_or(&[0; 16]))
}
