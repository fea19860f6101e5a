//! Attacks 14 to 17: times, audiences, issuers and scopes.

use onbehalf_test_support::{
    ENTRA_KEY, NOW, OKTA_KEY, TestEngine, alice, alice_token, bearer, bob, configuration, entra_user, key_set, refused,
    with,
};
use serde_json::{Value, json};

use super::{header, outcome_of, reason_of_401};

/// A token whose claim `name` has this JSON text.
fn with_number(name: &str, text: &str) -> String {
    let claims = with(alice(), json!({"iat": null, "nbf": null, name: "HERE"})).to_string();
    ENTRA_KEY.sign_bytes(header(json!({})).to_string(), claims.replace("\"HERE\"", text))
}

#[test]
fn time_claims_are_numbers_in_any_json_notation() {
    let now = NOW.secs();
    for name in ["exp", "nbf", "iat"] {
        for text in [
            "true",
            "\"\"",
            &format!("\"{}\"", now),
            "\"1e10\"",
            "[]",
            "{}",
            &format!("[{now}]"),
            "9007199254740994",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1e300",
        ] {
            assert_eq!(
                reason_of_401(&mut TestEngine::ready(), &with_number(name, text)),
                "invalid_claims",
                "{name} {text}"
            );
        }
        for text in ["1e400", "NaN", "+1", "01", "0x10"] {
            assert_eq!(
                reason_of_401(&mut TestEngine::ready(), &with_number(name, text)),
                "malformed_token",
                "{name} {text}"
            );
        }
    }
    for text in ["1e10", "1.0E+10", "10000000000.0", "10000000000.75", "9007199254740992", "100000e5", "1801000000.5"] {
        assert_eq!(outcome_of(&mut TestEngine::ready(), &with_number("exp", text)), "exchanged", "{text}");
    }
    for text in ["0", "-0", "0e999", "1e-300", "1.9e3", "1", "-1", "-0.5", "-1e300"] {
        assert_eq!(reason_of_401(&mut TestEngine::ready(), &with_number("exp", text)), "expired", "{text}");
        for name in ["nbf", "iat"] {
            assert_eq!(outcome_of(&mut TestEngine::ready(), &with_number(name, text)), "exchanged", "{name} {text}");
        }
    }
    for text in ["1e10", "9007199254740992"] {
        assert_eq!(reason_of_401(&mut TestEngine::ready(), &with_number("nbf", text)), "not_yet_valid", "{text}");
        assert_eq!(reason_of_401(&mut TestEngine::ready(), &with_number("iat", text)), "not_yet_valid", "{text}");
    }
}

#[test]
fn claim_that_is_null_counts_as_absent() {
    let null = |name: &str| outcome_of(&mut TestEngine::ready(), &with_number(name, "null"));
    for name in ["nbf", "iat", "sub", "cnf", "may_act", "scope", "xms_cc", "nonce", "idtyp", "azp"] {
        assert_eq!(null(name), "exchanged", "{name}");
    }
    // A claim that is required is missing then. `oid` and `tid` name the user in Entra's tokens.
    for name in ["exp", "aud", "oid", "tid"] {
        assert_eq!(null(name), "invalid_claims", "{name}");
    }
    assert_eq!(null("iss"), "unknown_issuer");
    assert_eq!(null("scp"), "not_a_user_token");
    let okta = |name: &str| {
        let claims = with(bob(), json!({name: "HERE"})).to_string();
        let header = json!({"alg": "ES256", "kid": OKTA_KEY.kid}).to_string();
        outcome_of(&mut TestEngine::ready(), &OKTA_KEY.sign_bytes(header, claims.replace("\"HERE\"", "null")))
    };
    assert_eq!([okta("uid"), okta("cid")], ["not_a_user_token", "id_token_as_access_token"]);
    // Members of `cnf` are claims too. A `cnf` without any is a constraint that no sender meets.
    for text in [r#"{"jkt":null}"#, r#"{"x5t#S256":null}"#, r#"{"jkt":null,"x5t#S256":null,"kid":"k"}"#] {
        assert_eq!(
            reason_of_401(&mut TestEngine::ready(), &with_number("cnf", text)),
            "sender_constrained_token",
            "{text}"
        );
    }
}

