//! Free trials.

use serde_json::json;

use super::super::checkout::{self, Typed};
use super::{GOOD, Sold, another_price, events, latest_invoice, open_session, paid_charges, post, text};

const MONTH: i64 = 30_000;

fn trialing(more: &str, card: Option<&str>) -> Sold {
    let (mut world, customer, _) = open_session(Some(MONTH));
    let price = text(&world.all("price").next().expect("price")["id"]);
    let form = format!(
        "mode=subscription&customer={customer}&success_url=http://shop.test/&line_items[0][price]={price}\
         &line_items[0][quantity]=1&subscription_data[trial_period_days]=14{more}"
    );
    let session = post(&mut world, "checkout/sessions", &form).expect("session");
    assert_eq!(session["amount_total"], 0);
    let session = text(&session["id"]);
    let typed = Typed { card: card.map(str::to_owned), ..Typed::default() };
    checkout::pay(&mut world, &session, &typed).expect("begun");
    let row = world.copy("checkout.session", &session).expect("session");
    assert_eq!(row["payment_status"], "no_payment_required");
    Sold { subscription: text(&row["subscription"]), world, customer, session }
}

#[test]
fn a_trial_is_free_announced_and_then_paid() {
    let mut sold = trialing("", Some(GOOD));
    let row = sold.row();
    assert_eq!(
        (&row["status"], &row["trial_end"]),
        (&json!("trialing"), &row["items"]["data"][0]["current_period_end"])
    );
    assert_eq!((latest_invoice(&sold.world)["total"].clone(), paid_charges(&sold.world)), (json!(0), 0));
    sold.pass(10_500);
    assert_eq!(events(&sold.world, "customer.subscription.trial_will_end"), 0);
    sold.pass(1_000);
    assert_eq!(events(&sold.world, "customer.subscription.trial_will_end"), 1);
    let price = another_price(&mut sold.world, 1000);
    let form = format!("items[0][id]={}&items[0][price]={price}", sold.item());
    assert_eq!(sold.update(&form).expect("changed")["status"], "trialing");
    assert_eq!(events(&sold.world, "customer.subscription.trial_will_end"), 1);
    sold.pass(3_000);
    assert_eq!((sold.row()["status"].clone(), paid_charges(&sold.world)), (json!("active"), 1));
    sold.pass(MONTH);
    assert_eq!((events(&sold.world, "customer.subscription.trial_will_end"), paid_charges(&sold.world)), (1, 2));
}

#[test]
fn a_trial_without_a_card_ends_as_it_was_told() {
    for (behavior, status, invoices) in
        [("cancel", "canceled", 1), ("pause", "paused", 1), ("create_invoice", "past_due", 2)]
    {
        let more = format!(
            "&payment_method_collection=if_required&subscription_data[trial_settings][end_behavior][missing_payment_method]={behavior}"
        );
        let mut sold = trialing(&more, None);
        sold.pass(MONTH);
        assert_eq!((sold.row()["status"].clone(), sold.world.all("invoice").count()), (json!(status), invoices));
        assert_eq!(paid_charges(&sold.world), 0);
    }
}

#[test]
fn a_trial_that_ends_now_is_paid_now() {
    let mut sold = trialing("", Some(GOOD));
    let row = sold.update("trial_end=now").expect("ended");
    assert_eq!((&row["status"], paid_charges(&sold.world)), (&json!("active"), 1));
    assert_eq!(latest_invoice(&sold.world)["total"], 1000);
}
