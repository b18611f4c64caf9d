-- A change of plan that waits, as Stripe tells it: for its payment, or for the end of the period.
alter table subscriptions
    add column pending_price text,
    add column pending_invoice text,
    add column pending_until timestamptz,
    add column next_price text,
    add column next_price_at timestamptz,
    add constraint subscriptions_pending check ((pending_price is null) = (pending_until is null)),
    add constraint subscriptions_next check ((next_price is null) = (next_price_at is null));
create index subscriptions_waiting_price on subscriptions (id) where pending_price is not null or next_price is not null;
