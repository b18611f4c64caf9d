use super::*;
use std::{fs, path::Path};

use domain::ids::AccountId;
use store::Viewing;
use time::OffsetDateTime;
use uuid::Uuid;

fn seat(role: MemberRole, staff: Option<StaffRole>) -> Seat {
    Seat { role, account_name: "Ada".to_owned(), accounts: 1, staff, viewing: None }
}

fn looking() -> Seat {
    let name = "A customer".to_owned();
    let viewing = Viewing {
        account: AccountId(Uuid::nil()),
        name,
        reason: "ticket 7".to_owned(),
        ends_at: OffsetDateTime::UNIX_EPOCH,
    };
    Seat { viewing: Some(viewing), ..seat(MemberRole::ReadOnly, Some(StaffRole::Admin)) }
}

fn line(method: &str, route: &str) -> &'static Permit {
    TABLE.iter().find(|line| line.method == method && line.route == route).expect("a line")
}

#[test]
fn every_route_has_a_line_and_every_line_a_route() {
    let routes = super::super::every_route();
    for route in routes.known() {
        assert!(!lines_of(route).is_empty(), "{route} is not in the table: nobody reaches it");
    }
    for line in TABLE {
        let of = routes.known().iter().filter(|route| lines_of(route).iter().any(|found| found.route == line.route));
        assert_eq!(of.count(), 1, "{} {} is in the table, and is no route", line.method, line.route);
    }
}

#[test]
fn no_line_stands_twice_and_none_is_for_nobody() {
    for (at, line) in TABLE.iter().enumerate() {
        let twice = TABLE[..at].iter().any(|other| other.method == line.method && other.route == line.route);
        assert!(!twice, "{} {}", line.method, line.route);
        let nobody = matches!(line.who, Who::Member([]) | Who::Staff([]));
        assert!(!nobody, "{} {}", line.method, line.route);
        assert!(["GET", "POST"].contains(&line.method) && !line.route.ends_with(WORD), "{}", line.route);
    }
}

#[test]
fn what_is_under_staff_is_for_staff_and_an_admin_may_all_of_it() {
    for line in TABLE {
        let is_staffs = matches!(line.who, Who::Staff(_));
        assert_eq!(is_staffs, line.route.starts_with("/staff/"), "{}", line.route);
        let private = ["/accounts/members/", "/accounts/activity/", "/accounts/tokens/", "/billing/", "/dashboard/"];
        let is_members = matches!(line.who, Who::Member(_));
        assert_eq!(is_members, private.iter().any(|start| line.route.starts_with(start)), "{}", line.route);
        if is_staffs {
            assert!(line.lets_staff(StaffRole::Admin), "{}", line.route);
        }
        if is_members {
            assert!(line.lets_member(MemberRole::Owner), "{}", line.route);
            assert!(line.is_read() || !line.lets_member(MemberRole::ReadOnly) || line.route.ends_with("/leave/"));
        }
    }
}

#[test]
fn whoever_looks_at_a_customer_changes_nothing_and_sees_nothing_that_is_theirs_alone() {
    let looking = looking();
    for line in TABLE {
        let verdict = line.verdict(Some(&looking));
        if !line.is_read() {
            assert_eq!(verdict == Verdict::Go, line.ends_viewing, "{} {}", line.method, line.route);
        }
    }
    for closed in ["/billing/portal/", "/billing/invoices/{id}/page/", "/accounts/", "/billing/checkout/{slug}/"] {
        assert_eq!(line("GET", closed).verdict(Some(&looking)), Verdict::OnlyLooking, "{closed}");
    }
    for open in ["/dashboard/", "/dashboard/vps/{id}/", "/billing/invoices/", "/accounts/members/", "/staff/", "/"] {
        assert_eq!(line("GET", open).verdict(Some(&looking)), Verdict::Go, "{open}");
    }
    let ends: Vec<&str> = TABLE.iter().filter(|line| line.ends_viewing).map(|line| line.route).collect();
    assert_eq!(ends, ["/accounts/logout/", "/staff/viewing/end/"]);
}

