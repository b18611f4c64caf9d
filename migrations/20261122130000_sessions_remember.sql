-- Whether the browser keeps a session when it is closed. Whoever logged in before this was remembered.
alter table sessions add column remembered boolean not null default true;
