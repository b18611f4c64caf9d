//! The tables in which nobody stands.

/// A table in which nobody stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Impersonal {
    /// Its name.
    pub name: &'static str,
    /// Why nobody can be read in it.
    pub because: &'static str,
    /// Every column.
    pub columns: &'static [&'static str],
}

const fn impersonal(name: &'static str, because: &'static str, columns: &'static [&'static str]) -> Impersonal {
    Impersonal { name, because, columns }
}

const SOLD: &str = "it says what is sold";
const WATCHED: &str = "it says how the portal is";
const PROVED: &str = "it proves by numbers and digests that the trail was not changed";

/// Every other table.
pub static IMPERSONAL: &[Impersonal] = &[
    impersonal(
        "limits",
        "its subjects are keyed digests, which tell nothing without the portal's key and go within days",
        &["route", "subject", "attempts", "last_at", "closed_until"],
    ),
    impersonal(
        "mirror_looks",
        "it names what is to be read at Stripe, for seconds",
        &["id", "asked", "asked_at", "due_at", "attempts", "last_error"],
    ),
    impersonal(
        "plans",
        SOLD,
        &[
            "id",
            "slug",
            "name",
            "tagline",
            "kind",
            "cores",
            "memory_mib",
            "disk_gib",
            "service_limit",
            "position",
            "active",
            "trial_days",
            "further_cores",
            "further_memory_mib",
            "further_disk_gib",
        ],
    ),
    impersonal("plan_features", SOLD, &["plan_id", "position", "line"]),
    impersonal("prices", SOLD, &["id", "plan_id", "term", "currency", "amount_minor", "stripe_price_id", "active"]),
    impersonal("images", SOLD, &["slug", "name", "template_vmid", "position", "active"]),
    impersonal("nodes", SOLD, &["name", "memory_mib_limit", "storage", "template_node", "active"]),
    impersonal("vmids", SOLD, &["vmid", "blocked_at", "blocked_reason"]),
    impersonal("addresses", SOLD, &["address", "family", "prefix_length", "gateway", "nameserver"]),
    impersonal("rounds", WATCHED, &["name", "walked_to", "finished_at", "reached", "pass_began_at", "met"]),
    impersonal("backups", WATCHED, &["id", "portal_taken_at", "temporal_taken_at", "finished_at"]),
    impersonal("audit_links", PROVED, &["seq", "audit_id", "hash"]),
    impersonal("audit_seen", PROVED, &["only_one", "seq", "hash"]),
    impersonal("audit_unlinked", PROVED, &["id"]),
    impersonal("webhook_refusals", WATCHED, &["only_one", "last_at"]),
];
