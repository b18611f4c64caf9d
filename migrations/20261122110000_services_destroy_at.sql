-- When a further server is destroyed that its customer takes away. One that ends with its subscription has none of its own.
alter table services add column destroy_at timestamptz;
create index services_destroy on services (destroy_at) where destroy_at is not null;