#[test]
fn token_expires_at_the_instant_of_exp() {
    for leeway in [0, 1, 60, 300] {
        let mut configuration = configuration();
        configuration["identity_providers"]["entra-us"]["clock_skew_seconds"] = json!(leeway);
        let at = |offset: i64| NOW.secs().checked_add_signed(offset).unwrap();
        let of = |name: &str, offset: i64| {
            let claims = with(alice(), json!({"iat": null, "nbf": null}));
            let mut engine = TestEngine::new(&configuration).with_keys();
            outcome_of(&mut engine, &ENTRA_KEY.token(&with(claims, json!({name: at(offset)}))))
        };
        assert_eq!(of("exp", -leeway - 1), "expired", "{leeway}");
        assert_eq!(of("exp", -leeway), "expired", "{leeway}");
        assert_eq!(of("exp", -leeway + 1), "exchanged", "{leeway}");
        for name in ["nbf", "iat"] {
            assert_eq!(of(name, leeway - 1), "exchanged", "{name} {leeway}");
            assert_eq!(of(name, leeway), "exchanged", "{name} {leeway}");
            assert_eq!(of(name, leeway + 1), "not_yet_valid", "{name} {leeway}");
        }
    }
}

#[test]
fn expired_token_stays_refused_when_the_clock_goes_back() {
    let mut engine = TestEngine::ready();
    let token = alice_token();
    assert_eq!(outcome_of(&mut engine, &token), "exchanged");
    engine.now = NOW.minus(std::time::Duration::from_secs(3600));
    engine.tick();
    engine.serve_keys();
    // The cache does not check `nbf` again for a verified token, but a new token is checked.
    assert_eq!(outcome_of(&mut engine, &entra_user("carol")), "not_yet_valid");
    engine.now = NOW.plus(std::time::Duration::from_secs(3660));
    engine.tick();
    engine.serve_keys();
    assert_eq!(outcome_of(&mut engine, &token), "expired");
    assert_eq!(outcome_of(&mut engine, &token), "expired");
}

#[test]
fn audience_matches_as_a_whole_or_not_at_all() {
    for audience in [
        json!(""),
        json!("api://gatewa"),
        json!("pi://gateway"),
        json!("api://gateway.evil"),
        json!("api://gateway/"),
        json!("api://gateway/mcp"),
        json!("api://gateway?"),
        json!("api://gateway#"),
        json!("api://gateway "),
        json!(" api://gateway"),
        json!("api://gateway\0"),
        json!("api://Gateway"),
        json!("API://GATEWAY"),
        json!("api:/gateway"),
        json!("gateway"),
        json!("api://%67ateway"),
        json!("api://gateway gateway-id"),
        json!("api://gateway,gateway-id"),
        json!("https://api://gateway@evil.example"),
        json!("api://g\u{430}teway"),
        json!("*"),
        json!([]),
        json!([""]),
        json!(["other", "api://gateway/"]),
        json!("https://graph.microsoft.com"),
        json!(["https://graph.microsoft.com", "api://gateway"]),
        json!("00000003-0000-0000-c000-000000000000"),
        // The issuer of the other configured provider.
        json!("api://default"),
    ] {
        let token = ENTRA_KEY.token(&with(alice(), json!({"aud": audience})));
        assert_eq!(reason_of_401(&mut TestEngine::ready(), &token), "wrong_audience", "{audience}");
    }
    for audience in [
        json!(1),
        json!(true),
        json!({"aud": "api://gateway"}),
        json!(["api://gateway", 1]),
        json!([1, "api://gateway"]),
        json!(["api://gateway", null]),
        json!([["api://gateway"]]),
        json!([{}]),
    ] {
        let token = ENTRA_KEY.token(&with(alice(), json!({"aud": audience})));
        assert_eq!(reason_of_401(&mut TestEngine::ready(), &token), "invalid_claims", "{audience}");
    }
    for audience in [json!("gateway-id"), json!(["api://gateway"]), json!(["other", "api://gateway", "third"])] {
        let token = ENTRA_KEY.token(&with(alice(), json!({"aud": audience})));
        assert_eq!(outcome_of(&mut TestEngine::ready(), &token), "exchanged", "{audience}");
    }
}

