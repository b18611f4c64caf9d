-- What was to be taken away from customers: who got leave, what is held back and why, and what staff approved

create table removals (
    -- what makes it this one and no other, such as suspend/<subscription>/<invoice>
    occasion text primary key,
    subscription_id text not null,
    -- the order that began it
    order_id uuid not null references orders,
    kind text not null constraint removals_kind check (kind in ('suspend', 'retain', 'expire')),
    -- why it is held back just now; nothing when it is not
    cause text constraint removals_cause check (
        cause in ('invoice', 'payment', 'hold', 'notice', 'refused', 'breaker')
    ),
    why text,
    asked_at timestamptz not null default now(),
    -- its place in the hour's allowance, kept by whoever asks again
    allowed_at timestamptz,
    approved_at timestamptz,
    approved_by text,
    approved_because text
);
create index removals_subscription on removals (subscription_id, asked_at desc);
create index removals_held on removals (cause, asked_at) where cause is not null;
create index removals_allowed on removals (allowed_at) where approved_at is null;
