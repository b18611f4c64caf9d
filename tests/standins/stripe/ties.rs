//! Which objects belong to which: what one customer or one invoice has is found without going through everybody's.

use std::collections::HashMap;

use serde_json::Value;

/// By what objects of a kind are looked for, as a list's parameters name it.
const TIES: &[(&str, &[&str])] = &[
    ("charge", &["customer", "payment_intent"]),
    ("customer_balance_transaction", &["customer"]),
    ("invoice", &["customer"]),
    ("invoice_payment", &["invoice", "payment.payment_intent"]),
    ("payment_intent", &["customer"]),
    ("refund", &["charge", "payment_intent"]),
    ("subscription", &["customer"]),
    ("tax_id", &["customer"]),
];

/// The fields that objects of a kind are tied by.
pub(super) fn of_kind(kind: &str) -> &'static [&'static str] {
    TIES.iter().find(|(tied, _)| *tied == kind).map_or(&[], |(_, fields)| fields)
}

/// The objects of one kind by the value of one field, with their places in the order of creation.
#[derive(Default)]
struct Tie {
    of: HashMap<String, Vec<(usize, String)>>,
    /// Those that were made without one, and may have been given one since.
    open: Vec<(usize, String)>,
}

/// The ties of all objects of one kind. A value that is there when an object is made stays.
#[derive(Default)]
pub(super) struct Ties {
    fields: HashMap<&'static str, Tie>,
    made: usize,
}

impl Ties {
    /// Remembers what a new object is tied to.
    pub(super) fn add(&mut self, kind: &str, id: &str, object: &Value) {
        self.made += 1;
        for field in of_kind(kind) {
            let tie = self.fields.entry(field).or_default();
            let value = field.split('.').fold(object, |within, part| &within[part]);
            let place = (self.made, id.to_owned());
            match value.as_str() {
                Some(value) => tie.of.entry(value.to_owned()).or_default().push(place),
                None => tie.open.push(place),
            }
        }
    }

    /// Those that may have this value, oldest first; nothing when nobody is tied by that field.
    pub(super) fn held(&self, field: &str, value: &str) -> Option<Vec<&String>> {
        let tie = self.fields.get(field)?;
        let mut places: Vec<_> = tie.of.get(value).into_iter().flatten().chain(&tie.open).collect();
        places.sort_unstable();
        Some(places.into_iter().map(|(_, id)| id).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_belongs_to_somebody_is_found_in_order_with_what_may_have_come_to_belong_to_them() {
        let mut ties = Ties::default();
        for (id, intent) in
            [("one", json!("pi_a")), ("two", json!(null)), ("three", json!("pi_b")), ("four", json!("pi_a"))]
        {
            ties.add("invoice_payment", id, &json!({"invoice": "in_a", "payment": {"payment_intent": intent}}));
        }
        assert_eq!(ties.held("payment.payment_intent", "pi_a").unwrap(), ["one", "two", "four"]);
        assert_eq!(ties.held("payment.payment_intent", "pi_c").unwrap(), ["two"]);
        assert_eq!(ties.held("invoice", "in_a").unwrap().len(), 4);
        assert_eq!(ties.held("customer", "cus_a"), None);
    }
}
