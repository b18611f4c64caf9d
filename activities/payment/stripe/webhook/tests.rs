use super::*;

const NOW: UnixSecs = 1_800_000_000;
const BODY: &[u8] = br#"{"id":"evt_1"}"#;
const OLD: &str = "whsec_old";
const NEW: &str = "whsec_new";

fn sign(secret: &str, stamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length is a key");
    mac.update(format!("{stamp}.").as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn at(offset_secs: i64) -> String {
    let stamp = (NOW + offset_secs).to_string();
    format!("t={stamp},v1={}", sign(OLD, &stamp, BODY))
}

fn check(header: Option<&str>) -> Result<(), SignatureFault> {
    verify(header, BODY, &[OLD.to_owned()], NOW)
}

#[test]
fn a_signature_is_good_for_300_seconds_on_either_side() {
    for (offset_secs, expected) in [
        (0, Ok(())),
        (-299, Ok(())),
        (-300, Ok(())),
        (-301, Err(SignatureFault::TooOld)),
        (299, Ok(())),
        (300, Ok(())),
        (301, Err(SignatureFault::TooNew)),
        (-86_400, Err(SignatureFault::TooOld)),
    ] {
        assert_eq!(check(Some(&at(offset_secs))), expected, "{offset_secs}");
    }
}

#[test]
fn what_is_not_a_signature_is_refused() {
    let good = at(0);
    let v1 = good.split_once("v1=").expect("signed").1;
    let cases = [
        (None, SignatureFault::Missing),
        (Some(String::new()), SignatureFault::Missing),
        (Some("  ".to_owned()), SignatureFault::Missing),
        (Some("nonsense".to_owned()), SignatureFault::Malformed),
        (Some(format!("v1={v1}")), SignatureFault::Malformed),
        (Some(format!("t={NOW}")), SignatureFault::Malformed),
        (Some(format!("t={NOW},v0={v1}")), SignatureFault::Malformed),
        (Some(format!("t=,v1={v1}")), SignatureFault::Malformed),
        (Some(format!("t=-{NOW},v1={v1}")), SignatureFault::Malformed),
        (Some(format!("t=+{NOW},v1={v1}")), SignatureFault::Malformed),
        (Some(format!("t=99999999999999999999,v1={v1}")), SignatureFault::Malformed),
        (Some(format!("t={NOW},t={NOW},v1={v1}")), SignatureFault::Malformed),
        (Some(format!("t={NOW},v1=")), SignatureFault::Mismatch),
        (Some(format!("t={NOW},v1={}", &v1[..62])), SignatureFault::Mismatch),
        (Some(format!("t={NOW},v1={v1}00")), SignatureFault::Mismatch),
        (Some(format!("t={NOW},v1={}", "zz".repeat(32))), SignatureFault::Mismatch),
        (Some(format!("t={NOW},v1={}", "ä".repeat(32))), SignatureFault::Mismatch),
        (Some(format!("t={},v1={v1}", NOW + 1)), SignatureFault::Mismatch),
        (Some(format!("t={NOW},v1={}", sign(NEW, &NOW.to_string(), BODY))), SignatureFault::Mismatch),
        (Some(format!("t={NOW},v1={}", sign(OLD, &NOW.to_string(), b"{}"))), SignatureFault::Mismatch),
        (Some(format!("t={NOW},v1={}", sign("", &NOW.to_string(), BODY))), SignatureFault::Mismatch),
    ];
    for (header, fault) in cases {
        assert_eq!(check(header.as_deref()), Err(fault), "{header:?}");
    }
}

#[test]
fn a_changed_body_does_not_fit() {
    let secrets = [OLD.to_owned()];
    assert_eq!(verify(Some(&at(0)), br#"{"id":"evt_2"}"#, &secrets, NOW), Err(SignatureFault::Mismatch));
    assert_eq!(verify(Some(&at(0)), b"", &secrets, NOW), Err(SignatureFault::Mismatch));
}

#[test]
fn secrets_and_signatures_may_be_several() {
    let stamp = NOW.to_string();
    let (old, new) = (sign(OLD, &stamp, BODY), sign(NEW, &stamp, BODY));
    let both = [OLD.to_owned(), NEW.to_owned()];
    let wrong = "0".repeat(64);
    for header in [
        format!("t={stamp},v1={old}"),
        format!("t={stamp},v1={new}"),
        format!("t={stamp},v1={wrong},v1={new}"),
        format!("t={stamp},v1=odd,v1={old},v0={wrong}"),
        format!("v1={new}, t={stamp}"),
        format!("t={stamp},v1={}", new.to_ascii_uppercase()),
        format!(",,t={stamp},=,v1={new},x"),
    ] {
        assert_eq!(verify(Some(&header), BODY, &both, NOW), Ok(()), "{header}");
    }
    let header = format!("t={stamp},v1={old}");
    assert_eq!(verify(Some(&header), BODY, &[NEW.to_owned()], NOW), Err(SignatureFault::Mismatch));
    assert_eq!(verify(Some(&header), BODY, &[], NOW), Err(SignatureFault::Mismatch));
}

#[test]
fn an_empty_secret_is_nobodys_secret() {
    let stamp = NOW.to_string();
    let header = format!("t={stamp},v1={}", sign("", &stamp, BODY));
    assert_eq!(verify(Some(&header), BODY, &[String::new()], NOW), Err(SignatureFault::Mismatch));
}

#[test]
fn no_clock_and_no_header_makes_it_panic() {
    for now in [i64::MIN, -1, 0, i64::MAX] {
        assert!(verify(Some(&at(0)), BODY, &[OLD.to_owned()], now).is_err());
    }
    let many = format!("t={NOW}{}", ",v1=00".repeat(10_000));
    assert_eq!(check(Some(&many)), Err(SignatureFault::Mismatch));
    assert!(check(Some("t=\u{0},v1=\u{ffff}=,\u{202e}")).is_err());
}

const ORDER: &str = "6b0d1a52-9b1f-4b1b-8f6e-0d5f7f2f1a11";

fn event(object: &str) -> Envelope {
    let body = format!(
        r#"{{"id":"evt_1","type":"a.b","created":{NOW},"livemode":false,"data":{{"object":{object}}},"new":[1]}}"#
    );
    Envelope::read(body.as_bytes()).expect("an event")
}

#[test]
fn both_shapes_of_an_invoice_name_their_subscription() {
    let before = event(r#"{"id":"in_1","object":"invoice","subscription":"sub_1","metadata":{}}"#);
    let since = event(&format!(
        r#"{{"id":"in_1","object":"invoice","metadata":null,"parent":{{"type":"subscription_details",
            "subscription_details":{{"subscription":"sub_1","metadata":{{"order":"{ORDER}"}}}}}}}}"#
    ));
    let expanded = event(r#"{"id":"in_1","object":"invoice","subscription":{"id":"sub_1","object":"subscription"}}"#);
    for read in [&before, &since, &expanded] {
        assert_eq!(read.subscription.as_deref(), Some("sub_1"));
        assert_eq!((read.object_id.as_str(), read.object_kind.as_str()), ("in_1", "invoice"));
    }
    assert_eq!(before.order, None);
    assert_eq!(since.order, Uuid::parse_str(ORDER).ok());
    assert_eq!(event(r#"{"id":"in_2","object":"invoice","subscription":null,"parent":null}"#).subscription, None);
}

#[test]
fn a_session_and_a_subscription_name_themselves() {
    let session = event(&format!(
        r#"{{"id":"cs_1","object":"checkout.session","client_reference_id":"{ORDER}","subscription":"sub_1","metadata":{{}}}}"#
    ));
    assert_eq!((session.order, session.subscription.as_deref()), (Uuid::parse_str(ORDER).ok(), Some("sub_1")));
    let subscription = event(&format!(r#"{{"id":"sub_1","object":"subscription","metadata":{{"order":"{ORDER}"}}}}"#));
    assert_eq!(
        (subscription.order, subscription.subscription.as_deref()),
        (Uuid::parse_str(ORDER).ok(), Some("sub_1"))
    );
    let foreign =
        event(r#"{"id":"cs_2","object":"checkout.session","client_reference_id":"cart 7","metadata":{"order":7}}"#);
    assert_eq!((foreign.order, foreign.subscription), (None, None));
}

#[test]
fn an_object_without_an_id_is_still_an_event() {
    let read = event(r#"{"object":"balance"}"#);
    assert_eq!((read.object_id.as_str(), read.object_kind.as_str(), read.created), ("", "balance", NOW));
}

#[test]
fn what_is_not_an_event_is_said_to_be_none() {
    for body in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"id":"evt_1","type":"a.b","created":1,"data":{"object":"in_1"}}"#,
        r#"{"id":"evt_1","type":"a.b","created":"soon","data":{"object":{}}}"#,
        r#"{"id":"","type":"a.b","created":1,"data":{"object":{}}}"#,
        r#"{"id":"evt_\u0000","type":"a.b","created":1,"data":{"object":{}}}"#,
    ] {
        assert_eq!(Envelope::read(body.as_bytes()), Err(NotAnEvent), "{body}");
    }
    assert_eq!(Envelope::read(&[0xff, 0xfe]), Err(NotAnEvent));
    assert_eq!(Envelope::read("[".repeat(100_000).as_bytes()), Err(NotAnEvent));
}

#[test]
fn whom_money_is_about_is_found_in_every_payload_version() {
    let read = |object: &str| {
        let body = format!(r#"{{"id":"evt_1","type":"x","created":1,"data":{{"object":{object}}}}}"#);
        let envelope = Envelope::read(body.as_bytes()).expect("an event");
        (envelope.customer, envelope.payment)
    };
    let said = |text: &str| Some(text.to_owned());
    for (object, customer, payment) in [
        (r#"{"id":"cus_1","object":"customer"}"#, said("cus_1"), None),
        (r#"{"id":"ch_1","object":"charge","customer":"cus_1"}"#, said("cus_1"), said("ch_1")),
        (r#"{"id":"ch_1","object":"charge","customer":{"id":"cus_1"}}"#, said("cus_1"), said("ch_1")),
        (r#"{"id":"re_1","object":"refund","charge":"ch_1","payment_intent":"pi_1"}"#, None, said("ch_1")),
        (r#"{"id":"re_1","object":"refund","charge":null,"payment_intent":"pi_1"}"#, None, said("pi_1")),
        (r#"{"id":"du_1","object":"dispute","charge":{"id":"ch_1"}}"#, None, said("ch_1")),
        (r#"{"id":"in_1","object":"invoice","customer":"cus_1","charge":"ch_1"}"#, said("cus_1"), said("ch_1")),
        (r#"{"id":"prod_1","object":"product"}"#, None, None),
    ] {
        assert_eq!(read(object), (customer, payment), "{object}");
    }
}
