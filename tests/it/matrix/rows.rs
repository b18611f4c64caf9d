//! The rows of the matrix that are calls of a vendor: which story reaches them, and the one call a fault is aimed at.
use super::{
    order::{Bought, Story, When},
    story::Aim,
};

/// Whose call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    Stripe,
    Machines,
    Names,
}

/// One activity of the contract that calls a vendor.
pub(super) struct Row {
    pub(super) activity: &'static str,
    pub(super) story: Story,
    /// When the fault is laid.
    pub(super) when: When,
    /// The call that does the work.
    pub(super) aim: fn(&Bought<'_>) -> Aim,
}

pub(super) fn stripe(method: &'static str, path: String, contains: &str) -> Aim {
    Aim { vendor: Vendor::Stripe, method, path, contains: contains.to_owned() }
}

pub(super) fn machine(order: &Bought<'_>, method: &'static str, act: &str) -> Aim {
    Aim { vendor: Vendor::Machines, method, path: format!("/qemu/{}{act}", order.vmid), contains: String::new() }
}

fn name(order: &Bought<'_>, change: &str) -> Aim {
    let contains = format!(r#""{}","type":"A","changetype":"{change}""#, order.name);
    Aim { vendor: Vendor::Names, method: "PATCH", path: "/zones/".to_owned(), contains }
}

fn clone(order: &Bought<'_>) -> Aim {
    let contains = format!("newid={}", order.vmid);
    Aim { vendor: Vendor::Machines, method: "POST", path: "/clone".to_owned(), contains }
}

/// Every activity that calls a vendor over HTTP. `mail.send` has cells of its own.
pub(super) static ROWS: [Row; 20] = [
    Row {
        activity: "payment.open_checkout",
        story: Story::Delivered,
        when: When::Begin,
        aim: |order| stripe("POST", "/v1/checkout/sessions".to_owned(), &order.order.to_string()),
    },
    Row {
        activity: "payment.read_checkout",
        story: Story::Delivered,
        when: When::Pay,
        aim: |order| stripe("GET", format!("/v1/checkout/sessions/{}", order.session), ""),
    },
    Row {
        activity: "payment.expire_checkout",
        story: Story::Lapsed,
        when: When::Pay,
        aim: |order| stripe("POST", format!("/v1/checkout/sessions/{}/expire", order.session), ""),
    },
    Row {
        activity: "payment.read_subscription",
        story: Story::Delivered,
        when: When::Paid,
        aim: |order| stripe("GET", format!("/v1/subscriptions/{}", order.subscription), ""),
    },
    Row {
        activity: "payment.end_subscription",
        story: Story::Ended,
        when: When::Suspended,
        aim: |order| stripe("DELETE", format!("/v1/subscriptions/{}", order.subscription), ""),
    },
    Row {
        activity: "payment.refund",
        story: Story::GivenUp,
        when: When::GiveUp,
        aim: |order| stripe("POST", "/v1/refunds".to_owned(), &order.intent),
    },
    Row {
        activity: "payment.carry_out",
        story: Story::Told,
        when: When::Delivered,
        aim: |order| stripe("POST", "/v1/refunds".to_owned(), &order.intent),
    },
    // What it does at one go the rows below break one by one.
    Row { activity: "machine.build", story: Story::Delivered, when: When::Pay, aim: clone },
    Row { activity: "machine.clone", story: Story::Delivered, when: When::Pay, aim: clone },
    Row {
        activity: "machine.configure",
        story: Story::Delivered,
        when: When::Pay,
        aim: |order| machine(order, "POST", "/config"),
    },
    Row {
        activity: "machine.resize",
        story: Story::Delivered,
        when: When::Pay,
        aim: |order| machine(order, "PUT", "/resize"),
    },
    Row {
        activity: "machine.protect",
        story: Story::Delivered,
        when: When::Pay,
        aim: |order| machine(order, "PUT", "/firewall/options"),
    },
    Row {
        activity: "machine.start",
        story: Story::Delivered,
        when: When::Pay,
        aim: |order| machine(order, "POST", "/status/start"),
    },
    Row {
        activity: "machine.answer",
        story: Story::Delivered,
        when: When::Pay,
        aim: |order| machine(order, "GET", "/agent/network-get-interfaces"),
    },
    Row {
        activity: "machine.suspend",
        story: Story::Resumed,
        when: When::Delivered,
        aim: |order| machine(order, "POST", "/status/shutdown"),
    },
    Row {
        activity: "machine.resume",
        story: Story::Resumed,
        when: When::Suspended,
        aim: |order| machine(order, "POST", "/status/start"),
    },
    Row {
        activity: "machine.fit",
        story: Story::Grown,
        when: When::Delivered,
        aim: |order| machine(order, "PUT", "/config"),
    },
    Row {
        activity: "machine.destroy",
        story: Story::GivenUp,
        when: When::GiveUp,
        aim: |order| machine(order, "DELETE", ""),
    },
    Row { activity: "name.publish", story: Story::Delivered, when: When::Pay, aim: |order| name(order, "REPLACE") },
    Row { activity: "name.withdraw", story: Story::GivenUp, when: When::GiveUp, aim: |order| name(order, "DELETE") },
];
