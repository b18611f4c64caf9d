//! A VM's firewall: options, rules and sets of addresses, kept apart from the VM.
#![expect(clippy::unnecessary_wraps, reason = "every call in the table answers with one type")]

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::ask::{Answer, Ask, Refusal};
use super::calls::{CALLS, Call};
use super::clone::NOTHING;
use super::params::listed;

/// What one VM's firewall says.
#[derive(Clone, Default)]
pub(super) struct Firewall {
    options: BTreeMap<String, String>,
    /// First match first.
    rules: Vec<BTreeMap<String, String>>,
    sets: BTreeMap<String, AddressSet>,
}

#[derive(Clone, Default)]
struct AddressSet {
    comment: Option<String>,
    /// By address or network.
    entries: BTreeMap<String, BTreeMap<String, String>>,
}

impl Firewall {
    /// All of it, for the control state.
    pub(super) fn state(&self) -> Value {
        let sets: BTreeMap<&String, Vec<&String>> =
            self.sets.iter().map(|(name, set)| (name, set.entries.keys().collect())).collect();
        json!({ "options": typed("options", &self.options), "rules": self.rule_list(), "ipsets": sets })
    }

    fn rule_list(&self) -> Vec<Value> {
        let numbered = |(pos, rule): (usize, &BTreeMap<String, String>)| {
            let mut shown = typed("rules", rule);
            shown.insert("pos".to_owned(), json!(pos));
            Value::Object(shown)
        };
        self.rules.iter().enumerate().map(numbered).collect()
    }
}

fn typed(last_segment: &str, values: &BTreeMap<String, String>) -> Map<String, Value> {
    let writes = |call: &&Call| call.method != "GET" && call.path.ends_with(&format!("firewall/{last_segment}"));
    let params = CALLS.iter().find(writes).map_or(&[][..], |call| call.params);
    let shown = |(name, value): (&String, &String)| {
        let numeric = params.iter().any(|param| param.is_called(name) && param.form.is_numeric());
        let number = numeric.then(|| serde_json::from_str(value).ok()).flatten();
        (name.clone(), number.unwrap_or_else(|| json!(value)))
    };
    values.iter().map(shown).collect()
}

fn read(ask: &Ask<'_>) -> Firewall {
    ask.cluster().firewalls.get(&ask.vmid()).cloned().unwrap_or_default()
}

fn change(ask: &Ask<'_>, work: impl FnOnce(&mut Firewall) -> Result<(), Refusal>) -> Answer {
    let mut cluster = ask.cluster();
    ask.vm(&mut cluster)?;
    work(cluster.firewalls.entry(ask.vmid()).or_default())?;
    Ok(NOTHING)
}

