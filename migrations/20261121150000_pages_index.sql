-- What pages ask for, so that their work does not grow with the past.

-- The dashboard: the oldest unpaid invoice of each subscription.
create index invoices_open on invoices (subscription_id, created_at, id) where status = 'open';

-- The staff page: the newest orders and subscriptions, and the events no workflow claimed.
create index orders_recent on orders (created_at desc, id);
create index subscriptions_recent on subscriptions (created_at desc, id);
create index payment_events_unclaimed on payment_events (received_at desc) where state = 'unclaimed';

-- The plans: what is held now, without what was held once.
create index reservations_live on reservations (node) include (memory_mib, vmid) where released_at is null;
