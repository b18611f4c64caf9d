-- What people told a subscription to do, and what became of it. The workflow writes it; the pages read it.

create table instructions (
    id uuid primary key,
    subscription_id text not null,
    -- the order that began it
    order_id uuid not null references orders,
    kind text not null,
    -- what it is about at Stripe (`in_…`), where it is about something there
    about text,
    amount_minor bigint,
    currency text,
    until timestamptz,
    -- who and why; for a user of ours, the uuid
    actor text not null,
    reason text not null,
    state text not null constraint instructions_state check (state in ('accepted', 'done', 'refused')),
    -- why it was refused, or what was done by hand
    words text,
    -- what it made at Stripe (`re_…`)
    object_id text,
    asked_at timestamptz not null default now(),
    settled_at timestamptz
);
create index instructions_subscription on instructions (subscription_id, asked_at desc, id);
-- What was told last about holding, and is done, says until when staff hold.
create index instructions_holds on instructions (subscription_id, settled_at desc)
    where state = 'done' and kind in ('hold', 'release', 'restore');
create index instructions_about on instructions (about) where about is not null;
create index instructions_open on instructions (asked_at) where state = 'accepted';

-- What was reported about one invoice.
create index payment_events_object on payment_events (object_id);

-- What happens next: those that are not simply paid, and those whose period ends soon.
create index subscriptions_moving on subscriptions (period_end, id) where phase in ('past_due', 'suspended', 'retained');
create index subscriptions_renewing on subscriptions (period_end, id) where phase = 'active';
