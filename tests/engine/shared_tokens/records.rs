//! Records in shared memory: secrecy, size, and records that another plugin writes.

use onbehalf_test_support::{
    NOW, SharedMap, TestEngine, alice_day_token, alice_token, answer_with, authorization, configuration, entra_user,
    issued, refused,
};
use serde_json::json;

use super::{exchanges, github, workers};

#[test]
fn shared_memory_is_bounded_and_shows_no_token_and_no_user() {
    let shared = SharedMap::default();
    let [mut engine]: [TestEngine; 1] = workers(&shared);
    let before = shared.names().len();
    for user in 0..1500 {
        let token = entra_user(&format!("user-{user}"));
        authorization(engine.exchange(github(&token), &issued(&format!("issued-for-{user}"))));
    }
    let records = shared.copy();
    assert!(records.len() - before <= 625, "{}", records.len());
    for (name, value) in records {
        assert!(name.starts_with("onbehalf."), "{name}");
        let shows = |text: &[u8]| value.windows(text.len()).any(|window| window == text);
        assert!(name.contains("keys") || !(shows(b"issued-for") || shows(b"Bearer") || shows(b"user-")), "{name}");
    }
}

#[test]
fn token_that_expires_first_is_evicted_from_a_record() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 1});
    let [mut first, mut second]: [TestEngine; 2] = TestEngine::workers(&configuration, &shared);
    let tokens: Vec<String> = (0..17).map(|user| entra_user(&format!("user-{user}"))).collect();
    for (user, token) in tokens.iter().enumerate() {
        let lifetime = if user == 7 { 600 } else { 1200 + user };
        let reply = json!({"access_token": format!("up-{user}"), "token_type": "Bearer", "expires_in": lifetime});
        authorization(first.exchange(github(token), &answer_with(200, &[], &reply)));
    }
    for (user, token) in tokens.iter().enumerate().filter(|(user, _)| *user != 7) {
        assert_eq!(authorization(second.decide(github(token))), format!("Bearer up-{user}"));
    }
    second.send_waiting(github(&tokens[7]));
    assert!(exchanges(&mut second));
    assert_eq!(shared.names().iter().filter(|name| name.contains("tokens")).count(), 1);
}

#[test]
fn forged_records_yield_no_token() {
    let token = alice_token();
    type Change = fn(&mut Vec<u8>);
    let changes: [Change; 6] = [
        Vec::clear,
        |value| value.truncate(value.len() / 2),
        |value| value[0] ^= 1,
        |value| value[20] ^= 1,
        |value| *value.last_mut().unwrap() ^= 1,
        |value| value.splice(0..0, [0xff; 64]).for_each(drop),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let shared = SharedMap::default();
        let [mut first, mut second]: [TestEngine; 2] = workers(&shared);
        authorization(first.exchange(github(&token), &issued("up")));
        shared.overwrite(|name, value| {
            if name.contains("tokens") {
                change(value);
            }
        });
        assert_eq!(authorization(second.exchange(github(&token), &issued("again"))), "Bearer again", "{number}");
    }
}

#[test]
fn record_in_the_place_of_another_yields_no_token() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 4096});
    let [mut first, mut second]: [TestEngine; 2] = TestEngine::workers(&configuration, &shared);
    let users = ["a", "b", "c", "d"].map(entra_user);
    for (number, token) in users.iter().enumerate() {
        authorization(first.exchange(github(token), &issued(&format!("up-{number}"))));
    }
    // Each record holds the content of all records.
    let all: Vec<u8> =
        shared.copy().into_iter().filter(|(name, _)| name.contains("tokens")).flat_map(|(_, value)| value).collect();
    shared.overwrite(|name, value| {
        if name.contains("tokens") {
            value.clone_from(&all);
        }
    });
    for (number, token) in users.iter().enumerate() {
        assert_eq!(authorization(second.decide(github(token))), format!("Bearer up-{number}"));
    }
    // The heads of the entries are exchanged.
    let tags: Vec<Vec<u8>> = entries(&all).iter().map(|entry| entry[..16].to_vec()).collect();
    let moved: Vec<u8> = entries(&all)
        .into_iter()
        .enumerate()
        .flat_map(|(number, entry)| [&tags[(number + 1) % tags.len()], &entry[16..]].concat())
        .collect();
    shared.overwrite(|name, value| {
        if name.contains("tokens") {
            value.clone_from(&moved);
        }
    });
    let [mut third]: [TestEngine; 1] = TestEngine::workers(&configuration, &shared);
    for token in &users {
        assert_eq!(authorization(third.exchange(github(token), &issued("again"))), "Bearer again");
    }
}

#[test]
fn exchanged_heads_of_entries_in_a_record_yield_no_token() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 1});
    let [mut first, mut second]: [TestEngine; 2] = TestEngine::workers(&configuration, &shared);
    let users = ["a", "b"].map(entra_user);
    for (number, token) in users.iter().enumerate() {
        authorization(first.exchange(github(token), &issued(&format!("up-{number}"))));
    }
    shared.overwrite(|name, value| {
        if name.contains("tokens") {
            let [one, other] = <[Vec<u8>; 2]>::try_from(entries(value)).unwrap();
            *value = [&other[..16], &one[16..], &one[..16], &other[16..]].concat();
        }
    });
    for token in &users {
        assert_eq!(authorization(second.exchange(github(token), &issued("again"))), "Bearer again");
    }
}

/// The entries of a record: a tag of 16 octets, four octets of time, four of length, and the content.
fn entries(mut record: &[u8]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    while !record.is_empty() {
        let length = u32::from_le_bytes(record[20..24].try_into().unwrap()) as usize;
        entries.push(record[..24 + length].to_vec());
        record = &record[24 + length..];
    }
    entries
}

