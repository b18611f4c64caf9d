use serde_json::{Value, json};

use super::log::form;
use super::{Fault, Faults};

fn added(faults: &Faults, fault: Value) -> Fault {
    faults.add(serde_json::from_value(fault).unwrap()).unwrap()
}

#[test]
fn the_oldest_matching_fault_strikes_as_often_as_it_says() {
    let faults = Faults::new();
    added(&faults, json!({ "kind": "drop", "method": "post", "path": "/clone", "times": 2 }));
    added(&faults, json!({ "kind": "delay", "ms": 5, "path": "/clone" }));

    assert!(faults.take_for_request("GET", "/nodes", b"").is_none());
    assert_eq!(faults.take_for_request("GET", "/clone", b"").unwrap().kind, "delay");
    assert_eq!(faults.take_for_request("POST", "/a/clone?x=1", b"").unwrap().kind, "drop");
    assert_eq!(faults.take_for_request("POST", "/clone", b"").unwrap().kind, "drop");
    assert_eq!(faults.take_for_request("POST", "/clone", b"").unwrap().kind, "delay");
    assert_eq!(faults.lock().faults.len(), 1);
}

#[test]
fn a_fault_lets_the_skipped_requests_pass() {
    let faults = Faults::new();
    added(&faults, json!({ "kind": "refuse", "skip": 1, "times": 1 }));
    assert!(faults.take_for_request("GET", "/", b"").is_none());
    assert!(faults.take_for_request("GET", "/", b"").is_some());
    assert!(faults.take_for_request("GET", "/", b"").is_none());
}

#[test]
fn a_fault_says_how_often_it_struck() {
    let faults = Faults::new().with_kinds(&["garble"]);
    added(&faults, json!({ "kind": "garble", "percent": 50, "seed": 7 }));
    let met = (0..100).filter(|_| faults.take("garble", None).is_some()).count();
    assert!((20..80).contains(&met), "{met}");
    let struck = faults.lock().faults[0].struck;
    assert_eq!(usize::try_from(struck).unwrap(), met);
}

#[test]
fn a_fault_may_be_meant_for_one_body_alone() {
    let faults = Faults::new();
    added(&faults, json!({ "kind": "drop", "path": "/clone", "contains": "newid=101&" }));
    assert!(faults.take_for_request("POST", "/clone", b"full=1&newid=102&").is_none());
    assert!(faults.take_for_request("POST", "/clone", b"full=1&newid=101&name=x").is_some());
}

#[test]
fn a_fault_may_strike_each_request_once() {
    let faults = Faults::new();
    added(&faults, json!({ "kind": "drop", "path": "/clone", "once_each": true }));
    assert!(faults.take_for_request("POST", "/clone", b"newid=101").is_some());
    assert!(faults.take_for_request("POST", "/clone", b"newid=101").is_none());
    assert!(faults.take_for_request("POST", "/clone", b"newid=102").is_some());
    assert!(faults.take_for_request("GET", "/clone", b"newid=102").is_some());
    assert!(faults.take_for_request("GET", "/other", b"newid=103").is_none());
    assert!(faults.take_for_request("POST", "/clone", b"newid=102").is_none());
}

#[test]
fn a_list_until_now_is_the_same_list_a_second_later() {
    let faults = Faults::new();
    added(&faults, json!({ "kind": "drop", "path": "/v1/", "once_each": true }));
    assert!(faults.take_for_request("GET", "/v1/events?created[gte]=1&created[lte]=5&limit=100", b"").is_some());
    assert!(faults.take_for_request("GET", "/v1/events?created[gte]=1&created[lte]=6&limit=100", b"").is_none());
    assert!(faults.take_for_request("GET", "/v1/events?created[gte]=1&created[lte]=6&starting_after=e", b"").is_some());
}

#[test]
fn a_fault_may_strike_each_name_once() {
    let faults = Faults::new();
    added(&faults, json!({ "kind": "drop", "once_each": true }));
    assert!(faults.take_named("drop", Some("a@example.test"), b"<1@x>").is_some());
    assert!(faults.take_named("drop", Some("a@example.test"), b"<1@x>").is_none());
    assert!(faults.take_named("drop", Some("a@example.test"), b"<2@x>").is_some());
    assert!(faults.take_named("hang", Some("a@example.test"), b"<3@x>").is_none());
}

#[test]
fn a_vendors_own_fault_strikes_only_its_subject_and_never_by_path() {
    let faults = Faults::new();
    added(&faults, json!({ "kind": "agent_never", "subject": 101 }));
    assert!(faults.take_for_request("GET", "/anything", b"").is_none());
    assert!(faults.take("agent_never", Some("102")).is_none());
    assert!(faults.take("agent_never", None).is_none());
    assert!(faults.take("agent_never", Some("101")).is_some());
    assert!(faults.take("locked", Some("101")).is_none());
}

#[test]
fn a_fault_that_could_never_strike_is_refused() {
    let faults = Faults::new().with_kinds(&["locked"]);
    let refused = |fault: Value| faults.add(serde_json::from_value(fault).unwrap()).is_err();
    assert!(refused(json!({ "kind": "lokced" })));
    assert!(refused(json!({ "kind": "status" })));
    assert!(refused(json!({ "kind": "malformed", "shape": "round" })));
    assert!(refused(json!({ "kind": "locked", "times": 0 })));
    assert!(!refused(json!({ "kind": "locked" })));
    assert!(serde_json::from_value::<Fault>(json!({ "kind": "locked", "pahts": "/x" })).is_err());
}

#[test]
fn repeated_form_keys_are_logged_as_arrays() {
    let object = form(b"a=1&b=x%2By&a=2&a=3");
    assert_eq!(Value::Object(object), json!({ "a": ["1", "2", "3"], "b": "x+y" }));
}