#[test]
fn everybody_gets_what_their_role_says() {
    let verdict = |method, route, seat: Option<&Seat>| line(method, route).verdict(seat);
    let password = "/dashboard/vps/{id}/password/";
    for (role, expected) in [
        (MemberRole::Owner, Verdict::Go),
        (MemberRole::Technical, Verdict::Go),
        (MemberRole::Billing, Verdict::NotAllowed),
        (MemberRole::ReadOnly, Verdict::NotAllowed),
    ] {
        assert_eq!(verdict("POST", password, Some(&seat(role, None))), expected, "{role}");
    }
    assert_eq!(verdict("POST", password, None), Verdict::LogIn);
    assert_eq!(verdict("GET", "/accounts/", None), Verdict::LogIn);
    let refund = "/staff/subscriptions/{id}/refund/";
    assert_eq!(verdict("POST", refund, None), Verdict::Hidden);
    assert_eq!(verdict("POST", refund, Some(&seat(MemberRole::Owner, None))), Verdict::Hidden);
    let staff = |role| seat(MemberRole::Owner, Some(role));
    assert_eq!(verdict("POST", refund, Some(&staff(StaffRole::Support))), Verdict::NotAllowed);
    assert_eq!(verdict("POST", refund, Some(&staff(StaffRole::Finance))), Verdict::Go);
}

#[test]
fn a_word_in_a_path_is_found_as_we_write_it_and_in_no_other_way() {
    let route = "/staff/subscriptions/{id}/{what}/";
    let found = |path: &str| matches!(find(&Method::POST, route, path), Found::Line(_));
    assert!(found("/staff/subscriptions/sub_1/refund/"));
    for other in ["ref%75nd", "REFUND", "refunds", "", "{what}", "refund%2f"] {
        assert!(!found(&format!("/staff/subscriptions/sub_1/{other}/")), "{other}");
    }
    assert!(matches!(find(&Method::HEAD, "/dashboard/", "/dashboard/"), Found::Line(_)));
    let other = find(&Method::DELETE, "/dashboard/", "/dashboard/");
    assert!(matches!(other, Found::Methods { methods, are_staffs: false } if methods == ["GET"]));
    let staffs = find(&Method::DELETE, "/staff/people/", "/staff/people/");
    assert!(matches!(staffs, Found::Methods { are_staffs: true, .. }));
    assert!(matches!(find(&Method::GET, "/nowhere/", "/nowhere/"), Found::Nothing));
}

#[test]
fn every_template_asks_for_lines_that_are_there() {
    let mut asked = 0;
    for folder in ["templates/page", "templates/part"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in fs::read_dir(folder).expect("the templates") {
            let path = entry.expect("a template").path();
            let text = fs::read_to_string(&path).expect("a template");
            for call in text.split("shell.may(\"").skip(1) {
                let words: Vec<&str> = call.split('"').collect();
                let (method, route) = (words[0], words[2]);
                let there = TABLE.iter().any(|line| line.method == method && line.route == route);
                assert!(there, "{}: {method} {route}", path.display());
                asked += 1;
            }
        }
    }
    assert!(asked > 10, "only {asked} are asked for");
}

#[test]
fn whoever_says_again_who_they_are_comes_back_to_a_page_that_can_be_asked_for() {
    for (from, back) in [
        ("/accounts/members/", "/accounts/members/"),
        ("/accounts/members/invite/", "/accounts/members/"),
        ("/accounts/factors/app/remove/?x=1", "/accounts/factors/app/"),
        ("/accounts/address/", "/accounts/address/"),
        ("/staff/subscriptions/sub_1/", "/staff/subscriptions/sub_1/"),
        ("/dashboard/vps/1/cancel/", "/dashboard/vps/1/cancel/"),
        ("/billing/portal/", "/billing/portal/"),
    ] {
        assert_eq!(page_of(from.to_owned()), back, "{from}");
    }
    for line in TABLE.iter().filter(|line| line.again && !line.is_read() && !line.route.contains('{')) {
        let back = page_of(line.route.to_owned());
        assert!(TABLE.iter().any(|other| other.is_read() && other.route == back), "{} leads to {back}", line.route);
    }
}