#[test]
fn workers_with_another_secret_or_configuration_share_no_tokens() {
    let shared = SharedMap::default();
    let [mut first]: [TestEngine; 1] = workers(&shared);
    let token = alice_token();
    authorization(first.exchange(github(&token), &issued("up")));
    let mut secret = configuration();
    secret["identity_providers"]["entra-us"]["client"]["authentication"]["secret"] = json!({"inline": "another"});
    let mut target = configuration();
    target["resources"][0]["exchange"]["entra-us"]["resource"] = json!("api://another");
    for other in [secret, target] {
        let [mut second]: [TestEngine; 1] = TestEngine::workers(&other, &shared);
        second.send_waiting(github(&token));
        assert!(exchanges(&mut second));
    }
    let [mut same]: [TestEngine; 1] = workers(&shared);
    assert_eq!(authorization(same.decide(github(&token))), "Bearer up");
}

#[test]
fn record_from_a_clock_ahead_is_ignored() {
    let shared = SharedMap::default();
    let [mut ahead, mut right]: [TestEngine; 2] = workers(&shared);
    let token = alice_day_token();
    ahead.advance(3600);
    authorization(ahead.exchange(github(&token), &issued("up")));
    right.send_waiting(github(&token));
    assert!(exchanges(&mut right));
}

#[test]
fn junk_in_a_record_is_evicted_first() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 1});
    let [mut first, mut second]: [TestEngine; 2] = TestEngine::workers(&configuration, &shared);
    authorization(first.exchange(github(&entra_user("a")), &issued("up-a")));
    let far = u32::try_from(NOW.secs() + 7 * 86_400).unwrap().to_le_bytes();
    shared.overwrite(|name, value| {
        for number in 0..15_u8 {
            if name.contains("tokens") {
                value.extend([&[number; 16][..], &far, &40_u32.to_le_bytes(), &[7; 40]].concat());
            }
        }
    });
    for user in ["b", "c", "d"] {
        authorization(first.exchange(github(&entra_user(user)), &issued(&format!("up-{user}"))));
    }
    for user in ["a", "b", "c", "d"] {
        assert_eq!(authorization(second.decide(github(&entra_user(user)))), format!("Bearer up-{user}"));
    }
}

#[test]
fn users_in_one_record_have_their_own_tokens() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 1});
    let [mut first, mut second, mut third]: [TestEngine; 3] = TestEngine::workers(&configuration, &shared);
    let users: Vec<String> = (0..16).map(|user| entra_user(&format!("user-{user}"))).collect();
    // One record holds all users, half of them with a refusal.
    for (user, token) in users.iter().enumerate() {
        let denied = answer_with(400, &[], &json!({"error": "access_denied"}));
        drop(first.exchange(github(token), &if user % 2 == 0 { issued(&format!("up-{user}")) } else { denied }));
    }
    assert_eq!(shared.names().iter().filter(|name| name.contains("tokens")).count(), 1);
    let found = |engine: &mut TestEngine, user: usize| match user % 2 {
        0 => assert_eq!(authorization(engine.decide(github(&users[user]))), format!("Bearer up-{user}")),
        _ => assert_eq!(refused(engine.decide(github(&users[user]))).1, "exchange_denied"),
    };
    (0..16).for_each(|user| found(&mut second, user));
    // An entry under an equal tag is still no other user's token: it is bound to its place, and its key to the subject
    // token.
    shared.overwrite(|name, value| {
        if name.contains("tokens") {
            let all = entries(value);
            let swap = |number: usize| [&all[number ^ 2][..16], &all[number][16..]].concat();
            *value = (0..all.len()).flat_map(swap).collect();
        }
    });
    for token in &users {
        third.send_waiting(github(token));
        assert!(exchanges(&mut third));
    }
}

#[test]
fn records_that_vanish_or_return_yield_no_other_users_token() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 1});
    let [mut first, mut second, mut third, mut fourth]: [TestEngine; 4] = TestEngine::workers(&configuration, &shared);
    let token = alice_token();
    let erase = || {
        shared.overwrite(|name, value| {
            if name.contains("tokens") {
                value.clear();
            }
        });
    };
    // A lost lease: both workers exchange, and each request gets the token of its worker.
    first.send_waiting(github(&token));
    erase();
    second.send_waiting(github(&token));
    let replies = [(&mut first, "one"), (&mut second, "two")].map(|(engine, issue)| {
        let (flight, _) = engine.expect_call();
        engine
            .callout_result(flight, &issued(issue))
            .into_iter()
            .map(|(_, step)| authorization(step))
            .collect::<Vec<_>>()
    });
    assert_eq!(replies, [["Bearer one"], ["Bearer two"]]);
    // A lost token: the worker that has it keeps it.
    erase();
    assert_eq!(authorization(first.decide(github(&token))), "Bearer one");
    // A restored record is valid at most until its own expiry, and for its own user.
    let of_before = shared.copy();
    let short = answer_with(200, &[], &json!({"access_token": "short", "token_type": "Bearer", "expires_in": 600}));
    authorization(first.exchange(github(&entra_user("carol")), &short));
    let with_carol = shared.copy();
    shared.put_back(&of_before);
    second.send_waiting(github(&entra_user("carol")));
    assert!(exchanges(&mut second));
    shared.put_back(&with_carol);
    assert_eq!(authorization(third.decide(github(&entra_user("carol")))), "Bearer short");
    fourth.advance(570);
    fourth.send_waiting(github(&entra_user("carol")));
    assert!(exchanges(&mut fourth));
}