#[test]
fn issuer_that_only_resolves_to_ours_is_refused() {
    const LOGIN: &str = "https://login.microsoftonline.com";
    const STS: &str = "https://sts.windows.net";
    const HOME: &str = "5f0c7a4e-9a0f-4c3e-8f5d-2b7f6f1f0c11";
    /// The tenant of personal Microsoft accounts.
    const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
    let set: Value = serde_json::from_slice(&key_set(&[&ENTRA_KEY])).unwrap();
    let provider = |issuer: String, more: Value| {
        let mut configuration = configuration();
        let entra =
            json!({"issuer": issuer, "jwks": set, "token_endpoint": format!("{LOGIN}/{HOME}/oauth2/v2.0/token")});
        let own = configuration["identity_providers"]["entra-us"].clone();
        configuration["identity_providers"]["entra-us"] = with(with(own, entra), more);
        TestEngine::new(&configuration)
    };
    let of = |issuer: &str, tid: &str| ENTRA_KEY.token(&with(alice(), json!({"iss": issuer, "tid": tid, "ver": null})));
    for several in [false, true] {
        let mut engine = match several {
            false => provider(format!("{LOGIN}/{HOME}/v2.0"), json!({})),
            true => provider(format!("{LOGIN}/{{tenantid}}/v2.0"), json!({"tenants": [HOME]})),
        };
        let mut given = |issuer: &str, tid: &str| outcome_of(&mut engine, &of(issuer, tid));
        assert_eq!(given(&format!("{LOGIN}/{HOME}/v2.0"), HOME), "exchanged");
        assert_eq!(given(&format!("{STS}/{HOME}/"), HOME), "exchanged");
        assert_eq!(given(&format!("{LOGIN}/{CONSUMERS}/v2.0"), CONSUMERS), "wrong_tenant");
        assert_eq!(given(&format!("{STS}/{CONSUMERS}/"), CONSUMERS), "wrong_tenant");
        assert_eq!(given(&format!("{LOGIN}/{CONSUMERS}/v2.0"), HOME), "invalid_claims");
        assert_eq!(given(&format!("{LOGIN}/{HOME}/v2.0"), CONSUMERS), "invalid_claims");
        for tenant in ["consumers", "organizations", "common", "{tenantid}", "{tenantId}", "contoso.com", "%35f0c7a4e"]
        {
            assert_eq!(given(&format!("{LOGIN}/{tenant}/v2.0"), tenant), "unknown_issuer", "{tenant}");
            assert_eq!(given(&format!("{STS}/{tenant}/"), tenant), "unknown_issuer", "{tenant}");
        }
        for issuer in [
            format!("{LOGIN}/{HOME}/v2.0/"),
            format!("{LOGIN}/{HOME}/v2.0?"),
            format!("{LOGIN}/{HOME}/v2.0#"),
            format!("{LOGIN}/{HOME}/v1.0"),
            format!("{LOGIN}/{HOME}/V2.0"),
            format!("{LOGIN}/{HOME}/"),
            format!("{LOGIN}/{HOME}"),
            format!("{LOGIN}/{HOME}/v2.0\0"),
            format!(" {LOGIN}/{HOME}/v2.0"),
            format!("{LOGIN}//{HOME}/v2.0"),
            format!("{LOGIN}/x/../{HOME}/v2.0"),
            format!("{LOGIN}/{HOME}%2Fv2.0"),
            format!("{LOGIN}:443/{HOME}/v2.0"),
            format!("{}/{HOME}/v2.0", LOGIN.to_uppercase()),
            format!("{}/{HOME}/v2.0", LOGIN.replace("https", "http")),
            format!("{LOGIN}/{}/v2.0", HOME.to_uppercase()),
            format!("https://login.microsoftonline.com@evil.example/{HOME}/v2.0"),
            format!("https://evil.example/{LOGIN}/{HOME}/v2.0"),
            format!("https://evil.example#{LOGIN}/{HOME}/v2.0"),
            format!("{LOGIN}.evil.example/{HOME}/v2.0"),
            format!("https://login%2Emicrosoftonline.com/{HOME}/v2.0"),
            format!("https://login.microsoftonline.us/{HOME}/v2.0"),
            format!("{STS}/{HOME}"),
            format!("{STS}/{HOME}/v2.0"),
            format!("{STS}@evil.example/{HOME}/"),
            format!("http://sts.windows.net/{HOME}/"),
        ] {
            assert_eq!(given(&issuer, HOME), "unknown_issuer", "{issuer}");
        }
    }
}

