-- A letter in hand: who took it out of the queue tries to hand it over at once. Where that is never heard of again, the
-- letter is given a workflow.
alter table letters add column in_hand_since timestamptz;
create index letters_in_hand on letters (in_hand_since) where in_hand_since is not null;
