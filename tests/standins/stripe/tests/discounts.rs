//! Coupons and promotion codes.

use serde_json::json;

use super::super::checkout::{self, Typed};
use super::super::world::World;
use super::{GOOD, MONTH_SECS, Sold, events, get, latest_invoice, open_session, post, text};

/// An open session that takes promotion codes.
fn session_with(world: &mut World, customer: &str, more: &str) -> String {
    let price = text(&world.all("price").next().expect("price")["id"]);
    let form = format!(
        "mode=subscription&customer={customer}&success_url=http://shop.test/&line_items[0][price]={price}&line_items[0][quantity]=1&{more}"
    );
    text(&post(world, "checkout/sessions", &form).expect("session")["id"])
}

fn code(world: &mut World, coupon: &str, more: &str) -> String {
    let coupon = text(&post(world, "coupons", coupon).expect("coupon")["id"]);
    let form = format!("promotion[type]=coupon&promotion[coupon]={coupon}&code=SPRING{more}");
    text(&post(world, "promotion_codes", &form).expect("code")["id"])
}

fn sold_with(coupon: &str) -> Sold {
    let (mut world, customer, _) = open_session(Some(MONTH_SECS));
    let code = code(&mut world, coupon, "");
    let session = session_with(&mut world, &customer, &format!("discounts[0][promotion_code]={code}"));
    checkout::pay(&mut world, &session, &Typed::card(GOOD)).expect("paid");
    let row = world.copy("checkout.session", &session).expect("session");
    assert_eq!(row["discounts"][0]["promotion_code"], code);
    Sold { subscription: text(&row["subscription"]), world, customer, session }
}

#[test]
fn durations_are_carried_through_the_invoices() {
    for (coupon, expected) in [
        ("percent_off=25&duration=once", [750, 1000, 1000, 1000]),
        ("percent_off=25&duration=repeating&duration_in_months=3", [750, 750, 750, 1000]),
        ("amount_off=400&currency=eur&duration=forever", [600, 600, 600, 600]),
        ("amount_off=4000&currency=eur&duration=once", [0, 1000, 1000, 1000]),
    ] {
        let mut sold = sold_with(coupon);
        sold.pass(MONTH_SECS * 3 + 1);
        let totals: Vec<_> = sold.world.all("invoice").filter_map(|row| row["total"].as_i64()).collect();
        assert_eq!(totals, expected, "{coupon}");
    }
}

#[test]
fn a_code_is_typed_at_checkout_and_used_up() {
    let (mut world, customer, plain) = open_session(None);
    code(&mut world, "percent_off=50&duration=once", "&max_redemptions=1");
    let typed = Typed { promotion_code: Some("spring".to_owned()), ..Typed::card(GOOD) };
    assert!(checkout::pay(&mut world, &plain, &typed).is_err());
    let session = session_with(&mut world, &customer, "allow_promotion_codes=true");
    let other = session_with(&mut world, &customer, "allow_promotion_codes=true");
    checkout::pay(&mut world, &session, &typed).expect("paid");
    let row = world.copy("checkout.session", &session).expect("session");
    assert_eq!((&row["amount_total"], &row["total_details"]["amount_discount"]), (&json!(500), &json!(500)));
    assert!(checkout::pay(&mut world, &other, &typed).is_err());
    let listed = get(&mut world, "promotion_codes?code=SPRING");
    assert_eq!((&listed["data"][0]["active"], &listed["data"][0]["times_redeemed"]), (&json!(false), &json!(1)));
    assert_eq!(events(&world, "customer.discount.created"), 1);
}

#[test]
fn codes_that_do_not_apply_are_refused_when_the_session_is_made() {
    let refused = |restriction: &str, coupon: &str| {
        let (mut world, customer, _) = open_session(None);
        let code = code(&mut world, coupon, restriction);
        world.advance(100);
        let price = text(&world.all("price").next().expect("price")["id"]);
        let form = format!(
            "mode=subscription&customer={customer}&success_url=http://shop.test/&line_items[0][price]={price}\
             &line_items[0][quantity]=1&discounts[0][promotion_code]={code}"
        );
        let refusal = post(&mut world, "checkout/sessions", &form).expect_err("refused");
        assert_eq!((refusal.status, world.all("checkout.session").count()), (400, 1), "{restriction}");
        refusal.message().to_owned()
    };
    let half = "percent_off=50";
    let soon = super::super::world::real_now() + 50;
    assert!(refused(&format!("&expires_at={soon}"), half).contains("expired"));
    assert!(
        refused("&restrictions[minimum_amount]=2000&restrictions[minimum_amount_currency]=eur", half)
            .contains("minimum")
    );
    assert!(refused("&active=false", half).contains("not active"));
    assert!(refused("", "amount_off=100&currency=usd").contains("currency"));
    let (mut world, customer, session) = open_session(None);
    checkout::pay(&mut world, &session, &Typed::card(GOOD)).expect("paid");
    let code = code(&mut world, half, "&restrictions[first_time_transaction]=true");
    let form = format!("discounts[0][promotion_code]={code}");
    let subscription = text(&world.all("subscription").next().expect("subscription")["id"]);
    let refusal = post(&mut world, &format!("subscriptions/{subscription}"), &form).expect_err("not the first");
    assert!(refusal.message().contains("prior transactions"));
    assert!(customer.starts_with("cus_"));
}

#[test]
fn a_subscription_gets_and_loses_a_discount() {
    let (mut world, customer, session) = open_session(Some(MONTH_SECS));
    checkout::pay(&mut world, &session, &Typed::card(GOOD)).expect("paid");
    let subscription = text(&world.all("subscription").next().expect("subscription")["id"]);
    let mut sold = Sold { world, customer, subscription, session };
    post(&mut sold.world, "coupons", "id=TEN&percent_off=10&duration=forever").expect("coupon");
    sold.update("discounts[0][coupon]=TEN").expect("given");
    sold.pass(MONTH_SECS + 1);
    let invoice = latest_invoice(&sold.world);
    assert_eq!((&invoice["subtotal"], &invoice["total"]), (&json!(1000), &json!(900)));
    sold.update("discounts=").expect("taken");
    sold.pass(MONTH_SECS);
    assert_eq!(latest_invoice(&sold.world)["total"], 1000);
}