fn given(ask: &Ask<'_>, without: &[&str]) -> BTreeMap<String, String> {
    let own =
        |name: &&String| !["node", "vmid", "digest"].contains(&name.as_str()) && !without.contains(&name.as_str());
    ask.params.iter().filter(|(name, _)| own(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// `GET …/firewall/options`: only what was set.
pub(super) fn options(ask: &Ask<'_>) -> Answer {
    Ok(Value::Object(typed("options", &read(ask).options)))
}

/// `PUT …/firewall/options`.
pub(super) fn set_options(ask: &Ask<'_>) -> Answer {
    change(ask, |firewall| {
        for name in listed(ask.text("delete").unwrap_or_default()) {
            firewall.options.remove(name);
        }
        firewall.options.extend(given(ask, &["delete"]));
        Ok(())
    })
}

/// `GET …/firewall/rules`.
pub(super) fn rules(ask: &Ask<'_>) -> Answer {
    Ok(Value::Array(read(ask).rule_list()))
}

/// `POST …/firewall/rules`: a rule without a position goes on top.
pub(super) fn add_rule(ask: &Ask<'_>) -> Answer {
    change(ask, |firewall| {
        let pos = ask.number("pos").and_then(|pos| usize::try_from(pos).ok()).unwrap_or(0);
        let pos = pos.min(firewall.rules.len());
        firewall.rules.insert(pos, given(ask, &["pos"]));
        Ok(())
    })
}

/// `DELETE …/firewall/rules/{pos}`.
pub(super) fn delete_rule(ask: &Ask<'_>) -> Answer {
    change(ask, |firewall| {
        let pos = ask.number("pos").and_then(|pos| usize::try_from(pos).ok());
        match pos.filter(|pos| *pos < firewall.rules.len()) {
            None => Err(Refusal::failed(format!("no rule at position {}", ask.text("pos").unwrap_or_default()))),
            Some(pos) => {
                firewall.rules.remove(pos);
                Ok(())
            }
        }
    })
}

/// `GET …/firewall/ipset`.
pub(super) fn sets(ask: &Ask<'_>) -> Answer {
    let shown = |(name, set): (&String, &AddressSet)| match &set.comment {
        None => json!({ "name": name }),
        Some(comment) => json!({ "name": name, "comment": comment }),
    };
    Ok(Value::Array(read(ask).sets.iter().map(shown).collect()))
}

/// `POST …/firewall/ipset`.
pub(super) fn add_set(ask: &Ask<'_>) -> Answer {
    let name = ask.text("name").unwrap_or_default();
    change(ask, |firewall| {
        if ask.text("rename").is_some() {
            return Err(Refusal::param("rename", "renaming is not served here"));
        }
        if firewall.sets.contains_key(name) {
            return Err(Refusal::param("name", format!("IPSet '{name}' already exists")));
        }
        let comment = ask.text("comment").map(str::to_owned);
        firewall.sets.insert(name.to_owned(), AddressSet { comment, ..AddressSet::default() });
        Ok(())
    })
}

fn set_of<'f>(ask: &Ask<'_>, firewall: &'f mut Firewall) -> Result<&'f mut AddressSet, Refusal> {
    let name = ask.text("name").unwrap_or_default();
    firewall.sets.get_mut(name).ok_or_else(|| Refusal::failed(format!("no such IPSet '{name}'")))
}

/// `GET …/firewall/ipset/{name}`.
pub(super) fn set_entries(ask: &Ask<'_>) -> Answer {
    let mut firewall = read(ask);
    let entries = &set_of(ask, &mut firewall)?.entries;
    Ok(entries.values().map(|entry| json!(entry)).collect())
}

/// `POST …/firewall/ipset/{name}`.
pub(super) fn add_entry(ask: &Ask<'_>) -> Answer {
    let cidr = ask.text("cidr").unwrap_or_default();
    change(ask, |firewall| {
        let set = set_of(ask, firewall)?;
        if set.entries.contains_key(cidr) {
            return Err(Refusal::param("cidr", format!("address '{cidr}' already exists")));
        }
        set.entries.insert(cidr.to_owned(), given(ask, &["name"]));
        Ok(())
    })
}

/// `DELETE …/firewall/ipset/{name}`: with `force` even if it holds addresses.
pub(super) fn delete_set(ask: &Ask<'_>) -> Answer {
    let name = ask.text("name").unwrap_or_default();
    change(ask, |firewall| {
        if !set_of(ask, firewall)?.entries.is_empty() && !ask.flag("force") {
            return Err(Refusal::failed(format!("IPSet '{name}' is not empty")));
        }
        firewall.sets.remove(name);
        Ok(())
    })
}

/// `DELETE …/firewall/ipset/{name}/{cidr}`.
pub(super) fn delete_entry(ask: &Ask<'_>) -> Answer {
    let cidr = ask.text("cidr").unwrap_or_default();
    change(ask, |firewall| {
        let gone = set_of(ask, firewall)?.entries.remove(cidr);
        gone.map(|_| ()).ok_or_else(|| Refusal::param("cidr", "no such IP/Network"))
    })
}
