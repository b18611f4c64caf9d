use super::*;
use time::macros::datetime;

fn facts() -> Facts {
    Facts {
        site: "https://ez.example.test".to_owned(),
        name: "Ann <b>Lee</b>".to_owned(),
        hostname: "web".to_owned(),
        dns_name: "web-89abcdef.vps.example.test".to_owned(),
        ipv4: "192.0.2.7".to_owned(),
        ipv6: "2001:db8::7".to_owned(),
        has_password: false,
        plan: "Small".to_owned(),
        other_plan: "Medium".to_owned(),
        amount: "EUR 5.00".to_owned(),
        term: "month",
        late: false,
        day: day(datetime!(2026-12-21 23:59 UTC)),
        link: "https://ez.example.test/x/?id=1&tag=2".to_owned(),
        step: "Start the server".to_owned(),
        reason: "no quorum".to_owned(),
        workflow: "order-1".to_owned(),
    }
}

#[test]
fn every_letter_says_something_in_text_and_html_and_links_once() {
    for kind in LetterKind::ALL {
        let written = write(*kind, &facts()).expect("a letter");
        assert!(!written.subject.is_empty() && !written.subject.contains('\n'), "{kind}: {:?}", written.subject);
        assert_eq!(
            written.text.matches("https://ez.example.test/x/?id=1&tag=2").count(),
            1,
            "{kind}\n{}",
            written.text
        );
        assert!(
            written.html.contains(r#"href="https://ez.example.test/x/?id=1&#38;tag=2""#),
            "{kind}\n{}",
            written.html
        );
        assert!(!written.html.contains("<img") && !written.html.contains("<script"), "{kind}");
        assert!(!written.html.contains("<b>Lee"), "{kind}: a name is not markup");
        for leftover in ["{{", "{%", "<p></p>", "\n\n\n"] {
            assert!(!written.text.contains(leftover) && !written.html.contains(leftover), "{kind}: {leftover:?}");
        }
    }
}

#[test]
fn a_letter_without_a_day_is_still_a_sentence() {
    let undated = Facts { day: String::new(), ..facts() };
    // Only a link that expires always has its day.
    for kind in LetterKind::ALL.iter().filter(|kind| **kind != LetterKind::VerifyAddress) {
        let written = write(*kind, &undated).expect("a letter");
        assert!(!written.subject.ends_with("on"), "{kind}: {:?}", written.subject);
        assert!(!written.text.contains("until ."), "{kind}\n{}", written.text);
        assert!(!written.text.contains("until ;"), "{kind}\n{}", written.text);
    }
}

#[test]
fn the_letters_about_an_unconfirmed_address_repeat_nothing_a_stranger_wrote() {
    for kind in [LetterKind::VerifyAddress, LetterKind::AccountExists] {
        let written = write(kind, &Facts { name: String::new(), ..facts() }).expect("a letter");
        assert!(written.text.starts_with("Hello,\n"), "{kind}\n{}", written.text);
    }
}

#[test]
fn a_delivered_server_is_described_and_its_password_is_not_told() {
    let with_key = write(LetterKind::ServiceDelivered, &facts()).expect("a letter");
    assert!(with_key.text.contains("192.0.2.7") && with_key.text.contains("2001:db8::7"), "{}", with_key.text);
    assert!(with_key.text.contains("SSH key") && !with_key.text.contains("password"), "{}", with_key.text);
    let with_password =
        write(LetterKind::ServiceDelivered, &Facts { has_password: true, ..facts() }).expect("a letter");
    assert!(with_password.text.contains("shown once"), "{}", with_password.text);
}

#[test]
fn an_order_that_was_late_is_told_so() {
    let given_up = write(LetterKind::OrderAbandoned, &facts()).expect("a letter");
    let late = write(LetterKind::OrderAbandoned, &Facts { late: true, ..facts() }).expect("a letter");
    for (without, with) in [(&given_up.text, &late.text), (&given_up.html, &late.html)] {
        assert!(!without.contains("the time we promise") && with.contains("the time we promise"), "{with}");
    }
}

#[test]
fn days_and_minutes_read_like_in_a_letter() {
    assert_eq!(day(datetime!(2026-12-21 23:59 UTC)), "21 December 2026");
    assert_eq!(day(datetime!(2026-12-31 23:59 -2)), "1 January 2027");
    assert_eq!(minute(datetime!(2026-03-01 09:05 UTC)), "1 March 2026, 09:05 UTC");
}
