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
        covered: false,
        free: false,
        late: false,
        day: day(datetime!(2026-12-21 23:59 UTC)),
        link: "https://ez.example.test/x/?id=1&tag=2".to_owned(),
        what: "An app that shows codes was added.",
        device: "Firefox on Linux".to_owned(),
        network: "198.51.100.7".to_owned(),
        inviter: "bob@example.test".to_owned(),
        kept: store::kept_after_erasure(Some(time::macros::date!(2036 - 12 - 31))),
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
    for kind in
        [LetterKind::VerifyAddress, LetterKind::AccountExists, LetterKind::AddressConfirm, LetterKind::MemberInvitation]
    {
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
fn an_order_that_a_plan_covers_speaks_of_no_payment() {
    let told = write(LetterKind::OrderAbandoned, &Facts { covered: true, ..facts() }).expect("a letter");
    for text in [told.text, told.html] {
        assert!(text.contains("nothing was charged") && !text.contains("Your payment of"), "{text}");
    }
}

#[test]
fn a_trial_that_is_given_up_speaks_of_no_money_that_goes_back() {
    let told = write(LetterKind::OrderAbandoned, &Facts { free: true, ..facts() }).expect("a letter");
    for text in [told.text, told.html] {
        assert!(text.contains("Nothing was charged") && text.contains("nothing will be"), "{text}");
        assert!(!text.contains("goes back") && !text.contains("EUR 5.00"), "{text}");
    }
}

#[test]
fn a_server_that_was_taken_away_by_itself_is_not_the_end_of_everything() {
    let gone = |covered| write(LetterKind::ServiceExpired, &Facts { covered, ..facts() }).expect("a letter");
    for (alone, end) in [(gone(true).text, gone(false).text), (gone(true).html, gone(false).html)] {
        assert!(alone.contains("as you asked") && alone.contains("is free again"), "{alone}");
        assert!(!alone.contains("Thank you for having been with us"), "{alone}");
        assert!(end.contains("as announced") && !end.contains("is free again"), "{end}");
    }
    let removed = write(LetterKind::ServiceRemoved, &facts()).expect("a letter");
    assert!(removed.text.contains("until 21 December 2026") && removed.text.contains("not you"), "{}", removed.text);
    let kept = write(LetterKind::ServiceRestored, &Facts { covered: true, ..facts() }).expect("a letter");
    assert!(kept.text.contains("It is not removed") && !kept.text.contains("until when"), "{}", kept.text);
}

#[test]
fn days_and_minutes_read_like_in_a_letter() {
    assert_eq!(day(datetime!(2026-12-21 23:59 UTC)), "21 December 2026");
    assert_eq!(day(datetime!(2026-12-31 23:59 -2)), "1 January 2027");
    assert_eq!(minute(datetime!(2026-03-01 09:05 UTC)), "1 March 2026, 09:05 UTC");
}

#[test]
fn the_last_letter_says_what_stays_why_and_until_when() {
    let written = write(LetterKind::ErasureDone, &facts()).expect("a letter");
    for (kind, text) in [("text", &written.text), ("HTML", &written.html)] {
        for words in ["31 December 2036", "Tax and commercial law", "invoices as they were issued", "names nobody"] {
            assert!(text.contains(words), "{kind}: no {words}: {text}");
        }
    }
}