#[test]
fn claims_of_wrong_types_grant_nothing() {
    let with_claims = |changes: Value| ENTRA_KEY.token(&with(alice(), changes));
    for scopes in [
        json!("mcp.read\tmcp.write"),
        json!("x\nmcp.read"),
        json!("mcp.read,mcp.write"),
        json!("mcp.read\u{a0}x"),
        json!("\tmcp.read"),
        json!("MCP.READ"),
        json!("mcp.rea"),
        json!("mcp.read.all"),
        json!("*"),
        json!(""),
        json!(" "),
        json!([]),
        json!(["mcp.read mcp.write"]),
        json!(["", "mcp.write"]),
        json!(1),
        json!(true),
        json!({"mcp.read": true}),
        json!(["mcp.read", 1]),
        json!([["mcp.read"]]),
    ] {
        let step = TestEngine::ready().decide(bearer("/github", &with_claims(json!({"scp": scopes}))));
        assert_eq!(refused(step), (403, "insufficient_scope".to_owned()), "{scopes}");
    }
    for scopes in [json!("mcp.read  mcp.write"), json!("  mcp.read "), json!(["mcp.read", "x"])] {
        assert_eq!(outcome_of(&mut TestEngine::ready(), &with_claims(json!({"scp": scopes}))), "exchanged", "{scopes}");
    }
    for both in [json!({"scp": "mcp.write", "scope": "mcp.read"}), json!({"scp": [], "scope": "mcp.read"})] {
        assert_eq!(outcome_of(&mut TestEngine::ready(), &with_claims(both.clone())), "exchanged", "{both}");
    }
    // Roles and groups are no scopes, whatever their type. Groups that are left out for their number change nothing.
    for more in [
        json!({"roles": "mcp.read"}),
        json!({"roles": ["mcp.read"]}),
        json!({"groups": ["mcp.read"]}),
        json!({"wids": "mcp.read"}),
        json!({"hasgroups": true}),
        json!({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://evil.example/g"}}}),
    ] {
        let without = with_claims(with(more.clone(), json!({"scp": "mcp.write"})));
        assert_eq!(refused(TestEngine::ready().decide(bearer("/github", &without))).1, "insufficient_scope", "{more}");
        assert_eq!(outcome_of(&mut TestEngine::ready(), &with_claims(more.clone())), "exchanged", "{more}");
    }
    for cnf in [json!({}), json!({"jkt": "k"}), json!({"x5t#S256": "c"}), json!({"kid": "k"}), json!({"jwk": {}})] {
        assert_eq!(
            reason_of_401(&mut TestEngine::ready(), &with_claims(json!({"cnf": cnf}))),
            "sender_constrained_token",
            "{cnf}"
        );
    }
    for cnf in [json!("jkt"), json!([]), json!({"jkt": 1}), json!(1), json!(true)] {
        assert_eq!(
            reason_of_401(&mut TestEngine::ready(), &with_claims(json!({"cnf": cnf}))),
            "invalid_claims",
            "{cnf}"
        );
    }
}
