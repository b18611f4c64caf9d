-- That somebody looked at a customer's pages, and why, stays for its time also when whoever looked is erased before.

alter table viewings alter column user_id drop not null;
alter table viewings drop constraint viewings_user_id_fkey;
alter table viewings add constraint viewings_user_id_fkey foreign key (user_id) references users on delete set null;
