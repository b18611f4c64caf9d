-- What names somebody in accounts of others is found when they are erased: what they told and decided, and who invited them

create index instructions_actor on instructions (actor);
create index attention_decided_by on attention (decided_by) where decided_by is not null;
create index invitations_email on invitations (email);
