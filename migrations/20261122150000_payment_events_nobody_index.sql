-- Reports that are about nobody go after their days; those about somebody, which stay, are not read for it.
create index payment_events_nobody on payment_events (received_at) where state = 'ignored'
    and order_id is null and subscription_id is null and customer_id is null and payment_id is null;
