//! Write conflicts: another worker changes a record between a read and a write.

use onbehalf::crypto::Software;
use onbehalf::engine::Engine;
use onbehalf::shared::{CasVersion, SharedData};
use onbehalf_test_support::{
    SharedMap, TestEngine, alice_token, authorization, configuration, entra_user, issued, parse,
};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{github, workers};

/// Shared memory in which another writer wins a number of conflicts.
#[derive(Clone)]
struct Contested {
    map: SharedMap,
    lost: Rc<Cell<u32>>,
    meanwhile: Rc<Meanwhile>,
}

/// The write of the other writer to the record of a name.
type Meanwhile = dyn Fn(&SharedMap, &str);

impl Contested {
    fn new(map: &SharedMap, meanwhile: impl Fn(&SharedMap, &str) + 'static) -> Self {
        Self { map: map.clone(), lost: Rc::default(), meanwhile: Rc::new(meanwhile) }
    }

    fn worker(&self, configuration: &Value) -> TestEngine {
        TestEngine::from_engine(Engine::new(parse(configuration), Box::new(Software), Box::new(self.clone())))
            .with_keys()
    }
}

impl SharedData for Contested {
    fn get(&self, name: &str) -> (Option<Vec<u8>>, CasVersion) {
        self.map.get(name)
    }

    fn put(&self, name: &str, value: &[u8], version: CasVersion) -> bool {
        if name.contains("tokens") && self.lost.get() > 0 {
            self.lost.set(self.lost.get() - 1);
            (self.meanwhile)(&self.map, name);
            assert!(!self.map.put(name, value, version), "somebody was quicker");
            return false;
        }
        self.map.put(name, value, version)
    }

    fn enqueue(&self, queue: u32, message: &[u8]) -> bool {
        self.map.enqueue(queue, message)
    }
}

/// Writes the value of a record again, or an empty record.
fn touch(map: &SharedMap, name: &str) {
    let (value, version) = map.get(name);
    assert!(map.put(name, &value.unwrap_or_default(), version));
}

#[test]
fn write_conflict_in_any_attempt_loses_no_token() {
    let token = alice_token();
    for lost in [1, 2, 31, 32, 33, u32::MAX] {
        let shared = SharedMap::default();
        let contested = Contested::new(&shared, touch);
        let mut engine = contested.worker(&configuration());
        contested.lost.set(lost);
        engine.send_waiting(github(&token));
        let (flight, _) = engine.expect_call();
        contested.lost.set(lost);
        let steps = engine.callout_result(flight, &issued("up"));
        assert_eq!(authorization(steps.into_iter().next().unwrap().1), "Bearer up", "{lost}");
        assert_eq!(authorization(engine.decide(github(&token))), "Bearer up", "{lost}");
        engine.expect_no_call();
        // A worker shares its token with the last of its attempts. With more conflicts, each worker has its own token.
        let [mut other]: [TestEngine; 1] = workers(&shared);
        match lost {
            ..32 => assert_eq!(authorization(other.decide(github(&token))), "Bearer up", "{lost}"),
            _ => assert_eq!(authorization(other.exchange(github(&token), &issued("again"))), "Bearer again", "{lost}"),
        }
    }
}

#[test]
fn write_conflict_with_other_users_loses_none_of_their_tokens() {
    let shared = SharedMap::default();
    let mut configuration = configuration();
    configuration["cache"] = json!({"shared_tokens": 1});
    let [other]: [TestEngine; 1] = TestEngine::workers(&configuration, &shared);
    let other = Rc::new(RefCell::new((other, 0)));
    let meanwhile = {
        let other = Rc::clone(&other);
        move |_: &SharedMap, _: &str| {
            let (engine, user) = &mut *other.borrow_mut();
            *user += 1;
            authorization(engine.exchange(github(&entra_user(&format!("u{user}"))), &issued(&format!("up-{user}"))));
        }
    };
    let contested = Contested::new(&shared, meanwhile);
    let mut engine = contested.worker(&configuration);
    let token = alice_token();
    contested.lost.set(3);
    engine.send_waiting(github(&token));
    let (flight, _) = engine.expect_call();
    contested.lost.set(3);
    engine.callout_result(flight, &issued("up"));
    let [mut third]: [TestEngine; 1] = TestEngine::workers(&configuration, &shared);
    assert_eq!(authorization(third.decide(github(&token))), "Bearer up");
    assert_eq!(other.borrow().1, 6);
    for user in 1..=6 {
        assert_eq!(authorization(third.decide(github(&entra_user(&format!("u{user}"))))), format!("Bearer up-{user}"));
    }
}

#[test]
fn worker_that_loses_the_lease_uses_the_token_of_the_winner() {
    let shared = SharedMap::default();
    let [other]: [TestEngine; 1] = workers(&shared);
    let other = Rc::new(RefCell::new(other));
    let token = alice_token();
    let meanwhile = {
        let (other, token) = (Rc::clone(&other), token.clone());
        move |_: &SharedMap, _: &str| {
            other.borrow_mut().send_waiting(github(&token));
        }
    };
    let contested = Contested::new(&shared, meanwhile);
    let mut engine = contested.worker(&configuration());
    contested.lost.set(1);
    let id = engine.send_waiting(github(&token));
    engine.expect_no_call();
    let (flight, _) = other.borrow_mut().expect_call();
    other.borrow_mut().callout_result(flight, &issued("up"));
    let mut steps = engine.tick();
    assert_eq!(steps.len(), 1);
    let (answered, step) = steps.remove(0);
    assert_eq!((answered, authorization(step)), (id, "Bearer up".to_owned()));
    engine.expect_no_call();
}
