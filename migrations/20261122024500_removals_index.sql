-- What is asked before something is taken away is found without reading everything.
create index letters_subscription on letters (subscription_id, kind) where subscription_id is not null;
create index subscriptions_living on subscriptions (id) where phase <> 'expired';
