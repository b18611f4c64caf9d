//! The endpoints of `/v1`.

use super::forms::only;
use super::refusal::{Answer, Refusal};
use super::world::{Call, World};
use super::{
    balance, catalogue, charges, checkout, checkout_create, clocks, coupons, customers, disputes, events,
    invoice_calls, payments, portal, preview, refunds, schedules, subscription_update, subscriptions, tax, tax_ids,
};

/// Runs the endpoint of a method and path.
pub(super) fn dispatch(world: &mut World, method: &str, call: &Call) -> Answer {
    let path = call.path.trim_start_matches("/v1/");
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    match method {
        "GET" => read(world, call, &parts),
        "POST" => write(world, call, &parts),
        "DELETE" => delete(world, call, &parts),
        _ => Err(Refusal::no_such_path(method, &call.path)),
    }
}

fn one(world: &World, call: &Call, kind: &str, id: &str) -> Answer {
    only(&call.params, &[])?;
    world.copy(kind, id)
}

fn read(world: &mut World, call: &Call, parts: &[&str]) -> Answer {
    match *parts {
        ["customers"] => customers::list(world, call),
        ["customers", id] => customers::one(world, call, id),
        ["customers", customer, "balance_transactions"] => balance::list(world, call, customer),
        ["customers", customer, "balance_transactions", id] => balance::one(world, call, customer, id),
        ["customers", customer, "tax_ids"] => tax_ids::list(world, call, customer),
        ["customers", customer, "tax_ids", id] => tax_ids::one(world, call, customer, id),
        ["products"] => catalogue::list_products(world, call),
        ["products", id] => one(world, call, "product", id),
        ["prices"] => catalogue::list_prices(world, call),
        ["prices", id] => one(world, call, "price", id),
        ["checkout", "sessions"] => checkout::list(world, call),
        ["checkout", "sessions", id] => {
            checkout::expire_due(world)?;
            one(world, call, "checkout.session", id)
        }
        ["checkout", "sessions", id, "line_items"] => {
            world.get("checkout.session", id, "id")?;
            world.list("item", call, |row| row["session"] == id)
        }
        ["subscriptions"] => subscriptions::list(world, call),
        ["subscriptions", id] => one(world, call, "subscription", id),
        ["subscription_schedules"] => schedules::list(world, call),
        ["subscription_schedules", id] => one(world, call, schedules::KIND, id),
        ["invoices"] => invoice_calls::list(world, call),
        ["invoices", id] => one(world, call, "invoice", id),
        ["invoices", id, "lines"] => invoice_calls::lines(world, call, id),
        ["invoice_payments"] => invoice_calls::list_payments(world, call),
        ["invoice_payments", id] => one(world, call, "invoice_payment", id),
        ["payment_intents"] => payments::list_intents(world, call),
        ["payment_intents", id] => {
            only(&call.params, &["client_secret"])?;
            world.copy("payment_intent", id)
        }
        ["payment_methods"] => payments::list_methods(world, call, None),
        ["customers", customer, "payment_methods"] => payments::list_methods(world, call, Some(customer)),
        ["payment_methods", id] => one(world, call, "payment_method", id),
        ["charges"] => charges::list(world, call),
        ["charges", id] => one(world, call, "charge", id),
        ["refunds"] => refunds::list(world, call),
        ["refunds", id] => one(world, call, "refund", id),
        ["coupons"] => coupons::read(world, call, None),
        ["coupons", id] => coupons::read(world, call, Some(id)),
        ["promotion_codes"] => coupons::read_codes(world, call, None),
        ["promotion_codes", id] => coupons::read_codes(world, call, Some(id)),
        ["disputes"] => disputes::list(world, call),
        ["disputes", id] => one(world, call, "dispute", id),
        ["tax", "calculations", id] => one(world, call, "tax.calculation", id),
        ["billing_portal", "configurations"] => portal::list_configurations(world, call),
        ["billing_portal", "configurations", id] => one(world, call, "billing_portal.configuration", id),
        ["events"] => events::list(world, call),
        ["events", id] => events::one(world, call, id),
        ["test_helpers", "test_clocks", id] => one(world, call, clocks::KIND, id),
        _ => Err(Refusal::no_such_path("GET", &call.path)),
    }
}

fn write(world: &mut World, call: &Call, parts: &[&str]) -> Answer {
    match *parts {
        ["customers"] => customers::create(world, call),
        ["customers", id] => customers::update(world, call, id),
        ["customers", customer, "balance_transactions"] => balance::create(world, call, customer),
        ["customers", customer, "balance_transactions", id] => balance::update(world, call, customer, id),
        ["customers", customer, "tax_ids"] => tax_ids::create(world, call, customer),
        ["products"] => catalogue::create_product(world, call),
        ["products", id] => catalogue::update_product(world, call, id),
        ["prices"] => catalogue::create_price(world, call),
        ["prices", id] => catalogue::update_price(world, call, id),
        ["checkout", "sessions"] => checkout_create::create(world, call),
        ["checkout", "sessions", id, "expire"] => {
            only(&call.params, &[])?;
            checkout::expire(world, id)
        }
        ["subscriptions", id] => subscription_update::update(world, call, id),
        ["subscription_schedules"] => schedules::create(world, call),
        ["subscription_schedules", id] => schedules::update(world, call, id),
        ["subscription_schedules", id, "release"] => schedules::release(world, call, id),
        ["subscription_schedules", id, "cancel"] => schedules::cancel(world, call, id),
        ["invoices", "create_preview"] => preview::create(world, call),
        ["invoices", id] => invoice_calls::update(world, call, id),
        ["invoices", id, "finalize"] => invoice_calls::finalize(world, call, id),
        ["invoices", id, "mark_uncollectible"] => invoice_calls::mark_uncollectible(world, call, id),
        ["invoices", id, "pay"] => invoice_calls::pay(world, call, id),
        ["invoices", id, "void"] => invoice_calls::void(world, call, id),
        ["coupons"] => coupons::create(world, call),
        ["coupons", id] => coupons::update(world, call, id),
        ["promotion_codes"] => coupons::create_code(world, call),
        ["promotion_codes", id] => coupons::update_code(world, call, id),
        ["disputes", id] => disputes::update(world, call, id),
        ["tax", "calculations"] => tax::calculate(world, call),
        ["refunds"] => refunds::create(world, call),
        ["refunds", id] => refunds::update(world, call, id),
        ["billing_portal", "sessions"] => portal::create_session(world, call),
        ["billing_portal", "configurations"] => portal::create_configuration(world, call),
        ["billing_portal", "configurations", id] => portal::update_configuration(world, call, id),
        ["test_helpers", "test_clocks"] => clocks::create(world, call),
        ["test_helpers", "test_clocks", id, "advance"] => clocks::advance(world, call, id),
        _ => Err(Refusal::no_such_path("POST", &call.path)),
    }
}

fn delete(world: &mut World, call: &Call, parts: &[&str]) -> Answer {
    match *parts {
        ["subscriptions", id] => subscriptions::cancel(world, call, id),
        ["customers", id] => customers::delete(world, id),
        ["customers", customer, "tax_ids", id] => tax_ids::delete(world, call, customer, id),
        ["coupons", id] => coupons::delete(world, id),
        _ => Err(Refusal::no_such_path("DELETE", &call.path)),
    }
}
