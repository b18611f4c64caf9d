-- The one server that is taken away, where its customer wants only that.
alter table removals add column service_id uuid;
